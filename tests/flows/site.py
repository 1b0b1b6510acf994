"""A site with a Prefect server and workers of its own, as deployments/README.md sets it up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stamina

from dtool_ecs_flows import BucketSettings
from tests.servers.supervisor import free_ports

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
SECONDS = 240.0

SAVE_BLOCK = """
import json, sys
from dtool_ecs_flows.blocks import EcsBucket
EcsBucket(**json.loads(sys.argv[1])).save(sys.argv[2], overwrite=True)
"""


@dataclass(frozen=True)
class Site:
    """A Prefect server that runs, and the environment of those who work with it."""

    url: str
    environment: dict[str, str]
    folder: Path

    def run(self, *command: str, cwd: Path = ROOT) -> str:
        """Run a command of this environment's programs and return what it printed."""
        program = Path(sys.executable).parent / command[0]
        done = subprocess.run(
            [str(program), *command[1:]],
            cwd=cwd,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout

    @contextmanager
    def running(self, *command: str, log: str = "", environment: Mapping[str, str] | None = None) -> Iterator[Path]:
        """Keep a program running for as long as the block lasts; yields its log, which is named after its command."""
        path = self.folder / f"{log or command[1]}.log"
        program = Path(sys.executable).parent / command[0]
        with path.open("w") as output:
            process = subprocess.Popen(
                [str(program), *command[1:]],
                cwd=self.folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                yield path
            finally:
                process.terminate()
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def deploy(self, **variables: str) -> None:
        """Make what deployments/ needs, by its starter, and deploy all of it, for the block `archive`."""
        named = [f"--{option}={value}" for option, value in {"block": "archive", **variables}.items()]
        self.run("python", "starter.py", *named, cwd=DEPLOYMENTS)
        self.run("prefect", "--no-prompt", "deploy", "--all", cwd=DEPLOYMENTS)


@contextmanager
def prefect_site(
    folder: Path, command: tuple[str, ...] = ("prefect", "server", "start"), **settings: str
) -> Iterator[Site]:
    """Run a Prefect server with an empty database for as long as the block lasts.

    Args:
        folder: For all that it writes.
        command: Starts it. Where it listens is in its environment.
        settings: Further variables of its environment, for example of another database than SQLite.
    """
    (port,) = free_ports(1)
    home = folder / "home"
    home.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DTOOL_"))}
    url = f"http://127.0.0.1:{port}"
    environment = {
        **kept,
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # on a busy machine its services wait for each other's writes
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "COLUMNS": "200",
    }
    site = Site(url, environment, folder)
    own = {
        # The UI calls the port that the variable says, whatever --port says.
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        # Schedules are kept and begin nothing: tests that run at two in the morning would meet the nightly archive.
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    }
    with site.running(*command, environment={**settings, **own}) as log:
        deadline = time.monotonic() + SECONDS
        while not _healthy(url):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield site


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def save_block(site: Site, settings: BucketSettings, name: str = "archive") -> None:
    """Save the settings of a bucket as a block of this name."""
    values = settings.model_dump(mode="json", exclude={"cache_directory", "publish_expiry"})
    values["secret_access_key"] = settings.secret_access_key.get_secret_value()
    site.run("python", "-c", SAVE_BLOCK, json.dumps(values), name)


def ask(site: Site, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the server: GET, or POST where there is something to tell."""
    request = urllib.request.Request(
        f"{site.url}/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Prefect answers 503 while its SQLite is locked, and its own client tries again.
    for attempt in stamina.retry_context(on=_is_busy, attempts=30, timeout=120):
        with attempt, urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    raise AssertionError("attempts end by returning or raising")


def _is_busy(error: Exception) -> bool:
    if not isinstance(error, urllib.error.HTTPError):
        return False
    error.close()
    return error.code == 503
