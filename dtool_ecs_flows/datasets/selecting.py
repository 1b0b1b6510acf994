"""Some items of a dataset, as plain files in a folder: a part of a dataset cannot be a dataset."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets import names
from dtool_ecs_flows.datasets.files import DiskFiles, refuse_links
from dtool_ecs_flows.datasets.folders.tree import local_path
from dtool_ecs_flows.datasets.running import each_item, operation
from dtool_ecs_flows.datasets.sources import Source, open_source
from dtool_ecs_flows.errors import CorruptItemError, DatasetError, StoreError, UnsafeNameError
from dtool_ecs_flows.models import Item, ItemsReport, ProgressCallback
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.transfer import Transfer
from dtool_ecs_flows.words import human_bytes

SELECTION = "selection.json"
"""The file beside the items that says which dataset they are of."""


def retrieve_items(
    uri: str,
    folder: str,
    *,
    patterns: Sequence[str] = (),
    overlay: str = "",
    values: Sequence[str] = (),
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> ItemsReport:
    """Fetch some items of a dataset into a folder of this machine, as plain files.

    In `folder` a folder is made that has the dataset's name and the first eight characters of its UUID:

        data/           the items, each under its relpath
        README.yml      the dataset's README
        selection.json  which dataset, which items with size, hash and overlays, tags, annotations

    It is no dtool dataset, since a part of a frozen dataset is not that dataset. Every byte is hashed and compared with
    the dataset's manifest. Files that are there and right are not fetched again; a file that is there and is another
    one is an error, and is not written over. Another selection goes into the same folder; `selection.json`, which is
    written last, tells of the latest.

    Where no item fits, nothing is written, and the report has no items.

    Args:
        uri: URI of a frozen dataset.
        folder: path, or file:// and path, of a folder that is there.
        patterns: patterns of relpaths with `*`, `?` and `[...]`, where `*` takes slashes too; one of them has to fit.
        overlay: name of an overlay. With no `values`, items fit that have one that is not null, false, 0 or empty.
        values: patterns of values of the overlay, as JSON writes them, but text without quotation marks.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called in this thread as items, and parts of large ones, are done; see `ProgressCallback`.
        stop: set it to end early with `StoppedError`; the same call again does the rest.

    Raises:
        NotADatasetError: there is no frozen dataset at `uri`.
        DatasetError: the folder is not there, or the dataset has no such overlay.
        UnsafeNameError: a relpath cannot be a file of its own on this disk; nothing was written.
        TransferError: items failed; the others are there.
        StoreError, SettingsError: the store or its settings, or the disk is full.
    """
    begun, parent = time.monotonic(), Path(local_path(folder))
    if not parent.is_dir():
        raise DatasetError(f"{parent} is not a folder; make it first, or correct {folder}")
    with operation(uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop) as transfer:
        source = open_source(uri, config_path)
        overlays = source.overlays()
        chosen = _chosen(source, overlays, patterns, overlay, values)
        root = parent / _folder_name(source.admin)
        copied = _fetch(source, chosen, root, transfer, progress) if chosen else []
        if chosen:
            told = {"patterns": list(patterns), "overlay": overlay, "values": list(values)}
            _describe(source, chosen, overlays, root, told)
    return ItemsReport(
        source_uri=source.uri,
        uri=str(root),
        uuid=source.admin["uuid"],
        name=source.admin["name"],
        items=len(chosen),
        bytes=sum(item.size for item in chosen.values()),
        copied_items=len(copied),
        copied_bytes=sum(item.size for item in copied),
        skipped=len(chosen) - len(copied),
        already_there=bool(chosen) and not copied,
        verified="content",
        seconds=time.monotonic() - begun,
        of_items=len(source.items),
    )


def _folder_name(admin: dict[str, Any]) -> str:
    """Return what the folder is called; whoever wrote the dataset must not choose another place by its name."""
    name, uuid = layout.check_name(admin["name"], "dataset name"), layout.check_name(admin["uuid"][:8], "UUID")
    return f"{name}-{uuid}"


def _chosen(
    source: Source, overlays: dict[str, Any], patterns: Sequence[str], overlay: str, values: Sequence[str]
) -> dict[str, Item]:
    if overlay and overlay not in overlays:
        there = ", ".join(sorted(overlays)) or "none"
        raise DatasetError(f"{source.uri} has no overlay {overlay!r}; it has: {there}")

    def fits(item: Item) -> bool:
        if patterns and not any(fnmatchcase(item.relpath, pattern) for pattern in patterns):
            return False
        if not overlay:
            return True
        value = overlays[overlay].get(item.identifier) if isinstance(overlays[overlay], dict) else None
        if not values:
            return bool(value)
        text = value if isinstance(value, str) else json.dumps(value)
        return any(fnmatchcase(text, pattern) for pattern in values)

    return {identifier: item for identifier, item in source.items.items() if fits(item)}


def _fetch(
    source: Source, chosen: dict[str, Item], root: Path, transfer: Transfer, progress: ProgressCallback | None
) -> list[Item]:
    """Fetch the items that are not there; return those that were fetched."""
    names.check_relpaths(chosen.values(), lambda: names.folding_in(root.parent))
    needed, free = sum(item.size for item in chosen.values()), shutil.disk_usage(root.parent).free
    if not root.exists() and needed > free:
        raise StoreError(f"{root.parent} has {human_bytes(free)} free; the items need {human_bytes(needed)}")
    data, scratch = root / "data", root / ".unfinished"
    if root.is_symlink():
        raise UnsafeNameError(f"{root} is a symbolic link, and nothing is written through one; remove it")
    refuse_links(root)
    files = DiskFiles(root, data, scratch)
    with files.telling_when_full():
        for made in (root, data, scratch):
            made.mkdir(exist_ok=True)
    item_source = source.item_source()

    def fetch(item: Item) -> bool:
        try:
            return files.put(item, item_source, transfer, replace=False)[1]
        except CorruptItemError:  # a bit may have flipped on the way
            return files.put(item, item_source, transfer, replace=False)[1]

    try:
        done = each_item(transfer, chosen.values(), fetch, progress, str(root), skipped=lambda written: not written)
        return [item for item, written in done if written]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _describe(
    source: Source, chosen: dict[str, Item], overlays: dict[str, Any], root: Path, selection: dict[str, Any]
) -> None:
    """Write what describes the items beside them."""
    kept = ("uuid", "name", "creator_username", "created_at", "frozen_at")
    admin = source.admin
    told = {
        "note": "A selection of a dataset's items, which is no dtool dataset.",
        "dataset": {"uri": source.uri, **{key: admin[key] for key in kept if key in admin}},
        "selection": {**selection, "items": len(chosen), "items_in_dataset": len(source.items)},
        "hash_function": source.hash_function,
        "items": {item.relpath: _item(item, overlays) for item in chosen.values()},
        "tags": source.tags(),
        "annotations": source.annotations(),
    }
    _write(root / "README.yml", source.readme())
    _write(root / SELECTION, json.dumps(told, indent=1, ensure_ascii=False))


def _item(item: Item, overlays: dict[str, Any]) -> dict[str, Any]:
    return {
        "identifier": item.identifier,
        "size_in_bytes": item.size,
        "hash": item.hash,
        "utc_timestamp": item.utc_timestamp,
        "overlays": {
            name: values.get(item.identifier) for name, values in overlays.items() if isinstance(values, dict)
        },
    }


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and never through a link."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.write_bytes(text.encode("utf-8", "surrogatepass"))
    os.replace(part, path)
