"""Where a dataset is written to: a bucket, or (in `disk` and `others`) a disk and any other store.

All are a `Destination`, driven in one order, so that every prefix of it is a proto dataset that can be taken up again:
`begin`, `put` of every item (from many threads), the documents, `check`, `keep_only`, `freeze`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.errors import AccessDeniedError, CorruptItemError, DatasetError, NoSuchKeyError, TransferError
from dtool_ecs_flows.items import ItemSource, Unfinished, receive, send, stored_items
from dtool_ecs_flows.models import Item, Verified
from dtool_ecs_flows.store import ObjectInfo, is_md5
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import MAX_PARTS, SINGLE_PUT, Transfer, md5_of

_MOST = MAX_PARTS * 5 * 1024**3  # bytes: as many parts of an item as there can be, each as large as S3 takes it
_ENOUGH = 1000  # differences that are told of; more would say no more


class Destination(Protocol):
    """A dataset that is being written."""

    uri: str
    verified: Verified
    notes: Sequence[str]
    """What the store does not hold as it was; complete once the dataset is frozen."""

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:
        """Check that the items fit, and make it a proto dataset, or take up the one that is there."""

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item unless it is there and right; return it with its MD5, and whether it was written."""

    def put_readme(self, text: str) -> None:
        """Write the README."""

    def put_tag(self, tag: str) -> None:
        """Add a tag."""

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare what is there with what should be; raise `TransferError` where it differs."""

    def keep_only(self, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]) -> None:
        """Remove the other documents of what was taken up: an earlier attempt wrote what its source has lost since.

        Raises:
            FrozenDatasetError: there are any, and another process has frozen the dataset meanwhile.
        """

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, and then, last, the administrative metadata of a frozen dataset."""


class EcsDestination:
    """A dataset in a bucket."""

    notes: Sequence[str] = ()

    def __init__(self, stored: StoredDataset) -> None:
        self.stored = stored
        self.uri = stored.uri
        self.verified: Verified = "content"
        self._made = False  # by this process: then nothing is there from an earlier attempt
        self._there: dict[str, bool] = {}  # whether the ETag says that it is the item, or does not tell
        self._compared = False  # whether that listing alone tells that all items are there, and no others
        self._as_large: set[str] = set()  # what was there when this began, and has the size of the item
        self._unfinished: Unfinished | None = None
        self._etags_are_md5 = True
        self._server_side = True

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""
        if not self.stored.is_registered():
            return None
        try:
            return self.stored.admin()
        except NoSuchKeyError:
            return None

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:
        """Make it a proto dataset; learn with two listings what an earlier attempt left."""
        for item in items.values():
            layout.check_relpath(item.relpath)
            if item.size > _MOST:
                raise DatasetError(f"item {item.relpath!r} has {item.size} bytes; a bucket holds at most {_MOST}")
        self._made = self.stored.create(admin)
        if not self._made:
            self._there = self._left(items)
        if items:  # else it is being created: nobody can take up later what is cut short, so no parts are kept
            self._unfinished = Unfinished(self.stored) if self._made else Unfinished.find(self.stored)

    def _left(self, items: Mapping[str, Item]) -> dict[str, bool]:
        there, others = {}, False
        for identifier, info in self.stored.list_items():
            item = items.get(identifier)
            others |= item is None
            if item is None or info.size != item.size:
                continue
            self._as_large.add(item.identifier)
            if info.etag == item.hash or not is_md5(info.etag):
                there[item.identifier] = is_md5(info.etag)
        self._compared = bool(items) and not others and sum(there.values()) == len(items)
        return there

    # --- items ---

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item, unless one of this size and checksum is there."""
        layout.check_relpath(item.relpath)
        if self._is_there(item, source):
            if self._copies_from(source):  # then the earlier attempt let the server copy it
                self.verified = "not read"
            return item, False
        if found := self._read_back(item, source, transfer):
            return found, False
        self._compared = False
        if self._copies_from(source) and self._copy(item, source, transfer):
            return item, True
        md5, etag = send(self.stored, item, source, transfer, self._unfinished)
        self._learn(etag, md5)
        return item.with_hash(md5), True

    def _learn(self, etag: str, md5: str) -> None:
        """Compare the ETag of bytes that the store checked on their way in: an encrypting one has ETags of its own."""
        self._etags_are_md5 &= not is_md5(etag) or etag == md5

    def _is_there(self, item: Item, source: ItemSource) -> bool:
        etag_tells = self._there.get(item.identifier)
        if etag_tells is None or source.hash_function != documents.HASH_FUNCTION:
            return False
        if etag_tells:
            return True
        return self.stored.store.head(self.stored.keys.item(item.identifier)).metadata.get("checksum") == item.hash

    def _read_back(self, item: Item, source: ItemSource, transfer: Transfer) -> Item | None:
        """Return the item with its MD5 where its hash is another, which no bucket tells, and its bytes here have it."""
        if source.hash_function == documents.HASH_FUNCTION or item.identifier not in self._as_large or not item.hash:
            return None
        try:
            return item.with_hash(receive(item, stored_items(self.stored, source.hash_function), transfer, None))
        except CorruptItemError:
            return None

    # --- server-side copies ---

    def _copies_from(self, source: ItemSource) -> bool:
        if source.dataset is None or source.hash_function != documents.HASH_FUNCTION or not self._server_side:
            return False
        theirs, ours = source.dataset.store.settings, self.stored.store.settings
        return (theirs.endpoint, theirs.namespace) == (ours.endpoint, ours.namespace)

    def _copy(self, item: Item, source: ItemSource, transfer: Transfer) -> bool:
        assert source.dataset is not None
        try:
            self.stored.store.copy(
                self.stored.keys.item(item.identifier),
                source.dataset.store,
                source.dataset.keys.item(item.identifier),
                item.size,
                layout.item_metadata(item.relpath, item.hash),
                submit=transfer.submit_part,
                copied=lambda length: transfer.moved(item, length),
            )
        except NoSuchKeyError:
            raise CorruptItemError(item.relpath, expected="an object", actual="none", where=source.where) from None
        except AccessDeniedError:  # this user may not read there: the bytes pass through here, as the other user
            self._server_side = False
            return False
        self.verified = "not read"
        return True

    # --- documents ---

    def put_readme(self, text: str) -> None:
        """Write the README. Its ETag tells what those of this bucket are, where no item was sent from here."""
        body = text.encode("utf-8")
        self._learn(self.stored.put_document(self.stored.keys.readme, body), md5_of(body))

    def put_tag(self, tag: str) -> None:
        """Add a tag."""
        self.stored.store.put(self.stored.keys.tag(layout.check_name(tag, "tag")), b"")

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""
        key = self.stored.keys.annotation(layout.check_name(name, "annotation"))
        self.stored.put_document(key, documents.dump(value))

    # --- the end ---

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare one listing with what was sent: every item, its size, and its MD5 where the ETag is one.

        Where an earlier attempt, or the shards of others, had sent it all, and no item had to be looked at since, that
        was the listing of `begin`.
        """
        if self._compared:
            return
        missing = set(items)
        wrong: list[tuple[str, BaseException]] = []
        for identifier, info in self.stored.list_items():
            missing.discard(identifier)
            found = self._difference(items.get(identifier), info)
            if found is not None:
                wrong.append(found)
            if len(wrong) == _ENOUGH:  # a listing that never ends would be listed for ever
                break
        else:
            wrong += [self._wrong(item, "none") for identifier, item in items.items() if identifier in missing]
        if wrong:
            raise TransferError(f"{self.uri} does not hold what was sent: {wrong[0][1]}", wrong)

    def _difference(self, item: Item | None, info: ObjectInfo) -> tuple[str, BaseException] | None:
        if item is None:
            return info.key, CorruptItemError(info.key, expected="none", actual="an object", where=self.uri)
        if info.size != item.size:
            return self._wrong(item, f"{info.size} bytes")
        if self._etags_are_md5 and is_md5(info.etag) and info.etag != item.hash and item.size <= SINGLE_PUT:
            return self._wrong(item, info.etag)
        return None

    def _wrong(self, item: Item, found: str) -> tuple[str, BaseException]:
        expected = f"{item.hash} ({item.size} bytes)"
        return item.relpath, CorruptItemError(item.relpath, expected=expected, actual=found, where=self.uri)

    def keep_only(self, tags: Collection[str], annotations: Collection[str], overlays: Collection[str]) -> None:
        """Remove the other documents of what was taken up, with three listings, and one look more if there are any."""
        if self._made:
            return
        keys = self.stored.keys
        others = [keys.tag(name) for name in self.stored.names(keys.tags) if name not in tags]
        for start, key, kept in (
            (keys.annotations, keys.annotation, annotations),
            (keys.overlays, keys.overlay, overlays),
        ):
            others += [key(name) for name in self.stored.names(start, ".json") if name not in kept]
        if others:
            self.stored.refuse_frozen()  # what another process has frozen is changed by nobody but its users
            self.stored.store.delete(others)

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, then the administrative metadata, and clean up.

        Raises:
            DatasetError: nobody could find the dataset; it is a proto dataset again.
        """
        if self._unfinished is not None:
            self._unfinished.abort()
        self.stored.put_manifest(manifest)
        for name, overlay in overlays.items():
            key = self.stored.keys.overlay(layout.check_name(name, "overlay"))
            self.stored.put_document(key, documents.dump(overlay))
        self.stored.put_admin(admin)
        self.stored.unfreeze_unless_found()
        self.stored.store.delete(self.stored.fragments().values())
