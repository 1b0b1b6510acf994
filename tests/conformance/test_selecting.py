"""Some items of a dataset come as plain files, with what describes them beside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset, retrieve_items
from dtool_ecs_flows.errors import DatasetError, NotADatasetError, TransferError, UnsafeNameError
from tests.independent import CONTENTS, Raw, bucket_dataset, disk_dataset, files_below, identifier, md5
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("configured", "raw")

OVERLAYS = {
    "unit": {"table.csv": "mm", "empty": "mm²", "a+b%20c&d=e?f#g;h": "kg"},
    "good": {"table.csv": True, "empty": False},
    "level": {"table.csv": 3, "empty": 0},
}


@pytest.fixture(scope="module")
def server(rclone: S3Server) -> S3Server:
    """The server that runs anywhere: nothing here differs from one server to the next."""
    return rclone


@pytest.fixture
def uri(tmp_path: Path, base_uri: str) -> str:
    """A dataset with names and overlays of all kinds."""
    return copy_dataset(disk_dataset(tmp_path / "datasets", CONTENTS, overlays=OVERLAYS), base_uri).uri


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def data_of(report: Any) -> dict[str, bytes]:
    return files_below(Path(report.uri) / "data")


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"patterns": ["*.csv"]}, {"table.csv"}),
        ({"patterns": ["deep/*", "emp??"]}, {"deep/er/and/deeper.bin", "empty"}),
        ({"patterns": ["NF[CD] *"]}, {"NFC \u00e9", "NFD e\u0301"}),
        ({"overlay": "unit"}, {"table.csv", "empty", "a+b%20c&d=e?f#g;h"}),
        ({"overlay": "unit", "values": ["mm*"]}, {"table.csv", "empty"}),
        ({"overlay": "good"}, {"table.csv"}),
        ({"overlay": "good", "values": ["false"]}, {"empty"}),
        ({"overlay": "level", "values": ["3", "4"]}, {"table.csv"}),
        ({"overlay": "unit", "values": ["mm*"], "patterns": ["t*"]}, {"table.csv"}),
        ({}, set(CONTENTS)),
    ],
    ids=str,
)
def test_items_are_chosen_by_pattern_and_overlay(uri: str, out: Path, chosen: dict[str, Any], found: set[str]) -> None:
    """Exactly those that fit are there, byte for byte, under their own paths."""
    report = retrieve_items(uri, str(out), **chosen)
    assert data_of(report) == {relpath: CONTENTS[relpath] for relpath in found}
    assert (report.items, report.of_items, report.copied_items) == (len(found), len(CONTENTS), len(found))


def test_what_describes_the_items_lies_beside_them(uri: str, out: Path) -> None:
    """Who finds the folder a year later learns which dataset it is of; dtool does not take it for one."""
    report = retrieve_items(uri, f"file://{out}", patterns=["table.csv"])
    folder = out / f"penguins-{report.uuid[:8]}"
    assert report.uri == str(folder)
    assert {path.name for path in folder.iterdir()} == {"data", "README.yml", "selection.json"}
    assert (folder / "README.yml").read_text() == "---\ndescription: of Größe\n"
    told = json.loads((folder / "selection.json").read_bytes())
    assert told["dataset"] | {"uri": uri, "uuid": report.uuid, "name": "penguins"} == told["dataset"]
    assert told["selection"]["items_in_dataset"] == len(CONTENTS)
    item = told["items"]["table.csv"]
    assert (item["hash"], item["identifier"]) == (md5(CONTENTS["table.csv"]), identifier("table.csv"))
    assert item["overlays"] == {"unit": "mm", "good": True, "level": 3}
    assert told["tags"] == ["raw", "v1.2"]
    assert told["annotations"]["v1.2"] == "dotted"
    assert not list(dtoolcore.iter_datasets_in_base_uri(f"file://{out}"))


def test_again_fetches_only_what_is_missing(uri: str, out: Path) -> None:
    """What is there and right stays, a further selection joins it, and another file is never written over."""
    first = retrieve_items(uri, str(out), patterns=["*.csv"])
    again = retrieve_items(uri, str(out), patterns=["*.csv", "empty"])
    assert (again.copied_items, again.skipped, again.already_there) == (1, 1, False)
    assert retrieve_items(uri, str(out), patterns=["*.csv"]).already_there
    mine = Path(first.uri) / "data" / "table.csv"
    mine.write_bytes(b"a,b\n1,3\n")
    with pytest.raises(TransferError, match="another file"):
        retrieve_items(uri, str(out), patterns=["*.csv", "deep/*"])
    assert mine.read_bytes() == b"a,b\n1,3\n"
    assert (mine.parent / "deep/er/and/deeper.bin").exists()


def test_where_nothing_fits_nothing_is_written(uri: str, out: Path) -> None:
    """No empty folders are left, and a slip in the name of an overlay is told of with those that there are."""
    assert retrieve_items(uri, str(out), patterns=["*.tiff"]).items == 0
    with pytest.raises(DatasetError, match="no overlay 'units'; it has: good, level, unit"):
        retrieve_items(uri, str(out), overlay="units")
    assert not list(out.iterdir())
    with pytest.raises(DatasetError, match="not a folder"):
        retrieve_items(uri, str(out / "missing"))
    with pytest.raises(NotADatasetError):
        retrieve_items(uri[:-4] + "ffff", str(out))


def test_damage_is_not_retrieved(uri: str, out: Path, raw: Raw) -> None:
    """Bytes that are not those of the manifest are an error that names the item, and no file."""
    key = f"{uri.rpartition('/')[2]}/data/{identifier('table.csv')}"
    raw.replace(key, b"a,b\n1,3\n")
    with pytest.raises(TransferError, match=r"table\.csv"):
        retrieve_items(uri, str(out), patterns=["*.csv", "empty"])
    (folder,) = out.iterdir()
    assert files_below(folder) == {"data/empty": b""}


@pytest.mark.parametrize("name", ["../up", "a/b", ".."])
def test_a_name_that_leads_elsewhere_is_refused(raw: Raw, base_uri: str, out: Path, name: str) -> None:
    """Whoever wrote the dataset does not choose where on this machine it goes."""
    uuid = bucket_dataset(raw, {"a": b"a"}, name=name)
    with pytest.raises(UnsafeNameError):
        retrieve_items(f"{base_uri}/{uuid}", str(out))
    uuid = bucket_dataset(raw, {"../../a": b"a"})
    with pytest.raises(UnsafeNameError):
        retrieve_items(f"{base_uri}/{uuid}", str(out))
    assert not list(out.iterdir())


def test_nothing_is_written_through_a_link(uri: str, out: Path, tmp_path: Path) -> None:
    """A link that somebody planted in the place of the folder, or in it, leads nowhere."""
    victim = tmp_path / "victim"
    victim.mkdir()
    folder = out / f"penguins-{uri.rpartition('/')[2][:8]}"
    folder.symlink_to(victim)
    with pytest.raises(UnsafeNameError, match="symbolic link"):
        retrieve_items(uri, str(out))
    folder.unlink()
    folder.mkdir()
    (folder / "data").symlink_to(victim)
    with pytest.raises(UnsafeNameError, match="symbolic link"):
        retrieve_items(uri, str(out))
    os.unlink(folder / "data")
    (folder / "data").mkdir()
    (folder / "data" / "deep").symlink_to(victim)
    with pytest.raises(UnsafeNameError, match="symbolic link"):
        retrieve_items(uri, str(out), patterns=["deep/*"])
    assert not list(victim.iterdir())
