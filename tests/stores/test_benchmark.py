"""The benchmark of other stores works, with next to no data. How fast anything is says nothing here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers import OtherServer, S3Server
from tests.servers.supervisor import ROOT


def test_each_direction_is_measured(rgw: S3Server, other_server: Callable[[str], OtherServer], tmp_path: Path) -> None:
    """dtoolcore's own copy and ours, from and to each store that a target is set for."""
    for name in ("samba", "azurite"):
        other_server(name)  # or it is skipped
    page = tmp_path / "page.md"
    options = ("--items", "3", "--rounds", "1", "--latency", "1", "--output", str(page))

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stores", *options],
        cwd=ROOT,
        env={**os.environ, "TEST_RGW": rgw.to_json()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in page.read_text("utf-8").splitlines() if " × (" in line]
    assert rows == ["from http", "to azure", "from azure", "to smb", "from smb"]
