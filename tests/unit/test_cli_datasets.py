"""`copy`, `ls` and `verify` at a terminal: what they print, and the status that they end with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dtool_ecs_flows import CopyReport, DatasetList, VerifyReport
from dtool_ecs_flows.cli import COMMANDS, ends, main
from dtool_ecs_flows.store import failures
from tests.independent import CONTENTS, disk_dataset, disk_path, everything, files_below, identifier
from tests.unit.machine import SECRET, Machine, keys

Run = Callable[..., Result]

UUID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def run() -> Run:
    """Run the command in this process; nothing that it prints is a traceback or holds a secret."""

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert SECRET not in result.output
        assert "Traceback" not in result.output
        assert isinstance(result.exception, (SystemExit, type(None)))
        return result

    return run


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A frozen dataset on the disk."""
    return disk_dataset(tmp_path / "in", CONTENTS)


class TestHelpAndCompletion:
    HEAVY = ("prefect", "boto3", "botocore", "obstore", "pydantic", "dtoolcore", "rich", "stamina")

    def imported(self, arguments: Sequence[str], **environment: str) -> str:
        """Run the command in a process of its own, and return what it prints, and of what it imported the heavy."""
        program = (
            "import sys\nfrom dtool_ecs_flows.cli import main\n"
            f"try: main({list(arguments)}, prog_name='decs')\n"
            f"finally: print([name for name in {self.HEAVY} if name in sys.modules])"
        )
        run = [sys.executable, "-c", program]
        return subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout

    @pytest.mark.parametrize("command", ["", *(command.name for command in COMMANDS)])
    def test_nothing_heavy_is_imported_for_help(self, command: str) -> None:
        """Nobody waits for Prefect or an S3 client to be told how a command is called."""
        said = self.imported([command, "--help"] if command else ["--help"])

        assert said.startswith("Usage: decs")
        assert said.endswith("\n[]\n")

    @pytest.mark.parametrize(("typed", "offered"), [("v", ["verify"]), ("doctor --re", ["--read-only"])])
    def test_nothing_heavy_is_imported_for_completion(self, typed: str, offered: list[str]) -> None:
        """Commands and options complete themselves in bash, at once."""
        words = f"decs {typed}"
        said = self.imported(
            [], _DECS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
        )

        assert said.splitlines() == [*(f"plain,{word}" for word in offered), "[]"]

    def test_the_help_tells_every_status(self, run: Run) -> None:
        """A program that reads the status finds its meaning where it looks first."""
        said = " ".join(run("--help").output.split())

        for status, meaning in ends.STATUSES.items():
            assert f"{status} {meaning}" in said


class TestCopy:
    def test_a_dataset_is_copied_and_the_second_time_compared(self, run: Run, uri: str, tmp_path: Path) -> None:
        """What was done is said in two lines, and where the copy is."""
        (tmp_path / "out").mkdir()

        first, second = run("copy", uri, tmp_path / "out"), run("copy", uri, tmp_path / "out")

        assert (first.exit_code, second.exit_code) == (0, 0)
        name, copy, what = first.stdout.split("\n")[0].split()[0], first.stdout.split()[2], first.stdout.split("\n")[1]
        assert (name, what) == ("penguins", f"{len(CONTENTS)} items copied, 371 B, each byte hashed")
        assert everything(copy) == everything(uri)
        assert second.stdout.split("\n")[1].startswith(f"it was there: {len(CONTENTS)} items compared")

    def test_programs_read_json_or_the_uri_alone(self, run: Run, uri: str, tmp_path: Path) -> None:
        """The report as the Python function returns it; with --quiet there is one line, and no progress."""
        (tmp_path / "out").mkdir()

        report = CopyReport.model_validate_json(run("copy", uri, tmp_path / "out", "--json").stdout)
        quiet = run("copy", uri, tmp_path / "out", "--quiet")

        assert report.copied_items == len(CONTENTS)
        assert (quiet.stdout, quiet.stderr) == (f"{report.uri}\n", "")

    def test_what_differs_is_named_and_updated_when_asked_for(self, run: Run, uri: str, tmp_path: Path) -> None:
        """A frozen copy keeps its README until --update-metadata."""
        (tmp_path / "out").mkdir()
        copy = run("copy", uri, tmp_path / "out", "-q").stdout.strip()
        (disk_path(copy) / "README.yml").write_text("---\ndescription: older\n")

        told, updated = (run("copy", uri, tmp_path / "out", *more) for more in ((), ("--update-metadata",)))

        assert "differs there: README.yml; " in told.stdout
        assert "updated there: README.yml\n" in updated.stdout
        assert "differs there" not in updated.stdout

    def test_what_the_source_has_damaged_is_an_error_of_status_1(self, run: Run, uri: str, tmp_path: Path) -> None:
        """One line that names the item; nothing is frozen."""
        (tmp_path / "out").mkdir()
        (disk_path(uri) / "data" / "table.csv").write_bytes(b"a,b\n1,3\n")

        result = run("copy", uri, tmp_path / "out", "--quiet")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: 1 of 12 items failed")
        assert "'table.csv' is corrupt" in result.stderr
        assert result.stderr.count("\n") == 1


class TestLs:
    def test_a_table_names_each_dataset(self, run: Run, tmp_path: Path) -> None:
        """Frozen or not, with its tags where they are asked for."""
        folder = tmp_path / "in"
        for name, frozen in (("zebra", True), ("ape", False)):
            disk_dataset(folder, {"a": b"1"}, name=name, freeze=frozen)

        head, *rows, count = run("ls", folder).stdout.splitlines()
        tagged = run("ls", folder, "--tags").stdout

        assert head.split() == ["NAME", "UUID", "STATE", "CREATOR", "FROZEN", "AT", "(UTC)"]
        assert [(row.split()[0], row.split()[2]) for row in rows] == [("ape", "proto"), ("zebra", "frozen")]
        assert count == f"2 datasets in {folder}"
        assert "raw v1.2" in tagged

    def test_programs_read_json(self, run: Run, uri: str, tmp_path: Path) -> None:
        """The report as the Python function returns it."""
        report = DatasetList.model_validate_json(run("ls", tmp_path / "in", "--json").stdout)

        assert [dataset.uuid for dataset in report.datasets] == [everything(uri)["admin"]["uuid"]]

    def test_a_name_is_no_command_to_the_terminal(self, run: Run, uri: str, tmp_path: Path) -> None:
        """Names come from strangers: what cannot be seen is spelled out."""
        admin = disk_path(uri) / ".dtool" / "dtool"
        admin.write_text(json.dumps({**json.loads(admin.read_text()), "creator_username": "\x1b[31mred\n[bold]"}))

        assert "\\x1b[31mred\\n[bold]" in run("ls", tmp_path / "in").stdout


class TestVerify:
    def test_a_dataset_that_is_well_has_status_0(self, run: Run, uri: str) -> None:
        """And what was read is said; with --no-read, that nothing was."""
        read, unread = run("verify", uri), run("verify", uri, "--no-read")

        assert (read.exit_code, unread.exit_code) == (0, 0)
        assert read.stdout == f"{uri}: 12 items, 371 B read and hashed, no finding\n"
        assert "not read" in unread.stdout

    def test_findings_have_status_1_and_the_other_datasets_are_read_all_the_same(
        self, run: Run, uri: str, tmp_path: Path
    ) -> None:
        """Each finding is a row: what kind it is, which item, what is wrong."""
        other = disk_dataset(tmp_path / "other", {"a": b"1"})
        path = disk_path(uri) / "data" / "table.csv"
        path.write_bytes(b"a,b\n1,3\n")

        result = run("verify", uri, f"file://{tmp_path}/nothing", other)

        assert result.exit_code == 1
        assert f"{uri}: 12 items, 371 B read and hashed, 1 finding\n" in result.stdout
        assert "corrupt  table.csv  item 'table.csv' is corrupt" in result.stdout
        assert f"{other}: 1 item, 1 B read and hashed, no finding\n" in result.stdout
        assert f"Error: file://{tmp_path}/nothing" in result.stderr

    def test_programs_read_a_line_of_json_for_each(self, run: Run, uri: str, tmp_path: Path) -> None:
        """Also for what is no dataset."""
        result = run("verify", "--json", uri, f"file://{tmp_path}/nothing")

        good, bad = result.stdout.splitlines()
        assert VerifyReport.model_validate_json(good).ok
        assert (json.loads(bad)["ok"], json.loads(bad)["uri"]) == (False, f"file://{tmp_path}/nothing")
        assert result.exit_code == 1


@pytest.mark.parametrize(
    "command", [["copy", "{uri}", "{bucket}"], ["ls", "{bucket}"], ["verify", f"{{bucket}}/{UUID}"]]
)
class TestStatuses:
    """The same wherever a bucket is used."""

    def arguments(self, command: list[str], uri: str, bucket: str = "ecs://my-bucket") -> list[str]:
        return [word.format(uri=uri, bucket=bucket) for word in command]

    def test_a_setting_that_is_missing_is_2(self, run: Run, uri: str, command: list[str]) -> None:
        """One line that names it."""
        result = run(*self.arguments(command, uri))

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: DTOOL_ECS_ENDPOINT_my-bucket")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("bucket", "said"),
        [("ecs://my-bucket/folder", "folder"), ("ecs:my-bucket", "is not of the form ecs://bucket")],
    )
    def test_a_uri_that_can_be_none_is_2(self, run: Run, uri: str, command: list[str], bucket: str, said: str) -> None:
        """As any wrong command line, with how it should be."""
        result = run(*self.arguments(command, uri, bucket=bucket))

        assert result.exit_code == 2
        assert "Usage: " in result.stderr
        assert said in result.stderr

    @pytest.mark.parametrize(("given", "said"), [("", "an empty text names no place"), ("file://", "names no folder")])
    @pytest.mark.parametrize("place", [0, -1])
    def test_a_variable_that_is_not_set_is_2(
        self, run: Run, uri: str, command: list[str], *, place: int, given: str, said: str
    ) -> None:
        """`decs copy "$URI" "$FOLDER"` takes neither for the current folder, nor does `file://$FOLDER`."""
        arguments = self.arguments(command, uri)[1:]
        arguments[place] = given

        result = run(command[0], *arguments)

        assert (result.exit_code, said in result.stderr) == (2, True)

    def test_a_store_that_does_not_answer_is_3(
        self, run: Run, machine: Machine, uri: str, command: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line that names the endpoint and the file that it comes from."""
        monkeypatch.setattr(failures, "FIRST_BUDGET", 0.0)
        machine.file(keys("my-bucket", **{"DTOOL_ECS_ENDPOINT_my-bucket": "http://127.0.0.1:9"}))

        result = run(*self.arguments(command, uri))

        assert (result.exit_code, result.stdout) == (3, "")
        assert "http://127.0.0.1:9" in result.stderr
        assert str(machine.config) in result.stderr


def test_a_dataset_with_a_name_that_must_not_be_written_is_no_wrong_command_line(
    run: Run, uri: str, tmp_path: Path
) -> None:
    """A manifest that leaves its folder is damage, of status 1, and writes nothing."""
    manifest = disk_path(uri) / ".dtool" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["items"][identifier("../up")] = {**document["items"][identifier("empty")], "relpath": "../up"}
    manifest.write_text(json.dumps(document))
    (tmp_path / "out").mkdir()

    result = run("copy", uri, tmp_path / "out", "--quiet")

    assert result.exit_code == 1
    assert "../up" in result.stderr
    assert files_below(tmp_path / "out") == {}
