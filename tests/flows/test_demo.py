"""The demo: it works, a second time too, and leaves nothing behind, also when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo in a session of its own, with a folder for its temporary files, at a site with a proxy."""
    outside = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    proxies = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "demo" / "run.py"), *arguments],
        cwd=tmp_path,
        env={**outside, **proxies, "TMPDIR": str(tmp_path), "DEMO_MARK": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_behind(tmp_path: Path) -> list[str]:
    """Return the command lines of all processes that inherited this demo's environment and still run."""
    mark = f"DEMO_MARK={tmp_path}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def assert_nothing_is_left(tmp_path: Path) -> None:
    deadline = time.monotonic() + 60
    while left_behind(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_behind(tmp_path)
    assert not list(tmp_path.glob("dtool-ecs-flows*"))


def test_the_main_job_runs_twice_and_leaves_nothing(tmp_path: Path) -> None:
    """Two runs in a row tell the whole story with the penguins, and no process and no file stays."""
    for _ in range(2):
        process = demo(tmp_path)
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
        for word in ("copied", "already there", "no finding", "equal byte by byte", "Gentoo", "All of it worked"):
            assert word in said
        assert " | INFO " not in said
        assert "Traceback" not in said
        assert_nothing_is_left(tmp_path)


def test_it_takes_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Any folder of files does."""
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "ä b.txt").write_text("x")
    (folder / "empty.dat").touch()
    process = demo(tmp_path, "--data", str(folder))
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "2 files came back" in said
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["1 ", "3 "])
def test_stopping_it_leaves_nothing(tmp_path: Path, number: signal.Signals, stage: str) -> None:
    """Ctrl-C and SIGTERM end it soon, at the start and in a flow, and its servers with it."""
    process = demo(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(stage):
            break
    time.sleep(1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "Stopped" in said
    assert_nothing_is_left(tmp_path)
