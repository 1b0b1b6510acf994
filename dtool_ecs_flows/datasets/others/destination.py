"""A dataset that is written to any other dtool store, through its broker."""

from __future__ import annotations

import logging
import posixpath
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dtool_ecs_flows import documents, hashing, layout, plugins
from dtool_ecs_flows.datasets.others.brokers import Brokers, told
from dtool_ecs_flows.datasets.others.manners import Kind
from dtool_ecs_flows.errors import (
    CorruptItemError,
    DatasetError,
    FrozenDatasetError,
    StoreError,
    TransferError,
    UnsafeNameError,
)
from dtool_ecs_flows.items import ItemSource, receive
from dtool_ecs_flows.models import Item, Verified
from dtool_ecs_flows.transfer import Transfer

logger = logging.getLogger(__name__)


class BrokerDestination:
    """A dataset in another store. Items come here concurrently; its brokers are used as their plugin allows.

    Raises:
        DatasetError: the plugin cannot write.
        PluginError, SettingsError, StoreError, UnsafeNameError: it cannot be opened, or the base URI is not one.
    """

    def __init__(self, base_uri: str, admin: Mapping[str, Any], config_path: str | None = None) -> None:
        kind = plugins.broker_class(base_uri)
        if not hasattr(kind, "put_item"):
            hint = "; publish it from a bucket instead" if kind.key in ("http", "https") else ""
            raise DatasetError(f"{base_uri}: the plugin for {kind.key} only reads, nothing can be written there{hint}")
        try:
            uri = kind.generate_uri(layout.check_name(str(admin["name"]), "dataset name"), admin["uuid"], base_uri)
        except (ValueError, AssertionError) as error:
            raise UnsafeNameError(f"{base_uri!r} is no base URI: {told(error)}") from None
        self._brokers = Brokers(uri, config_path)
        self.uri = self._brokers.uri
        self.verified: Verified = "content"
        self._spelt_otherwise: tuple[str, ...] = ()
        self.notes: Sequence[str] = ()
        self._hash_function = str(kind.hasher.name)
        self._hashes: dict[str, str] = {}  # by identifier, of the function that this store's manifests have
        self._made = False  # by this process
        self._there: set[str] = set()
        self._folders: set[str] = set()  # that are there for sure
        self._new_folder = threading.Lock()

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""
        return self._brokers.admin()

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:
        """Check that the store can hold the items, and make it a proto dataset, or take up the one that is there."""
        self._check_names(items)
        there = self.existing() or self._create(admin)
        self._made = there is None
        if there is None:
            return
        self._refuse_frozen(there)
        self._there = self._brokers.call(self._listed)

    def _refuse_frozen(self, there: Mapping[str, Any] | None) -> None:
        if there is not None and there["type"] == "dataset":
            raise FrozenDatasetError(f"{self.uri} is frozen and is never written over")

    def _listed(self, broker: Any) -> set[str]:
        """Return the identifiers of the items that are there."""
        own = self._brokers.manners.listed
        return set(own(broker)) if own else {layout.identifier_of(path) for path in broker.iter_item_handles()}

    def _check_names(self, items: Mapping[str, Item]) -> None:
        seen: dict[str, str] = {}
        for item in items.values():
            self._check_name(item.relpath)
            folded = item.relpath.casefold() if self._brokers.manners.one_case else item.relpath
            if seen.setdefault(folded, item.relpath) != item.relpath:
                raise UnsafeNameError(f"relpaths {seen[folded]!r} and {item.relpath!r} would be one item in {self.uri}")

    def _check_name(self, relpath: str) -> None:
        wrong = self._brokers.manners.wrong_with(layout.check_relpath(relpath))
        if wrong:
            raise UnsafeNameError(f"item {relpath!r} cannot be in {self.uri}: {wrong}")

    def _create(self, admin: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make a proto dataset; return what is there where another process was faster."""
        try:
            self._brokers.call(lambda broker: broker.create_structure())
        except StoreError as error:
            if there := self.existing():
                return there
            # A process that was killed right here leaves a place of this UUID that is no dataset yet, and the broker
            # does not take it up. Where that is not what it was, the next call fails too.
            logger.info("%s: goes on with what is there (%s)", self.uri, error)
        self._put_admin({**{key: value for key, value in admin.items() if key != "frozen_at"}, "type": "protodataset"})
        return None

    def _put_admin(self, admin: Mapping[str, Any]) -> None:
        # A copy for each call: dtool-azure turns the values in it to text.
        self._brokers.call(lambda broker: broker.put_admin_metadata(self._spelt(admin)))

    def _spelt(self, admin: Mapping[str, Any]) -> dict[str, Any]:
        if not self._brokers.manners.ascii_admin:
            return dict(admin)
        spelt = {
            key: value.encode("ascii", "backslashreplace").decode() if isinstance(value, str) else value
            for key, value in admin.items()
        }
        changed = sorted(key for key in spelt if spelt[key] != admin[key])
        self._spelt_otherwise = tuple(f"{key} is {spelt[key]!r} there: the plugin takes ASCII only" for key in changed)
        return spelt

    # --- items ---

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item, checked on its way, unless one of this size and hash is there."""
        self._check_name(item.relpath)
        there = self._hash_of_what_is_there(item) if item.identifier in self._there else ""
        if there and source.hash_function == self._hash_function and there == item.hash.lower():
            self._hashes[item.identifier] = there
            return item, False
        with tempfile.TemporaryDirectory(prefix="dtool-ecs-flows-") as folder:
            path = Path(folder, item.identifier)
            with open(path, "wb") as file:
                md5 = receive(item, source, transfer, file)
            here = md5
            if self._hash_function != documents.HASH_FUNCTION:
                here = self._brokers.call(lambda broker: str(broker.hasher(str(path))))
            self._hashes[item.identifier] = here
            if there == here:
                return item.with_hash(md5), False
            transfer.check()
            with self._alone_in_new_folder(item.relpath):
                self._brokers.call(lambda broker: self._write(broker, str(path), item))
        return item.with_hash(md5), True

    def _hash_of_what_is_there(self, item: Item) -> str:
        """Return the hash of an item that is there, as the store's function has it; nothing where it is not whole."""
        named, own = self._brokers.manners.named, self._brokers.manners.hash

        def look(broker: Any) -> str:
            if broker.get_size_in_bytes(item.relpath) != item.size:
                return ""
            if named is not None and not named(broker, item.identifier):
                return ""
            return hashing.in_hex(own(broker, item.relpath) if own else broker.get_hash(item.relpath)).lower()

        return self._brokers.call(look)

    def _write(self, broker: Any, path: str, item: Item) -> None:
        broker.put_item(path, item.relpath)
        size = broker.get_size_in_bytes(item.relpath)
        if size != item.size:
            expected, actual = f"{item.size} bytes", f"{size} bytes"
            raise CorruptItemError(item.relpath, expected=expected, actual=actual, where=self.uri)

    @contextmanager
    def _alone_in_new_folder(self, relpath: str) -> Iterator[None]:
        """Keep two threads from making the same folder at once, which a plugin takes for a failure."""
        folder = posixpath.dirname(relpath)
        if not self._brokers.manners.folders or folder in self._folders:
            yield
            return
        with self._new_folder:
            yield
        self._folders.add(folder)

    # --- the rest ---

    def put_readme(self, text: str) -> None:
        """Write the README."""
        self._brokers.call(lambda broker: broker.put_readme(text))

    def put_tag(self, tag: str) -> None:
        """Add a tag."""
        layout.check_name(tag, "tag")
        self._brokers.call(lambda broker: broker.put_tag(tag))

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""
        layout.check_name(name, "annotation")
        self._brokers.call(lambda broker: broker.put_annotation(name, value))

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare the names that the store lists with what was written; each size was asked when it was."""

        def look(broker: Any) -> set[str]:
            broker.pre_freeze_hook()
            return self._listed(broker)

        there = self._brokers.call(look)
        wrong: list[tuple[str, BaseException]] = [
            (item.relpath, self._differs(item.relpath, expected=f"{item.size} bytes", actual="none"))
            for item in items.values()
            if item.identifier not in there
        ]
        extra = sorted(there - items.keys())
        wrong += [(key, self._differs(key, expected="none", actual="an item")) for key in extra]
        if wrong:
            raise TransferError(f"{self.uri} does not hold what was written: {wrong[0][1]}", wrong)

    def _differs(self, relpath: str, *, expected: str, actual: str) -> CorruptItemError:
        return CorruptItemError(relpath, expected=expected, actual=actual, where=self.uri)

    def keep_only(self, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]) -> None:
        """Remove the other documents of what was taken up; what the plugin cannot remove is noted."""
        if self._made:
            return
        wanted: dict[Kind, Collection[str]] = {"tags": tags, "annotations": annotations, "overlays": overlays}
        found = [(kind, name) for kind in wanted for name in self._brokers.names(kind)]
        others = [(kind, name) for kind, name in found if name not in wanted[kind]]
        if others:
            self._refuse_frozen(self.existing())
        for kind, name in others:
            key_of = f"get_{kind[:-1]}_key"
            try:
                self._brokers.call(partial(_delete, key_of=key_of, name=name))
            except StoreError as error:
                self.notes = (*self.notes, f"{kind[:-1]} {name!r}, which the source has lost, stays there: {error}")

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, then the administrative metadata of a frozen dataset."""
        misread = sum(self._brokers.manners.misread(item.relpath) for item in manifest.items.values())
        if misread:
            note = f"{misread} items have names that the plugin lists otherwise; the manifest has them right"
            self.notes = (*self.notes, note)
        own = {key: item.with_hash(self._hashes.get(key, item.hash)) for key, item in manifest.items.items()}
        document = documents.manifest_of(documents.Manifest(own, manifest.dtoolcore_version, self._hash_function))
        self._brokers.call(lambda broker: broker.put_manifest(document))
        for name, overlay in overlays.items():
            self._put_overlay(layout.check_name(name, "overlay"), overlay)
        self._put_admin(admin)
        self.notes = (*self.notes, *self._spelt_otherwise)
        self._brokers.call(lambda broker: broker.post_freeze_hook())

    def _put_overlay(self, name: str, overlay: Any) -> None:
        self._brokers.call(lambda broker: broker.put_overlay(name, overlay))


def _delete(broker: Any, key_of: str, name: str) -> None:
    broker.delete_key(getattr(broker, key_of)(name))
