"""From a bucket to each other store and back: all of a dataset, and the same at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, list_datasets, verify_dataset
from tests.independent import MIB, disk_dataset, everything, noise
from tests.stores.conftest import Other, killed_copy

Buckets = Callable[[], BucketSettings]


@pytest.mark.shows("s3 azure smb irods", "to from", "items overlays annotations tags README verify list")
def test_a_dataset_goes_to_another_store_and_comes_back_as_it_was(other: Other, ecs: Buckets, tmp_path: Path) -> None:
    """Items with odd names and a large one, overlays, annotations, tags and README; each byte hashed both ways."""
    contents = {**other.contents, "large.bin": noise(9 * MIB)}
    source = disk_dataset(tmp_path / "in", contents, overlays={"colour": {"empty": 1}})
    inside = copy_dataset(source, ecs().base_uri)
    (tmp_path / "out").mkdir()

    there = copy_dataset(inside.uri, other.base_uri)
    back = copy_dataset(there.uri, ecs().base_uri)

    for report in (there, back):
        assert (report.copied_items, report.verified) == (len(contents), "content")
    assert verify_dataset(there.uri).findings == ()
    (info,) = [info for info in list_datasets(other.base_uri, tags=True).datasets if info.uuid == there.uuid]
    assert (info.uri, info.type, info.name) == (there.uri, "dataset", "penguins")
    found = everything(copy_dataset(back.uri, str(tmp_path / "out")).uri)
    assert expected_of(source, other) == found
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def expected_of(source: str, other: Other) -> dict[str, Any]:
    """What comes back. The name of who made it goes through a header where dtool-s3 keeps it."""
    expected = everything(source)
    if other.scheme == "s3":
        expected["admin"]["creator_username"] = "J\\xf6rg"
    return expected


def test_what_was_written_opens_with_the_plugin_alone(other: Other, ecs: Buckets, tmp_path: Path) -> None:
    """dtoolcore reads it as if its own copy had written it: items, overlays, annotations, tags, README."""
    contents = other.contents
    source = disk_dataset(tmp_path / "in", contents, tags=["raw"], overlays={"colour": {"empty": 1}})
    uri = copy_dataset(copy_dataset(source, ecs().base_uri).uri, other.base_uri).uri

    theirs, ours = dtoolcore.DataSet.from_uri(uri), dtoolcore.DataSet.from_uri(source)

    assert set(theirs.identifiers) == set(ours.identifiers)
    for identifier in ours.identifiers:
        assert theirs.item_properties(identifier)["relpath"] == ours.item_properties(identifier)["relpath"]
        content = Path(theirs.item_content_abspath(identifier)).read_bytes()
        assert content == Path(ours.item_content_abspath(identifier)).read_bytes()
        if other.scheme == "irods":
            assert theirs.item_properties(identifier)["hash"] == dtoolcore.filehasher.sha256sum_hexdigest(
                ours.item_content_abspath(identifier)
            )
    assert theirs.get_readme_content() == ours.get_readme_content()
    assert list(theirs.list_tags()) == ["raw"]
    assert theirs.get_overlay("colour") == ours.get_overlay("colour")
    for name in ours.list_annotation_names():  # not by dtoolcore, for which dtool-s3 fails where a name has a dot
        assert theirs._storage_broker.get_annotation(name) == ours.get_annotation(name)


@pytest.mark.shows("s3 azure smb irods", "to from", "resume")
@pytest.mark.parametrize("direction", ["to it", "from it"])
def test_a_copy_that_was_killed_is_taken_up(other: Other, ecs: Buckets, tmp_path: Path, direction: str) -> None:
    """What is there and right is not sent again, and the end is the same."""
    count = {"irods": 12, "s3": 20}.get(other.scheme, 40)  # to those two everything goes in one thread
    contents = {f"{n:02}/größe {n}.txt": f"{n}".encode() * n for n in range(count)}
    source = disk_dataset(tmp_path / "in", contents)
    base_uri = other.base_uri
    if direction == "from it":
        source, base_uri = copy_dataset(source, other.base_uri).uri, ecs().base_uri
    else:
        source = copy_dataset(source, ecs().base_uri).uri

    killed = killed_copy(source, base_uri, after=count // 2)
    again = copy_dataset(source, base_uri)

    assert killed.returncode == -9, killed.stderr
    assert again.copied_items + again.skipped == count
    assert again.skipped >= count // 2 - 1
    assert verify_dataset(again.uri).findings == ()
    assert copy_dataset(source, base_uri).already_there
