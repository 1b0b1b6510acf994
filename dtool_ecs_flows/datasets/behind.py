"""Small items that are sent while the caller goes on: read into memory when they are put, and within a bound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from dtool_ecs_flows import documents
from dtool_ecs_flows.errors import StoreError
from dtool_ecs_flows.items import ItemSource
from dtool_ecs_flows.memory import Allocate
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.transfer import Transfer

BEHIND = 64 * 1024**2
"""Bytes of content that were put and are not sent yet, at the most. They are held besides `transfer.MEMORY`."""

_LEAST = 64 * 1024  # bytes that an item counts at the least: its place in the queue is not for nothing either


class SentBehind:
    """Items on their way. May be used from several threads.

    After a first failure nothing more is taken: `put`, `check` and `wait` raise it, again and again.

    Args:
        transfer: what sends them, in its threads.
        send: sends one item; called in those threads.
        where: named in errors.
    """

    def __init__(self, transfer: Transfer, send: Callable[[Item, ItemSource], object], where: str) -> None:
        self._transfer = transfer
        self._send = send
        self._where = where
        self._changed = threading.Condition()
        self._held = 0
        self._failure: tuple[str, BaseException] | None = None

    def put(self, item: Item, read: Callable[[], Any]) -> None:
        """Read an item and have it sent; return as soon as it was read. Waits while too much is on its way.

        Args:
            item: the item; its hash may be unknown.
            read: returns its bytes, which nobody changes any more.

        Raises:
            StoppedError: the transfer was stopped.
            StoreError, OSError: an item that was put earlier could not be sent; it is named.
        """
        cost = max(item.size, _LEAST)
        self._wait_until(lambda: not self._held or self._held + cost <= BEHIND, cost)
        try:
            self._transfer.submit_part(partial(self._work, item, read(), cost))
        except BaseException:
            self._give(cost)
            raise

    def check(self) -> None:
        """Raise what was met so far; see `put`."""
        with self._changed:
            self._raise_failure()

    def wait(self) -> None:
        """Return when everything was sent; see `put` for what it raises."""
        self._wait_until(lambda: not self._held)

    def _wait_until(self, met: Callable[[], bool], cost: int = 0) -> None:
        """Wait for a condition, and in the same moment hold so many bytes more."""
        with self._changed:
            while True:
                self._raise_failure()
                self._transfer.check()
                if met():
                    self._held += cost
                    return
                self._changed.wait(0.5)  # a stop does not wake it up

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        relpath, error = self._failure
        if isinstance(error, StoreError):
            raise type(error)(f"item {relpath!r} of {self._where}: {error}") from error
        raise error

    def _work(self, item: Item, data: Any, cost: int) -> None:
        try:
            self._send(item, bytes_source(data))
        except BaseException as error:  # noqa: BLE001  # raised where the caller can hear it
            with self._changed:
                if self._failure is None:
                    self._failure = (item.relpath, error)
        finally:
            self._give(cost)

    def _give(self, cost: int) -> None:
        with self._changed:
            self._held -= cost
            self._changed.notify_all()


def bytes_source(data: Any) -> ItemSource:
    """Return the source of an item whose bytes are in memory."""

    def read(offset: int, length: int, _: Allocate = bytearray) -> Any:
        return data[offset : offset + length]

    return ItemSource(lambda _: read, hash_function=documents.HASH_FUNCTION, where="memory", in_memory=True)
