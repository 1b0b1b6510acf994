"""A dataset that is read from any other dtool store, through its broker."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import dtoolcore.utils
from dtoolcore.utils import get_config_value

from dtool_ecs_flows import documents, hashing, layout
from dtool_ecs_flows.datasets.others.brokers import Brokers
from dtool_ecs_flows.errors import ManifestError, NotADatasetError, StoreError, UnavailableError
from dtool_ecs_flows.items import ItemSource, read_range
from dtool_ecs_flows.memory import Allocate
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.transfer import Reader

_GONE = 20  # items that failed one after the other: it is the store then, and the rest is not tried
_ATTEMPTS = 3  # at a file that another process takes out of the cache before it is opened


def open_with_broker(uri: str, config_path: str | None) -> tuple[Brokers, dict[str, Any]]:
    """Return the brokers of a frozen dataset, and its administrative metadata.

    Raises:
        NotADatasetError: there is none, or it is a proto dataset.
        PluginError, SettingsError, StoreError: it cannot be opened.
    """
    brokers = Brokers(uri, config_path)
    told = brokers.admin()
    if told is None:
        hint = "; create_dataset(name, base_uri, directory=…) makes one of a folder" if os.path.isdir(uri) else ""
        raise NotADatasetError(f"{brokers.uri} is not a dataset{hint}")
    admin = brokers.call(lambda broker: _completed(broker, told))
    if admin["type"] != "dataset":
        raise NotADatasetError(f"{brokers.uri} is a proto dataset: it has not been frozen yet")
    return brokers, admin


def _completed(broker: Any, told: dict[str, Any]) -> dict[str, Any]:
    """Return administrative metadata: times as numbers, keys as dtoolcore has them.

    Some brokers tell what was written beside the JSON document: as text, ASCII, with other keys. The document is the
    better one where there is one, but for the type, which only the broker's word decides.
    """
    admin = documents.parse_admin(json.dumps(told).encode(), {}, "the other store")
    with suppress(Exception):
        body = json.loads(broker.get_text(broker.get_admin_metadata_key()))
        if body["uuid"] == admin["uuid"]:
            admin = documents.parse_admin(json.dumps({**admin, **body, "type": admin["type"]}).encode(), {}, "")
    return admin


class OpenedSource:
    """What all datasets that a broker of dtoolcore opens have in common."""

    notes: Sequence[str] = ()

    def __init__(self, brokers: Brokers, admin: dict[str, Any]) -> None:
        self.brokers = brokers
        self.uri = brokers.uri
        self._admin = admin

    @property
    def admin(self) -> dict[str, Any]:
        """The administrative metadata."""
        return dict(self._admin)

    @cached_property
    def _manifest(self) -> documents.Manifest:
        raise NotImplementedError

    @property
    def items(self) -> dict[str, Item]:
        """The items of the manifest by identifier."""
        return self._manifest.items

    @property
    def hash_function(self) -> str:
        """The name of the function that made the manifest's hashes."""
        return self._manifest.hash_function

    def readme(self) -> str:
        """Return the README."""
        return str(self.brokers.call(lambda broker: broker.get_readme_content()))

    def tags(self) -> list[str]:
        """Return the tags."""
        return self.brokers.names("tags")

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""
        names = self.brokers.names("annotations")
        return self.brokers.call(lambda broker: {name: broker.get_annotation(name) for name in names})

    def overlays(self) -> dict[str, Any]:
        """Return the overlays by name."""
        names = self.brokers.names("overlays")
        return self.brokers.call(lambda broker: {name: broker.get_overlay(name) for name in names})


class BrokerSource(OpenedSource):
    """A dataset in any other store. Its broker fetches whole items to dtool's cache, from where they are read.

    An item is taken out of the cache as soon as its file is open, unless it was there before: so no more of them lie
    on the disk than are being read.
    """

    def __init__(self, brokers: Brokers, admin: dict[str, Any], config_path: str | None) -> None:
        super().__init__(brokers, admin)
        if not layout.is_uuid(admin["uuid"]):  # it is the name of a folder in the cache
            raise ManifestError(f"administrative metadata of {self.uri} unreadable: {admin['uuid']!r} is no UUID")
        uuids = {str(admin["uuid"]), brokers.call(lambda broker: str(getattr(broker, "uuid", "")))}
        self._cache = _Cache(uuids, config_path)
        self._lock = threading.Lock()
        self._in_a_row = 0

    @cached_property
    def _document(self) -> Any:
        try:
            return self.brokers.call(lambda broker: broker.get_manifest())
        except StoreError as error:
            raise ManifestError(f"manifest unreadable in {self.uri}: {error}") from None

    @cached_property
    def _manifest(self) -> documents.Manifest:
        manifest = documents.manifest_from(_in_hex(self._document), self.uri, hashless=True)
        without = sum(not item.hash for item in manifest.items.values())
        if without:
            self.notes = (f"{without} items have no hash in the source's manifest: only their sizes were compared",)
        return manifest

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""
        return ItemSource(self._reader, hash_function=self.hash_function, where=self.uri)

    def present(self) -> dict[str, int]:
        """Return what the manifest says: other brokers cannot list a frozen dataset."""
        return {identifier: item.size for identifier, item in self.items.items()}

    def _reader(self, item: Item) -> Reader:
        if self._in_a_row >= _GONE:
            raise UnavailableError(f"not tried: {self._in_a_row} items of {self.uri} failed one after the other")
        try:
            file = self.brokers.call(lambda broker: self._fetch(broker, item))
        except StoreError as error:
            with self._lock:
                self._in_a_row += 1
            raise OSError(f"item {item.relpath!r} cannot be fetched: {error}") from None
        with self._lock:
            self._in_a_row = 0
        return file.read

    def _fetch(self, broker: Any, item: Item) -> _OpenFile:
        broker.get_manifest = lambda: self._document  # some read it again for each item
        path = ""
        for _ in range(_ATTEMPTS):
            self._cache.asked(item.identifier)
            path = broker.get_item_abspath(item.identifier)
            with suppress(FileNotFoundError):
                try:
                    return _OpenFile(path, item.relpath)
                finally:
                    self._cache.used(path)
        raise FileNotFoundError(f"another process empties the cache: {path} is gone again and again")


class _OpenFile:
    """A file that is read by range, and closed when nobody holds this any more. Its name may be gone by then."""

    def __init__(self, path: str, relpath: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._relpath, self._path = relpath, path

    def read(self, offset: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
        """Return exactly these bytes."""
        return read_range(self._file, offset, length, allocate, relpath=self._relpath, where=self._path)


class _Cache:
    """Where the plugins of the dtool family put the items of a dataset that they fetch, and what was there before."""

    def __init__(self, uuids: set[str], config_path: str | None) -> None:
        root = get_config_value("DTOOL_CACHE_DIRECTORY", config_path, dtoolcore.utils.DEFAULT_CACHE_PATH)
        self._asked: set[str] = set()
        self._before: dict[str, set[str]] = {}
        for folder in (os.path.join(root, uuid) for uuid in uuids if uuid):
            if os.path.isdir(folder):
                self._before[folder] = set(os.listdir(folder))
            else:
                self._before[folder] = set()
                weakref.finalize(self, _remove_empty, folder)

    def asked(self, identifier: str) -> None:
        """Note that an item is asked for. The second time it was not right, and must not come from here again."""
        if identifier in self._asked:
            for folder, names in self._before.items():
                for name in [name for name in names if name.startswith(identifier)]:
                    names.discard(name)
                    with suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))
        self._asked.add(identifier)

    def used(self, path: str) -> None:
        """Remove a file that is open now, if it is in here and was not there before."""
        folder, name = os.path.split(path)
        if name not in self._before.get(folder, (name,)):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _remove_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def _in_hex(document: Any) -> Any:
    """Return a manifest with its hashes as hex digits; where an item has none, with an empty text.

    dtool-azure writes null for a large item that came without an MD5; old servers of iRODS tell hashes in base64.
    """
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, dict):
        return document
    told = {
        identifier: {**entry, "hash": hashing.in_hex(entry.get("hash"))} if isinstance(entry, dict) else entry
        for identifier, entry in items.items()
    }
    return {**document, "items": told}
