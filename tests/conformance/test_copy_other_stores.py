"""Copying from and to stores that other dtool plugins serve, and from disk to disk."""

from __future__ import annotations

import json
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import DatasetDiffersError, TransferError
from tests.independent import CONTENTS, MIB, Raw, disk_dataset, disk_path, edit_json, everything, identifier, noise

PLUGIN = '''
"""A plugin as others write them: not thread-safe, names folders by UUID, fetches items to a cache."""

import os
import shutil
import sys
import tempfile
import threading

from dtoolcore.storagebroker import DiskStorageBroker
from dtoolcore.utils import get_config_value_from_file

LOCK = threading.Lock()
CACHE = tempfile.mkdtemp(prefix="shelf-")


class ShelfStorageBroker(DiskStorageBroker):
    key = "shelf"

    @classmethod
    def generate_uri(cls, name, uuid, base_uri):
        return f"{base_uri.rstrip('/')}/{uuid}"

    @classmethod
    def list_dataset_uris(cls, base_uri, config_path):
        folder = base_uri.removeprefix(f"{cls.key}://here")
        return [f"{base_uri.rstrip('/')}/{name}" for name in sorted(os.listdir(folder))]

    def put_item(self, fpath, relpath):
        assert LOCK.acquire(blocking=False), "two threads at once"
        try:
            return super().put_item(fpath, relpath)
        finally:
            LOCK.release()

    def get_item_abspath(self, identifier):
        assert LOCK.acquire(blocking=False), "two threads at once"
        try:
            path = os.path.join(CACHE, identifier)
            shutil.copy(super().get_item_abspath(identifier), path)
            return path
        finally:
            LOCK.release()


def unlock(config_path):
    if get_config_value_from_file("SHELF_PASSWORD", config_path) != "sesame":
        raise OSError("it stays shut")


class LockedStorageBroker(ShelfStorageBroker):
    key = "locked"

    def __init__(self, uri, config_path=None):
        unlock(config_path)
        super().__init__(uri, config_path)

    @classmethod
    def list_dataset_uris(cls, base_uri, config_path):
        unlock(config_path)
        return super().list_dataset_uris(base_uri, config_path)
'''


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The base URI of a store that a plugin serves, installed for the length of a test."""
    if hasattr(dtoolcore, "iter_entry_points"):
        pytest.skip("dtoolcore 3.18.3 knows the plugins that were there when it was imported, and no others")
    plugins = tmp_path / "plugins"
    info = plugins / "dtool_shelf-1.0.dist-info"
    info.mkdir(parents=True)
    (plugins / "dtool_shelf.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dtool-shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dtool.storage_brokers]\nshelf = dtool_shelf:ShelfStorageBroker\nlocked = dtool_shelf:LockedStorageBroker\n"
    )
    monkeypatch.syspath_prepend(plugins)
    (tmp_path / "shelf").mkdir()
    return f"shelf://here{tmp_path}/shelf"


def folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("shelf://here"))


def test_a_dataset_goes_through_another_store_and_comes_back_as_it_was(
    rclone_bucket: BucketSettings, tmp_path: Path, shelf: str
) -> None:
    """Disk to plugin to bucket to plugin to disk, with everything that belongs to it."""
    contents = {**CONTENTS, "nine": noise(9 * MIB)}
    source = disk_dataset(tmp_path / "in", contents, overlays={"colour": {"empty": 1}})
    (tmp_path / "shelf2").mkdir()
    (tmp_path / "out").mkdir()

    uri = source
    for base in (shelf, rclone_bucket.base_uri, f"{shelf}2", str(tmp_path / "out")):
        report = copy_dataset(uri, base, settings=rclone_bucket)
        assert (report.copied_items, report.verified) == (13, "content")
        uri = report.uri

    assert everything(uri) == everything(source)


def test_from_disk_to_disk_it_works_alike(tmp_path: Path) -> None:
    """No bucket takes part, and no settings are needed."""
    source = disk_dataset(tmp_path / "in", CONTENTS)
    (tmp_path / "out").mkdir()

    report = copy_dataset(source, str(tmp_path / "out"))

    assert everything(report.uri) == everything(source)
    assert copy_dataset(source, str(tmp_path / "out")).already_there


def test_in_another_store_it_is_taken_up_and_compared_too(tmp_path: Path, shelf: str) -> None:
    """What is there and right stays, what is wrong is written again; a frozen one is skipped, or differs."""
    source = disk_dataset(tmp_path / "in", CONTENTS)
    report = copy_dataset(source, shelf)
    folder = folder_of(report.uri)
    edit_json(folder / ".dtool" / "dtool", lambda admin: admin.update(type="protodataset"))
    (folder / ".dtool" / "manifest.json").unlink()
    (folder / "data" / "empty").unlink()
    (folder / "data" / "table.csv").write_bytes(bytes(8))

    again = copy_dataset(source, shelf)

    assert (again.copied_items, again.skipped) == (2, 10)
    assert (folder / "data" / "table.csv").read_bytes() == CONTENTS["table.csv"]
    assert copy_dataset(source, shelf).already_there
    edit_json(
        folder / ".dtool" / "manifest.json",
        lambda manifest: manifest["items"][identifier("empty")].update(size_in_bytes=1),
    )
    with pytest.raises(DatasetDiffersError, match="'empty'"):
        copy_dataset(source, shelf)


@pytest.mark.parametrize("where", ["a disk", "another store"])
def test_what_its_source_has_lost_meanwhile_does_not_stay(tmp_path: Path, shelf: str, where: str) -> None:
    """A copy that takes up an earlier one has the tags, annotations and overlays of its source, and no others."""
    (tmp_path / "out").mkdir()
    base_uri = shelf if where == "another store" else f"file://{tmp_path}/out"
    source = disk_dataset(tmp_path / "in", CONTENTS, tags=["kept"], overlays={"kept": {"empty": 1}})
    there = dtoolcore.DataSet.from_uri(copy_dataset(source, base_uri).uri)
    there.put_tag("lost")
    there.put_annotation("lost", 1)
    there.put_overlay("lost", dict.fromkeys(there.identifiers))
    folder = folder_of(there.uri) if where == "another store" else disk_path(there.uri)
    edit_json(folder / ".dtool" / "dtool", lambda admin: admin.update(type="protodataset"))

    uri = copy_dataset(source, base_uri).uri

    assert everything(uri) == everything(source)


def test_damage_in_another_store_does_not_reach_the_bucket(
    rclone_bucket: BucketSettings, tmp_path: Path, shelf: str
) -> None:
    """Its items are hashed on their way like any others."""
    uri = copy_dataset(disk_dataset(tmp_path / "in", CONTENTS), shelf).uri
    (folder_of(uri) / "data" / "table.csv").write_bytes(bytes(8))

    with pytest.raises(TransferError, match=r"table\.csv"):
        copy_dataset(uri, rclone_bucket.base_uri, settings=rclone_bucket)

    assert not Raw(rclone_bucket).is_frozen(uri.rpartition("/")[2])
    assert [(f.kind, f.subject) for f in verify_dataset(uri).findings] == [("corrupt", "table.csv")]


def test_datasets_are_made_and_listed_in_another_store(tmp_path: Path, shelf: str) -> None:
    """`create_dataset` and `list_datasets` know no difference."""
    (tmp_path / "a").write_bytes(b"1")

    report = create_dataset("penguins", shelf, files={"a": tmp_path / "a"}, tags=["raw"], annotations={"n": 1})

    (info,) = list_datasets(shelf, tags=True).datasets
    assert (info.uri, info.name, info.uuid, info.type, info.tags) == (
        report.uri,
        "penguins",
        report.uuid,
        "dataset",
        ("raw",),
    )
    dataset = dtoolcore.DataSet.from_uri(report.uri)
    assert dataset.get_annotation("n") == 1
    assert json.loads((folder_of(report.uri) / ".dtool" / "manifest.json").read_text())["items"].keys() == {
        identifier("a")
    }


def test_a_listing_of_another_store_reads_the_settings_that_it_is_given(shelf: str, tmp_path: Path) -> None:
    """Its plugin gets the path of the file each time that it is asked."""
    disk_dataset(tmp_path / "shelf", {"a": b"1"}, tags=["raw"])
    config = tmp_path / "other.json"
    config.write_text('{"SHELF_PASSWORD": "sesame"}')
    base_uri = shelf.replace("shelf://", "locked://")

    with pytest.raises(OSError, match="it stays shut"):
        list_datasets(base_uri)
    (info,) = list_datasets(base_uri, config_path=str(config), tags=True).datasets

    assert (info.problem, info.name, info.tags) == ("", "penguins", ("raw",))
