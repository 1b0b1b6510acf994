"""`decs serve`: what it understands of a prefect.yaml, and a small site that it serves."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prefect import Flow

from dtool_ecs_flows import BucketSettings, create_dataset, flows, list_datasets
from dtool_ecs_flows.cli import main
from tests.conformance.helpers import environment
from tests.flows.site import ROOT, Site, ask, prefect_site, save_block
from tests.servers.supervisor import free_ports

MODULES = [*pkgutil.iter_modules(flows.__path__)]
ARCHIVE = "dtool_ecs_flows.flows.archive.archive"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert "Traceback" not in result.output
    return result


def written(folder: Path, text: str) -> str:
    file = folder / "prefect.yaml"
    file.write_text(text)
    return str(file)


class TestWhatWouldBeServed:
    """`--dry-run` asks no server."""

    def test_the_file_that_is_deployed_is_served_as_well(self) -> None:
        """All of the deployments that this project ships, with their schedules."""
        result = run(str(ROOT / "deployments" / "prefect.yaml"), "--dry-run")

        assert result.exit_code == 0
        rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
        assert {"archive/archive-nightly", "inventory/inventory", "audit/audit-daily"} <= rows.keys()
        assert "0 2 * * * Etc/UTC" in rows["archive/archive-nightly"]
        assert "0 6 * * 1 Etc/UTC" in rows["inventory/inventory"]
        assert "when asked for" in rows["retrieve/retrieve"]
        assert run(str(ROOT / "deployments" / "archives.yaml"), "--dry-run").exit_code == 0

    def test_without_a_file_it_is_each_flow(self) -> None:
        """For people, in the UI: no schedule, no parameter."""
        result = run("--dry-run", "--json")

        deployments = json.loads(result.stdout)["deployments"]
        modules = {module.name: importlib.import_module(f"{flows.__name__}.{module.name}") for module in MODULES}
        there = {name for name, module in modules.items() if isinstance(getattr(module, name, None), Flow)}
        assert {each["name"] for each in deployments} == there
        assert not any(each["parameters"] or each["schedules"] for each in deployments)

    def test_some_can_be_chosen(self) -> None:
        """By name; a name that is not there is an error that names those that are."""
        file = str(ROOT / "deployments" / "prefect.yaml")

        chosen, unknown = run(file, "--dry-run", "--only", "retrieve"), run(file, "--dry-run", "--only", "retreive")

        assert [line.split()[0] for line in chosen.stdout.splitlines()[1:]] == ["retrieve/retrieve"]
        assert (unknown.exit_code, "retreive among archive-nightly" in unknown.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "cannot be read"),
            ("[]", "no list of deployments"),
            ("deployments: []", "no list of deployments"),
            ("deployments: [{name: a}]", "deployment a: entrypoint: Field required"),
            (f"deployments: [{{name: a, entrypoint: {ARCHIVE}, scheduls: []}}]", "scheduls: Extra inputs"),
            (f"deployments: [{{name: a, entrypoint: {ARCHIVE}, triggers: []}}]", "triggers: Extra inputs"),
            (
                f"deployments: [{{name: a, entrypoint: {ARCHIVE}, schedules: [{{}}]}}]",
                "one of cron, interval and rrule",
            ),
            (
                f"deployments: [{{name: a, entrypoint: {ARCHIVE}}}, {{name: a, entrypoint: {ARCHIVE}}}]",
                "two deployments",
            ),
            ("deployments: [{name: a, entrypoint: 'flow.py:archive'}]", "entrypoint"),
            ('deployments: [!!python/object/apply:os.system ["touch escaped"]]', "cannot be read"),
        ],
    )
    def test_what_is_not_understood_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        """With status 2, before any server is asked; nothing in the file is run."""
        result = run(written(tmp_path, text))

        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: {tmp_path}/prefect.yaml")
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that is there is not taken for one's own; and who has one named needs no other."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(str(ROOT / "deployments" / "prefect.yaml"), "--server", "--port", port)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    named = run(str(ROOT / "deployments" / "prefect.yaml"), "--server", "--port", port)

    assert (refused.exit_code, named.exit_code) == (2, 2)
    assert f"port {port} cannot be had (Address already in use)" in refused.stderr
    assert "leave out --server" in named.stderr


@pytest.mark.usefixtures("prefect_server")
class TestWhatIsNotThere:
    """Told before anything is served."""

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ("entrypoint: dtool_ecs_flows.flows.nothing.nothing", "cannot be imported"),
            ("entrypoint: dtool_ecs_flows.flows.archive.Path", "is no flow"),
            (
                f"entrypoint: {ARCHIVE}, parameters: {{source_base_uri: '{{{{ prefect.variables.nowhere }}}}'}}",
                "no value",
            ),
            (f"entrypoint: {ARCHIVE}, parameters: {{source_base_uri: '{{{{ $NOT_IN_HERE }}}}'}}", "no value"),
            (
                f"entrypoint: {ARCHIVE}, parameters: {{bucket: '{{{{ prefect.blocks.ecs-bucket.b }}}}'}}",
                "stores no secret",
            ),
            (
                f"entrypoint: {ARCHIVE}, parameters: {{bucket: {{$ref: {{block_document_slug: ecs-bucket/nowhere}}}}}}",
                "there is no block ecs-bucket/nowhere; decs blocks import makes one",
            ),
            (f"entrypoint: {ARCHIVE}, schedules: [{{cron: 'every day'}}]", "cron"),
            (f"entrypoint: {ARCHIVE}, concurrency_limit: {{limt: 1}}", "limt"),
        ],
    )
    def test_each_is_named_with_its_deployment(self, tmp_path: Path, entry: str, said: str) -> None:
        """A slip of the pen does not become a run that fails at night."""
        result = run(written(tmp_path, f"deployments: [{{name: mine, {entry}}}]"))

        assert result.exit_code == 2
        assert "Error: deployment mine: " in result.stderr
        assert said in result.stderr


# --- a site ---

YAML = """
deployments:
  - name: nightly
    entrypoint: dtool_ecs_flows.flows.archive.archive
    description: Archives all datasets of a folder every night.
    tags: [dtool]
    work_pool: {{name: of no use here}}
    parameters:
      source_base_uri: "file://{{{{ $SOURCE }}}}"
      bucket: {{$ref: {{block_document_slug: "ecs-bucket/{{{{ prefect.variables.dtool_block }}}}"}}}}
    schedules: [{{cron: "0 2 * * *", timezone: Etc/UTC}}]
    concurrency_limit: {{limit: 1, collision_strategy: CANCEL_NEW}}
  - name: long
    entrypoint: sleeper.sleeper
    parameters: {{touch: "{touch}"}}
"""

SLEEPER = """
import time
from pathlib import Path
from prefect import flow

@flow
def sleeper(touch: str) -> None:
    Path(touch).touch()
    time.sleep(3600)
"""


@contextmanager
def serving(site: Site, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `decs serve` for as long as the block lasts."""
    environment = {**site.environment, "PYTHONPATH": f"{site.folder}:{ROOT}", **more}
    command = [sys.executable, "-m", "dtool_ecs_flows.cli", "serve", *arguments]
    with (site.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=site.folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def until(true: Callable[[], Any], site: Site) -> Any:
    deadline = time.monotonic() + 240
    while not (found := true()):
        assert time.monotonic() < deadline, (site.folder / "serve.log").read_text()
        time.sleep(0.3)
    return found


def is_serving(site: Site, process: subprocess.Popen[bytes]) -> bool:
    said = (site.folder / "serve.log").read_text()
    assert process.poll() is None, said
    return any(line.startswith("serving ") for line in said.splitlines())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_process_serves_a_site(tmp_path: Path, rclone_bucket: BucketSettings) -> None:
    """The deployments of the file are there with their schedules and run by name; it stops in good order."""
    source, files = tmp_path / "datasets", tmp_path / "files"
    source.mkdir()
    files.mkdir()
    (files / "a.txt").write_text("a")
    made = create_dataset("apples", f"file://{source}", directory=files)
    with prefect_site(tmp_path / "site") as site:
        save_block(site, rclone_bucket, "mine")
        site.run("prefect", "variable", "set", "dtool_block", "mine")
        (site.folder / "sleeper.py").write_text(SLEEPER)
        file = written(site.folder, YAML.format(touch=tmp_path / "begun"))

        with serving(site, file, SOURCE=str(source)) as process:
            until(lambda: is_serving(site, process), site)
            nightly = ask(site, "deployments/name/archive/nightly")
            assert nightly["parameters"]["source_base_uri"] == f"file://{source}"
            assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
            assert [(each["active"], each["schedule"]["cron"]) for each in nightly["schedules"]] == [
                (True, "0 2 * * *")
            ]
            assert rclone_bucket.secret_access_key.get_secret_value() not in json.dumps(nightly)
            said = site.run("prefect", "deployment", "run", "archive/nightly", "--watch", "--watch-interval", "1")
            assert "Completed" in said
            listed = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket)
            assert [info.uuid for info in listed.datasets] == [made.uuid]

            site.run("prefect", "deployment", "run", "sleeper/long")
            until((tmp_path / "begun").exists, site)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=240) == 0, (site.folder / "serve.log").read_text()

        (run,) = [each for each in ask(site, "flow_runs/filter", {}) if each["parameters"].get("touch")]
        assert run["state_type"] == "CANCELLED"
        assert ask(site, "deployments/name/archive/nightly")["paused"]

        with serving(site, file, "--only", "nightly", SOURCE=str(source)) as process:  # as after a reboot
            until(lambda: is_serving(site, process), site)
            assert not ask(site, "deployments/name/archive/nightly")["paused"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_server_of_its_own_nothing_else_is_needed(tmp_path: Path, rclone_bucket: BucketSettings) -> None:
    """With a file or without; blocks of before there was a server are there; Ctrl-C ends both, and nothing is left."""
    (port,) = free_ports(1)
    home = tmp_path / "of-the-site"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DTOOL_"))}
    config = home / "dtool.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(environment(rclone_bucket)))
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_SERVER_DATABASE_TIMEOUT": "60"}
    hasty = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1"}  # which is less than any start takes
    variables = {**kept, **quiet, **hasty, "HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    site = Site(f"http://127.0.0.1:{port}", variables, tmp_path)
    site.run("dtool-ecs-flows", "blocks", "import", "--config", str(config))
    block = {"$ref": {"block_document_slug": f"ecs-bucket/{rclone_bucket.bucket}"}}
    entry = {"name": "mine", "entrypoint": "dtool_ecs_flows.flows.inventory.inventory", "parameters": {"bucket": block}}
    file = written(tmp_path, json.dumps({"deployments": [entry]}))

    with serving(site, file, "--server", "--port", str(port)) as process:
        until(lambda: is_serving(site, process), site)
        assert ask(site, "deployments/name/inventory/mine")["parameters"] == entry["parameters"]
        with urllib.request.urlopen(site.url, timeout=60) as page:
            assert "text/html" in page.headers["Content-Type"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=240) == 0

    with serving(site, "--server", "--port", str(port)) as process:
        until(lambda: is_serving(site, process), site)
        assert ask(site, "deployments/name/archive/archive")["schedules"] == []
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=240) == 0

    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(site.url, timeout=60)
