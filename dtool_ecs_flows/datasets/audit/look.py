"""The daily look at a dataset: everything that shows without reading its bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.audit.history import Past
from dtool_ecs_flows.datasets.audit.spread import DAY
from dtool_ecs_flows.datasets.listing import Prefixes
from dtool_ecs_flows.datasets.verify import presence
from dtool_ecs_flows.errors import (
    AccessDeniedError,
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
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.models import DAMAGE, DatasetAudit, Deletion, Finding
from dtool_ecs_flows.store import ObjectInfo, Store, heed
from dtool_ecs_flows.stored import StoredDataset, registered
from dtool_ecs_flows.transfer import Transfer
from dtool_ecs_flows.words import human_time

CONCERNS_ALL = (NoSuchBucketError, CredentialsError, StoppedError)
"""What the next dataset would meet too."""

LARGE = 10_000
"""Items; a dataset with more of them is looked at alone: a few manifests of a million would fill the memory."""


def finding_of(error: Exception) -> Finding:
    """Return what an error says of one dataset; raise it again where it says something of all, or of this program."""
    if isinstance(error, (ManifestError, UnsafeNameError)):
        return Finding(kind="metadata unreadable", subject="dtool", message=str(error))
    if isinstance(error, NotADatasetError):
        return Finding(kind="not verified", subject="dtool", message="it was deleted during the audit")
    if isinstance(error, (StoreError, OSError)) and not isinstance(error, CONCERNS_ALL):
        return Finding(kind="not verified", subject="dtool", message=str(error))
    raise error


class Looks:
    """The looks at the datasets of a bucket, many at once. Three requests each: metadata, manifest, a listing page."""

    def __init__(self, store: Store, transfer: Transfer, stale_after_days: int) -> None:
        self._store = store
        self._transfer = transfer
        self._stale_after = stale_after_days * DAY
        self._prefixes = Prefixes(store)
        self._one_large = threading.Lock()
        self._gone = threading.Event()

    def at(self, one: tuple[str, ObjectInfo]) -> DatasetAudit | None:
        """Look at a registered dataset; None where no metadata was found, which `again` is for."""
        uuid, registration = one
        with self._outage_noticed(registration.key):
            return self._look(uuid, registration)

    def again(self, one: tuple[str, ObjectInfo]) -> DatasetAudit | None:
        """Look once more at one that had no metadata, and may just have been made, or deleted: None for the latter."""
        uuid, registration = one
        with self._outage_noticed(registration.key):
            if (found := self._look(uuid, registration)) is not None:
                return found
            stored = StoredDataset(self._store, uuid)
            if not stored.is_registered():
                return None
            return _result(stored, findings=[_orphan(stored)])

    def lost(self, one: tuple[str, Past]) -> DatasetAudit | Deletion:
        """Look for one that is not registered any more; deleted on purpose is only what has no metadata either.

        That is looked for under our own prefix, and under the one that was deleted from.
        """
        uuid, past = one
        key = layout.registration_key(uuid)
        prefixes = {self._store.settings.dataset_prefix, *([past.deleted.prefix] if past.deleted else [])}
        with self._outage_noticed(key):
            if any(self._has_metadata(DatasetKeys(prefix, uuid)) for prefix in prefixes):
                message = f"registration key {key} is missing: no listing shows this dataset"
            elif past.deleted is not None:
                return past.deleted
            else:
                message = f"it is gone; all of it was read at {human_time(past.last_read)} UTC"
            finding = Finding(kind="missing", subject=key, message=message)
            return _result(StoredDataset(self._store, uuid), name=past.name, findings=[finding])

    def _has_metadata(self, keys: DatasetKeys) -> bool:
        stored = StoredDataset(self._store, keys.uuid)
        stored.keys = keys
        try:
            stored.admin(expected=False)
        except NoSuchKeyError:
            return False
        return True

    def failed(self, uuid: str, error: Exception) -> DatasetAudit:
        """Return what is told of a dataset that could not be looked at; raise what concerns all."""
        return _result(StoredDataset(self._store, uuid), findings=[finding_of(error)])

    @contextmanager
    def _outage_noticed(self, key: str) -> Iterator[None]:
        """Look within; where the store cannot be reached, ask it for something else, and end all if it is down."""
        self._check()
        try:
            with heed(self._check):
                yield
        except UnavailableError:
            try:
                with heed(self._check), suppress(NoSuchKeyError, AccessDeniedError):
                    self._store.head(key)
            except UnavailableError:
                self._gone.set()
            raise

    def _check(self) -> None:
        self._transfer.check()
        if self._gone.is_set():
            raise UnavailableError(f"not tried: the store of {layout.base_uri(self._store.bucket)} cannot be reached")

    def _look(self, uuid: str, registration: ObjectInfo) -> DatasetAudit | None:
        begun = time.monotonic()
        stored = StoredDataset(self._store, uuid)
        try:
            prefix = self._prefixes.of(uuid, registration)
            if isinstance(prefix, Exception):
                raise prefix
            stored.keys = DatasetKeys(prefix, uuid)
            admin = stored.admin()
        except NoSuchKeyError:
            return None
        kind, name = admin["type"], admin["name"]
        if kind == "protodataset":
            return _result(stored, name=name, type=kind, findings=self._stale(registration))
        if kind != "dataset" or admin["uuid"] != uuid:
            told = f"it has the type {kind!r} and the UUID {admin['uuid']!r}"
            finding = Finding(
                kind="metadata unreadable", subject="dtool", message=f"{stored.keys.admin_metadata}: {told}"
            )
            return _result(stored, name=name, findings=[finding])
        items, size, findings = self._content(stored)
        if any(finding.kind in DAMAGE for finding in findings):
            findings = changed_meanwhile(stored) or findings
        seconds = time.monotonic() - begun
        return _result(stored, name=name, type=kind, items=items, bytes=size, findings=findings, seconds=seconds)

    def _stale(self, registration: ObjectInfo) -> list[Finding]:
        """Go by when it was begun here: a copy of an old dataset has an old time of creation."""
        if time.time() - registration.last_modified < self._stale_after:
            return []
        message = f"it was begun at {human_time(registration.last_modified)} UTC and has not been frozen"
        return [Finding(kind="stale proto dataset", subject="dtool", message=message, expected="dataset")]

    def _content(self, stored: StoredDataset) -> tuple[int, int, list[Finding]]:
        """Compare one listing with the manifest."""
        keys = stored.keys
        objects = self._store.list(keys.root)
        there: dict[str, int] = {}
        documents = {keys.structure, keys.readme}
        for info in objects:
            documents.discard(info.key)
            if info.key.startswith(keys.data) and info.key != keys.data:
                there[info.key[len(keys.data) :]] = info.size
                if len(there) > LARGE:
                    break
        with self._one_large if len(there) > LARGE else nullcontext():
            for info in objects:
                documents.discard(info.key)
                if info.key.startswith(keys.data):
                    there[info.key[len(keys.data) :]] = info.size
            missing = [
                Finding(kind="missing", subject=key[len(keys.root) :], message=f"{key} is missing")
                for key in sorted(documents)
            ]
            try:
                items = stored.read_manifest().items
            except ManifestError as error:
                return (
                    0,
                    0,
                    [*missing, Finding(kind="manifest unreadable", subject="manifest.json", message=str(error))],
                )
            return len(items), sum(item.size for item in items.values()), [*missing, *presence(items, there)]


def changed_meanwhile(stored: StoredDataset) -> list[Finding]:
    """Return a finding where a dataset is not frozen any more: what looked like damage is somebody's deleting it."""
    try:
        frozen = stored.admin()["type"] == "dataset"
    except NoSuchKeyError:
        frozen = False
    except ManifestError:  # which is damage of its own
        frozen = True
    if frozen:
        return []
    return [Finding(kind="not verified", subject="dtool", message="it was deleted, or being deleted, during the audit")]


def _orphan(stored: StoredDataset) -> Finding:
    """A dataset that has lost its metadata has a manifest; what was never one, or is deleted, has none."""
    keys = stored.keys
    try:
        stored.store.head(keys.manifest)
    except NoSuchKeyError:
        message = f"{keys.registration} registers a dataset, and {keys.admin_metadata} is missing"
        return Finding(kind="orphan registration", subject=keys.registration, message=message)
    message = f"{keys.admin_metadata} is missing, and {keys.manifest} is there: no client finds this dataset"
    return Finding(kind="missing", subject="dtool", message=message)


def _result(stored: StoredDataset, *, findings: list[Finding], **facts: object) -> DatasetAudit:
    values = {"uri": stored.uri, "uuid": stored.uuid, "at": time.time(), "findings": tuple(findings), **facts}
    return DatasetAudit.model_validate(values)


def answers(store: Store) -> bool:
    """Whether the store can be reached now."""
    try:
        next(registered(store), None)
    except UnavailableError:
        return False
    return True
