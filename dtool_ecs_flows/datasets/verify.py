"""Verifying a dataset: is everything there, and is it still what it was?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.others import Brokers
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.datasets.sources import EcsSource, Source, open_source
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    CorruptItemError,
    CredentialsError,
    ManifestError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotADatasetError,
    StoppedError,
    StoreError,
    UnavailableError,
    UnsafeNameError,
)
from dtool_ecs_flows.items import ItemSource, receive
from dtool_ecs_flows.models import Finding, FindingKind, Item, ProgressCallback, VerifyReport
from dtool_ecs_flows.progress import Meter
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import heed
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Transfer
from dtool_ecs_flows.words import human_time


def verify_dataset(
    uri: str,
    *,
    read: bool = True,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> VerifyReport:
    """Compare a frozen dataset with its manifest: structure, presence and size of all items, and their bytes.

    What is wrong comes back as findings, each kind apart; nothing is changed. What could not be read because the
    store was not to be reached is "not verified", which is not "corrupt". An item whose hash differs is read once
    more before it is called corrupt. When the store is gone for longer than requests are tried again (minutes, not only
    for one item), the rest is "not verified" without being tried.

    Args:
        uri: URI of the dataset.
        read: read every byte and compare hashes; without it only names and sizes are compared, and the report says so.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called in this thread as items, and parts of large ones, are done; see `ProgressCallback`.
        stop: set it to end early with `StoppedError`.

    Raises:
        NotADatasetError: there is nothing at this URI.
        StoreError, SettingsError: the store or its settings, before anything could be compared.
    """
    begun = time.monotonic()
    with operation(uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop) as transfer:
        try:
            source = open_source(uri, config_path)
        except NotADatasetError:
            if (report := _not_frozen(uri, config_path, begun)) is None:
                raise
            return report
        findings: list[Finding] = []
        bytes_read = 0
        try:
            items = source.items
        except ManifestError as error:
            items = {}
            findings.append(Finding(kind="manifest unreadable", subject="manifest.json", message=str(error)))
        else:
            findings += _structure(source)
            there = source.present()
            findings += presence(items, there)
            if read:
                whole = [item for item in items.values() if there.get(item.identifier) == item.size]
                corrupt, bytes_read = _content(source, whole, transfer, progress)
                findings += corrupt
    return VerifyReport(
        uri=source.uri,
        uuid=source.admin["uuid"],
        name=source.admin["name"],
        items=len(items),
        bytes=sum(item.size for item in items.values()),
        bytes_read=bytes_read,
        content_read=read,
        findings=tuple(findings),
        seconds=time.monotonic() - begun,
    )


def _not_frozen(uri: str, config_path: str | None, begun: float) -> VerifyReport | None:
    """Report what is there in the place of a frozen dataset; None where nothing is."""
    in_bucket = uri.startswith(layout.SCHEME + "://")
    found = _unfrozen_in_bucket(uri, config_path) if in_bucket else _unfrozen_elsewhere(uri, config_path)
    if found is None:
        return None
    admin, finding = found
    return VerifyReport(
        uri=uri,
        uuid=str(admin.get("uuid", "")),
        name=str(admin.get("name", "")),
        items=0,
        bytes=0,
        bytes_read=0,
        content_read=False,
        findings=(finding,),
        seconds=time.monotonic() - begun,
    )


def _unfrozen_in_bucket(uri: str, config_path: str | None) -> tuple[Mapping[str, Any], Finding] | None:
    stored = StoredDataset.at(uri, config_path)
    if not stored.uuid:
        return None
    keys = stored.keys
    try:
        admin = stored.admin()
    except NoSuchKeyError:
        if not stored.is_registered():
            return None
        message = f"{keys.registration} registers a dataset, and {keys.admin_metadata} is missing"
        finding = Finding(kind="orphan registration", subject=keys.registration, message=message)
        return {"uuid": stored.uuid}, finding
    return {**admin, "uuid": stored.uuid}, _proto(admin)


def _unfrozen_elsewhere(uri: str, config_path: str | None) -> tuple[Mapping[str, Any], Finding] | None:
    admin = Brokers(uri, config_path).admin()
    return None if admin is None else (admin, _proto(admin))


def _proto(admin: Mapping[str, Any]) -> Finding:
    message = "it has not been frozen yet"
    with suppress(KeyError, TypeError, ValueError):  # some brokers tell it as text
        message += f"; it was created at {human_time(float(admin['created_at']))} UTC"
    return Finding(kind="proto dataset", subject="dtool", message=message, expected="dataset", actual="protodataset")


def _structure(source: Source) -> list[Finding]:
    """Look at the registration, and at the documents that other clients, and a copy, need."""
    if not isinstance(source, EcsSource):
        return []
    stored, keys = source.stored, source.stored.keys
    findings = []
    if not stored.is_registered():
        message = f"registration key {keys.registration} is missing: no listing shows this dataset"
        findings.append(Finding(kind="missing", subject=keys.registration, message=message))
    named = [keys.overlay(name) for name in stored.names(keys.overlays, ".json")]
    named += [keys.annotation(name) for name in stored.names(keys.annotations, ".json")]
    for key in (keys.structure, keys.readme, *named):
        name = key.removeprefix(keys.root)
        try:
            content = stored.text(key) if key == keys.readme else stored.document(key)
            if key == keys.structure and not isinstance(content, dict):
                raise ManifestError(f"{key} is no JSON object")
        except NoSuchKeyError:
            findings.append(Finding(kind="missing", subject=name, message=f"{key} is missing"))
        except ManifestError as error:
            kind: FindingKind = "structure unreadable" if key == keys.structure else "metadata unreadable"
            findings.append(Finding(kind=kind, subject=name, message=str(error)))
    return findings


def presence(items: dict[str, Item], there: dict[str, int]) -> list[Finding]:
    """Compare the items of a manifest with what is there, sizes by identifier."""
    findings = []
    for identifier, item in items.items():
        if identifier not in there:
            message = f"item {item.relpath!r} ({identifier}) is missing"
            findings.append(Finding(kind="missing", subject=item.relpath, message=message, expected=item.hash))
        elif there[identifier] != item.size:
            findings.append(
                Finding(
                    kind="size",
                    subject=item.relpath,
                    message=f"item {item.relpath!r} has another size",
                    expected=f"{item.size} bytes",
                    actual=f"{there[identifier]} bytes",
                )
            )
    for identifier in sorted(there.keys() - items.keys()):
        message = f"{identifier} is in the dataset and not in its manifest"
        findings.append(Finding(kind="extra", subject=identifier, message=message))
    return findings


def _content(
    source: Source, items: list[Item], transfer: Transfer, progress: ProgressCallback | None
) -> tuple[list[Finding], int]:
    findings: list[Finding] = []
    bytes_read = 0
    item_source = source.item_source()
    jobs = sorted(items, key=lambda item: -item.size)
    meter = transfer.meter = Meter(items, progress) if progress is not None else None
    outage = _Outage(source, transfer)

    def work(item: Item) -> None:
        with outage.noticed():
            _hash(item, item_source, transfer)

    for item, result in transfer.each(jobs, work):
        if isinstance(result, CorruptItemError):
            if result.expected == item.hash:  # it was compared, after all bytes were read; else an object is gone
                bytes_read += item.size
            findings.append(
                Finding(
                    kind="corrupt",
                    subject=item.relpath,
                    message=str(result),
                    expected=result.expected,
                    actual=result.actual,
                )
            )
        elif isinstance(result, (NoSuchBucketError, CredentialsError, StoppedError)):
            raise result
        elif isinstance(result, (StoreError, OSError, ManifestError, UnsafeNameError)):
            findings.append(Finding(kind="not verified", subject=item.relpath, message=str(result)))
        elif isinstance(result, Exception):
            raise result
        else:
            bytes_read += item.size
        if meter is not None:
            meter.done(item, skipped=isinstance(result, Exception) and not isinstance(result, CorruptItemError))
    if meter is not None:
        meter.finish()
    return findings, bytes_read


class _Outage:
    """Tells a store that is gone from an item that cannot be read, so that not every item waits for minutes in vain."""

    def __init__(self, source: Source, transfer: Transfer) -> None:
        self._source = source
        self._transfer = transfer
        self._gone = threading.Event()

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Read an item within; where that fails, ask the store for something else."""
        self._check()
        try:
            with heed(self._check):  # ends the attempts at other items, too
                yield
        except UnavailableError:
            if isinstance(self._source, EcsSource):
                stored = self._source.stored
                try:
                    with heed(self._check), suppress(NoSuchKeyError, AccessDeniedError):
                        stored.store.head(stored.keys.admin_metadata)
                except UnavailableError:
                    self._gone.set()
            raise

    def _check(self) -> None:
        self._transfer.check()
        if self._gone.is_set():
            raise UnavailableError(f"not tried: the store of {self._source.uri} cannot be reached")


def _hash(item: Item, source: ItemSource, transfer: Transfer) -> None:
    layout.check_relpath(item.relpath)
    if not item.hash:
        raise ManifestError(f"the manifest has no hash of item {item.relpath!r}, so its bytes cannot be verified")
    try:
        receive(item, source, transfer, None)
    except CorruptItemError:
        receive(item, source, transfer, None)  # a bit may have flipped on the way
