"""Copying a dataset: into a bucket, out of one, between two, to and from any other dtool store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.destinations import Destination, EcsDestination
from dtool_ecs_flows.datasets.disk import DiskDestination
from dtool_ecs_flows.datasets.others import BrokerDestination, Brokers
from dtool_ecs_flows.datasets.running import each_item, operation
from dtool_ecs_flows.datasets.sources import Source, open_source
from dtool_ecs_flows.errors import CorruptItemError, DatasetDiffersError, ManifestError, UnsafeNameError
from dtool_ecs_flows.models import CopyReport, Item, ProgressCallback
from dtool_ecs_flows.progress import tell_all_there
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Transfer

logger = logging.getLogger(__name__)

_BY_SIZE = "hash function: items were compared by size only"


def copy_dataset(
    source_uri: str,
    base_uri: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    update_metadata: bool = False,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> CopyReport:
    """Copy a frozen dataset to another base URI, and freeze it there.

    The same call again is always safe. It takes up what an earlier one left half done: items that are there with the
    right size and checksum are not sent again, and tags, annotations and overlays that the source has lost since are
    removed. A dataset that is there frozen is compared (UUID, identifiers, sizes,
    hashes) and not touched.

    Every byte that passes is hashed and compared with the source's manifest. Between buckets of one endpoint the
    server copies, and no byte passes here: the report then says `verified="not read"`.

    Memory stays below 300 MB for 100,000 items and files of up to 1 TB, and below 1.5 GB for a million items. (The
    formula stands in `transfer`. Where one side is the store of another dtool plugin, the manifest is held as that
    plugin makes it, which takes up to 2 KB more per item.)

    Args:
        source_uri: URI of the dataset.
        base_uri: where to, as `ecs://bucket` or a folder or any base URI that a dtool plugin serves.
        settings: of the buckets that take part; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        update_metadata: where the frozen dataset is there and its README, tags, annotations or overlays differ, write
            those of the source there too. Nothing that only the destination has is removed.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called in this thread as items, and parts of large ones, are done; see `ProgressCallback`.
        stop: set it to end the copy early with `StoppedError`.

    Raises:
        NotADatasetError: there is no frozen dataset at `source_uri`.
        DatasetDiffersError: another content is frozen under this UUID at the destination.
        TransferError: items failed; the others were copied, and the dataset is left as a proto dataset.
        StoreError, SettingsError: the store or its settings; what is there can be taken up again.
    """
    begun = time.monotonic()
    with operation(
        source_uri, base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop
    ) as transfer:
        source = open_source(source_uri, config_path)
        return copy_from(source, base_uri, config_path, transfer, progress, begun=begun, update=update_metadata)


def copy_from(
    source: Source,
    base_uri: str,
    config_path: str | None,
    transfer: Transfer,
    progress: ProgressCallback | None,
    *,
    begun: float,
    update: bool = False,
    documents_too: bool = True,
) -> CopyReport:
    """Do what `copy_dataset` does, from a source that is open.

    `documents_too` is whether README, tags, annotations and overlays are compared where the frozen dataset is there.
    """
    destination = open_destination(base_uri, source.admin, config_path)
    there = destination.existing()
    if there is not None and there["type"] == "dataset":
        report = _compare(source, destination, config_path, update=update, documents_too=documents_too, begun=begun)
        tell_all_there(source.items.values(), progress)
        return report
    if there is not None and there.get("uuid") != source.admin["uuid"]:
        raise _other_dataset(destination.uri, there, source)
    logger.info("copy %s to %s: %d items", source.uri, destination.uri, len(source.items))
    items, copied = _copy_items(source, destination, transfer, progress)
    tags, annotations, overlays = source.tags(), source.annotations(), source.overlays()
    write_documents(destination, source.readme(), tags, annotations)
    destination.check(items)
    destination.keep_only(tags, annotations, overlays)
    version = str(source.admin.get("dtoolcore_version", dtoolcore.__version__))
    transfer.check()
    destination.freeze(documents.Manifest(items, version), overlays, source.admin)
    report = CopyReport(
        **_identity(source, destination),
        copied_items=len(copied),
        copied_bytes=sum(item.size for item in copied),
        skipped=len(items) - len(copied),
        already_there=False,
        verified=destination.verified,
        notes=(*source.notes, *destination.notes),
        seconds=time.monotonic() - begun,
    )
    logger.info("copied %s: %d items, %d bytes", report.uri, report.copied_items, report.copied_bytes)
    return report


def open_destination(base_uri: str, admin: Mapping[str, Any], config_path: str | None) -> Destination:
    """Return the place of a dataset at a base URI, whether it is there or not; nothing is written.

    Raises:
        SettingsError: an ECS bucket's settings are not complete, or those of a plugin.
        PluginError: the plugin for its scheme is not installed, or broken.
        DatasetError: its plugin cannot write.
        UnsafeNameError: the base URI has a path that it must not have.
        ManifestError: the administrative metadata names no UUID, from which all keys are made.
    """
    if not layout.is_uuid(str(admin.get("uuid", ""))):
        raise ManifestError(f"administrative metadata unreadable: {admin.get('uuid')!r} is no UUID")
    try:
        scheme = urlsplit(base_uri).scheme
    except ValueError as error:
        raise UnsafeNameError(f"{base_uri!r} is no base URI: {error}") from None
    if scheme == layout.SCHEME:
        bucket, uuid = layout.parse_uri(base_uri)
        if uuid:
            raise DatasetDiffersError(f"{base_uri} is the URI of a dataset; the base URI is {layout.base_uri(bucket)}")
        return EcsDestination(StoredDataset.at(layout.dataset_uri(bucket, admin["uuid"]), config_path))
    if scheme in ("", "file"):
        return DiskDestination(base_uri, admin["name"], admin["uuid"])
    return BrokerDestination(base_uri, admin, config_path)


def write_documents(destination: Destination, readme: str, tags: Iterable[str], annotations: Mapping[str, Any]) -> None:
    """Write what describes a dataset."""
    destination.put_readme(readme)
    for tag in tags:
        destination.put_tag(tag)
    for name, value in annotations.items():
        destination.put_annotation(name, value)


def _copy_items(
    source: Source,
    destination: Destination,
    transfer: Transfer,
    progress: ProgressCallback | None,
    chosen: Mapping[str, Item] | None = None,
) -> tuple[dict[str, Item], list[Item]]:
    """Copy all items, or those that are chosen; return them with their MD5, and those that were written."""
    item_source = source.item_source()
    items = dict(source.items if chosen is None else chosen)  # in this order
    copied: list[Item] = []
    destination.begin(source.admin, items)

    def put(item: Item) -> tuple[Item, bool]:
        with suppress(CorruptItemError):  # a bit may have flipped on the way: once more
            return destination.put(item, item_source, transfer)
        return destination.put(item, item_source, transfer)

    done = each_item(
        transfer, list(items.values()), put, progress, destination.uri, skipped=lambda result: not result[1]
    )
    for item, (as_put, written) in done:
        items[item.identifier] = as_put
        if written:
            copied.append(item)
    return items, copied


# --- a dataset that is there already -------------------------------------------------------------------------------


def _compare(
    source: Source,
    destination: Destination,
    config_path: str | None,
    *,
    update: bool,
    documents_too: bool,
    begun: float,
) -> CopyReport:
    there = open_source(destination.uri, config_path)
    if there.admin["uuid"] != source.admin["uuid"]:
        raise _other_dataset(destination.uri, there.admin, source)
    same_hash = there.hash_function == source.hash_function
    for identifier in source.items.keys() | there.items.keys():
        ours, theirs = source.items.get(identifier), there.items.get(identifier)
        if (
            ours is None
            or theirs is None
            or ours.size != theirs.size
            or (same_hash and ours.hash.lower() != theirs.hash.lower())
        ):
            relpath = (ours or theirs).relpath  # type: ignore[union-attr]  # one of them is there
            raise DatasetDiffersError(
                f"{source.uri} and {destination.uri} are both frozen and differ in item {relpath!r}: "
                f"{_tell(ours)} here, {_tell(theirs)} there; nothing was changed"
            )
    differences = differing_documents(source, there) if documents_too else []
    if update and differences:
        _update(source, there, differences, config_path)
    return CopyReport(
        **_identity(source, destination),
        copied_items=0,
        copied_bytes=0,
        skipped=len(source.items),
        already_there=True,
        verified="not read",
        differences=(*differences, *(() if same_hash else (_BY_SIZE,))),
        updated=tuple(name for name in differences if update and not name.startswith("only there: ")),
        seconds=time.monotonic() - begun,
    )


def differing_documents(source: Source, there: Source) -> list[str]:
    """Return which of README, tags, annotations and overlays differ, or are in one of the two only."""
    differences = ["README.yml"] if source.readme() != there.readme() else []
    ours = _documents(source)
    theirs = _documents(there)
    differences += sorted(name for name in ours if name not in theirs or theirs[name] != ours[name])
    differences += sorted(f"only there: {name}" for name in theirs if name not in ours)
    return differences


def _documents(source: Source) -> dict[str, Any]:
    named: dict[str, Any] = {f"tags/{tag}": True for tag in source.tags()}
    named |= {f"annotations/{name}": value for name, value in source.annotations().items()}
    named |= {f"overlays/{name}": value for name, value in source.overlays().items()}
    return named


def _update(source: Source, there: Source, differences: list[str], config_path: str | None) -> None:
    """Write the documents that differ through the broker, which keeps the README's history."""
    documents_here = _documents(source)

    def update(broker: Any) -> None:
        for name in differences:
            kind, _, key = name.partition("/")
            if name == "README.yml":
                broker.update_readme(source.readme())
            elif kind == "tags":
                broker.put_tag(key)
            elif kind == "annotations":
                broker.put_annotation(key, documents_here[name])
            elif kind == "overlays":
                broker.put_overlay(key, documents_here[name])

    # Whoever serves the source chose its names, of which a broker makes paths unseen.
    for kind, _, key in (name.partition("/") for name in differences if name in documents_here):
        layout.check_name(key, kind.removesuffix("s"))
    Brokers(there.uri, config_path).call(update)


def _other_dataset(uri: str, there: Mapping[str, Any], source: Source) -> DatasetDiffersError:
    return DatasetDiffersError(
        f"{uri} holds another dataset: UUID {there.get('uuid')}, not {source.admin['uuid']}; nothing was changed"
    )


def _tell(item: Item | None) -> str:
    return "none" if item is None else f"{item.size} bytes with hash {item.hash}"


def _identity(source: Source, destination: Destination) -> dict[str, Any]:
    return {
        "source_uri": source.uri,
        "uri": destination.uri,
        "uuid": source.admin["uuid"],
        "name": source.admin["name"],
        "items": len(source.items),
        "bytes": sum(item.size for item in source.items.values()),
    }
