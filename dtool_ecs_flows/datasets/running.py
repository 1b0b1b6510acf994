"""What every operation on a whole dataset needs: its settings, its number of requests at once, its loop over items."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import CorruptItemError, StoreError, TransferError
from dtool_ecs_flows.models import Item, ProgressCallback
from dtool_ecs_flows.progress import Meter
from dtool_ecs_flows.settings import BucketSettings, active, resolve
from dtool_ecs_flows.store import heed
from dtool_ecs_flows.transfer import Transfer

R = TypeVar("R")

DEFAULT_CONCURRENCY = 16
"""Requests at once where no bucket is involved."""


@contextmanager
def settings_given(settings: BucketSettings | Iterable[BucketSettings]) -> Iterator[None]:
    """Let the settings that the caller passed count for as long as this lasts."""
    given = (settings,) if isinstance(settings, BucketSettings) else tuple(settings)
    with active(*given):
        yield


def concurrency_for(*uris: str, config_path: str | None) -> int:
    """Return how many requests at once the buckets among these URIs allow."""
    buckets = {layout.parse_uri(uri)[0] for uri in uris if uri.startswith(layout.SCHEME + "://")}
    limits = [resolve(bucket, config_path=config_path).concurrency for bucket in buckets]
    return min(limits, default=DEFAULT_CONCURRENCY)


@contextmanager
def operation(
    *uris: str,
    settings: BucketSettings | Iterable[BucketSettings],
    config_path: str | None,
    concurrency: int | None,
    stop: threading.Event | None,
) -> Iterator[Transfer]:
    """Set an operation up: the settings that the caller passed count in it, and `stop` is heard by all its requests.

    That is from the first one on, which opens the source, to the last one, which freezes: a request to a store that is
    down is tried again for minutes, and whoever cancels a flow run waits for seconds.
    """
    with settings_given(settings):
        workers = concurrency or concurrency_for(*uris, config_path=config_path)
        with Transfer(workers, stop) as transfer, heed(transfer.check):
            transfer.check()
            yield transfer


def each_item(
    transfer: Transfer,
    items: Collection[Item],
    work: Callable[[Item], R],
    progress: ProgressCallback | None,
    where: str,
    *,
    skipped: Callable[[R], bool] = lambda _: False,
    then: str = "the same call again does the rest",
) -> Iterator[tuple[Item, R]]:
    """Do something with every item, many at once, and yield each with its result as it is done.

    An item that is corrupt or cannot be read does not keep the others from being done; what concerns all items
    alike (the store, the settings, a stop) ends it at once. `skipped` says of a result that nothing had to be moved,
    `then` what is to be done about the items that failed.

    Raises:
        TransferError: at the end, naming the items that failed.
    """
    # Large items first: none of them is left to run alone at the end.
    jobs = sorted(items, key=lambda item: -item.size)
    meter = transfer.meter = Meter(jobs, progress) if progress is not None else None
    failures: list[tuple[str, BaseException]] = []
    for item, result in transfer.each(jobs, work):
        if isinstance(result, Exception):
            if isinstance(result, StoreError):
                raise type(result)(f"item {item.relpath!r} of {where}: {result}") from result
            if not isinstance(result, (CorruptItemError, OSError)):
                raise result
            failures.append((item.relpath, _bare(result)))
            if meter is not None:
                meter.failed(item)
            continue
        if meter is not None:
            meter.done(item, skipped=skipped(result))
        yield item, result
    if meter is not None:
        meter.finish()
    if failures:
        named = "; ".join(str(error) for _, error in failures[:3])
        more = f" (and {len(failures) - 3} more)" if len(failures) > 3 else ""
        raise TransferError(
            f"{len(failures)} of {len(jobs)} items failed for {where}: {named}{more}; the others are done, {then}",
            failures,
        )


def _bare(error: Exception) -> Exception:
    """Return an error without its tracebacks: their frames hold the bytes of the item that failed."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
