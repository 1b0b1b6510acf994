"""Listing the datasets of a base URI."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.others import Brokers, uris_below
from dtool_ecs_flows.datasets.running import settings_given
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    EcsFlowsError,
    ManifestError,
    NoSuchKeyError,
    NotADatasetError,
    StoppedError,
)
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.models import DatasetInfo, DatasetList
from dtool_ecs_flows.settings import BucketSettings, resolve
from dtool_ecs_flows.store import SMALL_DOCUMENT, ObjectInfo, Store, heed, is_md5, open_store
from dtool_ecs_flows.stored import StoredDataset, registered
from dtool_ecs_flows.transfer import Transfer, md5_of

R = TypeVar("R")

Unreadable: TypeAlias = ManifestError | AccessDeniedError
"""What keeps one dataset from being read, and no other."""

_PREFIXES = 1000  # that are remembered: as many as there are datasets on a page


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
    prefix (where there are more than a thousand, some more); with `tags` one listing more per dataset. A dataset that
    cannot be read is listed with its `problem`, and does not keep the others from being listed. All are in memory at
    the end, about 1.5 KB each; `iter_datasets` needs less.

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
    lines = _lines(base_uri, settings=settings, config_path=config_path, tags=tags, concurrency=concurrency, stop=stop)
    found: list[DatasetInfo] = []
    orphans: list[str] = []
    for uuid, line in lines:
        if line is None:
            orphans.append(uuid)
        else:
            found.append(line)
    found.sort(key=lambda info: (info.name, info.uuid))
    return DatasetList(
        base_uri=_without_rest(base_uri),
        datasets=tuple(found),
        orphans=tuple(sorted(orphans)),
        seconds=time.monotonic() - begun,
    )


def iter_datasets(
    base_uri: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    tags: bool = False,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> Generator[DatasetInfo, None, None]:
    """Yield the datasets of a base URI as `list_datasets` tells of them, each as soon as it is read.

    For buckets of any size: one listing page, the last thousand prefixes and the datasets that are being read are in
    memory, and no more. They come in no particular order; UUIDs that are registered without a dataset are left out.
    Leaving the iteration ends the requests; where it is not run to its end, close it.

    The arguments are those of `list_datasets`, and so is what it raises.
    """
    lines = _lines(base_uri, settings=settings, config_path=config_path, tags=tags, concurrency=concurrency, stop=stop)
    return (line for _, line in lines if line is not None)


_Line: TypeAlias = tuple[str, DatasetInfo | None]
"""A UUID, and what its dataset is; None where the registration key stands alone."""


def _lines(
    base_uri: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings],
    config_path: str | None,
    tags: bool,
    concurrency: int | None,
    stop: threading.Event | None,
) -> Iterator[_Line]:
    """Return what reads the datasets; a bucket's settings are looked up now, since active ones may be gone later."""
    if not layout.check_given(base_uri).startswith(layout.SCHEME + "://"):
        return _with_dtoolcore(base_uri, config_path, tags, stop)
    bucket, uuid = layout.parse_uri(base_uri)
    if uuid:
        raise NotADatasetError(f"{base_uri} is the URI of a dataset; list {layout.base_uri(bucket)}")
    with settings_given(settings):
        store = open_store(resolve(bucket, config_path=config_path))
    return _in_bucket(store, tags, Transfer(concurrency or store.settings.concurrency, stop))


def _without_rest(base_uri: str) -> str:
    is_bucket = base_uri.startswith(layout.SCHEME + "://")
    return layout.base_uri(layout.parse_uri(base_uri)[0]) if is_bucket else base_uri


def _in_bucket(store: Store, tags: bool, transfer: Transfer) -> Iterator[_Line]:
    prefixes = Prefixes(store)

    def read(one: tuple[str, ObjectInfo]) -> DatasetInfo | None:
        uuid, registration = one
        try:
            return _info(store, uuid, prefixes.of(uuid, registration), tags)
        except NoSuchKeyError:
            return None

    return each_registered(store, transfer, read)


def each_registered(
    store: Store, transfer: Transfer, read: Callable[[tuple[str, ObjectInfo]], R]
) -> Generator[tuple[str, R], None, None]:
    """Read what is behind each registration key of a bucket, many at once; yield each UUID with what was read.

    Raises:
        Exception: the first that `read` raises.
    """
    with transfer:
        for (uuid, _), line in transfer.each(_heeding(registered(store), transfer.check), read):
            if isinstance(line, Exception):
                raise line
            yield uuid, line


def _heeding(pages: Iterator[tuple[str, ObjectInfo]], check: Callable[[], None]) -> Iterator[tuple[str, ObjectInfo]]:
    """Let a stop be heard while a page is asked for: only then, since a generator shares its caller's context."""
    while True:
        with heed(check):
            one = next(pages, None)
        if one is None:
            return
        yield one


class Prefixes:
    """The prefixes of a bucket's datasets. Those of equal registration keys are read once: many users have a few.

    Only the last `_PREFIXES` are remembered, so that a bucket with a prefix for each dataset takes no more memory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read: dict[tuple[int, str], Future[str | Unreadable]] = {}  # by size and MD5 of the registration key

    def of(self, uuid: str, registration: ObjectInfo) -> str | Unreadable:
        """Return the prefix of a dataset, or why it cannot be read.

        Raises:
            NoSuchKeyError: it was deleted meanwhile.
        """
        size, etag = registration.size, registration.etag
        for guess in (b"", self._store.settings.dataset_prefix.encode()):
            if size == len(guess) and (not guess or etag == md5_of(guess)):
                return guess.decode()
        if not is_md5(etag):  # which says nothing, so that key stands alone
            return self._of(uuid)
        with self._lock:
            known, mine = self._read.pop((size, etag), None), Future[str | Unreadable]()
            self._read[size, etag] = known or mine  # the last one now
            if len(self._read) > _PREFIXES:
                del self._read[next(iter(self._read))]
        if known is not None:
            with suppress(NoSuchKeyError):
                return known.result()
            return self._of(uuid)  # the one that was to tell was deleted meanwhile
        try:
            mine.set_result(self._of(uuid))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()

    def _of(self, uuid: str) -> str | Unreadable:
        key = layout.registration_key(uuid)
        try:
            body = self._store.get(key, expected=True, most=SMALL_DOCUMENT).body
            return documents.parse_prefix(body, f"{self._store.bucket}/{key}")
        except (ManifestError, AccessDeniedError) as error:
            return error


def _info(store: Store, uuid: str, prefix: str | Unreadable, tags: bool) -> DatasetInfo:
    """Return one line.

    Raises:
        NoSuchKeyError: the registration key stands alone.
    """
    uri = layout.dataset_uri(store.bucket, uuid)
    dataset = StoredDataset(store, uuid)
    try:
        if isinstance(prefix, Exception):
            raise prefix
        dataset.keys = DatasetKeys(prefix, uuid)
        admin = dataset.admin()
        return line_of(uri, uuid, admin, dataset.names(dataset.keys.tags) if tags else None)
    except (ManifestError, AccessDeniedError) as error:
        return DatasetInfo(uri=uri, uuid=uuid, problem=str(error))


def line_of(uri: str, uuid: str, admin: dict[str, Any], tags: list[str] | None) -> DatasetInfo:
    """Return what a listing tells of a dataset with this administrative metadata."""
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


def _with_dtoolcore(
    base_uri: str, config_path: str | None, tags: bool, stop: threading.Event | None
) -> Iterator[_Line]:
    uri = dtoolcore.utils.sanitise_uri(base_uri)
    try:
        uris = uris_below(uri, config_path)
    except FileNotFoundError:
        hint = "" if "/" in base_uri else f"; the base URI of a bucket is {layout.base_uri(base_uri)}"
        raise NotADatasetError(f"there is no folder {base_uri}{hint}") from None
    for dataset_uri in uris:
        if stop is not None and stop.is_set():
            raise StoppedError("stopped; nothing was changed")
        uuid = ""
        try:
            brokers = Brokers(dataset_uri, config_path)
            admin = brokers.call(lambda broker: broker.get_admin_metadata())
            if not isinstance(admin, dict) or not layout.is_uuid(str(admin.get("uuid"))):
                raise ManifestError("administrative metadata unreadable: no JSON object with a UUID")
            uuid = str(admin.get("uuid", ""))
            yield uuid, line_of(dataset_uri, uuid, admin, brokers.names("tags") if tags else None)
        except (EcsFlowsError, OSError, ValueError, KeyError) as error:
            yield uuid, DatasetInfo(uri=dataset_uri, uuid=uuid, problem=f"cannot be read: {error}")
