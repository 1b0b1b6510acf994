"""An item into a bucket: with one request, or in parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import CorruptItemError, NoSuchKeyError, NoSuchUploadError
from dtool_ecs_flows.hashing import ItemHash
from dtool_ecs_flows.items.receiving import read_through
from dtool_ecs_flows.items.sources import ItemSource
from dtool_ecs_flows.items.unfinished import Unfinished, Upload
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import SINGLE_PUT, Transfer, md5_of, part_size

_UPLOADS = 3  # of one item, where other processes end them again and again


def send(
    dataset: StoredDataset,
    item: Item,
    source: ItemSource,
    transfer: Transfer,
    unfinished: Unfinished | None = None,
) -> tuple[str, str]:
    """Put an item into a dataset; return its MD5, and the ETag of its object (empty where it went in parts).

    Args:
        dataset: where to.
        item: with the hash that its bytes must have, where it is known.
        source: of its bytes.
        transfer: of which this is a part.
        unfinished: what earlier attempts left of large items, to be taken up. Where this one is cut short, its parts
            are left for the next; without `unfinished` they are thrown away.

    Raises:
        CorruptItemError: its bytes are not what the manifest says, or the file that they come from changed meanwhile;
            the object was not made, and no parts are left.
    """
    if item.size <= SINGLE_PUT:
        return _send_whole(dataset, item, source, transfer)
    return _send_parts(dataset, item, source, transfer, unfinished), ""


def _send_whole(dataset: StoredDataset, item: Item, source: ItemSource, transfer: Transfer) -> tuple[str, str]:
    read = source.open_reader(item)
    with transfer.hold(item.size):
        data = read(0, item.size, transfer.whole)
        total = source.hash()
        total.update(data)
        md5 = total.check(item, source.where)
        source.unchanged()
        key = dataset.keys.item(item.identifier)
        return md5, dataset.store.put_item(key, data, md5, layout.item_metadata(item.relpath, md5))


def _send_parts(
    dataset: StoredDataset, item: Item, source: ItemSource, transfer: Transfer, unfinished: Unfinished | None
) -> str:
    md5 = item.hash.lower() if source.hash_function == documents.HASH_FUNCTION else ""
    if not md5:  # it travels in metadata that goes ahead of the bytes, so the item is read twice
        md5 = read_through(item, source, transfer)
    store, key = dataset.store, dataset.keys.item(item.identifier)
    metadata = layout.item_metadata(item.relpath, md5)
    taken_up = unfinished.take_up(key, item.size) if unfinished is not None else None
    tries = _UPLOADS
    while True:
        upload = taken_up or Upload(store.begin_upload(key, metadata), part_size(item.size), {})
        try:
            _send_upload(store, key, upload, item=item, md5=md5, source=source, transfer=transfer)
        except NoSuchUploadError:  # another process that does the same completed it, or threw it away
            tries -= 1
            if not tries:
                raise
        except BaseException as error:
            if unfinished is None or isinstance(error, CorruptItemError):
                store.abort_upload(key, upload.id)
            raise
        else:
            if taken_up is None:
                return md5
        # What metadata an upload was begun with shows only now: it may have been for other content of this name.
        if _is_there(store, key, item.size, metadata):
            return md5
        taken_up = None


def _is_there(store: Store, key: str, size: int, metadata: Mapping[str, str]) -> bool:
    try:
        info = store.head(key)
    except NoSuchKeyError:
        return False
    return info.size == size and metadata.items() <= info.metadata.items()


def _send_upload(
    store: Store, key: str, upload: Upload, *, item: Item, md5: str, source: ItemSource, transfer: Transfer
) -> None:
    """Send the parts that the store does not hold, and complete the upload; all in one pass over the bytes."""
    failed = threading.Event()

    def sender(number: int, data: Any) -> Callable[[], str]:
        def put() -> str:
            try:
                transfer.check()
                held = upload.parts.get(number)
                kept = held is not None and held == (len(data), md5_of(data))
                etag = held.etag if held is not None and kept else store.put_part(key, upload.id, number, data)
                transfer.moved(item, len(data), kept=kept)
                return etag
            except BaseException:
                failed.set()
                raise
            finally:
                transfer.release(data)

        return put

    parts: list[Future[str]] = []
    try:
        total = ItemHash(documents.HASH_FUNCTION)
        read = source.open_reader(item)
        pieces = transfer.parts(read, item.size, ahead=source.remote, step=upload.step)
        for offset, data in pieces:
            if failed.is_set():
                transfer.release(data)
                break
            total.update(data)
            parts.append(transfer.submit_part(sender(offset // upload.step + 1, data)))
            del data  # it is the sender's now, and must not stay in memory while the next one is waited for
        if not failed.is_set() and total.md5 != md5:
            raise CorruptItemError(item.relpath, expected=md5, actual=total.md5, where=source.where)
        etags = [part.result() for part in parts]
        transfer.check()
        source.unchanged()
        store.complete_upload(key, upload.id, etags, size=item.size, checksum=md5)
    finally:
        wait(parts)  # each gives its memory back, and none may arrive after an abort
