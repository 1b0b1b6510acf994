"""Where a dataset is read from: a bucket, a disk, or any other store through its dtool broker.

All three are a `Source`: the metadata read once, items read by range from many threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import dtoolcore
import dtoolcore.utils

from dtool_ecs_flows import documents, layout, plugins
from dtool_ecs_flows.errors import EcsFlowsError, ManifestError, NotADatasetError
from dtool_ecs_flows.items import ItemSource, read_file, stored_items
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Reader


class Source(Protocol):
    """A frozen dataset that is read, and never changed."""

    uri: str

    @property
    def admin(self) -> dict[str, Any]:
        """The administrative metadata; a copy of it, since dtoolcore changes what it is handed."""

    @property
    def items(self) -> dict[str, Item]:
        """The items of the manifest by identifier."""

    @property
    def hash_function(self) -> str:
        """The name of the function that made the manifest's hashes."""

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""

    def present(self) -> dict[str, int]:
        """Return size in bytes by identifier of what is really there."""

    def readme(self) -> str:
        """Return the README."""

    def tags(self) -> list[str]:
        """Return the tags."""

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""

    def overlays(self) -> dict[str, Any]:
        """Return the overlays by name."""


def open_source(uri: str, config_path: str | None = None) -> Source:
    """Return the frozen dataset at a URI.

    Raises:
        NotADatasetError: there is none, or it is a proto dataset.
        SettingsError: an ECS bucket's settings are not complete.
    """
    if uri.startswith(layout.SCHEME + "://"):
        stored = StoredDataset.at(uri, config_path)
        if not stored.uuid:
            raise NotADatasetError(f"{uri} is a base URI; the URI of a dataset ends with its UUID")
        return EcsSource(stored)
    with plugins.looked_up(uri):
        dataset = _open_with_dtoolcore(uri, config_path)
    return DiskSource(dataset) if dataset._storage_broker.key == "file" else BrokerSource(dataset)


def _open_with_dtoolcore(uri: str, config_path: str | None) -> dtoolcore.DataSet:
    try:
        return dtoolcore.DataSet.from_uri(uri, config_path)
    except dtoolcore.DtoolCoreTypeError:
        try:
            dtoolcore.ProtoDataSet.from_uri(uri, config_path)
        except dtoolcore.DtoolCoreTypeError:
            hint = "; create_dataset(name, base_uri, directory=…) makes one of a folder" if os.path.isdir(uri) else ""
            raise NotADatasetError(f"{uri} is not a dataset{hint}") from None
        raise NotADatasetError(f"{uri} is a proto dataset: it has not been frozen yet") from None
    except EcsFlowsError:
        raise
    except (ValueError, RecursionError) as error:  # of dtoolcore: no URI, or no JSON
        raise NotADatasetError(f"{uri} cannot be opened: {error}") from None


class EcsSource:
    """A dataset in a bucket."""

    def __init__(self, stored: StoredDataset) -> None:
        self.stored = stored
        self.uri = stored.uri
        self._admin = stored.frozen_admin()
        if self._admin["uuid"] != stored.uuid:  # it would be copied to the keys of another dataset, or of none
            raise ManifestError(f"administrative metadata of {self.uri} names the UUID {self._admin['uuid']!r}")

    @property
    def admin(self) -> dict[str, Any]:
        """The administrative metadata."""
        return dict(self._admin)

    @cached_property
    def _manifest(self) -> documents.Manifest:
        return self.stored.read_manifest()

    @property
    def items(self) -> dict[str, Item]:
        """The items of the manifest by identifier."""
        return self._manifest.items

    @property
    def hash_function(self) -> str:
        """The name of the function that made the manifest's hashes."""
        return self._manifest.hash_function

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""
        return stored_items(self.stored, self.hash_function)

    def present(self) -> dict[str, int]:
        """Return size by identifier of what is really there."""
        return {identifier: info.size for identifier, info in self.stored.list_items()}

    def readme(self) -> str:
        """Return the README."""
        return self.stored.readme()

    def tags(self) -> list[str]:
        """Return the tags."""
        return self.stored.names(self.stored.keys.tags)

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""
        return self._named(self.stored.keys.annotations, self.stored.keys.annotation)

    def overlays(self) -> dict[str, Any]:
        """Return the overlays by name."""
        return self._named(self.stored.keys.overlays, self.stored.keys.overlay)

    def _named(self, start: str, key: Callable[[str], str]) -> dict[str, Any]:
        return {name: self.stored.document(key(name)) for name in self.stored.names(start, ".json")}


class _DtoolcoreSource:
    """What all datasets that dtoolcore opens have in common."""

    def __init__(self, dataset: dtoolcore.DataSet) -> None:
        self.dataset = dataset
        self.uri = str(dataset.uri)

    @property
    def admin(self) -> dict[str, Any]:
        """The administrative metadata."""
        admin = dict(self.dataset._admin_metadata)
        for key in ("created_at", "frozen_at"):
            if key in admin:
                admin[key] = float(admin[key])  # strings from some brokers
        return admin

    @cached_property
    def _manifest(self) -> documents.Manifest:
        try:
            document = self.dataset._manifest
        except (OSError, ValueError) as error:
            raise ManifestError(f"manifest unreadable in {self.uri}: {error}") from None
        return documents.manifest_from(document, self.uri)

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
        try:
            return str(self.dataset.get_readme_content())
        except FileNotFoundError:  # dtoolcore makes datasets without one, if asked to
            return ""

    def tags(self) -> list[str]:
        """Return the tags."""
        return sorted(self.dataset.list_tags())

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""
        return {name: self.dataset.get_annotation(name) for name in self.dataset.list_annotation_names()}

    def overlays(self) -> dict[str, Any]:
        """Return the overlays by name."""
        return {name: self.dataset.get_overlay(name) for name in self.dataset.list_overlay_names()}


class DiskSource(_DtoolcoreSource):
    """A dataset on a disk; its items are read where they lie."""

    @cached_property
    def _manifest(self) -> documents.Manifest:
        try:
            body = Path(self.dataset._storage_broker.get_manifest_key()).read_bytes()
        except OSError as error:
            raise ManifestError(f"manifest unreadable in {self.uri}: {error}") from None
        return documents.parse_manifest(body, self.uri)

    def readme(self) -> str:
        """Return the README, line ends and all, which dtoolcore changes."""
        try:
            return Path(self.dataset._storage_broker.get_readme_key()).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError(f"README.yml of {self.uri} is no UTF-8 text: {error}") from None
        except FileNotFoundError:
            return ""

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""

        def read(item: Item) -> Reader:
            return read_file(os.path.join(self._data, layout.check_relpath(item.relpath)), item.relpath)

        return ItemSource(read, hash_function=self.hash_function, where=self.uri)

    def present(self) -> dict[str, int]:
        """Return size by identifier of what is really there."""
        sizes = {}
        for relpath in self.dataset._storage_broker.iter_item_handles():
            sizes[layout.identifier_of(relpath)] = os.stat(os.path.join(self._data, relpath)).st_size
        return sizes

    @property
    def _data(self) -> str:
        return str(self.dataset._storage_broker._data_abspath)


class BrokerSource(_DtoolcoreSource):
    """A dataset in any other store; its broker fetches items to its cache, one at a time."""

    def __init__(self, dataset: dtoolcore.DataSet) -> None:
        super().__init__(dataset)
        self._lock = threading.Lock()  # no promise that another broker is thread-safe

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""

        def read(item: Item) -> Reader:
            with self._lock:
                path = self.dataset.item_content_abspath(item.identifier)
            return read_file(path, item.relpath)

        return ItemSource(read, hash_function=self.hash_function, where=self.uri)

    def present(self) -> dict[str, int]:
        """Return what the manifest says: other brokers cannot list a frozen dataset."""
        return {identifier: item.size for identifier, item in self.items.items()}
