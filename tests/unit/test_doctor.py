"""`doctor` on a user's machine: what can be seen before a store is asked, and how it looks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from click.testing import CliRunner

from dtool_ecs_flows.cli import main
from dtool_ecs_flows.doctor import Step, examine
from tests.independent import disk_dataset
from tests.unit.machine import SECRET, Machine, keys

NOBODY = {"DTOOL_ECS_ENDPOINT_my-bucket": "http://127.0.0.1:9"}


def steps_of(bucket: str = "my-bucket") -> list[Step]:
    steps = list(examine(bucket))
    assert SECRET not in repr(steps)
    return steps


def said(steps: list[Step], name: str, state: str) -> str:
    return "\n".join(step.found for step in steps if (step.name, step.state) == (name, state))


def test_each_setting_is_told_with_its_origin(machine: Machine) -> None:
    """Also where file and environment are mixed; of the secret, that it is set, and by what."""
    path = machine.file(keys("my-bucket", **NOBODY))
    machine.environment({"DTOOL_ECS_DATASET_PREFIX_my-bucket": "u/olssont"})

    step = steps_of()[0]

    assert (step.name, step.state) == ("settings", "ok")
    assert set(step.details) == {
        f"endpoint: http://127.0.0.1:9 (from {path}: DTOOL_ECS_ENDPOINT_my-bucket)",
        f"access_key_id: olssont (from {path}: DTOOL_ECS_ACCESS_KEY_ID_my-bucket)",
        f"secret_access_key: (set, not shown) (from {path}: DTOOL_ECS_SECRET_ACCESS_KEY_my-bucket)",
        "dataset_prefix: u/olssont/ (from environment variable DTOOL_ECS_DATASET_PREFIX_my-bucket)",
    }


def test_a_file_that_others_can_read_and_a_misspelt_key(machine: Machine) -> None:
    """Each is a warning with what to do."""
    file = keys("my-bucket", **NOBODY)
    file["DTOOL_ECS_ACCESS_KEY_my-bucket"] = file.pop("DTOOL_ECS_ACCESS_KEY_ID_my-bucket")
    path = machine.file(file, mode=0o644)

    told = said(steps_of(), "settings", "warning")

    assert f"chmod 600 {path}" in told
    assert "DTOOL_ECS_ACCESS_KEY_my-bucket is misspelt" in told


@pytest.mark.parametrize("content", ["{", {}, keys("my-bucket", **{"DTOOL_ECS_ENDPOINT_my-bucket": "nas:9020"})])
def test_settings_that_are_broken(machine: Machine, content: Any) -> None:
    """They are what failed; the plugins are looked at all the same, and nothing else is tried."""
    machine.file(content)

    steps = steps_of()

    assert [step.name for step in steps if step.state == "failed"] == ["settings"]
    assert [step.name for step in steps if step.state == "ok"] == ["plugins"]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a package dtool-ecs whose broker is in such a module."""

    def install(entry: str, module: str) -> None:
        folder = tmp_path / "packages"
        about = folder / "dtool_ecs-0.5.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dtool-ecs\nVersion: 0.5.0\n")
        (about / "entry_points.txt").write_text(
            f"[dtool.storage_brokers]\n{entry} = dtool_ecs_of_test:ECSStorageBroker\n"
        )
        (folder / "dtool_ecs_of_test.py").write_text(module)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "dtool_ecs_of_test", raising=False)

    return install


@pytest.mark.parametrize("entry", ["ecs", "ECSStorageBroker"])
def test_two_packages_that_serve_ecs(machine: Machine, install: Callable[[str, str], None], entry: str) -> None:
    """Both are named, and which one dtoolcore takes."""
    machine.file(keys("my-bucket", **NOBODY))
    install(entry, "class ECSStorageBroker: key = 'ecs'")

    told = said(steps_of(), "plugins", "warning")

    assert "dtool-ecs" in told.replace("dtool-ecs-flows", "")
    assert "dtool-ecs-flows" in told
    assert "dtoolcore takes" in told


def test_a_broken_plugin(machine: Machine, install: Callable[[str, str], None]) -> None:
    """It is named, with its package and what is wrong."""
    machine.file(keys("my-bucket", **NOBODY))
    install("rusty", "import a_library_that_is_gone")

    told = said(steps_of(), "plugins", "failed")

    assert "package dtool-ecs" in told
    assert "a_library_that_is_gone" in told


def test_what_is_skipped_for_one_reason_is_one_row(machine: Machine) -> None:
    """A person reads what matters; each step is still there for programs."""
    machine.file(keys("my-bucket", **NOBODY))

    result = CliRunner().invoke(main, ["doctor", "ecs://my-bucket"])

    assert result.exit_code == 1
    assert SECRET not in result.output
    rows = [line for line in result.stdout.splitlines() if line[0] != " "]
    assert [row.split()[0] for row in rows] == ["ok", "ok", "failed", "skipped", "1"]
    assert rows[-1] == "1 step failed"


COMMAND = ("-m", "dtool_ecs_flows.cli")


def at_a_terminal(*arguments: str, columns: int, program: Sequence[str] = COMMAND) -> str:
    """Run the command, or another program, at a terminal of so many columns, and return what it shows there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "50"}
    with subprocess.Popen([sys.executable, *program, *arguments], stdout=theirs, env=environment):
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return shown.decode()


@pytest.mark.slow
def test_a_terminal_gets_colours_and_is_not_overrun(machine: Machine, tmp_path: Path) -> None:
    """States have a colour, text is folded in its column, and a UUID stays whole for who copies it."""
    machine.file(keys("my-bucket", **NOBODY))
    uri = disk_dataset(tmp_path / "in", {"a": b"1"}, name="penguins-of-the-palmer-archipelago")

    diagnosis = at_a_terminal("doctor", "my-bucket", columns=100)
    listing = at_a_terminal("ls", str(tmp_path / "in"), columns=100)

    assert "\x1b[1;31mfailed" in diagnosis
    assert Path(uri).name not in listing  # folded
    assert dtoolcore.DataSet.from_uri(uri).uuid in listing


def test_a_narrow_terminal_loses_nothing(tmp_path: Path) -> None:
    """Where a table does not fit, each name has a line of its own, and nothing is cut or folded."""
    uri = disk_dataset(tmp_path / "in", {"a": b"1"}, name="penguins-of-the-palmer-archipelago")

    shown = at_a_terminal("ls", str(tmp_path / "in"), columns=80).splitlines()

    assert shown[2] == "penguins-of-the-palmer-archipelago"
    assert shown[3].split()[:2] == [dtoolcore.DataSet.from_uri(uri).uuid, "frozen"]
    assert max(map(len, shown[:4])) < 80


WIDE = "\N{CJK UNIFIED IDEOGRAPH-96EA}" * 30
PRINT = "import sys; from dtool_ecs_flows.cli import show; show.table(['name', 'when'], [sys.argv[1:]], whole=['name'])"


def test_letters_that_are_two_columns_wide_count_twice() -> None:
    """Else a table would be drawn that does not fit, and cut."""
    narrow, wide = [at_a_terminal(WIDE, "2 o'clock", columns=n, program=["-c", PRINT]).splitlines() for n in (70, 80)]

    assert narrow == ["name", "  when", WIDE, "  2 o'clock"]
    assert f" {WIDE}   2 o'clock " in wide
