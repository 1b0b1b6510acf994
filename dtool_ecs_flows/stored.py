"""One dataset in one bucket, part by part. What the storage broker and the operations on whole datasets share.

Building a `StoredDataset` makes no request; the first use of a key reads the registration key, once.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DatasetError,
    FrozenDatasetError,
    ManifestError,
    NoSuchKeyError,
    NotADatasetError,
    StoreError,
)
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.settings import resolve
from dtool_ecs_flows.store import (
    DOCUMENT,
    SMALL_DOCUMENT,
    WRITTEN_DOCUMENT,
    ObjectInfo,
    Store,
    check_document,
    open_store,
)

logger = logging.getLogger(__name__)


class StoredDataset:
    """The objects of one dataset. Thread-safe, but for two first uses at once, which may both read the prefix."""

    def __init__(self, store: Store, uuid: str) -> None:
        self.store = store
        self.uuid = uuid
        self._keys: DatasetKeys | None = None  # None while no registration key is known
        self._looked = False

    @classmethod
    def at(cls, uri: str, config_path: str | None = None) -> StoredDataset:
        """Return the dataset of an `ecs://bucket/uuid` URI, whether it exists or not.

        Raises:
            SettingsError: the bucket's settings are not complete.
            UnsafeNameError: the URI has another form.
        """
        bucket, uuid = layout.parse_uri(uri)
        return cls(open_store(resolve(bucket, config_path=config_path)), uuid)

    @property
    def uri(self) -> str:
        """The dataset's URI."""
        return layout.dataset_uri(self.store.bucket, self.uuid)

    # --- where it is ---

    @property
    def keys(self) -> DatasetKeys:
        """The dataset's keys: under the prefix that is registered, or else the one that is configured."""
        self._look(expected=True)
        return self._keys or DatasetKeys(self.store.settings.dataset_prefix, self.uuid)

    @keys.setter
    def keys(self, keys: DatasetKeys) -> None:
        self._keys, self._looked = keys, True

    def is_registered(self, *, again: bool = False) -> bool:
        """Whether there is a registration key, as the first look found it, or this one if it is to look again."""
        if again:
            self._looked = False
        self._look(expected=False)
        return self._keys is not None

    def is_registered_here(self) -> bool:
        """Whether the registration key says now that the dataset is where this one writes; one request."""
        now = StoredDataset(self.store, self.uuid)
        now._look(expected=True)  # of the same class
        return now._keys == self.keys

    def _look(self, *, expected: bool) -> None:
        if self._keys is None and not self._looked:
            key = layout.registration_key(self.uuid)
            with suppress(NoSuchKeyError):
                body = self.store.get(key, expected=expected, most=SMALL_DOCUMENT).body
                self._keys = DatasetKeys(documents.parse_prefix(body, f"{self.store.bucket}/{key}"), self.uuid)
            self._looked = True

    # --- creating ---

    def create(self, admin: Mapping[str, Any]) -> bool:
        """Make it a proto dataset: registration key, structure, explanation, administrative metadata, in this order.

        A proto dataset that is there is taken up as it is. What this call made is taken back where the rest could not
        be written. Returns whether this call registered the dataset.

        Raises:
            FrozenDatasetError: it is there and frozen.
        """
        made = self.create_structure()
        with self.taken_back(made):
            if made or not self._has_admin():
                with suppress(AlreadyExistsError):  # another process was faster; it may even have frozen it
                    self.put_admin({**_without(admin, "frozen_at"), "type": "protodataset"}, if_absent=True)
        return made

    def create_structure(self) -> bool:
        """Do all of `create` but its last step; return whether this call registered the dataset."""
        made = self._register()
        with self.taken_back(made):
            if not made:
                self.refuse_frozen()
            keys = self.keys
            self.store.put(keys.structure, documents.dump(documents.structure(self.uuid), sort_keys=True))
            self.store.put(keys.dtool_readme, documents.README_TXT.encode())
        return made

    @contextmanager
    def taken_back(self, made: bool) -> Iterator[None]:
        """Take the first objects of the dataset back where this fails and they were made by this call."""
        try:
            yield
        except BaseException:
            if made:
                self._unregister()
            raise

    def _register(self) -> bool:
        """Write the registration key where there is none; return whether this call made it."""
        if self.is_registered(again=True):
            return False
        self.refuse_frozen(expected=False)  # its registration key may have got lost
        keys = DatasetKeys(self.store.settings.dataset_prefix, self.uuid)
        try:
            self.store.put(keys.registration, keys.prefix.encode("utf-8"), if_absent=True)
        except AlreadyExistsError:  # another process was faster: its prefix counts
            if not self.is_registered(again=True):
                raise
            return False
        self._keys = keys
        return True

    def _unregister(self) -> None:
        with suppress(StoreError):
            if self._has_admin():  # a whole proto dataset: another process has taken it up meanwhile
                return
        keys, self._keys = self.keys, None
        with suppress(AccessDeniedError):  # what may not be written is not there
            self.store.delete([keys.structure, keys.dtool_readme])
        try:
            self.store.delete([keys.registration])
        except StoreError as error:
            logger.warning("registration key %s could not be taken back: %s", keys.registration, error)

    def _has_admin(self) -> bool:
        try:
            self.store.head(self.keys.admin_metadata)
        except NoSuchKeyError:
            return False
        return True

    def refuse_frozen(self, *, expected: bool = True) -> None:
        """Raise `FrozenDatasetError` where the dataset is frozen; `expected` is whether it should be there at all."""
        try:
            self._refuse_frozen(self.admin(expected=expected))
        except NoSuchKeyError:
            return

    def refuse_all_but_proto(self) -> None:
        """Raise where there is no proto dataset, which could be frozen: `FrozenDatasetError` or `NotADatasetError`."""
        try:
            self._refuse_frozen(self.admin())
        except NoSuchKeyError:
            raise NotADatasetError(f"{self.uri} is no proto dataset any more: it was deleted meanwhile") from None

    def _refuse_frozen(self, admin: Mapping[str, Any]) -> None:
        if admin["type"] == "dataset":
            raise FrozenDatasetError(f"{self.uri} is frozen and is never written over")

    # --- administrative metadata ---

    def admin(self, *, expected: bool = True) -> dict[str, Any]:
        """Return the administrative metadata; `expected` is whether it should be there.

        Raises:
            NoSuchKeyError: there is none: no dataset.
            ManifestError: it cannot be read.
        """
        key = self.keys.admin_metadata
        stored = self.store.get(key, expected=expected, most=SMALL_DOCUMENT)
        return documents.parse_admin(stored.body, stored.info.metadata, f"{self.store.bucket}/{key}")

    def frozen_admin(self) -> dict[str, Any]:
        """Return the administrative metadata of a frozen dataset.

        Raises:
            NotADatasetError: there is no dataset, or it is not frozen yet.
        """
        try:
            admin = self.admin()
        except NoSuchKeyError:
            raise NotADatasetError(f"{self.uri} is not a dataset: it has no administrative metadata") from None
        if admin["type"] != "dataset":
            raise NotADatasetError(f"{self.uri} is a proto dataset: it has not been frozen yet")
        return admin

    def put_admin(self, admin: Mapping[str, Any], *, if_absent: bool = False) -> None:
        """Write the administrative metadata. Turning its `type` to `dataset` freezes."""
        self.store.put(
            self.keys.admin_metadata,
            json.dumps(dict(admin)).encode(),
            metadata=documents.admin_as_user_metadata(admin),
            if_absent=if_absent,
        )

    def unfreeze_unless_found(self) -> None:
        """Look, right after a freeze, whether anybody can find the dataset; where not, take the freeze back.

        A delete that crossed it has taken the registration key away, and perhaps items. One request.

        Raises:
            DatasetError: nobody could; it is a proto dataset again, or gone.
        """
        if self.is_registered_here():
            return
        with suppress(NoSuchKeyError):
            self.put_admin({**_without(self.admin(expected=False), "frozen_at"), "type": "protodataset"})
        raise DatasetError(
            f"{self.uri} was deleted by another process meanwhile, or registered under another prefix; "
            "it is not frozen. The same copy again begins anew"
        )

    # --- documents ---

    def _most(self, key: str) -> int:
        """Return how many bytes a document may have: to be read, and so to be written."""
        keys = self.keys
        if key == keys.manifest or key.startswith(keys.overlays):
            return DOCUMENT
        return SMALL_DOCUMENT if key.startswith(keys.fragments) else WRITTEN_DOCUMENT

    def put_document(self, key: str, body: bytes) -> str:
        """Write a document; return its ETag.

        Raises:
            ManifestError: it is so large that nobody could read it.
        """
        check_document(key, len(body), self._most(key))
        return self.store.put(key, body)

    def text(self, key: str) -> str:
        """Return an object as text."""
        try:
            return self.store.get(key, expected=True, most=self._most(key)).body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError(f"{self.store.bucket}/{key} is no UTF-8 text: {error}") from None

    def readme(self) -> str:
        """Return the descriptive metadata; empty where none was written."""
        try:
            return self.text(self.keys.readme)
        except NoSuchKeyError:
            return ""

    def update_readme(self, text: str) -> None:
        """Write the descriptive metadata, after keeping the old text, if any, under a key with the time (UTC)."""
        try:
            old = self.store.get(self.keys.readme).body
        except NoSuchKeyError:  # it got lost: there is nothing to keep
            pass
        else:
            self.store.put(self.keys.readme_backup(time.time()), old)
        self.put_document(self.keys.readme, text.encode("utf-8"))

    def readme_backups(self) -> list[str]:
        """Return the keys of the descriptive metadata's history."""
        return [info.key for info in self.store.list(self.keys.readme + "-")]

    def names(self, start: str, suffix: str = "") -> list[str]:
        """Return the sorted names of what lies directly below a key: of overlays, annotations or tags."""
        names = (layout.name_from_key(info.key, start, suffix) for info in self.store.list(start))
        return sorted(name for name in names if name is not None)

    def document(self, key: str) -> Any:
        """Return a JSON document.

        Raises:
            ManifestError: it is no JSON.
        """
        body = self.store.get(key, expected=True, most=self._most(key)).body
        return documents.parse_json(body, f"{self.store.bucket}/{key}")

    def manifest(self) -> dict[str, Any]:
        """Return the manifest as it stands, checked: as dtoolcore wants it, which takes much more memory.

        Raises:
            ManifestError: there is none, or it cannot be read.
        """
        where = f"{self.store.bucket}/{self.keys.manifest}"
        manifest = documents.parse_json(self._manifest_body(), where)
        documents.items_of_manifest(manifest, where)
        return dict(manifest)

    def read_manifest(self) -> documents.Manifest:
        """Return what the manifest says.

        Raises:
            ManifestError: there is none, or it cannot be read.
        """
        return documents.parse_manifest(self._manifest_body(), f"{self.store.bucket}/{self.keys.manifest}")

    def _manifest_body(self) -> bytes:
        try:
            return self.store.get(self.keys.manifest, expected=True).body
        except NoSuchKeyError:
            raise ManifestError(f"manifest unreadable: {self.store.bucket}/{self.keys.manifest} is missing") from None

    def put_manifest(self, manifest: documents.Manifest) -> None:
        """Write the manifest."""
        self.store.put(self.keys.manifest, documents.dump_manifest(manifest))

    # --- items ---

    def list_items(self) -> Iterator[tuple[str, ObjectInfo]]:
        """Yield the objects below `data/`, each with its identifier; one request per 1,000."""
        start = self.keys.data
        return ((info.key[len(start) :], info) for info in self.store.list(start) if info.key != start)

    def listed_items(self) -> dict[str, ObjectInfo]:
        """Return the objects below `data/` by identifier: half a gigabyte where there are a million."""
        return dict(self.list_items())

    def item_of(self, info: ObjectInfo) -> Item:
        """Return the item that a listed object is, by its user metadata; one request.

        Raises:
            ManifestError: it has no handle that fits its key, or no checksum (as after an upload through an old
                signed URL).
        """
        identifier = info.key[len(self.keys.data) :]
        head = self.store.head(info.key)
        relpath = layout.relpath_from_handle(head.metadata.get("handle", ""), identifier)
        checksum = head.metadata.get("checksum", "")
        if relpath is None or not checksum:
            raise ManifestError(
                f"object {self.store.bucket}/{info.key} has no usable {'handle' if relpath is None else 'checksum'} "
                "in its user metadata, so it cannot be told which item it is; put the item again"
            )
        return Item(identifier, relpath, info.size, checksum, info.last_modified)

    # --- metadata of items, until the freeze ---

    def fragments(self) -> dict[tuple[str, str], str]:
        """Return the keys of metadata of items by `(identifier, name)`."""
        start = self.keys.fragments
        found = {}
        for info in self.store.list(start):
            parts = layout.fragment_from_key(info.key, start)
            if parts is not None:
                found[parts] = info.key
        return found


def registered(store: Store) -> Iterator[tuple[str, ObjectInfo]]:
    """Yield UUID and registration key of each dataset in a bucket, from the listing pages alone."""
    for info in store.list(layout.REGISTRATION_PREFIX):
        uuid = layout.registered_uuid(info.key)
        if uuid is not None:
            yield uuid, info


def _without(admin: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in admin.items() if name != key}
