"""The inventory of a bucket: what it tells of each dataset, and what it does not ask for again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import (
    BucketSettings,
    Inventory,
    InventoryEntry,
    inventory_bucket,
    list_datasets,
    load_inventory,
    write_inventory,
)
from dtool_ecs_flows.errors import NoSuchBucketError, NotADatasetError, SettingsError, StoppedError, UnsafeNameError
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset, identifier
from tests.proxy import CountingProxy, Request, proxied

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(256)}
NOBODY = "00000000-0000-0000-0000-000000000000"

Take = Callable[..., Inventory]


@pytest.fixture
def raw(bucket: BucketSettings) -> Raw:
    """The bucket through plain boto3."""
    return Raw(bucket)


@pytest.fixture
def take(bucket: BucketSettings) -> Take:
    """Take an inventory of the bucket; what it knows from the one before must be what it finds anew."""

    def take(previous: Inventory | None = None) -> Inventory:
        found = inventory_bucket(bucket.base_uri, settings=bucket, previous=previous)
        assert told(found) == told(inventory_bucket(bucket.base_uri, settings=bucket))
        return found

    return take


def told(inventory: Inventory) -> Any:
    """All but when and how it was taken."""
    return inventory.model_dump(exclude={"at", "seconds", "changed"})


def only(inventory: Inventory) -> InventoryEntry:
    (entry,) = inventory.datasets
    return entry


def test_a_row_tells_what_there_is_to_know(raw: Raw, take: Take) -> None:
    """What a listing tells, and items, bytes and tags."""
    uuid = bucket_dataset(raw, FILES, prefix="u/olssont/", tags=["v1.2", "raw"], admin={"creator_username": "Jörg"})

    found = take()

    entry = only(found)
    assert (entry.name, entry.uuid, entry.uri) == ("penguins", uuid, f"{found.base_uri}/{uuid}")
    assert (entry.type, entry.creator_username, entry.problem) == ("dataset", "Jörg", "")
    assert (entry.created_at, entry.frozen_at) == (1700000000.5, 1700000001.25)
    assert (entry.items, entry.bytes, entry.tags, entry.prefix) == (2, 264, ("raw", "v1.2"), "u/olssont/")
    assert (len(found), found.items, found.bytes, found.orphans, found.changed) == (1, 2, 264, (), 1)


def test_it_has_the_datasets_of_a_listing(raw: Raw, take: Take, bucket: BucketSettings) -> None:
    """Sorted alike, under whatever prefix, and the orphans too; an empty bucket has none."""
    assert take().datasets == ()
    for number, prefix in enumerate(["u/olssont/", "u/olssont", "", "u/örsted/", "a b+c%20/", ""]):
        bucket_dataset(raw, {"a": b"1"}, name=f"{9 - number}", prefix=prefix)
    raw.put(f"dtool-{NOBODY}", b"")

    found, listed = take(), list_datasets(bucket.base_uri, settings=bucket, tags=True)

    shared = set(type(listed.datasets[0]).model_fields)
    assert [entry.model_dump(include=shared) for entry in found.datasets] == [
        info.model_dump() for info in listed.datasets
    ]
    assert found.orphans == listed.orphans == (NOBODY,)
    assert [(entry.uuid, bool(entry.problem)) for entry in found.rows()][-1] == (NOBODY, True)


def test_of_a_proto_dataset_the_objects_are_counted_each_time(raw: Raw, take: Take) -> None:
    """It has no manifest, and it grows while nothing but its items changes."""
    uuid = bucket_dataset(raw, FILES, admin={"type": "protodataset"}, tags=["raw"])
    raw.delete(f"{uuid}/manifest.json")
    first = take()
    raw.put(f"{uuid}/data/{identifier('late')}", b"12345")

    second = take(first)

    assert [(only(each).type, only(each).items, only(each).bytes) for each in (first, second)] == [
        ("protodataset", 2, 264),
        ("protodataset", 3, 269),
    ]
    assert (only(second).frozen_at, only(second).tags, second.changed) == (None, ("raw",), 1)


@pytest.mark.parametrize("again", ["dtool", "tag", "manifest.json", "frozen", "thawed", "moved"])
def test_what_has_changed_is_seen(raw: Raw, take: Take, again: str) -> None:
    """Metadata, tags, manifest, freezing, and the prefix: each is told as it is now, and all else as it was."""
    other = bucket_dataset(raw, FILES, name="other")
    kind = "protodataset" if again == "frozen" else "dataset"
    uuid = bucket_dataset(raw, FILES, admin={"type": kind})
    first = take()

    if again == "dtool":
        raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(name="renamed"))
    elif again == "tag":
        raw.put(f"{uuid}/tags/new", b"")
    elif again == "manifest.json":
        raw.edit_json(f"{uuid}/manifest.json", lambda manifest: manifest["items"].pop(identifier("a.csv")))
    elif again == "moved":
        raw.delete(*[key for key in raw.listed() if uuid in key])
        bucket_dataset(raw, {"a": b"1"}, name="moved", prefix="u/", uuid=uuid)
    else:
        thawed = {"frozen": "dataset", "thawed": "protodataset"}[again]
        raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type=thawed))
    second = take(first)

    assert second.changed == 1
    assert [entry for entry in second.datasets if entry.uuid == other] == [
        entry for entry in first.datasets if entry.uuid == other
    ]
    assert [entry for entry in second.datasets if entry.uuid == uuid] != [
        entry for entry in first.datasets if entry.uuid == uuid
    ]


def test_what_cannot_be_read_is_a_row_with_its_problem(raw: Raw, take: Take) -> None:
    """As much as could be read is told, the others are there as ever, and it is looked at anew until it is mended."""
    good, unreadable, holey, foreign = (bucket_dataset(raw, FILES, name=name) for name in ("a", "b", "c", "d"))
    manifest = raw.get(f"{holey}/manifest.json")
    raw.put(f"{unreadable}/dtool", b"{")
    raw.put(f"{holey}/manifest.json", b"{}")
    raw.edit_json(f"{foreign}/dtool", lambda admin: admin.update(uuid=good))
    raw.put(f"dtool-{NOBODY}", b"\xff")

    first = take()
    found = {entry.uuid: entry for entry in first.datasets}

    assert {uuid for uuid, entry in found.items() if not entry.problem} == {good}
    assert "unreadable" in found[unreadable].problem
    assert (found[holey].name, found[holey].items) == ("c", None)
    assert "manifest unreadable" in found[holey].problem
    assert f"have the UUID '{good}'" in found[foreign].problem
    assert "no prefix" in found[NOBODY].problem
    assert len(first.problems) == 4
    raw.put(f"{holey}/manifest.json", manifest)
    mended = {entry.uuid: entry for entry in take(first).datasets}[holey]
    assert (mended.items, mended.problem) == (2, "")


def test_one_that_is_deleted_is_not_told_of(raw: Raw, take: Take) -> None:
    """Neither as a dataset nor as an orphan; what lost its metadata alone is an orphan."""
    gone, orphan, _ = (bucket_dataset(raw, FILES, name=name) for name in ("gone", "orphan", "stays"))
    first = take()
    raw.delete(*[key for key in raw.listed() if gone in key], f"{orphan}/dtool")

    second = take(first)

    assert ([entry.name for entry in second.datasets], second.orphans) == (["stays"], (orphan,))


def test_one_that_is_deleted_meanwhile_is_no_orphan(rclone_bucket: BucketSettings) -> None:
    """Between the page that names it and the look at it somebody may delete all of it."""
    raw = Raw(rclone_bucket)
    gone, stays = bucket_dataset(raw, FILES), bucket_dataset(raw, FILES)

    def delete(request: Request) -> None:
        raw.delete(*[key for key in raw.listed() if gone in key])

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on("GetObject", key=f"{gone}/dtool").call(delete)
        settings = changed(rclone_bucket, endpoint=proxy.endpoint)
        found = inventory_bucket(settings.base_uri, settings=settings)

    assert (only(found).uuid, found.orphans) == (stays, ())


def test_sizes_that_no_table_can_hold_are_a_problem(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """A manifest that lies does not end the inventory, in whatever format it is written."""
    huge = {name: {"size_in_bytes": 2**63 - 1} for name in FILES}
    bucket_dataset(Raw(rclone_bucket), FILES, entries=huge, admin={"created_at": 1e300, "frozen_at": -1e300})

    found = inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket)

    assert (only(found).items, only(found).bytes) == (None, None)
    assert "18446744073709551614 bytes in all" in only(found).problem
    for suffix in ("json", "csv", "html", "parquet"):
        write_inventory(found, tmp_path / f"inventory.{suffix}")


@pytest.mark.parametrize("prefix", ["", "u/somebody-else/"])
def test_what_it_costs(
    rgw_bucket: BucketSettings, request_counter: Callable[[str], CountingProxy], tmp_path: Path, prefix: str
) -> None:
    """Three requests a dataset the first time, however many items it has; then one listing page, and no read."""
    raw = Raw(rgw_bucket)
    with ThreadPoolExecutor(8) as pool:
        uuids = list(pool.map(lambda n: bucket_dataset(raw, FILES, name=f"{n:03}", prefix=prefix), range(100)))
    proxy = request_counter(rgw_bucket.endpoint)
    bucket = rgw_bucket.model_copy(update={"endpoint": proxy.endpoint})

    first = inventory_bucket(bucket.base_uri, settings=bucket)
    read = [request.operation for request in proxy.requests]
    listings = [request.target for request in proxy.seen("ListObjectsV2") if "prefix=dtool-" not in request.target]
    proxy.clear()
    write_inventory(first, tmp_path / "inventory.json")
    second = inventory_bucket(bucket.base_uri, settings=bucket, previous=tmp_path / "inventory.json")
    kept = [request.operation for request in proxy.requests]
    proxy.clear()
    raw.put(f"{prefix}{uuids[1]}/tags/new", b"")
    raw.edit_json(f"{prefix}{uuids[2]}/dtool", lambda admin: admin.update(name="renamed"))
    third = inventory_bucket(bucket.base_uri, settings=bucket, previous=second)

    assert len(listings) == 100
    assert all("start-after=" in target and "data0" in target for target in listings)  # the items are left out
    assert read.count("ListObjectsV2") == 101
    assert 200 <= len(read) - 101 <= 202
    assert kept == ["ListObjectsV2"] * 101
    assert (first.changed, second.changed, third.changed) == (100, 0, 2)
    assert told(second) == told(first)
    assert [request.key for request in proxy.seen("GetObject")] == [f"{prefix}{uuids[2]}/dtool"]


def test_the_previous_one_is_a_file_that_need_not_be_there_yet(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """The first night has none; what is no inventory, or that of another bucket, is refused and left as it is."""
    file = tmp_path / "inventory.json"
    bucket_dataset(Raw(rclone_bucket), FILES)
    first = inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket, previous=str(file))
    write_inventory(first, file)
    second = inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket, previous=str(file))

    assert (first.changed, second.changed) == (1, 0)
    assert load_inventory(file) == first

    other = changed(rclone_bucket, bucket="another")
    with pytest.raises(SettingsError, match=f"is of {rclone_bucket.base_uri}, and not of ecs://another"):
        inventory_bucket(other.base_uri, settings=other, previous=file)
    file.write_text(json.dumps({"datasets": []}))
    with pytest.raises(SettingsError, match=r"inventory\.json holds no inventory"):
        inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket, previous=file)


def test_what_is_no_bucket_is_refused(rclone_bucket: BucketSettings) -> None:
    """The URI of a dataset, a folder, a bucket that is not there; and it can be stopped."""
    with pytest.raises(NotADatasetError, match="URI of a dataset"):
        inventory_bucket(f"{rclone_bucket.base_uri}/{NOBODY}", settings=rclone_bucket)
    with pytest.raises(UnsafeNameError):
        inventory_bucket("file:///data")
    missing = changed(rclone_bucket, bucket="missing")
    with pytest.raises(NoSuchBucketError):
        inventory_bucket("ecs://missing", settings=missing)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket, stop=stop)
