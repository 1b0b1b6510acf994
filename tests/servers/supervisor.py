"""Keeps a server's processes for as long as its caller lives, and no longer.

The supervisor is a process between the caller and the server. It prints the server as one line of JSON when it is
ready, waits for the end of its standard input, which comes when the caller closes it or dies, then kills what it
started, by id, and removes the directory.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from tests.servers.model import OtherServer, S3Server

READY_SECONDS = 180.0
ROOT = Path(__file__).parents[2]


class ServerUnavailableError(RuntimeError):
    """This server cannot run here; the message says what is missing."""


class Processes:
    """Processes of one server, stopped together by `running`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str | Path, stdin: str | None = None) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=self._environment, check=False)
        if done.returncode:
            raise ServerUnavailableError(f"{command[0]} failed with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *command: str | Path, log: Path) -> None:
        """Start a process that stays, in the foreground of its own."""
        with log.open("ab") as output:
            self._started.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment)
            )

    def kill(self) -> None:
        """Kill them, the last first: nothing here is worth a shutdown, since all data is thrown away."""
        for process in reversed(self._started):
            process.kill()
        for process in self._started:
            process.wait()

    def wait_until_listening(self, port: int, log: Path) -> None:
        """Wait until a connection to a port of this machine is taken."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and all(process.poll() is None for process in self._started):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        end = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
        raise ServerUnavailableError(f"nobody listens on port {port}; the log ends with: {end}")

    def wait_until_answering(self, url: str, log: Path) -> None:
        """Wait until an HTTP request is answered with any status at all."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._started):
                break
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
            else:
                return
        end = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
        raise ServerUnavailableError(f"{url} did not answer; the log ends with: {end}")


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[Processes]:
    """Give what starts processes with these variables, and kill all of them when the block is left."""
    processes = Processes(environment)
    try:
        yield processes
    finally:
        processes.kill()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now, all different.

    A server may take seconds until it listens: they are none of those that outgoing connections are given meanwhile.
    """
    ports = range(10_000, max(10_000, _first_of_outgoing()))
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                each.bind(("127.0.0.1", random.SystemRandom().choice(ports) if len(ports) > 1000 else 0))
                found.append(each.getsockname()[1])
        return found


def _first_of_outgoing() -> int:
    """The first of the ports that the system gives to outgoing connections, as Linux tells it."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def find_executable(name: str, hint: str) -> Path:
    """The path of a program: beside this interpreter first, then on PATH."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(name)
    if not found:
        raise ServerUnavailableError(f"{name} is not installed: {hint}")
    return Path(found)


@contextmanager
def start(name: str, *, log: bool = False) -> Iterator[S3Server]:
    """Run an S3 server for as long as the block lasts.

    Args:
        name: "rgw" or "rclone".
        log: Whether the server's supervisor may write to this process's standard error.

    Yields:
        The server, ready.

    Raises:
        ServerUnavailableError: It is not installed, or did not start.
    """
    with _supervised(name, log=log) as line:
        yield S3Server.from_json(line)


@contextmanager
def start_other(name: str, *, log: bool = False) -> Iterator[OtherServer]:
    """The same for a server that speaks something else: "samba" or "azurite"."""
    with _supervised(name, log=log) as line:
        yield OtherServer.from_json(line)


@contextmanager
def _supervised(name: str, *, log: bool) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers", name, "--json"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if log else subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the caller, which then ends this one in good order
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            reason = process.stderr.read().strip() if process.stderr else "see the lines above"
            raise ServerUnavailableError(reason)
        try:
            yield line
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:  # a forked child still holds the pipe
                process.terminate()


def supervise(name: str, *, announce_as_json: bool) -> None:
    """Run a server until standard input ends, or until SIGTERM or SIGINT."""
    from tests.servers import azurite, rclone, rgw, samba  # they import this module

    recipes: dict[str, Callable[[Path], AbstractContextManager[S3Server | OtherServer]]] = {
        "azurite": azurite.recipe,
        "rclone": rclone.recipe,
        "rgw": rgw.recipe,
        "samba": samba.recipe,
    }
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts its background jobs deaf to Ctrl-C
        signal.signal(number, _leave)
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as directory,
        recipes[name](Path(directory)) as server,
    ):
        print(server.to_json() if announce_as_json else _describe(server), flush=True)
        sys.stdin.read()


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _describe(server: S3Server | OtherServer) -> str:
    name, secret = (
        (server.user, server.secret)
        if isinstance(server, OtherServer)
        else (server.access_key_id, server.secret_access_key)
    )
    lines: Sequence[str] = (
        f"{server.name} listens on {server.endpoint}",
        f"access key id      {name}",
        f"secret access key  {secret}",
        f"files and logs     {server.directory}",
        "Ctrl-C or Ctrl-D stops it and throws everything away.",
    )
    return "\n".join(lines)
