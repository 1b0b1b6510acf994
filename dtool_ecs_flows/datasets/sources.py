"""Where a dataset is read from: a bucket, a disk, or any other store through its dtool broker.

All three are a `Source`: the metadata read once, items read by range from many threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.others import BrokerSource, OpenedSource, open_with_broker
from dtool_ecs_flows.errors import ManifestError, NotADatasetError, UnsafeNameError
from dtool_ecs_flows.items import ItemSource, read_file, stored_items
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Reader


class Source(Protocol):
    """A frozen dataset that is read, and never changed."""

    uri: str
    notes: Sequence[str]
    """What its store does not tell; complete once the items were read."""

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
        PluginError: the plugin for its scheme is not installed, or broken.
        SettingsError: an ECS bucket's settings are not complete, or those of a plugin.
        StoreError: the store cannot be reached.
    """
    if uri.startswith(layout.SCHEME + "://"):
        stored = StoredDataset.at(uri, config_path)
        if not stored.uuid:
            raise NotADatasetError(f"{uri} is a base URI; the URI of a dataset ends with its UUID")
        return EcsSource(stored)
    brokers, admin = open_with_broker(uri, config_path)
    return DiskSource(brokers, admin) if brokers.scheme == "file" else BrokerSource(brokers, admin, config_path)


class EcsSource:
    """A dataset in a bucket."""

    notes: Sequence[str] = ()

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


class DiskSource(OpenedSource):
    """A dataset on a disk; its items are read where they lie."""

    @property
    def _broker(self) -> Any:
        return self.brokers.call(lambda broker: broker)  # reads nothing but files, from any thread

    @cached_property
    def _manifest(self) -> documents.Manifest:
        try:
            body = Path(self._broker.get_manifest_key()).read_bytes()
        except OSError as error:
            raise ManifestError(f"manifest unreadable in {self.uri}: {error}") from None
        return documents.parse_manifest(body, self.uri)

    def readme(self) -> str:
        """Return the README, line ends and all, which dtoolcore changes."""
        path = self._inside(self._broker.get_readme_key())
        try:
            return Path(path).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError(f"README.yml of {self.uri} is no UTF-8 text: {error}") from None
        except FileNotFoundError:
            return ""

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""
        for name in self.brokers.names("annotations"):
            self._inside(self._broker.get_annotation_key(name))
        return super().annotations()

    def overlays(self) -> dict[str, Any]:
        """Return the overlays by name."""
        for name in self.brokers.names("overlays"):
            self._inside(self._broker.get_overlay_key(name))
        return super().overlays()

    def _inside(self, path: str) -> str:
        """Return the path of a document, which no hash protects as it does an item.

        Raises:
            UnsafeNameError: a symbolic link leads out of the dataset, perhaps to what only this user may read.
        """
        if not os.path.realpath(path).startswith(os.path.realpath(self._broker._abspath) + os.sep):
            raise UnsafeNameError(f"{path} leads out of the dataset by a symbolic link, which is not followed")
        return path

    def item_source(self) -> ItemSource:
        """Return what reads the items' bytes."""

        def read(item: Item) -> Reader:
            return read_file(os.path.join(self._data, layout.check_relpath(item.relpath)), item.relpath)

        return ItemSource(read, hash_function=self.hash_function, where=self.uri)

    def present(self) -> dict[str, int]:
        """Return size by identifier of what is really there."""
        sizes = {}
        for relpath in self._broker.iter_item_handles():
            sizes[layout.identifier_of(relpath)] = os.stat(os.path.join(self._data, relpath)).st_size
        return sizes

    @property
    def _data(self) -> str:
        return str(self._broker._data_abspath)
