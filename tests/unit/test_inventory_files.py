"""An inventory as a file: JSON, CSV, Parquet and a page, with whatever somebody has written into the bucket."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from dtool_ecs_flows import Inventory, InventoryEntry, load_inventory, write_inventory
from dtool_ecs_flows.errors import SettingsError
from tests.hostile import TEXTS

ORPHAN = "00000000-0000-0000-0000-000000000000"


def entry(**facts: Any) -> InventoryEntry:
    uuid = "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10"
    return InventoryEntry(**{
        "uri": f"ecs://my-bucket/{uuid}",
        "uuid": uuid,
        "name": "penguins",
        "type": "dataset",
        "creator_username": "Jörg",
        "created_at": 1700000000.5,
        "frozen_at": 1700000001.25,
        "items": 2,
        "bytes": 264,
        "tags": ("raw", "v1.2"),
        "seen": {"dtool": "a", "manifest.json": "b"},
        **facts,
    })  # fmt: skip  # one fact a line


def inventory(*entries: InventoryEntry, **facts: Any) -> Inventory:
    values = {"base_uri": "ecs://my-bucket", "at": 1.7e9, "changed": 0, "seconds": 1.0, "datasets": entries}
    return Inventory(**{**values, **facts})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def data(path: Path) -> Any:
    """What the page's script reads."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL
    )
    return json.loads(text)


def test_a_row_is_the_same_in_each_format(tmp_path: Path) -> None:
    """A table has the orphans too, whose problem is that they are orphans; JSON gives back the inventory itself."""
    taken = inventory(entry(), orphans=(ORPHAN,))
    for suffix in ("json", "csv", "parquet", "html"):
        write_inventory(taken, tmp_path / f"i.{suffix}")

    text, orphan = rows(tmp_path / "i.csv")
    typed, _ = pyarrow.parquet.read_table(tmp_path / "i.parquet").to_pylist()
    shown, _ = data(tmp_path / "i.html")["rows"]
    assert load_inventory(tmp_path / "i.json") == taken
    assert text == {
        "name": "penguins",
        "uuid": "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10",
        "uri": "ecs://my-bucket/b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10",
        "type": "dataset",
        "creator_username": "Jörg",
        "created_at": "2023-11-14T22:13:20Z",
        "frozen_at": "2023-11-14T22:13:21Z",
        "items": "2",
        "bytes": "264",
        "tags": "raw v1.2",
        "problem": "",
    }
    assert (orphan["uuid"], orphan["problem"]) == (ORPHAN, "it is registered, and there is no dataset")
    assert (typed["items"], typed["bytes"], typed["tags"]) == (2, 264, ["raw", "v1.2"])
    assert typed["frozen_at"] == datetime(2023, 11, 14, 22, 13, 21, 250000, timezone.utc)
    assert {**text, "items": 2, "bytes": 264} == {
        **typed,
        **{name: typed[name].strftime("%Y-%m-%dT%H:%M:%SZ") for name in ("created_at", "frozen_at")},
        "tags": "raw v1.2",
    }
    assert shown[:4] == ["penguins", "dataset", 2, 264]


def test_what_is_not_known_is_empty(tmp_path: Path) -> None:
    """And no zero, which would be taken for a number; a time that is none is not known."""
    taken = inventory(entry(items=None, bytes=None, created_at=1e300, frozen_at=None, tags=None, problem="unreadable"))
    for suffix in ("csv", "parquet", "html"):
        write_inventory(taken, tmp_path / f"i.{suffix}")

    (text,) = rows(tmp_path / "i.csv")
    (typed,) = pyarrow.parquet.read_table(tmp_path / "i.parquet").to_pylist()
    names = ("items", "bytes", "created_at", "frozen_at")
    assert {text[name] for name in names} == {""}
    assert {typed[name] for name in names} == {None}
    assert data(tmp_path / "i.html")["rows"][0][2:7] == [None, None, "Jörg", None, None]


@pytest.mark.parametrize(
    "text", [*TEXTS, "</script><script>alert(1)</script>", "<!--<script>"], ids=lambda t: repr(t)[:30]
)
def test_no_text_gets_out_of_its_place(tmp_path: Path, text: str) -> None:
    """Whatever a name is, a row stays a row, and the page has the elements that it had."""
    name = text.encode("utf-8", "replace").decode()  # as it comes out of a bucket
    hostile = inventory(entry(name=name, creator_username=name, tags=(name,), problem=name))
    harmless = inventory(entry())
    pages = []
    for taken in (hostile, harmless):
        for suffix in ("json", "csv", "parquet", "html"):
            write_inventory(taken, tmp_path / f"i.{suffix}")
        pages.append((tmp_path / "i.html").read_text("utf-8"))
        assert len(rows(tmp_path / "i.csv")) == 1
        assert len((tmp_path / "i.csv").read_text("utf-8").splitlines()) == 2

    elements = [re.sub(r'(id="data">).*?(?=</script>)', r"\1", page, flags=re.DOTALL) for page in pages]
    assert elements[0].replace("<li><b>1</b> with a problem</li>", "") == elements[1]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1"])
def test_a_spreadsheet_finds_no_formula(tmp_path: Path, name: str) -> None:
    """The CSV file is opened in one sooner or later."""
    write_inventory(inventory(entry(name=name, tags=(name,))), tmp_path / "i.csv")

    (row,) = rows(tmp_path / "i.csv")
    assert row["name"][0] in "'\\"
    assert row["tags"][0] in "'\\"


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    """What is no format is refused by its name before anything is asked of a bucket, and nothing else is left there."""
    file = tmp_path / "i.html"
    write_inventory(inventory(), file)
    before = file.read_bytes()

    for path, said in ((tmp_path / "i.xlsx", r"ends with \.json, \.csv"), (tmp_path / "no" / "i.csv", "no folder")):
        with pytest.raises(SettingsError, match=said):
            write_inventory(inventory(), path)
    (tmp_path / "i.csv").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_inventory(inventory(), tmp_path / "i.csv")

    assert file.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["home", "i.csv", "i.html"]


def test_parquet_without_its_extra_is_told_how_to_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; the other formats need nothing."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(SettingsError, match=r"pip install 'dtool-ecs-flows\[parquet\]'"):
        write_inventory(inventory(), tmp_path / "i.parquet")
    write_inventory(inventory(), tmp_path / "i.csv")


def test_a_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    """No address but those of datasets is in it, and its own policy lets a browser load nothing."""
    write_inventory(inventory(entry()), tmp_path / "i.html")

    text = (tmp_path / "i.html").read_text("utf-8")
    assert set(re.findall(r"\w+://[^\s\"'<]+", text)) == {
        "ecs://my-bucket",
        "ecs://my-bucket/b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10",
        "http://www.w3.org/2000/svg",
    }
    assert "default-src 'none'" in text
