"""Transactions that leave no unfinished dataset behind, for those who ask.

What a task leaves half done stays by default, as a proto dataset: the next run resumes it. Inside `removes_unfinished`
it is removed where Prefect rolls the transaction back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from prefect.transactions import Transaction, transaction

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets import delete_dataset, find_dataset
from dtool_ecs_flows.errors import EcsFlowsError, FrozenDatasetError, NotADatasetError
from dtool_ecs_flows.settings import BucketSettings

__all__ = ["may_leave_unfinished", "removes_unfinished"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Left:
    """Where a dataset was begun and not finished, and with which settings."""

    uri: str
    settings: Sequence[BucketSettings]
    config_path: str | None

    def remove(self) -> None:
        """Delete it if it is a proto dataset in a bucket; what cannot be deleted is logged."""
        how = {"settings": self.settings, "config_path": self.config_path}
        base_uri, _, uuid = self.uri.rpartition("/")
        try:
            found = find_dataset(uuid, base_uri, **how)  # type: ignore[arg-type]
            if found is not None and found.type == "protodataset":
                delete_dataset(found.uri, found.name, unfinished_only=True, **how)  # type: ignore[arg-type]
                logger.info("rolled back: the unfinished dataset %s is removed", self.uri)
        except (FrozenDatasetError, NotADatasetError):  # another process has finished, or removed it
            return
        except EcsFlowsError as error:
            logger.error("not rolled back, the unfinished dataset %s stays: %s", self.uri, error)


@dataclass
class _Unfinished:
    """What was left unfinished inside one transaction, by whichever threads."""

    left: list[_Left] = field(default_factory=list)
    rolled_back: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, one: _Left) -> None:
        with self.lock:
            if not self.rolled_back:
                self.left.append(one)
                return
        one.remove()  # it ended after the transaction did

    def roll_back(self) -> None:
        with self.lock:
            self.rolled_back = True
        for one in self.left:
            one.remove()


_unfinished: ContextVar[_Unfinished | None] = ContextVar("dtool_ecs_flows_unfinished", default=None)


@contextmanager
def removes_unfinished() -> Iterator[Transaction]:
    """A Prefect transaction whose rollback removes the datasets in buckets that its tasks began and did not finish.

    It is rolled back where its block is left by an exception and, as always with Prefect, where a task in it fails.
    What was there unfinished before, and was to be resumed in it, is removed as well. A frozen dataset never is.
    Tasks on the flow's own threads are seen, those in other processes are not.

    Yields:
        Prefect's transaction.
    """
    unfinished = _Unfinished()
    token = _unfinished.set(unfinished)
    rolled_back = True
    try:
        with transaction() as under_way:
            yield under_way
        rolled_back = under_way.is_rolled_back()
    finally:
        _unfinished.reset(token)
        if rolled_back:
            unfinished.roll_back()


@contextmanager
def may_leave_unfinished(
    settings: Sequence[BucketSettings] = (), config_path: str | None = None
) -> Iterator[Callable[[str | Callable[[], str]], None]]:
    """Note for the transaction around it, if there is one, what its block begins and does not finish.

    Args:
        settings: Of the buckets that take part.
        config_path: Path of a dtool.json in place of the default one.

    Yields:
        What to call with the URI of a dataset that is begun, or with what returns it, where that takes requests.
    """
    begun: list[str | Callable[[], str]] = []
    try:
        yield begun.append
    except BaseException:
        unfinished = _unfinished.get()
        if unfinished is not None:
            for uri in _uris(begun):
                unfinished.add(_Left(uri, settings, config_path))
        raise


def _uris(begun: list[str | Callable[[], str]]) -> Iterator[str]:
    for each in begun:
        try:
            uri = each if isinstance(each, str) else each()
        except (EcsFlowsError, OSError):  # what it was to be made of cannot be read: nothing was begun
            continue
        if uri.startswith(f"{layout.SCHEME}://"):
            yield uri
