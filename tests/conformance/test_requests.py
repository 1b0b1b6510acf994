"""What operations cost: requests, counted at the server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, copy_shard, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.settings import active
from tests.independent import Raw, bucket_dataset, disk_dataset, everything, noise
from tests.proxy import CountingProxy

ITEMS = {f"{number:03}.bin": noise(4096, number) for number in range(200)}

Counted = tuple[CountingProxy, BucketSettings]


@pytest.fixture
def counted(rgw_bucket: BucketSettings, request_counter: Callable[[str], CountingProxy]) -> Counted:
    """A proxy that counts, and a bucket that is reached through it."""
    proxy = request_counter(rgw_bucket.endpoint)
    return proxy, rgw_bucket.model_copy(update={"endpoint": proxy.endpoint})


def count(proxy: CountingProxy) -> int:
    """How many requests there were, all told; the next call counts from here."""
    assert all(request.status < 400 or request.status == 404 for request in proxy.requests), proxy.requests
    number = len(proxy.requests)
    proxy.clear()
    return number


@pytest.mark.parametrize("prefix", ["", "u/olssont/"])
def test_200_small_items_cost_one_request_each_in_and_out(counted: Counted, tmp_path: Path, prefix: str) -> None:
    """At most 1.1 requests an item in all, the dataset's own objects included, in either direction."""
    proxy, bucket = counted
    bucket = bucket.model_copy(update={"dataset_prefix": prefix})
    source = disk_dataset(tmp_path / "in", ITEMS)
    (tmp_path / "out").mkdir()

    there = copy_dataset(source, bucket.base_uri, settings=bucket)
    assert 200 <= count(proxy) <= 220

    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=bucket)
    assert 200 <= count(proxy) <= 220
    assert everything(back.uri) == everything(source)


def test_making_verifying_and_copying_again_are_as_cheap(counted: Counted, tmp_path: Path) -> None:
    """One request an item where bytes move; a handful where none do."""
    proxy, bucket = counted
    for relpath, data in ITEMS.items():
        (tmp_path / relpath).write_bytes(data)

    made = create_dataset("penguins", bucket.base_uri, directory=tmp_path, settings=bucket)
    assert 200 <= count(proxy) <= 220

    assert verify_dataset(made.uri, settings=bucket).ok
    assert 200 <= count(proxy) <= 220

    assert verify_dataset(made.uri, read=False, settings=bucket).ok
    assert count(proxy) <= 10


def test_finding_that_a_dataset_is_there_costs_no_request_per_item(counted: Counted, tmp_path: Path) -> None:
    """The nightly archive of what was archived long ago."""
    proxy, bucket = counted
    source = disk_dataset(tmp_path, ITEMS)
    copy_dataset(source, bucket.base_uri, settings=bucket)
    proxy.clear()

    assert copy_dataset(source, bucket.base_uri, settings=bucket).already_there

    assert count(proxy) <= 20


def test_resuming_costs_a_few_listings_and_what_is_missing(counted: Counted, tmp_path: Path) -> None:
    """Small items that are there cost no request of their own."""
    proxy, bucket = counted
    source = disk_dataset(tmp_path, ITEMS)
    raw, uuid = Raw(bucket), copy_dataset(source, bucket.base_uri, settings=bucket).uuid
    raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type="protodataset"))
    raw.delete(*raw.listed(f"{uuid}/data/")[:10])
    proxy.clear()

    assert copy_dataset(source, bucket.base_uri, settings=bucket).copied_items == 10

    assert count(proxy) <= 10 + 22


def test_what_the_shards_have_sent_is_listed_once(counted: Counted, tmp_path: Path) -> None:
    """The copy that freezes it, which one worker does alone, finds all items right in the listing it begins with."""
    proxy, bucket = counted
    source = disk_dataset(tmp_path, ITEMS)
    for shard in (1, 2):
        copy_shard(source, bucket.base_uri, shard, 2, settings=bucket)
    proxy.clear()

    report = copy_dataset(source, bucket.base_uri, settings=bucket)

    listed = [each.query["prefix"] for each in proxy.requests if each.operation == "ListObjectsV2"]
    listings = [prefix for prefix in listed if prefix.endswith("/data/")]
    assert (report.skipped, report.copied_items, len(listings)) == (200, 0, 1)


@pytest.mark.parametrize("prefix", ["", "u/olssont/", "u/somebody-else/"])
def test_100_datasets_are_listed_with_one_request_each(counted: Counted, prefix: str) -> None:
    """At most 1.1 requests each, without a prefix, under one's own, and under another's."""
    proxy, bucket = counted
    bucket = bucket.model_copy(update={"dataset_prefix": "u/olssont/"})
    raw = Raw(bucket)
    with ThreadPoolExecutor(8) as pool:
        uuids = set(pool.map(lambda number: bucket_dataset(raw, name=f"{number:03}", prefix=prefix), range(100)))
    proxy.clear()

    listed = list_datasets(bucket.base_uri, settings=bucket)

    assert 100 <= count(proxy) <= 110
    assert {info.uuid for info in listed.datasets} == uuids
    assert [info.name for info in listed.datasets] == [f"{number:03}" for number in range(100)]


def test_uris_alone_need_the_listing_pages_alone(counted: Counted) -> None:
    """One request per thousand datasets: `dtool ls -q` of a bucket."""
    proxy, bucket = counted
    raw = Raw(bucket)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: raw.put(f"dtool-00000000-0000-0000-0000-{number:012}", b""), range(1001)))
    proxy.clear()

    with active(bucket):
        uris = ECSStorageBroker.list_dataset_uris(bucket.base_uri)

    assert len(set(uris)) == 1001
    assert [request.method for request in proxy.requests] == ["GET", "GET"]
