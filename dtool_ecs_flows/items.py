"""The bytes of one item: where they come from, how they get into a bucket and out of one. Always hashed on their way.

What moves many items at once is above (`datasets`), how a request is made is below (`store`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import IO, Any

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import CorruptItemError, NoSuchKeyError
from dtool_ecs_flows.hashing import ItemHash
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import SINGLE_PUT, Transfer, md5_of


class ItemSource:
    """Where items' bytes come from.

    Args:
        open_reader: returns a function `(offset, length) -> bytes` of one item, which many threads may call.
        hash_function: of the items' hashes, as manifests name it.
        where: named in errors.
        remote: whether reading waits for a network, so that it pays to read ahead.
        dataset: the dataset in a bucket that the items belong to, where it is one.
    """

    def __init__(
        self,
        open_reader: Callable[[Item], Callable[[int, int], Any]],
        *,
        hash_function: str = documents.HASH_FUNCTION,
        where: str,
        remote: bool = False,
        dataset: StoredDataset | None = None,
    ) -> None:
        self.open_reader = open_reader
        self.hash_function = hash_function
        self.where = where
        self.remote = remote
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
        key = dataset.keys.item(item.identifier)

        def read(offset: int, length: int) -> memoryview:
            try:
                data = dataset.store.read(key, offset, length, item.size)
            except NoSuchKeyError:
                raise _missing(item, dataset.uri) from None
            if len(data) != length:  # the object has another size; asking again does not change it
                expected, actual = f"{length} bytes from {offset} on", f"{len(data)} bytes"
                raise CorruptItemError(item.relpath, expected=expected, actual=actual, where=dataset.uri)
            return data

        return read

    return ItemSource(open_reader, hash_function=hash_function, where=dataset.uri, remote=True, dataset=dataset)


def _missing(item: Item, where: str) -> CorruptItemError:
    return CorruptItemError(item.relpath, expected=f"{item.size} bytes", actual="none", where=where)


def read_file(path: str | os.PathLike[str], relpath: str) -> Callable[[int, int], bytes]:
    """Return a function that reads a range of a file, exactly.

    It raises `CorruptItemError` where the file is missing or shorter.
    """

    def read(offset: int, length: int) -> bytes:
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(length)
                while len(data) < length and (more := file.read(length - len(data))):  # one read may bring less
                    data += more
        except FileNotFoundError:
            raise CorruptItemError(relpath, expected="a file", actual="none", where=str(path)) from None
        if len(data) != length:
            expected, actual = f"at least {offset + length} bytes", f"{offset + len(data)} bytes"
            raise CorruptItemError(relpath, expected=expected, actual=actual, where=str(path))
        return data

    return read


# --- out of anything ---


def receive(item: Item, source: ItemSource, transfer: Transfer, file: IO[bytes] | None) -> str:
    """Read an item, write it to a file where one is given, and return its MD5.

    Raises:
        CorruptItemError: its bytes are not what the manifest says. What was written then is not the item.
    """
    total = source.hash()
    for _, data in transfer.parts(source.open_reader(item), item.size, ahead=source.remote):
        try:
            total.update(data)
            if file is not None:
                file.write(data)
        finally:
            transfer.release(len(data))
    return total.check(item, source.where)


# --- into a bucket ---


def send(dataset: StoredDataset, item: Item, source: ItemSource, transfer: Transfer) -> tuple[str, str]:
    """Put an item into a dataset; return its MD5, and the ETag of its object (empty where it went in parts).

    Raises:
        CorruptItemError: its bytes are not what the manifest says; the object was not made.
    """
    if item.size <= SINGLE_PUT:
        return _send_whole(dataset, item, source, transfer)
    return _send_parts(dataset, item, source, transfer), ""


def _send_whole(dataset: StoredDataset, item: Item, source: ItemSource, transfer: Transfer) -> tuple[str, str]:
    read = source.open_reader(item)
    with transfer.hold(item.size):
        data = read(0, item.size)
        total = source.hash()
        total.update(data)
        md5 = total.check(item, source.where)
        key = dataset.keys.item(item.identifier)
        return md5, dataset.store.put_item(key, data, md5, layout.item_metadata(item.relpath, md5))


def _send_parts(dataset: StoredDataset, item: Item, source: ItemSource, transfer: Transfer) -> str:
    md5 = item.hash if source.hash_function == documents.HASH_FUNCTION else ""
    if not md5:  # it travels in metadata that goes ahead of the bytes, so the item is read twice
        md5 = receive(item, source, transfer, None)
    store, key = dataset.store, dataset.keys.item(item.identifier)
    upload = store.begin_upload(key, layout.item_metadata(item.relpath, md5))
    parts: list[Future[str]] = []

    def sender(number: int, data: Any) -> Callable[[], str]:
        def put() -> str:
            try:
                transfer.check()
                return store.put_part(key, upload, number, data, md5_of(data))
            finally:
                transfer.release(len(data))

        return put

    try:
        total = ItemHash(documents.HASH_FUNCTION)
        read = source.open_reader(item)
        for number, (_, data) in enumerate(transfer.parts(read, item.size, ahead=source.remote), start=1):
            total.update(data)
            parts.append(transfer.submit_part(sender(number, data)))
        if total.md5 != md5:
            raise CorruptItemError(item.relpath, expected=md5, actual=total.md5, where=source.where)
        etags = [part.result() for part in parts]
        transfer.check()
        store.complete_upload(key, upload, etags, size=item.size, checksum=md5)
    except BaseException:
        wait(parts)  # each gives its memory back, and none may arrive after the abort
        store.abort_upload(key, upload)
        raise
    return md5
