"""The command `dtool-ecs-flows`: what it prints, what it saves, and how it says that something went wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from dtool_ecs_flows.cli import main
from tests.unit.machine import SECRET, Machine, keys, record

pytestmark = pytest.mark.usefixtures("machine")

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the command in this process; whatever it prints must not hold a secret."""

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, arguments)
        assert SECRET not in result.output
        assert "Traceback" not in result.output
        return result

    return run


def run_apart(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "dtool_ecs_flows.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


class TestAtATerminal:
    def test_it_is_installed_under_its_name(self) -> None:
        """The package brings the command, and the command tells the package's version."""
        command = os.path.join(os.path.dirname(sys.executable), "dtool-ecs-flows")
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)

        assert done.stdout.startswith("dtool-ecs-flows, version ")

    @pytest.mark.parametrize(
        "arguments", [["nonsense"], ["blocks", "import", "--nonsense"], ["blocks", "import", "--config", "/nowhere"]]
    )
    def test_a_wrong_command_line_ends_with_status_2(self, run: Run, arguments: list[str]) -> None:
        """And says how it should be."""
        result = run(*arguments)

        assert result.exit_code == 2
        assert "Usage:" in result.output

    def test_every_command_explains_itself(self, run: Run) -> None:
        """--help at every level tells of all that is there."""
        assert "blocks" in run("--help").output
        assert {"register", "import"} <= set(run("blocks", "-h").output.split())
        assert {"--config", "--bucket", "--overwrite", "--dry-run"} <= set(
            run("blocks", "import", "-h").output.replace(",", " ").split()
        )


class TestWhatWouldBeImported:
    """`--dry-run` asks no server."""

    @pytest.fixture(autouse=True)
    def no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever asks a server all the same, fails."""
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    def test_it_names_each_bucket_and_its_block(self, run: Run, machine: Machine) -> None:
        """One line for each bucket of the file, and of the file only."""
        machine.file(keys("my-bucket") | keys("Crystals.2"))
        machine.environment(keys("only-in-the-environment"))

        result = run("blocks", "import", "--dry-run")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "bucket Crystals.2 at https://ecs.example.org:9021: would be saved as block ecs-bucket/crystals-2",
            "bucket my-bucket at https://ecs.example.org:9021: would be saved as block ecs-bucket/my-bucket",
        ]

    def test_buckets_and_the_file_can_be_chosen(self, run: Run, machine: Machine) -> None:
        """--bucket may be given several times."""
        other = machine.home / "other.json"
        other.write_text(json.dumps(keys("b-1") | keys("b-2") | keys("b-3")))
        other.chmod(0o600)

        result = run("blocks", "import", "--dry-run", "--config", str(other), "--bucket", "b-3", "--bucket", "b-1")

        assert [line.split()[1] for line in result.output.splitlines()] == ["b-3", "b-1"]

    def test_one_broken_bucket_does_not_hide_the_others(self, run: Run, machine: Machine) -> None:
        """What is wrong with it is said, the others are done, and the status is 1."""
        machine.file(keys("good") | {"DTOOL_ECS_ENDPOINT_bad": "nas:9020"})

        result = run("blocks", "import", "--dry-run")

        assert result.exit_code == 1
        assert result.stdout.startswith("bucket good at")
        assert result.stderr == (
            "Error: bucket bad: DTOOL_ECS_ACCESS_KEY_ID_bad, DTOOL_ECS_SECRET_ACCESS_KEY_bad are not set: "
            f"looked in {machine.config}; endpoint of bucket 'bad' ({machine.config}: DTOOL_ECS_ENDPOINT_bad): "
            "'nas:9020' has no scheme; write http://host:port or https://host:port\n"
            "Error: 1 of 2 buckets failed\n"
        )

    def test_two_buckets_that_would_share_a_block(self, run: Run, machine: Machine) -> None:
        """Both are named, nothing is done, and one of them can still be imported by its name."""
        machine.file(keys("my.bucket") | keys("my-bucket"))

        result = run("blocks", "import", "--dry-run")

        assert result.exit_code == 2
        assert result.stdout == ""
        assert "'my-bucket' and 'my.bucket' would both become block 'my-bucket'" in result.stderr
        assert run("blocks", "import", "--dry-run", "--bucket", "my.bucket").exit_code == 0

    @pytest.mark.parametrize("content", [None, {}, {"DTOOL_USER_EMAIL": "a@example.org"}])
    def test_nothing_to_import_is_an_error(self, run: Run, machine: Machine, content: dict[str, Any] | None) -> None:
        """A file that is not there, or holds no bucket, is named."""
        if content is not None:
            machine.file(content)

        result = run("blocks", "import")

        assert result.exit_code == 2
        assert result.stderr == (
            f"Error: {machine.config} holds no bucket, or is not there; name another file with --config\n"
        )

    def test_a_broken_file_is_one_line_on_stderr(self, machine: Machine) -> None:
        """No traceback, in a process of its own as well."""
        machine.file('{"DTOOL_ECS_SECRET_ACCESS_KEY_b": "' + SECRET)

        done = run_apart("blocks", "import")

        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Error: {machine.config} is not JSON: ")
        assert done.stderr.count("\n") == 1
        assert SECRET not in done.stderr

    def test_warnings_are_lines_as_well(self, machine: Machine) -> None:
        """An open file and a misspelt key are said in words, without lines of code."""
        file = keys("b-1") | {"DTOOL_ECS_ACCESS_KEY_b-1": "olssont"}
        del file["DTOOL_ECS_ACCESS_KEY_ID_b-1"]
        machine.file(file, mode=0o644)

        done = run_apart("blocks", "import", "--dry-run")

        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            f"Warning: {machine.config} holds a secret and is open to others: chmod 600 {machine.config}",
            f"Warning: {machine.config}: DTOOL_ECS_ACCESS_KEY_b-1 is misspelt: call it DTOOL_ECS_ACCESS_KEY_ID_b-1",
        ]

    def test_a_server_that_does_not_answer_is_named(self, machine: Machine) -> None:
        """One line with its address, and at once instead of once for each bucket."""
        machine.file(keys("b-1") | keys("b-2"))

        for command in (["blocks", "register"], ["blocks", "import"]):
            done = run_apart(*command)

            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith("Error: the Prefect server, http://127.0.0.1:9/api, did not do it: ")
            assert done.stderr.count("\n") == 1


class TestImport:
    def load(self, name: str) -> Any:
        from dtool_ecs_flows.blocks import EcsBucket

        return cast(EcsBucket, EcsBucket.load(name)).settings()

    def test_the_block_type_is_registered(self, run: Run, prefect_server: str) -> None:
        """As often as one likes."""
        for _ in range(2):
            result = run("blocks", "register")

            assert result.exit_code == 0
            assert result.output == f"registered block type ecs-bucket on {prefect_server}\n"

    def test_every_bucket_becomes_a_block(self, run: Run, machine: Machine, prefect_server: str) -> None:
        """Flows on other machines then find in the block what stood in this dtool.json."""
        machine.file(keys("one.x", **{"DTOOL_ECS_DATASET_PREFIX_one.x": "u/me"}) | keys("TWO"))

        result = run("blocks", "import")

        assert result.exit_code == 0
        assert result.output.splitlines() == [
            "bucket TWO at https://ecs.example.org:9021: saved as block ecs-bucket/two",
            "bucket one.x at https://ecs.example.org:9021: saved as block ecs-bucket/one-x",
            f"done, on {prefect_server}",
        ]
        assert self.load("one-x") == record("one.x", dataset_prefix="u/me")
        assert self.load("two") == record("TWO")

    @pytest.mark.usefixtures("prefect_server")
    def test_it_can_run_again(self, run: Run, machine: Machine) -> None:
        """The same values: nothing to do. Other values: an error, or replaced when asked for."""
        machine.file(keys("again"))
        run("blocks", "import")

        same = run("blocks", "import")
        machine.file(keys("again", DTOOL_ECS_SECRET_ACCESS_KEY_again="a-new-one"))
        refused = run("blocks", "import")
        replaced = run("blocks", "import", "--overwrite")

        assert same.exit_code == 0
        assert "bucket again at https://ecs.example.org:9021: is already in block ecs-bucket/again" in same.output
        assert refused.exit_code == 1
        assert "block ecs-bucket/again holds other values; replace them with --overwrite" in refused.stderr
        assert replaced.exit_code == 0
        assert "replaced block ecs-bucket/again" in replaced.output
        assert self.load("again").secret_access_key.get_secret_value() == "a-new-one"

    @pytest.mark.usefixtures("prefect_server")
    def test_the_block_of_another_bucket_is_never_overwritten(self, run: Run, machine: Machine) -> None:
        """Also not with --overwrite, when one after the other is imported."""
        machine.file(keys("same.name") | keys("same-name"))
        assert run("blocks", "import", "--bucket", "same.name").exit_code == 0

        result = run("blocks", "import", "--bucket", "same-name", "--overwrite")

        assert result.exit_code == 1
        assert "block ecs-bucket/same-name is of another bucket, same.name; it is left alone" in result.stderr
        assert self.load("same-name").bucket == "same.name"


STOPPED_TWICE = """
import os, signal, sys
from dtool_ecs_flows.cli import ends
copied = open(sys.argv[1], "wb")  # file 2, where stderr is closed
with ends.stopping("nothing was changed") as stop:
    os.kill(os.getpid(), signal.{})
    stop.wait(60)
    os.kill(os.getpid(), signal.{})
print("ended in good order")  # each signal was heard before: what leaves `stopping` waits for that
"""


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGINT", 130), ("SIGTERM", "SIGTERM", 0), ("SIGINT", "SIGTERM", 0)],
)
@pytest.mark.parametrize("stderr", ["read", "closed", "left by its reader"])
def test_a_second_stop(first: str, second: str, status: int, stderr: str, tmp_path: Path) -> None:
    """Ctrl-C waits for nothing then, whoever reads; SIGTERM does: `timeout` sends it twice and means one stop."""
    reader, writer = os.pipe()
    if stderr == "left by its reader":
        os.close(reader)
    command = [sys.executable, "-c", STOPPED_TWICE.format(first, second), str(tmp_path / "copied")]
    if stderr == "closed":
        command = ["sh", "-c", 'exec "$0" "$@" 2>&-', *command]

    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, check=False, timeout=120)

    assert (done.returncode, done.stdout) == (status, b"" if status else b"ended in good order\n")
    assert (tmp_path / "copied").read_bytes() == b""
    os.close(writer)
    if stderr == "read":
        assert os.read(reader, 1000).startswith(b"stopping; ")
    if stderr != "left by its reader":
        os.close(reader)
