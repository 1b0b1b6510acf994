"""Making a dataset from files, in one call."""

from __future__ import annotations

import base64
import getpass
import os
import threading
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset, create_dataset
from dtool_ecs_flows.errors import (
    CorruptItemError,
    EcsFlowsError,
    NotADatasetError,
    StoppedError,
    TransferError,
    UnsafeNameError,
)
from tests.conformance.helpers import changed
from tests.independent import (
    CONTENTS,
    MIB,
    Raw,
    bucket_dataset,
    disk_dataset,
    everything,
    files_below,
    identifier,
    md5,
    noise,
)
from tests.proxy import Request, proxied


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files with names of every kind."""
    root = tmp_path / "files"
    for relpath, data in CONTENTS.items():
        path = root / relpath
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_a_folder_becomes_a_dataset(bucket: BucketSettings, folder: Path) -> None:
    """Every file below the folder is an item under its path there, whole, with its own time; the folder stays."""
    os.utime(folder / "table.csv", (1.5e9, 1.5e9 + 0.25))
    before = files_below(folder)

    report = create_dataset("penguins", bucket.base_uri, directory=folder, settings=bucket, creator_username="Jörg")

    raw, uuid = Raw(bucket), report.uuid
    manifest = raw.json(f"{uuid}/manifest.json")
    assert {entry["relpath"] for entry in manifest["items"].values()} == set(CONTENTS)
    for relpath, data in CONTENTS.items():
        key = f"{uuid}/data/{identifier(relpath)}"
        assert raw.get(key) == data
        assert base64.b64decode(raw.metadata(key)["handle"]).decode() == relpath
        entry = manifest["items"][identifier(relpath)]
        assert (
            (entry["hash"], entry["size_in_bytes"])
            == (md5(data), len(data))
            == (raw.metadata(key)["checksum"], len(data))
        )
    assert manifest["items"][identifier("table.csv")]["utc_timestamp"] == 1.5e9 + 0.25
    assert manifest["hash_function"] == "md5sum_hexdigest"
    admin = raw.json(f"{uuid}/dtool")
    assert (admin["name"], admin["uuid"], admin["type"]) == ("penguins", uuid, "dataset")
    assert admin["creator_username"] == "Jörg"
    assert admin["created_at"] <= admin["frozen_at"]
    assert (report.uri, report.items) == (f"{bucket.base_uri}/{uuid}", len(CONTENTS))
    assert report.bytes == sum(map(len, CONTENTS.values()))
    assert files_below(folder) == before


def test_what_was_made_in_a_bucket_opens_on_a_disk(bucket: BucketSettings, folder: Path, tmp_path: Path) -> None:
    """All that was said of it is there: README, tags, annotations, and metadata of items as overlays."""
    report = create_dataset(
        "penguins",
        bucket.base_uri,
        directory=folder,
        files={"extra/über.txt": folder / "table.csv"},
        readme="---\r\ndescription: Größe\r\n",
        tags=["raw", "v1.2"],
        annotations={"grant": {"n": [1, None]}, "v1.2": "x"},
        item_metadata={"table.csv": {"colour": "blue", "v1.2": [1]}, "extra/über.txt": {"colour": None}},
        settings=bucket,
    )

    (tmp_path / "out").mkdir()
    found = everything(copy_dataset(report.uri, str(tmp_path / "out"), settings=bucket).uri)

    relpaths = [*CONTENTS, "extra/über.txt"]
    assert found["bytes"] == {identifier(p): CONTENTS.get(p, CONTENTS["table.csv"]) for p in relpaths}
    assert (tmp_path / "out/penguins/README.yml").read_bytes() == "---\r\ndescription: Größe\r\n".encode()
    assert found["tags"] == ["raw", "v1.2"]
    assert found["annotations"] == {"grant": {"n": [1, None]}, "v1.2": "x"}
    nothing = dict.fromkeys(map(identifier, relpaths))
    assert found["overlays"] == {
        "colour": {**nothing, identifier("table.csv"): "blue"},
        "v1.2": {**nothing, identifier("table.csv"): [1]},
    }
    assert found["admin"]["creator_username"] == getpass.getuser()
    assert not Raw(bucket).listed(f"{report.uuid}/fragments/")


def test_a_folder_is_a_place_for_a_dataset_too(folder: Path, tmp_path: Path) -> None:
    """The same call makes it on a disk, in dtool's own form."""
    (tmp_path / "out").mkdir()

    report = create_dataset("penguins", str(tmp_path / "out"), directory=folder, tags=["raw"])

    found = everything(report.uri)
    assert found["bytes"] == {identifier(relpath): data for relpath, data in CONTENTS.items()}
    assert found["tags"] == ["raw"]


def test_large_files_travel_in_parts(bucket: BucketSettings, tmp_path: Path) -> None:
    """Their checksum, which has to go ahead of their bytes, is right."""
    data = noise(20 * MIB + 1)
    (tmp_path / "large").write_bytes(data)

    report = create_dataset("penguins", bucket.base_uri, files={"large": tmp_path / "large"}, settings=bucket)

    raw, key = Raw(bucket), f"{report.uuid}/data/{identifier('large')}"
    assert raw.get(key) == data
    assert raw.metadata(key)["checksum"] == md5(data)
    assert raw.json(f"{report.uuid}/manifest.json")["items"][identifier("large")]["hash"] == md5(data)


def test_a_relpath_may_be_as_long_as_a_bucket_can_hold(rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """1,500 bytes, which as metadata of an object are 2,000: the longest that is promised is kept."""
    (tmp_path / "a").write_bytes(b"1")
    relpath = "/".join(["ü" * 124] * 6)
    relpath += "x" * (1500 - len(relpath.encode()))

    report = create_dataset("penguins", rgw_bucket.base_uri, files={relpath: tmp_path / "a"}, settings=rgw_bucket)

    metadata = Raw(rgw_bucket).metadata(f"{report.uuid}/data/{identifier(relpath)}")
    assert base64.b64decode(metadata["handle"]).decode() == relpath


@pytest.mark.parametrize("how", ["empty folder", "no files", "nothing"])
def test_a_dataset_may_hold_nothing(rclone_bucket: BucketSettings, tmp_path: Path, how: str) -> None:
    """No item is no error."""
    (tmp_path / "empty").mkdir()
    ways: dict[str, dict[str, Any]] = {
        "empty folder": {"directory": tmp_path / "empty"},
        "no files": {"files": {}},
        "nothing": {},
    }

    report = create_dataset("penguins", rclone_bucket.base_uri, settings=rclone_bucket, **ways[how])

    assert (report.items, report.bytes) == (0, 0)
    assert Raw(rclone_bucket).is_frozen(report.uuid)


def test_where_it_came_from_is_written_down(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """The sources' names, URIs and UUIDs become annotations: dtool's own three for the first, one list for all."""
    first = disk_dataset(tmp_path / "in", {"a": b"1"}, name="first")
    second = f"{rclone_bucket.base_uri}/{bucket_dataset(Raw(rclone_bucket), name='second')}"

    report = create_dataset("third", rclone_bucket.base_uri, derived_from=[first, second], settings=rclone_bucket)

    raw, root = Raw(rclone_bucket), f"{report.uuid}/annotations/"
    first_uuid = dtoolcore.DataSet.from_uri(first).uuid
    assert raw.json(f"{root}source_dataset_name.json") == "first"
    assert raw.json(f"{root}source_dataset_uri.json") == first
    assert raw.json(f"{root}source_dataset_uuid.json") == first_uuid
    assert raw.json(f"{root}derived_from.json") == [
        {"name": "first", "uri": first, "uuid": first_uuid},
        {"name": "second", "uri": second, "uuid": second.rsplit("/", maxsplit=1)[-1]},
    ]


def test_symbolic_links_follow_the_documented_policy(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Links to files are followed, links to folders are not, so no loop has no end."""
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"linked")
    (folder / "sub" / "a").write_bytes(b"1")
    (folder / "file link").symlink_to(tmp_path / "outside")
    (folder / "sub" / "loop").symlink_to(folder)

    report = create_dataset("penguins", rclone_bucket.base_uri, directory=folder, settings=rclone_bucket)

    raw = Raw(rclone_bucket)
    items = raw.json(f"{report.uuid}/manifest.json")["items"].values()
    assert {item["relpath"] for item in items} == {"sub/a", "file link"}
    assert raw.get(f"{report.uuid}/data/{identifier('file link')}") == b"linked"


# --- refused before anything is written ---

REFUSED: dict[str, dict[str, Any]] = {
    "name with a slash": {"name": "a/b"},
    "name with a space": {"name": "a b"},
    "name with an umlaut": {"name": "Größe"},
    "empty name": {"name": ""},
    "long name": {"name": "x" * 81},
    "dots for a name": {"name": ".."},
    "relpath that leaves": {"files": {"../a": "table.csv"}},
    "absolute relpath": {"files": {"/a": "table.csv"}},
    "empty relpath": {"files": {"": "table.csv"}},
    "long relpath": {"files": {"ü" * 751: "table.csv"}},
    "surrogate in relpath": {"files": {"\udcff": "table.csv"}},
    "no such file": {"files": {"a": "no such file"}},
    "folder for a file": {"files": {"a": "deep"}},
    "no such folder": {"directory": "no such folder"},
    "file for a folder": {"directory": "table.csv"},
    "one relpath twice": {"directory": "", "files": {"table.csv": "empty"}},
    "tag": {"tags": ["fine", "not fine"]},
    "annotation": {"annotations": {"fine": 1, "not/fine": 2}},
    "annotation that is no JSON": {"annotations": {"fine": {1, 2}}},
    "item metadata key": {"files": {"a": "table.csv"}, "item_metadata": {"a": {"not/fine": 1}}},
    "item metadata that is no JSON": {"files": {"a": "table.csv"}, "item_metadata": {"a": {"fine": b"bytes"}}},
    "item metadata of no item": {"files": {"a": "table.csv"}, "item_metadata": {"b": {"fine": 1}}},
    "source that is none": {"derived_from": ["ecs://{bucket}/00000000-0000-0000-0000-000000000000"]},
    "dangling link": {"directory": "dangling"},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_right_is_refused_before_anything_is_written(
    rclone_bucket: BucketSettings, folder: Path, what: str
) -> None:
    """A mistake in the call leaves nothing behind that would have to be cleaned up."""
    (folder / "dangling").mkdir()
    (folder / "dangling" / "link").symlink_to("nowhere")
    arguments: dict[str, Any] = {"name": "penguins", **REFUSED[what]}
    if "directory" in arguments:
        if what == "one relpath twice":
            (folder / "dangling" / "link").unlink()
        arguments["directory"] = folder / arguments["directory"]
    arguments["files"] = {relpath: folder / path for relpath, path in arguments.get("files", {}).items()}
    sources = arguments.get("derived_from", ())
    arguments["derived_from"] = [uri.format(bucket=rclone_bucket.bucket) for uri in sources]
    name = arguments.pop("name")

    with pytest.raises((EcsFlowsError, TypeError, FileNotFoundError)):
        create_dataset(name, rclone_bucket.base_uri, settings=rclone_bucket, **arguments)

    assert Raw(rclone_bucket).listed() == []


def test_a_source_that_is_not_there_is_named(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """A derived dataset whose origin cannot be opened is refused, and told which."""
    proto = disk_dataset(tmp_path, {"a": b"1"}, freeze=False)

    with pytest.raises(NotADatasetError, match="proto dataset"):
        create_dataset("third", rclone_bucket.base_uri, derived_from=[proto], settings=rclone_bucket)

    assert Raw(rclone_bucket).listed() == []


# --- files that change ---


def test_a_file_that_is_written_to_meanwhile_is_not_frozen(
    rclone_bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulation still appends to its log: the item fails, is named, and nothing is frozen."""
    log, real = tmp_path / "run.log", os.stat
    log.write_bytes(noise(200 * 1024))

    def stat(name: Any, **options: Any) -> os.stat_result:
        if name in (log, str(log)):  # a thread that appends all the time might not get its turn in between
            with log.open("ab") as file:
                file.write(b"x" * 100)
        return real(name, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(TransferError, match=r"run\.log") as caught:
        create_dataset(
            "penguins", rclone_bucket.base_uri, files={"run.log": log, "a": __file__}, settings=rclone_bucket
        )

    ((relpath, cause),) = caught.value.failures
    assert relpath == "run.log"
    assert "delete_dataset removes what is there" in str(caught.value)  # the same call does not go on with it
    assert isinstance(cause, CorruptItemError)
    raw = Raw(rclone_bucket)
    (registration,) = raw.listed("dtool-")
    assert not raw.is_frozen(registration.removeprefix("dtool-"))


def test_a_large_file_that_changes_between_its_two_readings_is_not_frozen(
    rclone_bucket: BucketSettings, tmp_path: Path
) -> None:
    """Above 8 MiB a file is read twice; bytes that differ, at equal size and time, are noticed by their hash."""
    large = tmp_path / "large"
    large.write_bytes(noise(30 * MIB))
    os.utime(large, ns=(10**18, 10**18))

    def scribble(_: Request) -> None:
        with large.open("r+b") as file:
            file.seek(29 * MIB)
            file.write(b"scribble")
        os.utime(large, ns=(10**18, 10**18))

    with proxied(rclone_bucket.endpoint) as proxy:
        rule = proxy.on("CreateMultipartUpload").call(scribble)  # after the first reading, before the second
        through = changed(rclone_bucket, endpoint=proxy.endpoint)
        with pytest.raises(TransferError, match="large"):
            create_dataset("penguins", through.base_uri, files={"large": large}, settings=through)

    assert rule.fired == 1

    raw = Raw(rclone_bucket)
    assert raw.uploads() == []
    assert not [key for key in raw.listed() if "/data/" in key]


def test_a_file_that_is_gone_when_its_turn_comes_is_named(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """The others are sent, and nothing is frozen."""
    files = {f"{number:02}": tmp_path / f"{number:02}" for number in range(40)}
    for path in files.values():
        path.write_bytes(b"1")

    def remove_last(progress: Progress) -> None:
        files["39"].unlink(missing_ok=True)

    with pytest.raises(TransferError, match="1 of 40 items failed") as caught:
        create_dataset(
            "penguins",
            rclone_bucket.base_uri,
            files=files,
            settings=rclone_bucket,
            concurrency=1,
            progress=remove_last,
        )

    assert [relpath for relpath, _ in caught.value.failures] == ["39"]
    assert len([key for key in Raw(rclone_bucket).listed() if "/data/" in key]) == 39


def test_creating_can_be_stopped(rclone_bucket: BucketSettings, folder: Path) -> None:
    """Asked to stop, it ends without freezing."""
    stop = threading.Event()

    with pytest.raises(StoppedError):
        create_dataset(
            "penguins",
            rclone_bucket.base_uri,
            directory=folder,
            settings=rclone_bucket,
            concurrency=1,
            progress=lambda _: stop.set(),
            stop=stop,
        )

    raw = Raw(rclone_bucket)
    (registration,) = raw.listed("dtool-")
    assert not raw.is_frozen(registration.removeprefix("dtool-"))


def test_relpaths_are_told_apart_by_their_bytes(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Names that look alike are two items; the very same one given twice is refused."""
    (tmp_path / "a").write_bytes(b"1")
    twins = {"\u00e9": tmp_path / "a", "e\u0301": tmp_path / "a"}

    report = create_dataset("penguins", rclone_bucket.base_uri, files=twins, settings=rclone_bucket)

    assert report.items == 2
    with pytest.raises(UnsafeNameError, match="in files"):
        create_dataset(
            "penguins", rclone_bucket.base_uri, directory=tmp_path, files={"a": __file__}, settings=rclone_bucket
        )


@pytest.mark.parametrize("mistake", [{"tags": "raw"}, {"derived_from": "ecs://bucket/uuid"}])
def test_one_text_is_not_taken_for_a_list_of_letters(
    mistake: dict[str, str], rclone_bucket: BucketSettings, folder: Path
) -> None:
    """Where a list is meant and a text is given, nothing is made."""
    with pytest.raises(UnsafeNameError, match="give a list"):
        create_dataset("penguins", rclone_bucket.base_uri, directory=folder, settings=rclone_bucket, **mistake)  # type: ignore[arg-type]  # the mistake
    assert not Raw(rclone_bucket).listed("")
