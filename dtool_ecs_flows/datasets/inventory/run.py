"""Taking an inventory: what the listing pages show, and no document is read twice while its ETag stays the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.inventory.files import Place, load_inventory
from dtool_ecs_flows.datasets.inventory.report import Inventory, InventoryEntry
from dtool_ecs_flows.datasets.listing import Prefixes, each_registered, line_of
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.errors import AccessDeniedError, ManifestError, NoSuchKeyError, NotADatasetError, SettingsError
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.settings import BucketSettings, resolve
from dtool_ecs_flows.store import SMALL_DOCUMENT, ObjectInfo, Store, open_store
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import md5_of

_LARGE = 2_000_000  # bytes of a manifest, some 10,000 items; of larger ones only one at a time is in memory
_MOST = 2**63 - 1  # bytes; what manifests add up to must not pass what a table can hold


def inventory_bucket(
    base_uri: str,
    *,
    previous: Inventory | Place | None = None,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> Inventory:
    """Take an inventory of a bucket: what each dataset is called, who made it, and when, and how large it is.

    The first one costs three requests for each dataset: its metadata, one listing page, which leaves the items out, and
    its manifest. With the previous inventory it is the listing page alone, as long as that shows the ETags of then. Of
    a proto dataset all objects are listed, a request per thousand. A dataset that cannot be read is there with its
    `problem`, and keeps no other from being read. Nothing is written to the bucket.

    Manifests are read to know numbers and sizes of items; items are not looked at. `audit_bucket` does that.

    Args:
        base_uri: `ecs://bucket`.
        previous: an earlier inventory of this bucket, or the path of its JSON file, which need not be there yet.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        stop: set it to end early with `StoppedError`.

    Raises:
        NotADatasetError: the URI is not that of a bucket.
        SettingsError: `previous` is the inventory of another bucket, or none.
        StoreError: the bucket cannot be listed.
    """
    begun, clock = time.time(), time.monotonic()
    bucket, uuid = layout.parse_uri(base_uri)
    if uuid:
        raise NotADatasetError(f"{base_uri} is the URI of a dataset; an inventory is of {layout.base_uri(bucket)}")
    known = _known(previous, layout.base_uri(bucket))
    found: list[InventoryEntry] = []
    orphans: list[str] = []
    with operation(
        base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop
    ) as transfer:
        store = open_store(resolve(bucket, config_path=config_path))
        taking = _Taking(store, known)
        for uuid, entry in each_registered(store, transfer, taking.of):
            if entry is not None:
                found.append(entry)
            elif StoredDataset(store, uuid).is_registered():  # else it was deleted meanwhile
                orphans.append(uuid)
    return Inventory(
        base_uri=layout.base_uri(bucket),
        at=begun,
        datasets=tuple(sorted(found, key=lambda entry: (entry.name, entry.uuid))),
        orphans=tuple(sorted(orphans)),
        changed=sum(entry is not known.get(entry.uuid) for entry in found),
        seconds=time.monotonic() - clock,
    )


def _known(previous: Inventory | Place | None, base_uri: str) -> Mapping[str, InventoryEntry]:
    """Return what is remembered of each dataset. What had a problem is looked at anew: ETags do not show its end."""
    if previous is None:
        return {}
    inventory = previous if isinstance(previous, Inventory) else load_inventory(previous)
    if inventory is None:
        return {}
    if inventory.base_uri != base_uri:
        raise SettingsError(f"the previous inventory is of {inventory.base_uri}, and not of {base_uri}")
    return {entry.uuid: entry for entry in inventory.datasets if not entry.problem}


@dataclass
class _Shown:
    """What a listing of a dataset shows."""

    admin: ObjectInfo | None = None
    manifest: ObjectInfo | None = None
    tags: list[str] = field(default_factory=list)
    items: int = 0
    bytes: int = 0


class _Taking:
    """Takes the datasets of one bucket, many at once."""

    def __init__(self, store: Store, known: Mapping[str, InventoryEntry]) -> None:
        self._store = store
        self._known = known
        self._prefixes = Prefixes(store)
        self._one_large = threading.Lock()

    def of(self, one: tuple[str, ObjectInfo]) -> InventoryEntry | None:
        """Return what there is to know of a registered dataset: the very entry of before where nothing has changed.

        None where the registration key stands alone.
        """
        uuid, registration = one
        stored = StoredDataset(self._store, uuid)
        before = self._known.get(uuid)
        facts: dict[str, Any] = {"uri": stored.uri, "uuid": uuid}
        try:
            stored.keys = DatasetKeys(self._prefix(registration, uuid, before), uuid)
            facts["prefix"] = stored.keys.prefix
            return self._same(stored, before, facts) if before else self._new(stored, facts)
        except NoSuchKeyError:
            return None
        except (ManifestError, AccessDeniedError) as error:
            return InventoryEntry(**{**facts, "problem": str(error)})

    def _prefix(self, registration: ObjectInfo, uuid: str, before: InventoryEntry | None) -> str:
        if before is not None and registration.etag == md5_of(before.prefix.encode()):
            return before.prefix
        prefix = self._prefixes.of(uuid, registration)
        if isinstance(prefix, Exception):
            raise prefix
        return prefix

    def _new(self, stored: StoredDataset, facts: dict[str, Any]) -> InventoryEntry:
        """Take one that no inventory knows: its metadata first, which tell whether its items have to be listed."""
        self._read_admin(stored, facts)
        return self._with_content(stored, facts, _list(stored, items=facts["type"] != "dataset"))

    def _same(self, stored: StoredDataset, before: InventoryEntry, facts: dict[str, Any]) -> InventoryEntry:
        """Take one that is known: one listing, and what that shows to have changed is read."""
        shown = _list(stored, items=before.type != "dataset")
        if shown.admin is None:
            raise NoSuchKeyError(f"{stored.keys.admin_metadata} is not there")
        if shown.admin.etag == before.seen.get("dtool"):
            facts.update(before.model_dump(include=set(_ADMIN)), seen=dict(before.seen))
        else:
            self._read_admin(stored, facts)
            facts["seen"] |= {name: etag for name, etag in before.seen.items() if name not in facts["seen"]}
        if before.type == "dataset" != facts["type"]:  # somebody deletes it, or makes it again
            shown = _list(stored, items=True)
        facts |= {"items": before.items, "bytes": before.bytes}
        entry = self._with_content(stored, facts, shown)
        return before if entry == before else entry

    def _read_admin(self, stored: StoredDataset, facts: dict[str, Any]) -> None:
        """Read the administrative metadata. Their ETag is that of what was read, whatever a listing shows later."""
        key = stored.keys.admin_metadata
        got = self._store.get(key, expected=True, most=SMALL_DOCUMENT)
        admin = documents.parse_admin(got.body, got.info.metadata, f"{self._store.bucket}/{key}")
        facts.update(line_of(stored.uri, stored.uuid, admin, None).model_dump())
        if admin["uuid"] != stored.uuid and not facts["problem"]:
            facts["problem"] = f"its metadata have the UUID {admin['uuid']!r}"
        # Without a body, all of it is in user metadata, which an ETag says nothing of.
        facts["seen"] = {"dtool": got.info.etag} if got.body and got.info.etag else {}

    def _with_content(self, stored: StoredDataset, facts: dict[str, Any], shown: _Shown) -> InventoryEntry:
        """Add tags, and the number and size of the items: by the manifest of a dataset, else those listed."""
        facts["tags"] = tuple(sorted(shown.tags))
        if facts["type"] != "dataset":
            facts |= {"items": shown.items, "bytes": shown.bytes}
            facts["seen"].pop("manifest.json", None)
            return InventoryEntry(**facts)
        etag = shown.manifest.etag if shown.manifest else ""
        if not etag or etag != facts["seen"].get("manifest.json"):
            facts |= {"items": None, "bytes": None}
            try:
                facts["items"], facts["bytes"] = self._content(stored, shown.manifest)
            except (ManifestError, AccessDeniedError) as error:
                facts["problem"] = facts["problem"] or str(error)
            facts["seen"] = {**facts["seen"], "manifest.json": etag}
        return InventoryEntry(**facts)

    def _content(self, stored: StoredDataset, manifest: ObjectInfo | None) -> tuple[int, int]:
        with self._one_large if manifest and manifest.size > _LARGE else nullcontext():
            items = stored.read_manifest().items
            size = sum(item.size for item in items.values())
        if size > _MOST:
            raise ManifestError(f"manifest unreadable in {stored.keys.manifest}: sizes of {size} bytes in all")
        return len(items), size


_ADMIN = frozenset({"name", "type", "creator_username", "created_at", "frozen_at", "problem"})


def _list(stored: StoredDataset, *, items: bool) -> _Shown:
    """List a dataset; without its items that is one request, however many there are."""
    keys, shown = stored.keys, _Shown()
    # README and annotations come before `data/`, and nobody looks at them here; `0` is the character after the slash.
    for info in stored.store.list(keys.root, after="" if items else f"{keys.root}data0"):
        if info.key == keys.admin_metadata:
            shown.admin = info
        elif info.key == keys.manifest:
            shown.manifest = info
        elif info.key.startswith(keys.data) and info.key != keys.data:
            shown.items += 1
            shown.bytes += info.size
        elif tag := layout.name_from_key(info.key, keys.tags, ""):
            shown.tags.append(tag)
    return shown
