"""A dataset that is written to a disk: each item under its final name only when whole and checked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtoolcore.storagebroker import DiskStorageBroker
from dtoolcore.utils import generous_parse_uri

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets import names
from dtool_ecs_flows.datasets.files import DiskFiles, refuse_links
from dtool_ecs_flows.errors import (
    CorruptItemError,
    DatasetError,
    FrozenDatasetError,
    StoreError,
    TransferError,
)
from dtool_ecs_flows.items import ItemSource
from dtool_ecs_flows.models import Item, Verified
from dtool_ecs_flows.transfer import Transfer


class DiskDestination:
    """A dataset in a folder of a disk. Nothing is written through a symbolic link, or outside the folder."""

    notes: Sequence[str] = ()

    def __init__(self, base_uri: str, name: str, uuid: str) -> None:
        parent = Path(generous_parse_uri(layout.check_given(base_uri)).path)
        if not os.path.isdir(parent):  # Path's raises where the name is too long for a disk
            raise DatasetError(f"{parent} is not a folder; make it first, or correct the base URI {base_uri}")
        self.uri = str(DiskStorageBroker.generate_uri(layout.check_name(name, "dataset name"), uuid, base_uri))
        self.verified: Verified = "content"
        self._broker = DiskStorageBroker(self.uri)
        self._root = Path(self._broker._abspath)
        self._data = Path(self._broker._data_abspath)
        # Where dtoolcore keeps metadata of items until the freeze: on the same disk, and never part of the data.
        self._scratch = Path(self._broker._metadata_fragments_abspath)
        self._new = False  # nothing can be there yet
        self._files = DiskFiles(self._root, self._data, self._scratch)

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""
        if not os.path.lexists(self._root) or self._is_unborn():
            return None
        if self._root.is_symlink() or not self._broker.has_admin_metadata():
            raise DatasetError(f"{self._root} exists and is not a dataset; move it away, or choose another base URI")
        body = Path(self._broker.get_admin_metadata_key()).read_bytes()
        return documents.parse_admin(body, {}, str(self._root))

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:
        """Check that this disk can hold the items, and make it a proto dataset."""
        there = self.existing()
        self._refuse_frozen(there)
        if there is not None and there.get("uuid") != admin["uuid"]:
            raise DatasetError(
                f"{self._root} is another dataset, not frozen yet (UUID {there.get('uuid')}); "
                "freeze or remove it, or choose another name"
            )
        folder = self._root.parent if there is None else self._root
        with self._files.telling_when_full():
            names.check_relpaths(items.values(), lambda: names.folding_in(folder))
        needed = sum(item.size for item in items.values())
        free = shutil.disk_usage(self._root.parent).free
        if there is None and needed > free:
            raise StoreError(f"{self._root.parent} has {free} bytes free; the dataset needs {needed}")
        if self._root.exists():
            refuse_links(self._root)
        self._new = there is None
        with self._files.telling_when_full():
            if there is None:
                for folder in self._broker._essential_subdirectories:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                self._broker._document_structure()
            self._scratch.mkdir(exist_ok=True)
            if there is None:
                self._put_admin({**_without_frozen(admin), "type": "protodataset"})

    def _refuse_frozen(self, there: Mapping[str, Any] | None) -> None:
        if there is not None and there["type"] == "dataset":
            raise FrozenDatasetError(f"{self.uri} is frozen and is never written over")

    def _is_unborn(self) -> bool:
        """Whether this is what an attempt leaves that died before it said what it is: folders and their description."""
        if self._root.is_symlink() or not self._root.is_dir():
            return False
        ours = {self._scratch, *map(Path, self._broker._essential_subdirectories)}
        ours |= {Path(self._broker.get_structure_key()), Path(self._broker.get_dtool_readme_key())}
        return all(path in ours or path.parent == self._scratch for path in self._root.rglob("*"))

    def _put_admin(self, admin: Mapping[str, Any]) -> None:
        """Write the administrative metadata whole or not at all: without it, the rest could not be taken up again."""
        with self._files.written_whole(self._broker.get_admin_metadata_key()) as file:
            file.write(json.dumps(dict(admin)).encode())

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item unless the file is there with this size and hash."""
        return self._files.put(item, source, transfer, new=self._new)

    def put_readme(self, text: str) -> None:
        """Write the README."""
        with self._files.telling_when_full():
            # dtoolcore's way depends on the locale, and reading with it changes line ends
            Path(self._broker.get_readme_key()).write_bytes(text.encode())

    def put_tag(self, tag: str) -> None:
        """Add a tag."""
        with self._files.telling_when_full():
            self._broker.put_tag(layout.check_name(tag, "tag"))

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""
        with self._files.telling_when_full():
            self._broker.put_annotation(layout.check_name(name, "annotation"), value)

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare the files that are there with what was written; the bytes were hashed on their way."""
        missing = {item.relpath: item.size for item in items.values()}
        differing: list[tuple[str, int | None, int | None]] = []
        for relpath in self._broker.iter_item_handles():
            expected, actual = missing.pop(relpath, None), os.lstat(f"{self._data}/{relpath}").st_size
            if expected != actual:
                differing.append((relpath, expected, actual))
        differing += [(relpath, expected, None) for relpath, expected in missing.items()]
        if differing:
            wrong = [
                (relpath, CorruptItemError(relpath, expected=_size(one), actual=_size(other), where=self.uri))
                for relpath, one, other in sorted(differing, key=lambda each: each[0])
            ]
            raise TransferError(f"{self.uri} does not hold what was written: {wrong[0][1]}", wrong)

    def keep_only(self, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]) -> None:
        """Remove the other documents of what was taken up."""
        others = [] if self._new else _keys_of_others(self._broker, tags, annotations, overlays)
        if others:
            self._refuse_frozen(self.existing())
        for path in others:
            Path(path).unlink(missing_ok=True)  # dtoolcore's way is silent where it fails

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, then the administrative metadata of a frozen dataset."""
        with self._files.telling_when_full():
            Path(self._broker.get_manifest_key()).write_bytes(documents.dump_manifest(manifest))
            for name, overlay in overlays.items():
                self._broker.put_overlay(layout.check_name(name, "overlay"), overlay)
            self._put_admin(admin)
        self._broker.post_freeze_hook()


def _size(size: int | None) -> str:
    return "none" if size is None else f"{size} bytes"


def _without_frozen(admin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in admin.items() if key != "frozen_at"}


def _keys_of_others(
    broker: DiskStorageBroker, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]
) -> list[str]:
    """Return the paths of the tags, annotations and overlays that are there besides these."""
    others = [broker.get_tag_key(tag) for tag in broker.list_tags() if tag not in tags]
    others += [broker.get_annotation_key(name) for name in broker.list_annotation_names() if name not in annotations]
    return others + [broker.get_overlay_key(name) for name in broker.list_overlay_names() if name not in overlays]
