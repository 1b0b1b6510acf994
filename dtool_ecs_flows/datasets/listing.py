"""Listing the datasets of a base URI."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.running import concurrency_for, settings_given
from dtool_ecs_flows.errors import AccessDeniedError, EcsFlowsError, ManifestError, NoSuchKeyError, NotADatasetError
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.models import DatasetInfo, DatasetList
from dtool_ecs_flows.settings import BucketSettings, resolve
from dtool_ecs_flows.store import Store, heed, is_md5, open_store
from dtool_ecs_flows.stored import StoredDataset, registered
from dtool_ecs_flows.transfer import Transfer, md5_of

Unreadable: TypeAlias = ManifestError | AccessDeniedError
"""What keeps one dataset from being read, and no other."""


def list_datasets(
    base_uri: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    tags: bool = False,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> DatasetList:
    """List the datasets of a base URI, frozen or not.

    In a bucket that takes one request per 1,000 datasets, one small read per dataset, and one read per distinct
    prefix; with `tags` one listing more per dataset. A dataset that cannot be read is listed with its `problem`, and
    does not keep the others from being listed.

    Args:
        base_uri: `ecs://bucket`, or a folder, or any base URI that a dtool plugin serves.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        tags: list the tags of each dataset too.
        concurrency: requests at once; by default the setting of the bucket.
        stop: set it to end early with `StoppedError`.

    Raises:
        NotADatasetError: no plugin serves the base URI.
        StoreError, SettingsError: the store or its settings.
    """
    begun = time.monotonic()
    with settings_given(settings):
        if base_uri.startswith(layout.SCHEME + "://"):
            bucket, uuid = layout.parse_uri(base_uri)
            if uuid:
                raise NotADatasetError(f"{base_uri} is the URI of a dataset; list {layout.base_uri(bucket)}")
            base_uri = layout.base_uri(bucket)
            store = open_store(resolve(bucket, config_path=config_path))
            workers = concurrency or concurrency_for(base_uri, config_path=config_path)
            with Transfer(workers, stop) as transfer, heed(transfer.check):
                found, orphans = _in_bucket(store, tags, transfer)
        else:
            with Transfer(1, stop) as transfer:
                found, orphans = list(_with_dtoolcore(base_uri, tags, transfer)), []
    return DatasetList(
        base_uri=base_uri,
        datasets=tuple(sorted(found, key=lambda info: (info.name, info.uuid))),
        orphans=tuple(sorted(orphans)),
        seconds=time.monotonic() - begun,
    )


def _in_bucket(store: Store, tags: bool, transfer: Transfer) -> tuple[list[DatasetInfo], list[str]]:
    found: list[DatasetInfo] = []
    orphans: list[str] = []
    known = _prefixes(store, transfer)
    for (uuid, _), line in transfer.each(known, lambda one: _info(store, *one, tags)):
        if isinstance(line, Exception):
            raise line
        if line is None:
            orphans.append(uuid)
        else:
            found.append(line)
    return found, orphans


def _prefixes(store: Store, transfer: Transfer) -> list[tuple[str, str | Unreadable]]:
    """Return each registered UUID with its prefix, or with why its registration key cannot be read."""
    by_body: dict[tuple[int, str], list[str]] = defaultdict(list)
    for uuid, key in registered(store):
        transfer.check()
        # Equal size and MD5 are an equal prefix; any other ETag says nothing, so that key stands alone.
        by_body[(key.size, key.etag if is_md5(key.etag) else uuid)].append(uuid)

    def prefix_of(body: tuple[int, str]) -> str | Unreadable:
        size, etag = body
        for guess in (b"", store.settings.dataset_prefix.encode()):
            if size == len(guess) and (not guess or etag == md5_of(guess)):
                return guess.decode()
        for uuid in by_body[body]:
            key = layout.registration_key(uuid)
            try:
                return documents.parse_prefix(store.get(key, expected=True).body, f"{store.bucket}/{key}")
            except NoSuchKeyError:
                continue  # deleted since the page was made; the next of the same body tells as well
            except (ManifestError, AccessDeniedError) as error:
                return error
        return ""  # all are gone, and nothing will be found under any prefix

    prefixes: list[tuple[str, str | Unreadable]] = []
    for body, prefix in transfer.each(list(by_body), prefix_of):
        if isinstance(prefix, Exception) and not isinstance(prefix, (ManifestError, AccessDeniedError)):
            raise prefix
        prefixes += [(uuid, prefix) for uuid in by_body[body]]
    return prefixes


def _info(store: Store, uuid: str, prefix: str | Unreadable, tags: bool) -> DatasetInfo | None:
    """Return one line; None where the registration key stands alone."""
    uri = layout.dataset_uri(store.bucket, uuid)
    dataset = StoredDataset(store, uuid)
    try:
        if isinstance(prefix, Exception):
            raise prefix
        dataset.keys = DatasetKeys(prefix, uuid)
        admin = dataset.admin()
        return _line(uri, uuid, admin, dataset.names(dataset.keys.tags) if tags else None)
    except NoSuchKeyError:
        return None
    except (ManifestError, AccessDeniedError) as error:
        return DatasetInfo(uri=uri, uuid=uuid, problem=str(error))


def _line(uri: str, uuid: str, admin: dict[str, Any], tags: list[str] | None) -> DatasetInfo:
    kind = admin.get("type")
    return DatasetInfo(
        uri=uri,
        uuid=uuid,
        name=str(admin.get("name", "")),
        type=kind if kind in ("dataset", "protodataset") else "",
        creator_username=str(admin.get("creator_username", "")),
        created_at=_seconds(admin.get("created_at")),
        frozen_at=_seconds(admin.get("frozen_at")) if kind == "dataset" else None,
        tags=None if tags is None else tuple(tags),
        problem="" if kind in ("dataset", "protodataset") else f"unknown type {kind!r}",
    )


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _with_dtoolcore(base_uri: str, tags: bool, transfer: Transfer) -> Iterator[DatasetInfo]:
    uri = dtoolcore.utils.sanitise_uri(base_uri)
    try:
        broker = dtoolcore._get_storage_broker(uri, None)
    except KeyError as error:
        raise NotADatasetError(f"{base_uri}: no installed plugin serves the scheme {error}") from None
    try:
        uris = list(broker.list_dataset_uris(uri, None))
    except FileNotFoundError:
        hint = "" if "/" in base_uri else f"; the base URI of a bucket is {layout.base_uri(base_uri)}"
        raise NotADatasetError(f"there is no folder {base_uri}{hint}") from None
    for dataset_uri in uris:
        transfer.check()
        uuid = ""
        try:
            admin = dtoolcore._admin_metadata_from_uri(dataset_uri, None)
            if not isinstance(admin, dict) or not layout.is_uuid(str(admin.get("uuid"))):
                raise ManifestError("administrative metadata unreadable: no JSON object with a UUID")
            uuid = str(admin.get("uuid", ""))
            kind = dtoolcore.DataSet if admin.get("type") == "dataset" else dtoolcore.ProtoDataSet
            listed = sorted(kind(dataset_uri, dict(admin)).list_tags()) if tags else None
            yield _line(dataset_uri, uuid, admin, listed)
        except (EcsFlowsError, OSError, ValueError, KeyError) as error:
            yield DatasetInfo(uri=dataset_uri, uuid=uuid, problem=f"cannot be read: {error}")
