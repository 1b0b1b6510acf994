"""A dataset that is written to a disk, where writing goes wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.datasets import names
from dtool_ecs_flows.datasets.names import Folding
from dtool_ecs_flows.errors import UnsafeNameError
from tests.independent import disk_dataset, disk_path, files_below, noise

pytest.importorskip("resource")

COPY_WITH_LITTLE_ROOM = """
import resource, sys
from dtool_ecs_flows import copy_dataset
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
copy_dataset(sys.argv[1], sys.argv[2])
"""


def test_a_file_that_could_not_be_written_whole_has_no_final_name(tmp_path: Path) -> None:
    """A write that takes a part of the bytes and says nothing, as on a disk that gets full, is noticed at once."""
    source = disk_dataset(tmp_path / "in", {"large.bin": noise(1_500_000), "small": b"1"})
    (tmp_path / "out").mkdir()

    command = [sys.executable, "-c", COPY_WITH_LITTLE_ROOM, source, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "1 of 2 items failed" in done.stderr
    assert list(files_below(tmp_path / "out" / disk_path(source).name / "data")) == ["small"]


# --- names that a disk does not tell apart: a share of Windows, a memory stick, a disk of macOS ---

CASE, FORM = Folding(case=True, form=False), Folding(case=False, form=True)
BOTH = Folding(case=True, form=True)


@pytest.mark.parametrize(
    ("folding", "pair"),
    [
        (CASE, ("A.txt", "a.txt")),
        (CASE, ("deep/\u00c4", "deep/\u00e4")),
        (FORM, ("caf\u00e9", "cafe\u0301")),
        (BOTH, ("CAF\u00c9", "cafe\u0301")),
        (CASE, ("Raw/1", "raw/2")),
        (CASE, ("x/Raw/deep/1", "x/raw/deep/2")),
        (CASE, ("Raw", "raw/1")),
    ],
)
def test_relpaths_that_are_one_there_are_refused_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folding: Folding, pair: tuple[str, str]
) -> None:
    """Two files, two folders, or a file and a folder; both are named, and nothing is written."""
    source = disk_dataset(tmp_path / "in", {pair[0]: b"1", "between": b"", pair[1]: b"2"})
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(names, "folding_in", lambda _: folding)

    with pytest.raises(UnsafeNameError) as caught:
        copy_dataset(source, str(tmp_path / "out"))

    assert all(repr(relpath) in str(caught.value) for relpath in pair)
    assert list((tmp_path / "out").iterdir()) == []


def test_relpaths_that_this_disk_tells_apart_come_back(tmp_path: Path) -> None:
    """Whether it does is tried out in the folder itself, which shows nothing of it afterwards."""
    contents = {"A": b"1", "a": b"2", "\u00e9": b"3", "e\u0301": b"4", "Raw/1": b"5", "raw/1": b"6"}
    source = disk_dataset(tmp_path / "in", contents)
    (tmp_path / "out").mkdir()

    assert names.folding_in(tmp_path / "out") == Folding(case=False, form=False)
    assert list((tmp_path / "out").iterdir()) == []
    copy_dataset(source, str(tmp_path / "out"))

    (copied,) = (tmp_path / "out").iterdir()
    assert files_below(copied / "data") == contents


def test_nothing_is_tried_out_where_no_names_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most datasets have none, and are written as ever."""
    monkeypatch.setattr(names, "folding_in", lambda _: pytest.fail("tried out"))
    (tmp_path / "out").mkdir()
    copy_dataset(disk_dataset(tmp_path / "in", {"a/1": b"1", "a/2": b"2", "b": b""}), str(tmp_path / "out"))
