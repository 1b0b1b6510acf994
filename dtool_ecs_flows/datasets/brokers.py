"""A dataset that is written to any other dtool store, through its broker."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import dtoolcore

from dtool_ecs_flows import documents, layout, plugins
from dtool_ecs_flows.errors import CorruptItemError, FrozenDatasetError, TransferError
from dtool_ecs_flows.items import ItemSource, receive
from dtool_ecs_flows.models import Item, Verified
from dtool_ecs_flows.transfer import Transfer


class BrokerDestination:
    """A dataset in another store. Items come here concurrently; its broker is used by one thread at a time."""

    def __init__(self, base_uri: str, admin: Mapping[str, Any], config_path: str | None = None) -> None:
        with plugins.looked_up(base_uri):
            self._proto = dtoolcore.generate_proto_dataset(_proto_admin(admin), base_uri, config_path)
        self._broker = self._proto._storage_broker
        self.uri = str(self._proto.uri)
        self.verified: Verified = "content"
        self._lock = threading.Lock()  # no promise that another broker is thread-safe
        self._made = False  # by this process
        self._there: dict[str, int] = {}

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""
        return dict(self._broker.get_admin_metadata()) if self._broker.has_admin_metadata() else None

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:  # noqa: ARG002  # given when built
        """Make it a proto dataset, or take up the one that is there."""
        there = self.existing()
        self._made = there is None
        if there is None:
            self._proto.create()
            return
        self._refuse_frozen(there)
        for relpath in self._broker.iter_item_handles():
            if self._broker.get_hash(relpath) == self._hash(items, relpath):
                self._there[layout.identifier_of(relpath)] = self._broker.get_size_in_bytes(relpath)

    def _refuse_frozen(self, there: Mapping[str, Any] | None) -> None:
        if there is not None and there["type"] == "dataset":
            raise FrozenDatasetError(f"{self.uri} is frozen and is never written over")

    @staticmethod
    def _hash(items: Mapping[str, Item], relpath: str) -> str:
        item = items.get(layout.identifier_of(relpath))
        return item.hash if item else ""

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item, checked on its way, unless one of this size and hash is there."""
        layout.check_relpath(item.relpath)
        if item.hash and self._there.get(item.identifier) == item.size:
            return item, False
        with tempfile.TemporaryDirectory(prefix="dtool-ecs-flows-") as folder:
            path = Path(folder, item.identifier)
            with open(path, "wb") as file:
                md5 = receive(item, source, transfer, file)
            with self._lock:
                transfer.check()
                self._proto.put_item(str(path), item.relpath)
        return item.with_hash(md5), True

    def put_readme(self, text: str) -> None:
        """Write the README."""
        self._broker.put_readme(text)

    def put_tag(self, tag: str) -> None:
        """Add a tag."""
        self._proto.put_tag(layout.check_name(tag, "tag"))

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""
        self._proto.put_annotation(layout.check_name(name, "annotation"), value)

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare the sizes that the store tells with what was written."""
        self._broker.pre_freeze_hook()
        sizes = {
            layout.identifier_of(relpath): self._broker.get_size_in_bytes(relpath)
            for relpath in self._broker.iter_item_handles()
        }
        wrong: list[tuple[str, BaseException]] = []
        for identifier, item in items.items():
            size = sizes.pop(identifier, None)
            if size != item.size:
                actual = "none" if size is None else f"{size} bytes"
                wrong.append(
                    (
                        item.relpath,
                        CorruptItemError(item.relpath, expected=f"{item.size} bytes", actual=actual, where=self.uri),
                    )
                )
        wrong += [(key, CorruptItemError(key, expected="none", actual="an item", where=self.uri)) for key in sizes]
        if wrong:
            raise TransferError(f"{self.uri} does not hold what was written: {wrong[0][1]}", wrong)

    def keep_only(self, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]) -> None:
        """Remove the other documents of what was taken up."""
        if self._made:
            return
        others = keys_of_others(self._broker, tags, annotations, overlays)
        if others:
            self._refuse_frozen(self.existing())
        for key in others:
            self._broker.delete_key(key)

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, then the administrative metadata of a frozen dataset."""
        self._broker.put_manifest(documents.manifest_of(manifest))
        for name, overlay in overlays.items():
            self._broker.put_overlay(layout.check_name(name, "overlay"), overlay)
        self._broker.put_admin_metadata(dict(admin))
        self._broker.post_freeze_hook()


def keys_of_others(
    broker: Any, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]
) -> list[str]:
    """Return the keys of the tags, annotations and overlays that a broker of dtoolcore has besides these."""
    others = [broker.get_tag_key(tag) for tag in broker.list_tags() if tag not in tags]
    others += [broker.get_annotation_key(name) for name in broker.list_annotation_names() if name not in annotations]
    return others + [broker.get_overlay_key(name) for name in broker.list_overlay_names() if name not in overlays]


def _proto_admin(admin: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in admin.items() if key != "frozen_at"}, "type": "protodataset"}
