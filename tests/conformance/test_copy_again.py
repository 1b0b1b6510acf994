"""Copying to where something is already, and from what is no dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset
from dtool_ecs_flows.errors import DatasetDiffersError, NotADatasetError, StoreError
from tests.independent import (
    CONTENTS,
    Raw,
    disk_dataset,
    files_below,
    identifier,
)
from tests.servers import S3Server


def test_a_frozen_dataset_that_is_there_is_skipped(bucket: BucketSettings, tmp_path: Path) -> None:
    """The same copy again sends no item, writes nothing at all, and says that it was there."""
    source = disk_dataset(tmp_path, CONTENTS)
    copy_dataset(source, bucket.base_uri, settings=bucket)
    raw = Raw(bucket)
    state = raw.state()

    again = copy_dataset(source, bucket.base_uri, settings=bucket)

    assert (again.already_there, again.copied_items, again.copied_bytes, again.skipped) == (True, 0, 0, 12)
    assert (again.differences, again.updated) == ((), ())
    assert raw.state() == state


def change_hash(manifest: dict[str, Any]) -> None:
    manifest["items"][identifier("table.csv")]["hash"] = "0" * 32


def change_size(manifest: dict[str, Any]) -> None:
    manifest["items"][identifier("table.csv")]["size_in_bytes"] += 1


def drop_item(manifest: dict[str, Any]) -> None:
    del manifest["items"][identifier("table.csv")]


def add_item(manifest: dict[str, Any]) -> None:
    entry = {"relpath": "table.csv.bak", "size_in_bytes": 1, "hash": "0" * 32, "utc_timestamp": 0.0}
    manifest["items"][identifier("table.csv.bak")] = entry


@pytest.mark.parametrize("change", [change_hash, change_size, drop_item, add_item])
def test_another_content_under_the_same_uuid_is_an_error(
    rclone_bucket: BucketSettings, tmp_path: Path, change: Any
) -> None:
    """A frozen dataset is never written over: where any item differs, nothing is touched and the item is named."""
    source = disk_dataset(tmp_path, CONTENTS)
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    raw = Raw(rclone_bucket)
    raw.edit_json(f"{report.uuid}/manifest.json", change)
    state = raw.state()

    for update in (False, True):
        with pytest.raises(DatasetDiffersError, match=r"table\.csv"):
            copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket, update_metadata=update)

    assert raw.state() == state


def test_descriptions_that_differ_are_reported_and_changed_when_asked(bucket: BucketSettings, tmp_path: Path) -> None:
    """README, tags, annotations and overlays may change after the freeze: told first, changed only on request."""
    source = disk_dataset(tmp_path, CONTENTS, overlays={"colour": {"table.csv": "blue"}})
    report = copy_dataset(source, bucket.base_uri, settings=bucket)
    raw, root = Raw(bucket), report.uuid
    raw.put(f"{root}/tags/theirs", b"")
    dataset = dtoolcore.DataSet.from_uri(source)
    dataset.put_readme("---\ndescription: better\n")
    dataset.put_tag("new")
    dataset.put_annotation("grant", 2)
    dataset.put_overlay("colour", dict.fromkeys(dataset.identifiers, "red"))
    expected = ("README.yml", "annotations/grant", "overlays/colour", "tags/new", "only there: tags/theirs")
    state = raw.state()

    told = copy_dataset(source, bucket.base_uri, settings=bucket)

    assert (told.differences, told.updated) == (expected, ())
    assert raw.state() == state

    done = copy_dataset(source, bucket.base_uri, settings=bucket, update_metadata=True)

    assert (done.differences, done.updated) == (expected, expected[:-1])
    assert raw.get(f"{root}/README.yml") == b"---\ndescription: better\n"
    history = raw.listed(f"{root}/README.yml-")
    assert [raw.get(key).decode() for key in history] == ["---\ndescription: of Größe\n"]
    assert raw.json(f"{root}/annotations/grant.json") == 2
    assert set(raw.json(f"{root}/overlays/colour.json").values()) == {"red"}
    assert {f"{root}/tags/new", f"{root}/tags/theirs"} <= set(raw.listed())
    assert copy_dataset(source, bucket.base_uri, settings=bucket).differences == ("only there: tags/theirs",)


def test_hashes_that_cannot_be_compared_are_told(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Another client froze it with SHA-1: the sizes agree, which is less than the same hashes; nothing is changed."""
    source = disk_dataset(tmp_path, CONTENTS)
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    raw = Raw(rclone_bucket)

    def use_sha1(manifest: dict[str, Any]) -> None:
        manifest["hash_function"] = "shasum"
        for entry in manifest["items"].values():
            entry["hash"] = hashlib.sha1(CONTENTS[entry["relpath"]]).hexdigest()

    raw.edit_json(f"{report.uuid}/manifest.json", use_sha1)
    raw.put(f"{report.uuid}/tags/theirs", b"")
    state = raw.state()

    for update in (False, True):
        told = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket, update_metadata=update)

        assert told.already_there
        assert told.differences == ("only there: tags/theirs", "hash function: items were compared by size only")
        assert told.updated == ()
    assert raw.state() == state


def test_a_readme_that_got_lost_is_written_again_when_asked(bucket: BucketSettings, tmp_path: Path) -> None:
    """Updating descriptions repairs a README that is gone, and does not stumble over there being none to keep."""
    source = disk_dataset(tmp_path, {"a": b"1"})
    report = copy_dataset(source, bucket.base_uri, settings=bucket)
    raw = Raw(bucket)
    raw.delete(f"{report.uuid}/README.yml")

    done = copy_dataset(source, bucket.base_uri, settings=bucket, update_metadata=True)

    assert done.updated == ("README.yml",)
    assert raw.get(f"{report.uuid}/README.yml").decode() == "---\ndescription: of Größe\n"


def test_another_dataset_of_the_same_name_stays(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Folders are named after datasets: another one of the same name, frozen or not, is not written into."""
    first = disk_dataset(tmp_path / "in", {"a": b"1"})
    there = copy_dataset(first, rclone_bucket.base_uri, settings=rclone_bucket)
    for number, freeze in enumerate((True, False)):
        target = tmp_path / f"out{number}"
        disk_dataset(target, {"a": b"2"}, freeze=freeze)
        before = files_below(target)

        with pytest.raises(DatasetDiffersError, match="another dataset"):
            copy_dataset(there.uri, str(target), settings=rclone_bucket)

        assert files_below(target) == before


def test_the_bucket_must_exist(server: S3Server, bucket: BucketSettings, tmp_path: Path) -> None:
    """A bucket is never made silently."""
    missing = bucket.model_copy(update={"bucket": f"{bucket.bucket}-missing"})

    with pytest.raises(StoreError, match="does not exist"):
        copy_dataset(disk_dataset(tmp_path, {"a": b"1"}), missing.base_uri, settings=missing)

    names = [entry["Name"] for entry in server.client().list_buckets()["Buckets"]]
    assert missing.bucket not in names


@pytest.mark.parametrize(
    "kind", ["proto on disk", "proto in bucket", "nothing on disk", "nothing in bucket", "base URI"]
)
def test_only_a_frozen_dataset_is_copied(rclone_bucket: BucketSettings, tmp_path: Path, kind: str) -> None:
    """What is no dataset, or not yet one, is refused with an error that says which."""
    proto = disk_dataset(tmp_path / "in", {"a": b"1"}, freeze=False)
    frozen = copy_dataset(disk_dataset(tmp_path / "in2", {"a": b"1"}), rclone_bucket.base_uri, settings=rclone_bucket)
    raw = Raw(rclone_bucket)
    raw.edit_json(f"{frozen.uuid}/dtool", lambda admin: admin.update(type="protodataset"))
    source, told = {
        "proto on disk": (proto, "proto dataset"),
        "proto in bucket": (frozen.uri, "proto dataset"),
        "nothing on disk": (f"file://{tmp_path}/nothing", "not a dataset"),
        "nothing in bucket": (f"{rclone_bucket.base_uri}/00000000-0000-0000-0000-000000000000", "not a dataset"),
        "base URI": (rclone_bucket.base_uri, "base URI"),
    }[kind]
    (tmp_path / "out").mkdir()

    with pytest.raises(NotADatasetError, match=told):
        copy_dataset(source, str(tmp_path / "out"), settings=rclone_bucket)

    assert list((tmp_path / "out").iterdir()) == []
