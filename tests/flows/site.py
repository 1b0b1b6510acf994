"""A site with a Prefect server and a worker of its own, as deployments/README.md sets it up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.supervisor import free_ports

ROOT = Path(__file__).parents[2]
SECONDS = 240.0


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
    def running(self, *command: str) -> Iterator[Path]:
        """Keep a program running for as long as the block lasts; yields its log."""
        log = self.folder / f"{command[1]}.log"
        program = Path(sys.executable).parent / command[0]
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(program), *command[1:]],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                yield log
            finally:
                process.terminate()
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def prefect_site(folder: Path) -> Iterator[Site]:
    """Run a Prefect server with an empty database for as long as the block lasts."""
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
        "PREFECT_SERVER_API_PORT": str(port),  # the UI calls the port that this says, whatever --port says
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # on a busy machine its services wait for each other's writes
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "COLUMNS": "200",
    }
    site = Site(url, environment, folder)
    with site.running("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)) as log:
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
