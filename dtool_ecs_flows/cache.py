"""The items of a frozen dataset as files in the user's cache: fetched when they are asked for, and a little ahead.

Programs on dtoolcore ask for one item after the other and wait for each. As soon as one does so in the order of the
manifest, the small items that come next are fetched meanwhile, into memory. A file in the cache is only ever written
for the item that was asked for, whole and checked, under a name of its own at first: programs may share a cache, and
may end at any moment.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import CorruptItemError, StoppedError, StoreError
from dtool_ecs_flows.items import ItemSource, receive, stored_items
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.store import heed
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import SINGLE_PUT, Transfer

AHEAD_ITEMS = 64
"""Items that are fetched before they are asked for, at the most."""

AHEAD_BYTES = 32 * 1024**2
"""Bytes of such items, at the most. None is above `SINGLE_PUT`: parts of those are fetched many at once anyway."""

_LAST_MOMENTS = 1.0  # seconds that the end of a program waits for requests ahead


class ItemCache:
    """The items of one frozen dataset as files. Thread-safe; a forked child goes on with threads of its own.

    Args:
        dataset: the dataset.
        manifest: its manifest, which stays as it is.
    """

    def __init__(self, dataset: StoredDataset, manifest: Mapping[str, Any]) -> None:
        self._settings = dataset.store.settings
        known = documents.manifest_from(manifest, dataset.uri)
        self._items = known.items
        self._source = stored_items(dataset, known.hash_function)
        self._folder = os.path.join(self._settings.cache_directory, dataset.uuid)
        self._order = list(self._items.values())
        self._places = {identifier: place for place, identifier in enumerate(self._items)}
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ahead: _Ahead | None = None
        self._last = -2  # place of the item that was asked for last; before the first, none follows it
        self._depth = 0  # how many items are fetched ahead now
        self._planned = 0  # place of the first item that may still have to be

    def path(self, identifier: str) -> str:
        """Return the path of an item, its extension that of the relpath; fetched and checked if it is not there.

        Raises:
            KeyError: the manifest has no such item.
            CorruptItemError: its bytes are not what the manifest says, even when fetched again.
            StoreError: the store cannot be reached, or the disk is full.
        """
        item = self._items[identifier]
        fetched = self._follow(self._places[identifier])
        path = self._path(item)
        if not _is_there(path, item):
            self._write(path, item, fetched)
        return path

    def _path(self, item: Item) -> str:
        return os.path.join(self._folder, item.identifier + layout.extension_of(item.relpath))

    def _write(self, path: str, item: Item, fetched: Future[Any] | None) -> None:
        temporary = os.path.join(self._folder, f".{item.identifier}-{secrets.token_hex(8)}")
        try:
            with self._create(temporary) as file:
                if item.size <= SINGLE_PUT:
                    file.write(self._small(item, fetched))
                else:
                    self._large(item, file)
            os.replace(temporary, path)
        except BaseException as error:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(
                    f"the disk of the cache {self._folder} is full: item {item.relpath!r} has {item.size} bytes; "
                    "make room, or set DTOOL_CACHE_DIRECTORY"
                ) from None
            raise

    def _create(self, path: str) -> BinaryIO:
        try:
            return open(path, "xb")
        except FileNotFoundError:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
            return open(path, "xb")

    def _small(self, item: Item, fetched: Future[Any] | None) -> Any:
        try:
            # Another thread that asks in another order may have cancelled it.
            with suppress(CancelledError):
                return fetched.result() if fetched is not None else _read(self._source, item)
        except CorruptItemError:  # a bit may have flipped on the way: once more
            pass
        return _read(self._source, item)

    def _large(self, item: Item, file: BinaryIO) -> None:
        with Transfer(self._settings.concurrency) as transfer:
            try:
                receive(item, self._source, transfer, file)
            except CorruptItemError:  # as above
                file.seek(0)
                file.truncate()
                receive(item, self._source, transfer, file)

    # --- ahead ---

    def _follow(self, place: int) -> Future[Any] | None:
        """Note which item is asked for, and fetch ahead; return what was fetched of it, or is being fetched."""
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            follows, again = place == self._last + 1, place == self._last
            self._last = place
            if not follows and not again:
                self._depth = self._planned = 0
                if self._ahead is not None:
                    self._ahead.drop()
            if follows:
                # Twice as many with each, so that a look at the first few items fetches few for nothing.
                self._depth = min(max(2, 2 * self._depth), AHEAD_ITEMS)
                self._plan(place + 1)
            return None if self._ahead is None else self._ahead.take(self._order[place])

    def _plan(self, place: int) -> None:
        self._planned = max(self._planned, place)
        while self._planned < min(place + self._depth, len(self._order)):
            item = self._order[self._planned]
            if item.size <= SINGLE_PUT and not _is_there(self._path(item), item):
                if self._ahead is None:
                    self._ahead = _Ahead(self._source, self._settings.concurrency)
                    weakref.finalize(self, self._ahead.end)
                if not self._ahead.begin(item):
                    return
            self._planned += 1


class _Ahead:
    """Reads items before they are asked for.

    Its threads do not keep a program from ending. They are waited for a moment then: one that comes back from native
    code into an interpreter that is shutting down may crash it.
    """

    def __init__(self, source: ItemSource, workers: int) -> None:
        self._source = source
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[tuple[Item, Future[Any]] | None] = SimpleQueue()
        self._begun: dict[str, Future[Any]] = {}
        self._bytes = 0
        self._ended = False

    def begin(self, item: Item) -> bool:
        """Have an item read, unless that were too many bytes."""
        if self._bytes + item.size > AHEAD_BYTES:
            return False
        future: Future[Any] = Future()
        self._begun[item.identifier] = future
        self._bytes += item.size
        self._jobs.put((item, future))
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._run, name="dtool-ecs-ahead", daemon=True)
            self._threads.append(thread)
            thread.start()
        return True

    def take(self, item: Item) -> Future[Any] | None:
        """Hand over what is known of an item; it counts no more."""
        future = self._begun.pop(item.identifier, None)
        if future is not None:
            self._bytes -= item.size
        return future

    def drop(self) -> None:
        """Forget all that was begun."""
        for future in self._begun.values():
            future.cancel()
        self._begun.clear()
        self._bytes = 0

    def end(self) -> None:
        """End the threads, after the requests under way."""
        self._ended = True
        self.drop()
        for _ in self._threads:
            self._jobs.put(None)
        until = time.monotonic() + _LAST_MOMENTS
        for thread in self._threads:
            if thread is not threading.current_thread():  # the garbage collector may run in any
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        with heed(self._check):
            while self._do(self._jobs.get()):
                pass

    def _do(self, job: tuple[Item, Future[Any]] | None) -> bool:
        if job is None:
            return False
        item, future = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(_read(self._source, item))
            except BaseException as error:  # noqa: BLE001  # raised where the item is asked for
                future.set_exception(error)
        return True

    def _check(self) -> None:
        if self._ended:
            raise StoppedError("nobody waits for this item any more")


def _is_there(path: str, item: Item) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == item.size


def _read(source: ItemSource, item: Item) -> Any:
    """Return the bytes of a small item, checked."""
    data = source.open_reader(item)(0, item.size)
    total = source.hash()
    total.update(data)
    total.check(item, source.where)
    return data
