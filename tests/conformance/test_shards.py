"""A large dataset that goes in shards, in whatever order, and is finished by an ordinary copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtool_ecs_flows import BucketSettings, copy_dataset, copy_shard, create_dataset
from dtool_ecs_flows.datasets.shards import shard_of
from dtool_ecs_flows.errors import DatasetError
from dtool_ecs_flows.models import Item
from tests.independent import MIB, Raw, everything, noise

SIZES = [17 * MIB, 9 * MIB, *range(1, 20)]


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A dataset of two large items and many small ones."""
    files, here = tmp_path / "files", tmp_path / "here"
    files.mkdir()
    here.mkdir()
    for number, size in enumerate(SIZES):
        (files / f"{number}").write_bytes(noise(size, number))
    return create_dataset("large", str(here), directory=files, tags=["raw"]).uri


def test_shards_in_any_order_and_a_copy_make_the_dataset(bucket: BucketSettings, source: str, tmp_path: Path) -> None:
    """The third first, one twice, one never: the copy sends what is missing, and nothing that is there."""
    raw = Raw(bucket)
    done = [copy_shard(source, bucket.base_uri, shard, 4, settings=bucket) for shard in (3, 1, 1)]
    assert [each.copied_items for each in done] == [done[0].items, done[1].items, 0]
    assert not raw.is_frozen(done[0].uuid)

    report = copy_dataset(source, bucket.base_uri, settings=bucket)

    assert report.skipped == done[0].items + done[1].items
    assert report.copied_items == len(SIZES) - report.skipped
    assert copy_shard(source, bucket.base_uri, 2, 4, settings=bucket).copied_items == 0  # it is frozen
    (tmp_path / "back").mkdir()
    back = copy_dataset(report.uri, str(tmp_path / "back"), settings=bucket)
    assert everything(back.uri) == everything(source)


def test_shards_go_to_a_disk_as_well(rclone_bucket: BucketSettings, source: str, tmp_path: Path) -> None:
    """Several machines can bring a dataset to a disk that all of them see."""
    there = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    (tmp_path / "back").mkdir()
    out: dict[str, Any] = {"base_uri": str(tmp_path / "back"), "settings": rclone_bucket}
    done = [copy_shard(there.uri, shard=shard, shards=2, **out) for shard in (2, 1)]
    assert sum(each.copied_items for each in done) == len(SIZES)
    with pytest.raises(dtoolcore.DtoolCoreTypeError):
        dtoolcore.DataSet.from_uri(done[0].uri)
    report = copy_dataset(there.uri, **out)
    assert (report.copied_items, everything(report.uri)) == (0, everything(source))


@pytest.mark.parametrize("shard", [0, 3, -1])
def test_a_shard_that_does_not_exist_is_refused(shard: int, tmp_path: Path, source: str) -> None:
    """Who counts from 0 is told, instead of leaving a shard out."""
    with pytest.raises(DatasetError, match=f"there is no shard {shard} of 2"):
        copy_shard(source, str(tmp_path), shard, 2)


@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(1, 8))
@settings(max_examples=100)
def test_each_item_is_in_one_shard_and_the_shards_are_about_equal(sizes: list[int], shards: int) -> None:
    """None is left out or copied by two, and none of the shards is larger than the mean by more than one item."""
    items = {f"{n:04}": Item(f"{n:04}", str(n), size, "", 0.0) for n, size in enumerate(sizes)}
    parts = [shard_of(items, shard, shards) for shard in range(1, shards + 1)]
    assert sorted(identifier for part in parts for identifier in part) == sorted(items)
    weights = [sum(item.size + 256 * 1024 for item in part.values()) for part in parts]
    largest = max(sizes, default=0) + 256 * 1024
    assert max(weights) <= sum(weights) / shards + largest
