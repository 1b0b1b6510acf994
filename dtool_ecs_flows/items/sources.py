"""Where the bytes of items come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import CorruptItemError, NoSuchKeyError
from dtool_ecs_flows.hashing import ItemHash
from dtool_ecs_flows.memory import Allocate
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Reader

Stream = Callable[[int, int, Callable[[Any], None]], None]
"""`stream(offset, length, take)` hands exactly these bytes of an item to `take`, in order, a chunk at a time."""


class ItemSource:
    """Where items' bytes come from.

    Args:
        open_reader: returns what reads one item.
        open_stream: the same for bytes that are wanted a chunk at a time; given where reading waits for a network, so
            that it pays to read ahead.
        hash_function: of the items' hashes, as manifests name it.
        where: named in errors.
        dataset: the dataset in a bucket that the items belong to, where it is one.
        unchanged: raises `CorruptItemError` where an item is not what it was when the source was made; asked once its
            bytes were read.
        in_memory: whether the bytes are there already, so that no memory is waited for. Whoever holds them may run in
            the thread that the holder of the rest of the memory waits for.
    """

    def __init__(
        self,
        open_reader: Callable[[Item], Reader],
        *,
        open_stream: Callable[[Item], Stream] | None = None,
        hash_function: str = documents.HASH_FUNCTION,
        where: str,
        dataset: StoredDataset | None = None,
        unchanged: Callable[[], None] = lambda: None,
        in_memory: bool = False,
    ) -> None:
        self.open_reader = open_reader
        self.open_stream = open_stream
        self.hash_function = hash_function
        self.where = where
        self.remote = open_stream is not None
        self.dataset = dataset
        self.unchanged = unchanged
        self.in_memory = in_memory

    def hash(self) -> ItemHash:
        """Return a hash to be fed with an item's bytes."""
        return ItemHash(self.hash_function)


def file_item(path: str | os.PathLike[str], relpath: str) -> tuple[Item, ItemSource]:
    """Return the item that a file is to become, as the file is now, and the source of its bytes.

    Raises:
        UnsafeNameError: the relpath cannot be stored.
        FileNotFoundError: there is no such file.
    """
    layout.check_relpath(relpath)
    before = os.stat(path)

    def unchanged() -> None:
        after = os.stat(path)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise CorruptItemError(
                relpath,
                expected=f"{before.st_size} bytes of {before.st_mtime}",
                actual=f"{after.st_size} bytes of {after.st_mtime}: the file changed while it was read",
                where=str(path),
            )

    item = Item(layout.identifier_of(relpath), relpath, before.st_size, "", before.st_mtime)
    return item, ItemSource(lambda _: read_file(path, relpath), where=str(path), unchanged=unchanged)


def stored_items(dataset: StoredDataset, hash_function: str = documents.HASH_FUNCTION) -> ItemSource:
    """Return the source of the items of a dataset in a bucket."""

    def open_reader(item: Item) -> Reader:
        key = dataset.keys.item(item.identifier)

        def read(offset: int, length: int, allocate: Allocate = bytearray) -> memoryview:
            try:
                data = dataset.store.read(key, offset, length, item.size, allocate)
            except NoSuchKeyError:
                raise _missing(item, dataset.uri) from None
            if len(data) != length:  # the object has another size; asking again does not change it
                raise _other_size(item, offset, length, len(data), dataset.uri)
            return data

        return read

    def open_stream(item: Item) -> Stream:
        key = dataset.keys.item(item.identifier)

        def stream(offset: int, length: int, take: Callable[[Any], None]) -> None:
            try:
                count = dataset.store.fetch(key, offset, length, item.size, take)
            except NoSuchKeyError:
                raise _missing(item, dataset.uri) from None
            if count != length:
                raise _other_size(item, offset, length, count, dataset.uri)

        return stream

    return ItemSource(
        open_reader, open_stream=open_stream, hash_function=hash_function, where=dataset.uri, dataset=dataset
    )


def _missing(item: Item, where: str) -> CorruptItemError:
    return CorruptItemError(item.relpath, expected=f"{item.size} bytes", actual="none", where=where)


def _other_size(item: Item, offset: int, length: int, count: int, where: str) -> CorruptItemError:
    expected = f"{length} bytes from {offset} on"
    actual = f"{count} bytes" if count else "an object of another size"
    return CorruptItemError(item.relpath, expected=expected, actual=actual, where=where)


def read_file(path: str | os.PathLike[str], relpath: str) -> Reader:
    """Return what reads a file; it raises `CorruptItemError` where the file is missing or shorter."""

    def read(offset: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # Python's own files ask the disk twice as often
        except FileNotFoundError:
            raise CorruptItemError(relpath, expected="a file", actual="none", where=str(path)) from None
        try:
            return read_range(file, offset, length, allocate, relpath=relpath, where=str(path))
        finally:
            os.close(file)

    return read


def read_range(
    file: int, offset: int, length: int, allocate: Allocate = bytearray, *, relpath: str, where: str
) -> bytearray | memoryview:
    """Return exactly these bytes of the open file with this number.

    Raises:
        CorruptItemError: the file is shorter.
    """
    data = allocate(length)
    left = memoryview(data)
    while left and (count := os.preadv(file, [left], offset + length - len(left))):
        left = left[count:]  # one read may bring less
    if left:
        expected, actual = f"at least {offset + length} bytes", f"{offset + length - len(left)} bytes"
        raise CorruptItemError(relpath, expected=expected, actual=actual, where=where)
    return data
