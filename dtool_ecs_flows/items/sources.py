"""Where the bytes of items come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dtool_ecs_flows import documents
from dtool_ecs_flows.errors import CorruptItemError, NoSuchKeyError
from dtool_ecs_flows.hashing import ItemHash
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import SINGLE_PUT

_LARGE = 64 * 1024**2
"""Bytes; before memory is taken for a part of more, the object is looked at: a manifest can say any size."""

Stream = Callable[[int, int, Callable[[Any], None]], None]
"""`stream(offset, length, take)` hands exactly these bytes of an item to `take`, in order, a chunk at a time."""


class ItemSource:
    """Where items' bytes come from.

    Args:
        open_reader: returns a function `(offset, length) -> bytes` of one item, which many threads may call.
        open_stream: the same for bytes that are wanted a chunk at a time; given where reading waits for a network, so
            that it pays to read ahead.
        hash_function: of the items' hashes, as manifests name it.
        where: named in errors.
        dataset: the dataset in a bucket that the items belong to, where it is one.
    """

    def __init__(
        self,
        open_reader: Callable[[Item], Callable[[int, int], Any]],
        *,
        open_stream: Callable[[Item], Stream] | None = None,
        hash_function: str = documents.HASH_FUNCTION,
        where: str,
        dataset: StoredDataset | None = None,
    ) -> None:
        self.open_reader = open_reader
        self.open_stream = open_stream
        self.hash_function = hash_function
        self.where = where
        self.remote = open_stream is not None
        self.dataset = dataset

    def hash(self) -> ItemHash:
        """Return a hash to be fed with an item's bytes."""
        return ItemHash(self.hash_function)


def file_source(path: str | os.PathLike[str]) -> ItemSource:
    """Return the source of an item that is a file."""
    return ItemSource(lambda item: read_file(path, item.relpath), where=str(path))


def stored_items(dataset: StoredDataset, hash_function: str = documents.HASH_FUNCTION) -> ItemSource:
    """Return the source of the items of a dataset in a bucket."""

    def open_reader(item: Item) -> Callable[[int, int], Any]:
        key, stream = dataset.keys.item(item.identifier), open_stream(item)

        def read(offset: int, length: int) -> bytearray | memoryview:
            if length > SINGLE_PUT:
                return _part(dataset, item, stream, offset, length)
            try:
                data = dataset.store.read(key, offset, length, item.size)
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


def _part(dataset: StoredDataset, item: Item, stream: Stream, offset: int, length: int) -> bytearray:
    """Return a part of an item in a buffer that can be sent as it is: a copy would be in memory too."""
    if length > _LARGE:
        try:
            size = dataset.store.head(dataset.keys.item(item.identifier)).size
        except NoSuchKeyError:
            raise _missing(item, dataset.uri) from None
        if size != item.size:
            raise _other_size(item, 0, item.size, size, dataset.uri)
    buffer, filled = bytearray(length), 0

    def take(chunk: Any) -> None:
        nonlocal filled
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)

    stream(offset, length, take)
    return buffer


def _missing(item: Item, where: str) -> CorruptItemError:
    return CorruptItemError(item.relpath, expected=f"{item.size} bytes", actual="none", where=where)


def _other_size(item: Item, offset: int, length: int, count: int, where: str) -> CorruptItemError:
    expected, actual = f"{length} bytes from {offset} on", f"{count} bytes"
    return CorruptItemError(item.relpath, expected=expected, actual=actual, where=where)


def read_file(path: str | os.PathLike[str], relpath: str) -> Callable[[int, int], bytes]:
    """Return a function that reads a range of a file, exactly.

    It raises `CorruptItemError` where the file is missing or shorter.
    """

    def read(offset: int, length: int) -> bytes:
        try:
            file = os.open(path, os.O_RDONLY)  # Python's own files ask the disk twice as often
        except FileNotFoundError:
            raise CorruptItemError(relpath, expected="a file", actual="none", where=str(path)) from None
        try:
            data = os.pread(file, length, offset)
            while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
                data += more  # one read may bring less
        finally:
            os.close(file)
        if len(data) != length:
            expected, actual = f"at least {offset + length} bytes", f"{offset + len(data)} bytes"
            raise CorruptItemError(relpath, expected=expected, actual=actual, where=str(path))
        return data

    return read
