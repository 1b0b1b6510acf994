"""The storage broker that dtoolcore finds for `ecs://` URIs.

It serves the `dtool` command and every program on dtoolcore. Building one makes no request, and two brokers share no
state. Where another installed package provides `ecs` as well, dtoolcore silently takes the one that it meets last:
importing this module then warns, and says which one serves.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dtoolcore.filehasher import FileHasher, md5sum_hexdigest
from dtoolcore.storagebroker import BaseStorageBroker

from dtool_ecs_flows import layout, plugins, publishing
from dtool_ecs_flows.cache import ItemCache
from dtool_ecs_flows.errors import FrozenDatasetError, NoSuchKeyError, SettingsError, UnsafeNameError
from dtool_ecs_flows.items import file_item, receive, send, stored_items
from dtool_ecs_flows.known import KnownItems
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.settings import resolve
from dtool_ecs_flows.store import content_md5, open_store
from dtool_ecs_flows.stored import StoredDataset, registered
from dtool_ecs_flows.transfer import Transfer

logger = logging.getLogger(__name__)


class ECSStorageBroker(BaseStorageBroker):  # type: ignore[misc]  # dtoolcore has no types
    """One dataset in a bucket, or the bucket itself where the URI is a base URI, as dtoolcore sees it."""

    #: The scheme of the URIs that dtoolcore hands to this broker.
    key = layout.SCHEME

    #: Its name is the manifest's `hash_function`.
    hasher = FileHasher(md5sum_hexdigest)

    def __init__(self, uri: str, config_path: str | None = None) -> None:
        bucket, uuid = layout.parse_uri(uri)
        self._bucket, self.uuid = bucket, uuid
        self._dataset: StoredDataset | None = None
        self._error: SettingsError | None = None
        # Resolved here, since active settings may be gone later; told of at the first use, where dtool shows errors.
        try:
            self._dataset = StoredDataset(open_store(resolve(bucket, config_path=config_path)), uuid)
        except SettingsError as error:
            self._error = error
        self._created: bool | None = None  # by create_structure just now: whether it was registered by it
        self._known = KnownItems()
        self._items: dict[str, Item] | None = None  # the last listing
        self._said: dict[str, dict[str, Any]] | None = None  # metadata of items, while freezing
        self._manifest: dict[str, Any] | None = None  # as it was read; dtoolcore keeps it too, so it takes no room
        self._cache: ItemCache | None = None

    @property
    def dataset(self) -> StoredDataset:
        """The dataset's objects.

        Raises:
            SettingsError: the bucket's settings are not complete.
        """
        if self._dataset is None:
            assert self._error is not None
            raise self._error from None
        return self._dataset

    # --- base URIs ---

    @classmethod
    def list_dataset_uris(cls, base_uri: str, config_path: str | None = None) -> list[str]:
        """Return the URIs of all datasets and proto datasets of a bucket, from its listing pages alone."""
        bucket, _ = layout.parse_uri(base_uri)
        store = open_store(resolve(bucket, config_path=config_path))
        return [layout.dataset_uri(bucket, uuid) for uuid, _ in registered(store)]

    @classmethod
    def generate_uri(cls, name: str, uuid: str, base_uri: str) -> str:  # noqa: ARG003  # dtoolcore's signature
        """Return the URI of a dataset.

        Raises:
            UnsafeNameError: the base URI has a path, or the UUID is none.
        """
        bucket, _ = layout.parse_uri(base_uri)
        if not layout.is_uuid(uuid):
            raise UnsafeNameError(f"{uuid!r} is no UUID")
        return layout.dataset_uri(bucket, uuid)

    # --- keys and text ---

    def get_text(self, key: str) -> str:
        """Return an object as text."""
        return self.dataset.text(key)

    def put_text(self, key: str, text: str) -> None:
        """Write an object from text."""
        self.dataset.put_document(key, text.encode("utf-8"))

    def delete_key(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        self.dataset.store.delete([key])

    def get_admin_metadata_key(self) -> str:
        """Return the key of the administrative metadata."""
        return self.dataset.keys.admin_metadata

    def get_readme_key(self) -> str:
        """Return the key of the README."""
        return self.dataset.keys.readme

    def get_manifest_key(self) -> str:
        """Return the key of the manifest."""
        return self.dataset.keys.manifest

    def get_structure_key(self) -> str:
        """Return the key of the structural metadata."""
        return self.dataset.keys.structure

    def get_dtool_readme_key(self) -> str:
        """Return the key of the explanation of the layout."""
        return self.dataset.keys.dtool_readme

    def get_overlay_key(self, overlay_name: str) -> str:
        """Return the key of an overlay."""
        return self.dataset.keys.overlay(overlay_name)

    def get_annotation_key(self, annotation_name: str) -> str:
        """Return the key of an annotation."""
        return self.dataset.keys.annotation(annotation_name)

    def get_tag_key(self, tag: str) -> str:
        """Return the key of a tag."""
        return self.dataset.keys.tag(tag)

    # What dserver's plugins build keys with: dtool-s3's brokers have these attributes.

    @property
    def data_key_prefix(self) -> str:
        """What the items' keys start with."""
        return self.dataset.keys.data

    @property
    def fragments_key_prefix(self) -> str:
        """What the keys of metadata per item start with."""
        return self.dataset.keys.fragments

    @property
    def overlays_key_prefix(self) -> str:
        """What the overlays' keys start with."""
        return self.dataset.keys.overlays

    @property
    def annotations_key_prefix(self) -> str:
        """What the annotations' keys start with."""
        return self.dataset.keys.annotations

    @property
    def tags_key_prefix(self) -> str:
        """What the tags' keys start with."""
        return self.dataset.keys.tags

    # --- administrative metadata ---

    def has_admin_metadata(self) -> bool:
        """Whether there is a dataset: only "no such key" is a no, everything else is an error."""
        if not self.uuid:
            return False
        try:
            self.get_admin_metadata()
        except NoSuchKeyError:
            return False
        return True

    def get_admin_metadata(self) -> dict[str, Any]:
        """Return the administrative metadata."""
        return self.dataset.admin()

    def create_structure(self) -> None:
        """Register the dataset and document its structure.

        Raises:
            FrozenDatasetError: it is there and frozen.
            StoreError: it could not be written; nothing was left behind.
        """
        self._created = self.dataset.create_structure()

    def put_admin_metadata(self, admin_metadata: Mapping[str, Any]) -> None:
        """Write the administrative metadata; a frozen dataset is never made a proto dataset again.

        Raises:
            FrozenDatasetError: that was asked for.
            StoreError: it could not be written; where it was to be the dataset's first, nothing was left behind.
        """
        admin = dict(admin_metadata)
        created, self._created = self._created, None
        if admin.get("type") == "protodataset":
            admin.pop("frozen_at", None)  # dtoolcore copies it along
            if created is None:
                self.dataset.refuse_frozen()
        with self.dataset.taken_back(bool(created)):
            self.dataset.put_admin(admin)

    # --- documents ---

    def get_manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        self._manifest, self._cache = self.dataset.manifest(), None
        return self._manifest

    def update_readme(self, content: str) -> None:
        """Write the README, after keeping the old one under a key with the time."""
        self.dataset.update_readme(content)

    def _list_historical_readme_keys(self) -> list[str]:
        return self.dataset.readme_backups()

    def list_overlay_names(self) -> list[str]:
        """Return the names of the overlays."""
        return self.dataset.names(self.dataset.keys.overlays, ".json")

    def list_annotation_names(self) -> list[str]:
        """Return the names of the annotations."""
        return self.dataset.names(self.dataset.keys.annotations, ".json")

    def list_tags(self) -> list[str]:
        """Return the tags."""
        return self.dataset.names(self.dataset.keys.tags)

    def get_overlay(self, overlay_name: str) -> Any:
        """Return an overlay."""
        return self.dataset.document(self.get_overlay_key(overlay_name))

    def get_annotation(self, annotation_name: str) -> Any:
        """Return an annotation."""
        return self.dataset.document(self.get_annotation_key(annotation_name))

    # --- items ---

    def put_item(self, fpath: str, relpath: str) -> str:
        """Put a file into the dataset and return its handle; the bytes are in the bucket when this returns.

        Raises:
            CorruptItemError: the file changed while it was read; it was not put.
        """
        item, source = file_item(fpath, relpath)
        with self._transfer() as transfer:
            md5, etag = send(self.dataset, item, source, transfer)
        self._known.sent(replace(item, hash=md5), etag)
        self._items = self._said = None  # what a freeze that failed had learnt holds no more
        return relpath

    def iter_item_handles(self) -> Iterator[str]:
        """Yield the handles of what is in the bucket: one request per 1,000 items, and one per item not known yet."""
        if self._said is None:
            self._items = self._known.list(self.dataset, checksums=False)
        assert self._items is not None
        for item in self._items.values():
            yield item.relpath

    def get_size_in_bytes(self, handle: str) -> int:
        """Return the size of an item."""
        return self._item(handle).size

    def get_utc_timestamp(self, handle: str) -> float:
        """Return when an item was put, in UTC epoch seconds."""
        return self._item(handle).utc_timestamp

    def get_hash(self, handle: str) -> str:
        """Return the MD5 of an item: of its bytes, read now; while freezing, the one that was sent with it."""
        item = self._item(handle)
        if self._said is not None:
            return item.hash
        with self._transfer() as transfer:
            return receive(replace(item, hash=""), stored_items(self.dataset), transfer, None)

    def get_item_abspath(self, identifier: str) -> str:
        """Return the path of an item in the cache, its extension that of the relpath; fetched and checked if needed.

        Where items are asked for in the order of the manifest, those that come next are fetched meanwhile.

        Raises:
            KeyError: the manifest has no such item.
            CorruptItemError: its bytes are not what the manifest says, even when fetched again.
        """
        if self._cache is None:
            self._cache = ItemCache(self.dataset, self._manifest or self.get_manifest())
        return self._cache.path(identifier)

    def _transfer(self) -> Transfer:
        return Transfer(self.dataset.store.settings.concurrency)

    def _item(self, handle: str) -> Item:
        identifier = layout.identifier_of(handle)
        if self._items is None or (identifier not in self._items and self._said is None):
            self._items = self._known.list(self.dataset, checksums=False)
        try:
            return self._items[identifier]
        except KeyError:
            raise NoSuchKeyError(f"{self.dataset.uri} has no item {handle!r}") from None

    # --- metadata of items, until the freeze ---

    def add_item_metadata(self, handle: str, key: str, value: Any) -> None:
        """Say something of an item, which becomes an overlay at the freeze.

        Raises:
            UnsafeNameError: the key cannot be an overlay's name.
        """
        layout.check_name(key, "item metadata key")
        fragment = self.dataset.keys.fragment(layout.identifier_of(handle), key)
        self.dataset.put_document(fragment, json.dumps(value).encode())
        self._said = None  # what a freeze that failed had learnt holds no more

    def get_item_metadata(self, handle: str) -> dict[str, Any]:
        """Return what was said of an item."""
        identifier = layout.identifier_of(handle)
        if self._said is not None:
            return dict(self._said.get(identifier, {}))
        return {
            name: self.dataset.document(key) for (of, name), key in self.dataset.fragments().items() if of == identifier
        }

    # --- freezing ---

    def pre_freeze_hook(self) -> None:
        """Learn once what is in the bucket; dtoolcore's freeze then asks nothing more of it.

        Raises:
            FrozenDatasetError, NotADatasetError: another process has frozen it (what was in vain is named), or deleted.
        """
        try:
            self.dataset.refuse_all_but_proto()
        except FrozenDatasetError as error:
            late = self._known.put_in_vain(self.dataset)
            if not late:
                raise
            raise FrozenDatasetError(
                f"{error}; from here {len(late)} items were put that its manifest does not have, perhaps in place of "
                f"its own: {', '.join(map(repr, late[:3]))}{' …' * (len(late) > 3)}. verify_dataset tells its state"
            ) from None
        self._items = self._known.list(self.dataset, checksums=True)
        fragments = self.dataset.fragments()
        said: dict[str, dict[str, Any]] = defaultdict(dict)
        with self._transfer() as transfer:
            for (identifier, name), value in transfer.each(
                list(fragments), lambda known: self.dataset.document(fragments[known])
            ):
                if isinstance(value, Exception):
                    raise value
                said[identifier][name] = value
        self._said = said

    def post_freeze_hook(self) -> None:
        """Take the freeze back where another process deletes the dataset; delete metadata of items, now in overlays."""
        self._said = self._items = self._manifest = self._cache = None
        self.dataset.unfreeze_unless_found()
        self.dataset.store.delete(self.dataset.fragments().values())

    # --- sharing ---

    def http_enable(self) -> str:
        """Publish the dataset over HTTP and return its URL: public, or for `DTOOL_ECS_PUBLISH_EXPIRY` seconds."""
        return publishing.publish(self.dataset, self.dataset.store.settings.publish_expiry)

    def supports_signing(self) -> bool:
        """Whether signed URLs can be had here: they can."""
        return True

    def generate_signed_read_url(self, key: str, expiry_seconds: int = 3600) -> str:
        """Return a URL that reads an object for some seconds, seven days at the most."""
        return self.dataset.store.sign_get(key, publishing.check_expiry(expiry_seconds))

    def generate_signed_write_url(self, key: str, expiry_seconds: int = 3600) -> str:
        """Return a URL that writes an object for some seconds, seven days at the most."""
        return self.dataset.store.sign_put(key, publishing.check_expiry(expiry_seconds))

    def generate_signed_item_write_url(
        self, relpath: str, md5_hexdigest: str, expiry_seconds: int = 3600
    ) -> tuple[str, dict[str, str]]:
        """Return a URL that writes one item of one content, and the headers that have to be sent with it."""
        metadata = layout.item_metadata(layout.check_relpath(relpath), md5_hexdigest)
        url = self.dataset.store.sign_put(
            self.dataset.keys.item(layout.identifier_of(relpath)),
            publishing.check_expiry(expiry_seconds),
            md5=md5_hexdigest,
            metadata=metadata,
        )
        headers = {"Content-MD5": content_md5(md5_hexdigest)}
        return url, headers | {f"x-amz-meta-{name}": value for name, value in metadata.items()}

    def generate_dataset_signed_urls(self, expiry_seconds: int = 3600) -> dict[str, Any]:
        """Return signed URLs of everything in the dataset."""
        return publishing.signed_urls(self.dataset, expiry_seconds)


plugins.warn_of_others(ECSStorageBroker.key, ECSStorageBroker.__name__)
