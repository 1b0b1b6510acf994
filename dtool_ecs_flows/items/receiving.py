"""An item out of anything: into a file, or only through the hash."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Protocol

from dtool_ecs_flows.errors import CorruptItemError, StoppedError
from dtool_ecs_flows.items.sources import ItemSource, Stream
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.transfer import SINGLE_PUT, Transfer

_RANGE = 16 * 1024**2  # bytes of a large item that are asked for in one request
_AT_ONCE = 6  # ranges of one item that are under way, or written and not hashed yet
_READ = 1024**2  # bytes at a time when what was written is hashed


class NewFile(Protocol):
    """What an item is written to: open for writing, and empty."""

    @property
    def name(self) -> str:
        """The file's path."""

    def write(self, data: Any, /) -> object:
        """Write bytes after those that are there."""


def receive(item: Item, source: ItemSource, transfer: Transfer, file: NewFile | None) -> str:
    """Read an item, write it to a file where one is given, and return its MD5.

    The file is new and has a name: a large item is written in ranges, many at once, each through a handle of its own,
    and hashed from the file, in order, while they come. So what is checked is what was written, and memory holds a few
    chunks: about 3 MiB for each request at once and 1 MiB for each large item under way, whatever their sizes.

    Raises:
        CorruptItemError: its bytes are not what the manifest says. What was written then is not the item.
    """
    if item.size <= SINGLE_PUT:
        return _receive_whole(item, source, transfer, file)
    if file is not None and source.open_stream is not None:
        return _receive_ranges(item, source, source.open_stream(item), transfer, file.name)

    def take(data: Any) -> None:
        if file is not None:
            file.write(data)
        transfer.moved(item, len(data))

    return read_through(item, source, transfer, take)


def _receive_whole(item: Item, source: ItemSource, transfer: Transfer, file: NewFile | None) -> str:
    read, total = source.open_reader(item), source.hash()
    with transfer.hold(item.size):
        data = read(0, item.size, transfer.whole)
        total.update(data)
        if file is not None:
            file.write(data)
    return total.check(item, source.where)


def read_through(
    item: Item, source: ItemSource, transfer: Transfer, take: Callable[[Any], None] = lambda _: None
) -> str:
    """Read an item, hand its bytes to `take` in order, and return its MD5.

    Raises:
        CorruptItemError: its bytes are not what the manifest says.
    """
    total = source.hash()
    for _, data in transfer.parts(source.open_reader(item), item.size, ahead=source.remote):
        try:
            total.update(data)
            take(data)
        finally:
            transfer.release(data)
        del data  # before the next one is waited for
    return total.check(item, source.where)


def _receive_ranges(item: Item, source: ItemSource, stream: Stream, transfer: Transfer, path: str) -> str:
    given_up = threading.Event()

    def write(offset: int) -> int:
        length = min(_RANGE, item.size - offset)
        # A buffered file, though no chunk fits its buffer: a bare write on a disk that gets full may write a part and
        # say nothing.
        with open(path, "r+b") as file:
            file.seek(offset)

            def take(chunk: Any) -> None:
                transfer.check()
                if given_up.is_set():
                    raise StoppedError(f"another part of item {item.relpath!r} failed")
                file.write(chunk)

            stream(offset, length, take)
        transfer.moved(item, length)
        return length

    total, buffer = source.hash(), memoryview(bytearray(_READ))
    offsets = iter(range(0, item.size, _RANGE))
    window: deque[Future[int]] = deque()
    try:
        with open(path, "rb", buffering=0) as written:
            while True:
                while len(window) < _AT_ONCE and (offset := next(offsets, None)) is not None:
                    window.append(transfer.submit_part(partial(write, offset)))
                if not window:
                    return total.check(item, source.where)
                left = window[0].result()
                window.popleft()
                while left:
                    count = written.readinto(buffer[: min(left, _READ)])
                    if not count:
                        expected, actual = f"{item.size} bytes", f"{written.tell()} bytes"
                        raise CorruptItemError(item.relpath, expected=expected, actual=actual, where=path)
                    total.update(buffer[:count])
                    left -= count
    except BaseException:
        given_up.set()
        wait(window)  # no thread may write to the file any more
        raise
