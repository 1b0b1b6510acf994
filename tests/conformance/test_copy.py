"""Copying a dataset into a bucket, out of one, and between two."""

from __future__ import annotations

import base64
import json
import re
import threading
from pathlib import Path

import dtoolcore
import pytest
from pydantic import SecretStr

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset, transfer, verify_dataset
from dtool_ecs_flows.errors import NotADatasetError, SettingsError, UnsafeNameError
from tests.conformance.helpers import changed, environment
from tests.conftest import new_bucket
from tests.independent import (
    CONTENTS,
    MIB,
    Raw,
    bucket_dataset,
    disk_dataset,
    disk_path,
    everything,
    files_below,
    identifier,
    md5,
    noise,
)
from tests.proxy import Request, counting_proxy, proxied
from tests.servers import S3Server


def uuid_of(uri: str) -> str:
    return str(dtoolcore.DataSet.from_uri(uri).uuid)


# --- there and back ---


def test_a_dataset_comes_back_from_a_bucket_as_it_was(bucket: BucketSettings, tmp_path: Path) -> None:
    """Bytes, names, times, README, tags, annotations, overlays, who and when: all of it comes back."""
    source = disk_dataset(tmp_path / "in", CONTENTS, overlays={"colour": {"table.csv": "blue"}, "v1.2": {"empty": 0}})

    there = copy_dataset(source, bucket.base_uri, settings=bucket)
    (tmp_path / "out").mkdir()
    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=bucket)

    assert everything(back.uri) == everything(source)
    assert there.items == back.items == len(CONTENTS)
    assert there.bytes == there.copied_bytes == sum(map(len, CONTENTS.values()))
    assert (there.copied_items, there.skipped, there.already_there, there.verified) == (12, 0, False, "content")
    assert (back.copied_items, back.skipped, back.already_there, back.verified) == (12, 0, False, "content")
    assert there.uri == f"ecs://{bucket.bucket}/{uuid_of(source)}"


def test_what_lies_in_the_bucket_is_the_documented_format(bucket: BucketSettings, tmp_path: Path) -> None:
    """Anyone with an S3 client and the format's description finds each thing under its key, and nothing else."""
    source = disk_dataset(tmp_path, CONTENTS, overlays={"colour": {"table.csv": "blue"}})
    frozen = dtoolcore.DataSet.from_uri(source)

    copy_dataset(source, bucket.base_uri, settings=bucket)

    raw, uuid = Raw(bucket), frozen.uuid
    names = ["dtool", "README.yml", "README.txt", "structure.json", "manifest.json", "overlays/colour.json"]
    names += ["annotations/grant.json", "annotations/v1.2.json", "tags/raw", "tags/v1.2"]
    names += [f"data/{identifier(relpath)}" for relpath in CONTENTS]
    assert sorted(raw.listed()) == sorted([f"dtool-{uuid}", *(f"{uuid}/{name}" for name in names)])
    assert raw.get(f"dtool-{uuid}") == b""
    assert raw.json(f"{uuid}/manifest.json") == frozen._manifest
    assert raw.json(f"{uuid}/annotations/grant.json") == {"n": 1, "ö": [None, 2.5]}
    assert raw.json(f"{uuid}/overlays/colour.json")[identifier("table.csv")] == "blue"
    admin = raw.json(f"{uuid}/dtool")
    assert (admin["type"], admin["creator_username"]) == ("dataset", "Jörg")
    assert admin["frozen_at"] == frozen._admin_metadata["frozen_at"]
    assert admin["created_at"] == frozen._admin_metadata["created_at"]
    for relpath, data in CONTENTS.items():
        key = f"{uuid}/data/{identifier(relpath)}"
        assert raw.get(key) == data
        assert base64.b64decode(raw.metadata(key)["handle"]).decode() == relpath
        assert raw.metadata(key)["checksum"] == md5(data)


def test_items_of_many_parts_come_back_as_they_were(bucket: BucketSettings, tmp_path: Path) -> None:
    """An item that travels in parts is one object with the right bytes and checksum, there and back."""
    contents = {"nine.bin": noise(9 * MIB, 1), "forty.bin": noise(40 * MIB + 17, 2), "edge.bin": noise(8 * MIB, 3)}
    source = disk_dataset(tmp_path / "in", contents)

    there = copy_dataset(source, bucket.base_uri, settings=bucket)

    raw = Raw(bucket)
    for relpath, data in contents.items():
        key = f"{there.uuid}/data/{identifier(relpath)}"
        assert raw.get(key) == data
        assert raw.metadata(key)["checksum"] == md5(data)
    assert raw.uploads() == []
    (tmp_path / "out").mkdir()
    back = copy_dataset(there.uri, f"file://{tmp_path}/out", settings=bucket)
    assert everything(back.uri) == everything(source)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_many_large_items_move_within_little_memory(
    rclone_bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """Room for a single part is enough for all of them: items wait for each other, and none waits for ever."""
    monkeypatch.setattr(transfer, "MEMORY", 17 * MIB)
    contents = {f"large {number}": noise(18 * MIB, number) for number in range(4)} | {"small": b"1"}
    source = disk_dataset(tmp_path / "in", contents)
    (tmp_path / "out").mkdir()

    there = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket, concurrency=concurrency)
    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=rclone_bucket, concurrency=concurrency)

    assert everything(back.uri) == everything(source)


def test_a_dataset_with_no_item_is_a_dataset(bucket: BucketSettings, tmp_path: Path) -> None:
    """Nothing inside is no reason to fail."""
    source = disk_dataset(tmp_path / "in", {}, tags=())

    there = copy_dataset(source, bucket.base_uri, settings=bucket)
    (tmp_path / "out").mkdir()
    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=bucket)

    assert everything(back.uri) == everything(source)
    assert there.items == there.bytes == there.copied_items == 0
    assert verify_dataset(there.uri, settings=bucket).findings == ()
    assert Raw(bucket).is_frozen(there.uuid)


def test_the_source_is_only_read(bucket: BucketSettings, tmp_path: Path) -> None:
    """Neither a folder nor a bucket that is copied from has one byte changed, its administrative metadata included."""
    source = disk_dataset(tmp_path / "in", CONTENTS)
    before = files_below(disk_path(source))

    there = copy_dataset(source, bucket.base_uri, settings=bucket)

    assert files_below(disk_path(source)) == before
    raw = Raw(bucket)
    state = raw.state()
    (tmp_path / "out").mkdir()
    copy_dataset(there.uri, str(tmp_path / "out"), settings=bucket)
    assert raw.state() == state


def test_files_have_their_own_times_again(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """What sorts by date, or builds what is newer, finds the files of a retrieved dataset as old as they are."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"a": b"1"}, entries={"a": {"utc_timestamp": 1234567890.5}})

    copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(tmp_path), settings=rclone_bucket)

    assert (tmp_path / "penguins" / "data" / "a").stat().st_mtime == 1234567890.5


def test_progress_counts_up_to_the_whole(bucket: BucketSettings, tmp_path: Path) -> None:
    """Who watches sees every item once, and the last report says that all is done."""
    seen: list[Progress] = []

    copy_dataset(disk_dataset(tmp_path, CONTENTS), bucket.base_uri, settings=bucket, progress=seen.append)

    total = sum(map(len, CONTENTS.values()))
    of_items = [progress for progress in seen if progress.relpath]  # the others tell that nothing is done yet
    assert list(dict.fromkeys(progress.items_done for progress in of_items)) == list(range(1, 13))
    assert {progress.relpath for progress in of_items} == set(CONTENTS)
    assert (seen[-1].items, seen[-1].bytes_done, seen[-1].bytes) == (12, total, total)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_large_item_shows_progress_while_it_moves(rgw_bucket: BucketSettings, tmp_path: Path, direction: str) -> None:
    """Who copies one large file sees it move part by part, in both directions."""
    source = disk_dataset(tmp_path / "in", {"large": noise(17 * MIB)})
    (tmp_path / "out").mkdir()
    if direction == "out":
        source = copy_dataset(source, rgw_bucket.base_uri, settings=rgw_bucket).uri
    partly = threading.Event()

    def look(progress: Progress) -> None:
        if progress.items_done == 0 < progress.bytes_done < progress.bytes == 17 * MIB:
            partly.set()

    def hold_all_but_the_first(request: Request) -> None:
        part = re.search(r"partNumber=(\d+)", request.target) or re.match(
            r"bytes=(\d+)", request.headers.get("range", "")
        )
        if part and part[1] not in ("0", "1"):
            partly.wait(30)

    with proxied(rgw_bucket.endpoint) as proxy:
        proxy.on().call(hold_all_but_the_first)
        through = changed(rgw_bucket, endpoint=proxy.endpoint)
        base_uri = through.base_uri if direction == "in" else str(tmp_path / "out")
        copy_dataset(source, base_uri, settings=through, progress=look)

    assert partly.is_set()


# --- where to ---


def test_a_configured_prefix_decides_where_new_datasets_go(bucket: BucketSettings, tmp_path: Path) -> None:
    """Under a prefix, all but the registration key lies below it, and the registration key says so."""
    mine = bucket.model_copy(update={"dataset_prefix": "u/olssont/"})

    there = copy_dataset(disk_dataset(tmp_path, CONTENTS), bucket.base_uri, settings=mine)

    raw = Raw(bucket)
    assert raw.get(f"dtool-{there.uuid}") == b"u/olssont/"
    assert raw.is_frozen(there.uuid, "u/olssont/")
    assert [k for k in raw.listed() if not k.startswith(f"u/olssont/{there.uuid}/")] == [f"dtool-{there.uuid}"]


def test_a_registered_prefix_wins_over_the_configured_one(bucket: BucketSettings, tmp_path: Path) -> None:
    """Copying again after the prefix was changed finds the dataset where it is, and makes no second one."""
    source = disk_dataset(tmp_path / "in", CONTENTS)
    copy_dataset(source, bucket.base_uri, settings=bucket.model_copy(update={"dataset_prefix": "old/"}))
    raw = Raw(bucket)
    state = raw.state()

    again = copy_dataset(source, bucket.base_uri, settings=bucket.model_copy(update={"dataset_prefix": "new/"}))

    assert again.already_there
    assert raw.state() == state
    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(again.uri, str(tmp_path / "out"), settings=bucket).uri) == everything(source)


def test_settings_are_found_in_the_environment(
    bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is passed, the variables that dtool's users have set are enough, and without them it says which."""
    source = disk_dataset(tmp_path, {"a": b"1"})
    with pytest.raises(SettingsError, match=f"DTOOL_ECS_ENDPOINT_{bucket.bucket}"):
        copy_dataset(source, bucket.base_uri)

    for name, value in environment(bucket).items():
        monkeypatch.setenv(name, value)

    assert Raw(bucket).is_frozen(copy_dataset(source, bucket.base_uri).uuid)


def test_settings_that_are_passed_win(bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller passes counts, whatever the environment says."""
    monkeypatch.setenv(f"DTOOL_ECS_ENDPOINT_{bucket.bucket}", "http://127.0.0.1:9")
    monkeypatch.setenv(f"DTOOL_ECS_ACCESS_KEY_ID_{bucket.bucket}", "wrong")

    report = copy_dataset(disk_dataset(tmp_path, {"a": b"1"}), bucket.base_uri, settings=bucket)

    assert Raw(bucket).is_frozen(report.uuid)


def test_settings_are_found_in_a_file_of_ones_own(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """A `dtool.json` that is named serves every step of a copy, updating descriptions and coming back included."""
    config = tmp_path / "my.json"
    config.write_text(
        json.dumps({
            f"DTOOL_ECS_ENDPOINT_{rclone_bucket.bucket}": rclone_bucket.endpoint,
            f"DTOOL_ECS_ACCESS_KEY_ID_{rclone_bucket.bucket}": rclone_bucket.access_key_id,
            f"DTOOL_ECS_SECRET_ACCESS_KEY_{rclone_bucket.bucket}": rclone_bucket.secret_access_key.get_secret_value(),
        })
    )  # fmt: skip  # the file as it looks
    config.chmod(0o600)
    source = disk_dataset(tmp_path / "in", {"a": b"1"})
    there = copy_dataset(source, rclone_bucket.base_uri, config_path=str(config))
    dataset = dtoolcore.DataSet.from_uri(source)
    dataset.put_readme("---\ndescription: better\n")
    dataset.put_tag("new")
    dataset.put_annotation("grant", 2)
    (tmp_path / "out").mkdir()

    again = copy_dataset(source, rclone_bucket.base_uri, config_path=str(config), update_metadata=True)
    back = copy_dataset(there.uri, str(tmp_path / "out"), config_path=str(config))

    assert again.updated == ("README.yml", "annotations/grant", "tags/new")
    assert everything(back.uri) == everything(source)


@pytest.mark.parametrize("form", ["{path}", "{path}/", "file://{path}", "file:{path}", "relative"])
def test_a_folder_may_be_named_in_any_form(
    rclone_bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """A path, a relative path and a file URI name the same folder, spaces and umlauts in it included."""
    source = disk_dataset(tmp_path / "in", {"a": b"1"})
    there = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    target = tmp_path / "mein Ordner ü 50%"
    target.mkdir()
    monkeypatch.chdir(tmp_path)
    base = target.name if form == "relative" else form.format(path=target)

    copy_dataset(there.uri, base, settings=rclone_bucket)

    assert (target / "penguins" / "data" / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "base", ["ecs://{bucket}/folder", "ecs://{bucket}/a/b", "ecs://", "ecs:///x", "ecs://{bucket}?x=1"]
)
def test_a_base_uri_has_no_path(rclone_bucket: BucketSettings, tmp_path: Path, base: str) -> None:
    """A path after the bucket is an error, since dropping it silently would put a dataset elsewhere."""
    with pytest.raises(UnsafeNameError):
        copy_dataset(
            disk_dataset(tmp_path, {"a": b"1"}), base.format(bucket=rclone_bucket.bucket), settings=rclone_bucket
        )

    assert Raw(rclone_bucket).listed() == []


def test_an_unknown_scheme_or_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A base URI that nothing serves, or a folder that is not there, is told in the message."""
    source = disk_dataset(tmp_path / "in", {"a": b"1"})

    with pytest.raises(NotADatasetError, match="gopher"):
        copy_dataset(source, "gopher://hole")
    with pytest.raises(Exception, match="no-such-folder is not a folder"):
        copy_dataset(source, str(tmp_path / "no-such-folder"))
    assert not (tmp_path / "no-such-folder").exists()


# --- between buckets ---


def test_between_buckets_of_one_endpoint_the_server_copies(
    server: S3Server, bucket: BucketSettings, tmp_path: Path
) -> None:
    """No byte of an item passes the client, each item is one request, and the report says that nothing was read."""
    contents = {**CONTENTS, "nine.bin": noise(9 * MIB)}
    source = disk_dataset(tmp_path / "in", contents)
    first = copy_dataset(source, bucket.base_uri, settings=bucket)
    other = new_bucket(server)
    with counting_proxy(server) as proxy:
        here, there = (s.model_copy(update={"endpoint": proxy.endpoint}) for s in (bucket, other))
        report = copy_dataset(first.uri, other.base_uri, settings=[here, there])
        items = [request for request in proxy.requests if "/data/" in request.target]

    assert (report.verified, report.copied_items) == ("not read", len(contents))
    assert [request.method for request in items] == ["PUT"] * len(contents)
    raw = Raw(other)
    for relpath, data in contents.items():
        key = f"{report.uuid}/data/{identifier(relpath)}"
        assert raw.get(key) == data
        assert base64.b64decode(raw.metadata(key)["handle"]).decode() == relpath
        assert raw.metadata(key)["checksum"] == md5(data)
    (tmp_path / "out").mkdir()
    back = copy_dataset(report.uri, str(tmp_path / "out"), settings=other)
    assert everything(back.uri) == everything(source)


def test_a_server_side_copy_does_not_take_damage_along(
    server: S3Server, bucket: BucketSettings, tmp_path: Path
) -> None:
    """Bytes that are not read are still compared by their ETag: damage at the source leaves the copy unfrozen."""
    first = copy_dataset(disk_dataset(tmp_path, {"good": b"1", "bad": b"right"}), bucket.base_uri, settings=bucket)
    Raw(bucket).replace(f"{first.uuid}/data/{identifier('bad')}", b"wrong")
    other = new_bucket(server)

    with pytest.raises(Exception, match="'bad'"):
        copy_dataset(first.uri, other.base_uri, settings=[bucket, other])

    assert not Raw(other).is_frozen(first.uuid)


def test_between_two_servers_the_bytes_pass_here(
    rgw_bucket: BucketSettings, rclone_bucket: BucketSettings, tmp_path: Path
) -> None:
    """Two buckets on two endpoints with two sets of settings work in one call, and every byte is hashed."""
    source = disk_dataset(tmp_path / "in", {**CONTENTS, "twenty.bin": noise(20 * MIB)})
    first = copy_dataset(source, rgw_bucket.base_uri, settings=rgw_bucket)

    second = copy_dataset(first.uri, rclone_bucket.base_uri, settings=[rgw_bucket, rclone_bucket])

    (tmp_path / "out").mkdir()
    back = copy_dataset(second.uri, str(tmp_path / "out"), settings=rclone_bucket)
    assert second.verified == "content"
    assert everything(back.uri) == everything(source)


def test_where_one_user_may_not_read_the_others_bucket_the_bytes_pass_here(
    rgw: S3Server, rgw_bucket: BucketSettings, tmp_path: Path
) -> None:
    """Two users of one endpoint who see only their own buckets can still be copied between."""
    user = f"other-{rgw_bucket.bucket}"
    rgw.add_user(user, user, "other-secret")
    other = rgw_bucket.model_copy(
        update={"bucket": user, "access_key_id": user, "secret_access_key": SecretStr("other-secret")}
    )
    Raw(other).client.create_bucket(Bucket=other.bucket)
    source = disk_dataset(tmp_path / "in", CONTENTS)
    first = copy_dataset(source, rgw_bucket.base_uri, settings=rgw_bucket)

    second = copy_dataset(first.uri, other.base_uri, settings=[rgw_bucket, other])

    assert second.verified == "content"
    for relpath, data in CONTENTS.items():
        assert Raw(other).get(f"{first.uuid}/data/{identifier(relpath)}") == data
