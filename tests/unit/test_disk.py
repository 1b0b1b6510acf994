"""A dataset that is written to a disk, where writing goes wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
