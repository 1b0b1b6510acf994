"""Deleting a dataset: all of it, on purpose, and nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, delete_dataset, list_datasets
from dtool_ecs_flows.errors import DatasetDiffersError, NoSuchBucketError, NotADatasetError, SettingsError, StoppedError
from tests.conformance.helpers import changed
from tests.independent import CONTENTS, Raw, bucket_dataset, disk_dataset, identifier
from tests.proxy import Request, proxied
from tests.servers import S3Server

NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("prefix", ["", "u/olssont/"])
def test_nothing_is_left_of_a_deleted_dataset(bucket: BucketSettings, tmp_path: Path, prefix: str) -> None:
    """Items, documents, README history, published URLs, leftovers of an unfinished attempt, and the registration."""
    mine = bucket.model_copy(update={"dataset_prefix": prefix})
    source = disk_dataset(tmp_path, CONTENTS, overlays={"colour": {"table.csv": "blue"}})
    report = copy_dataset(source, mine.base_uri, settings=mine)
    raw, root = Raw(bucket), f"{prefix}{report.uuid}"
    raw.put(f"{root}/README.yml-1700000000.25", b"old")
    raw.put(f"{root}/http_manifest.json", b"{}")
    raw.put(f"{root}/fragments/{identifier('empty')}.v1.2.json", b"1")
    raw.client.create_multipart_upload(Bucket=raw.bucket, Key=f"{root}/data/{identifier('large')}")
    count = len(raw.listed())

    deleted = delete_dataset(report.uri, "penguins", settings=mine)

    assert raw.listed() == []
    assert raw.uploads() == []
    assert (deleted.deleted, deleted.left, deleted.name, deleted.uuid) == (count, (), "penguins", report.uuid)


def test_a_dataset_of_more_items_than_one_request_deletes(rclone_bucket: BucketSettings) -> None:
    """A thousand keys go with one request; this has more."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, {f"{number}": b"" for number in range(1005)})

    report = delete_dataset(f"{rclone_bucket.base_uri}/{uuid}", "penguins", settings=rclone_bucket)

    assert report.deleted == 1005 + 5
    assert raw.listed() == []


@pytest.mark.parametrize("name", ["", "Penguins", "penguin", "penguins ", "*"])
def test_under_a_wrong_name_nothing_is_deleted(bucket: BucketSettings, name: str) -> None:
    """The name is asked for so that a slip in the UUID costs nothing; the error tells the right one."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    state = raw.state()

    with pytest.raises(DatasetDiffersError, match="'penguins'"):
        delete_dataset(f"{bucket.base_uri}/{uuid}", name, settings=bucket)

    assert raw.state() == state


def test_a_proto_dataset_is_deleted_alike(bucket: BucketSettings) -> None:
    """What an attempt left behind can be removed."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, {"a": b"1"}, admin={"type": "protodataset"})
    raw.delete(f"{uuid}/manifest.json")

    delete_dataset(f"{bucket.base_uri}/{uuid}", "penguins", settings=bucket)

    assert raw.listed() == []


def test_other_datasets_are_not_touched(bucket: BucketSettings) -> None:
    """Neither one whose UUID begins alike, nor one of the same name, nor one whose prefix lies inside this one."""
    raw = Raw(bucket)
    uuid = "11111111-1111-1111-1111-111111111111"
    others = [
        bucket_dataset(raw, {"a": b"1"}),
        bucket_dataset(raw, {"a": b"1"}, uuid="11111111-1111-1111-1111-111111111112"),
        bucket_dataset(raw, {"a": b"1"}, prefix="u/", uuid="11111111-1111-1111-1111-111111111113"),
        bucket_dataset(raw, {"a": b"1"}, prefix=f"{uuid}/"),
        bucket_dataset(raw, {"a": b"1"}, prefix=f"{uuid}/data/"),
        bucket_dataset(raw, {"a": b"1"}, prefix=f"{uuid}/tags/"),
        bucket_dataset(raw, {"a": b"1"}, prefix=f"{uuid}/README.yml-"),
        bucket_dataset(raw, {"a": b"1"}, prefix=uuid),
    ]
    unfinished = f"{uuid}/data/{others[4]}/data/{identifier('large')}"
    raw.client.create_multipart_upload(Bucket=raw.bucket, Key=unfinished)
    state = raw.state()
    bucket_dataset(raw, CONTENTS, uuid=uuid)

    report = delete_dataset(f"{bucket.base_uri}/{uuid}", "penguins", settings=bucket)

    assert raw.state() == state
    assert raw.uploads() == [unfinished]
    assert sorted(report.left) == sorted(key for key in state if key.startswith(f"{uuid}/"))


def test_keys_that_no_dtool_client_writes_are_left_and_told(bucket: BucketSettings) -> None:
    """What someone else put there may be precious: it is for them to decide."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, {"a": b"1"})
    foreign = [f"{uuid}/thesis.tex", f"{uuid}/notes/a.txt", f"{uuid}/data/sub/folder.bin"]
    for key in foreign:
        raw.put(key, b"precious")

    report = delete_dataset(f"{bucket.base_uri}/{uuid}", "penguins", settings=bucket)

    assert sorted(report.left) == sorted(raw.listed()) == sorted(foreign)


def test_while_it_is_deleted_it_is_no_frozen_dataset(
    rclone_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short after the first step, it is listed as a proto dataset, so nobody reads a dataset with a hole."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, CONTENTS)

    def die(*_: object) -> None:  # before the first deletion: there is no public seam at this point
        raise KeyboardInterrupt

    monkeypatch.setattr("dtool_ecs_flows.store.Store.delete", die)

    with pytest.raises(KeyboardInterrupt):
        delete_dataset(f"{rclone_bucket.base_uri}/{uuid}", "penguins", settings=rclone_bucket)

    assert not raw.is_frozen(uuid)
    assert "frozen_at" not in raw.json(f"{uuid}/dtool")


def test_a_deletion_can_be_stopped(rclone_bucket: BucketSettings) -> None:
    """After the first thousand objects the rest is there, and it is no frozen dataset; the same call ends it."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, {f"{number}": b"" for number in range(1005)})
    uri = f"{rclone_bucket.base_uri}/{uuid}"
    count = len(raw.listed())
    stop = threading.Event()

    def stop_after_the_first(request: Request) -> None:
        if request.method == "POST":
            stop.set()

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(stop_after_the_first)
        slowly = changed(rclone_bucket, endpoint=proxy.endpoint)
        with pytest.raises(StoppedError):
            delete_dataset(uri, "penguins", settings=slowly, stop=stop)
    assert len(raw.listed()) == count - 1000
    assert not raw.is_frozen(uuid)

    with pytest.raises(StoppedError):
        delete_dataset(uri, "penguins", settings=rclone_bucket, stop=stop)
    assert len(raw.listed()) == count - 1000
    delete_dataset(uri, "penguins", settings=rclone_bucket)
    assert raw.listed() == []


@pytest.mark.parametrize("left", ["half of the items", "no item", "dtool only", "registration only"])
def test_an_interrupted_deletion_is_finished_by_the_same_call(bucket: BucketSettings, left: str) -> None:
    """Whatever was left, the same URI and the same name remove the rest."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, {"a": b"1", "b": b"2"}, admin={"type": "protodataset"})
    gone = {
        "half of the items": [f"{uuid}/data/{identifier('a')}"],
        "no item": raw.listed(f"{uuid}/data/"),
        "dtool only": [key for key in raw.listed(f"{uuid}/") if not key.endswith("/dtool")],
        "registration only": raw.listed(f"{uuid}/"),
    }[left]
    raw.delete(*gone)

    delete_dataset(f"{bucket.base_uri}/{uuid}", "penguins", settings=bucket)

    assert raw.listed() == []


def test_a_registration_without_dataset_can_be_removed(bucket: BucketSettings) -> None:
    """An orphan has no name to confirm; afterwards it is listed no more."""
    raw = Raw(bucket)
    raw.put(f"dtool-{NOBODY}", b"u/olssont/")
    assert list_datasets(bucket.base_uri, settings=bucket).orphans == (NOBODY,)

    report = delete_dataset(f"{bucket.base_uri}/{NOBODY}", "", settings=bucket)

    assert (report.deleted, report.name) == (1, "")
    assert raw.listed() == []


def test_content_without_name_is_not_deleted_under_some_name(bucket: BucketSettings) -> None:
    """Items whose administrative metadata got lost cannot be confirmed by name: only the empty one means them."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.delete(f"{uuid}/dtool")
    state = raw.state()

    with pytest.raises(DatasetDiffersError):
        delete_dataset(f"{bucket.base_uri}/{uuid}", "penguins", settings=bucket)

    assert raw.state() == state


@pytest.mark.parametrize("path", [f"/{NOBODY}", "", "/"])
def test_where_there_is_no_dataset_there_is_an_error(bucket: BucketSettings, path: str) -> None:
    """A URI of nothing, or of the whole bucket, deletes nothing."""
    raw = Raw(bucket)
    bucket_dataset(raw, {"a": b"1"})
    state = raw.state()

    for name in ("", "penguins"):
        with pytest.raises(NotADatasetError):
            delete_dataset(bucket.base_uri + path, name, settings=bucket)

    assert raw.state() == state


def test_a_dataset_on_a_disk_is_not_for_this(tmp_path: Path) -> None:
    """Folders are deleted with the tools for folders; the error says what is expected."""
    source = disk_dataset(tmp_path, {"a": b"1"})

    with pytest.raises(ValueError, match="ecs://"):
        delete_dataset(source, "penguins")


def test_settings_and_bucket_must_be_there(server: S3Server, bucket: BucketSettings) -> None:
    """Without settings, or in a bucket that is not there, the error says what is missing."""
    with pytest.raises(SettingsError, match=bucket.bucket):
        delete_dataset(f"{bucket.base_uri}/{NOBODY}", "")
    missing = bucket.model_copy(update={"bucket": f"{bucket.bucket}-missing"})
    with pytest.raises(NoSuchBucketError):
        delete_dataset(f"{missing.base_uri}/{NOBODY}", "", settings=missing)
