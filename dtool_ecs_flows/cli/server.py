"""The Prefect server that a command talks to: where it is, what goes wrong with it, and one of one's own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dtool_ecs_flows.cli import ends

if TYPE_CHECKING:
    import subprocess

_PATIENCE = 240.0  # seconds; the first start on a machine makes a database
_RECORDER = "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_"


def address() -> str:
    """Return where the server is, for people."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value() or "this user's own Prefect database (PREFECT_API_URL is not set)")


@contextmanager
def errors_told() -> Iterator[None]:
    """Put what goes wrong at the server into one line; a server's answer may repeat what it was sent, so not it.

    Where no server is named, Prefect starts one for itself, and gets as long for it as one of our own.
    """
    import httpx
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS as TIMEOUT
    from prefect.settings import temporary_settings

    from dtool_ecs_flows.errors import EcsFlowsError

    try:
        with temporary_settings({TIMEOUT: max(TIMEOUT.value(), int(_PATIENCE))}):
            yield
        return
    except httpx.HTTPStatusError as error:
        message = f"{error.response.status_code} {error.response.reason_phrase}"
    except (httpx.HTTPError, PrefectException) as error:
        message = ends.said(error)
    raise EcsFlowsError(f"the Prefect server, {address()}, did not do it: {message}")


@contextmanager
def own(port: int) -> Iterator[str]:
    """Run a Prefect server on this machine, for this machine alone, for as long as the block lasts; yields its URL.

    Its database is the user's own. Must come before Prefect is imported, which decides then where its server is.
    """
    import socket
    import subprocess

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
        except OSError as error:
            told = f"port {port} cannot be had ({error.strerror}): choose another with --port, or set PREFECT_API_URL"
            raise ends.Failure(f"{told} where that is your Prefect server", ends.USAGE) from None
    url = f"http://127.0.0.1:{port}"
    os.environ["PREFECT_API_URL"] = f"{url}/api"
    environment = {
        # The UI calls the port that this says, whatever --port says; the others keep records from getting lost.
        "PREFECT_SERVER_API_PORT": str(port),
        f"{_RECORDER}BATCH_SIZE": "100",
        f"{_RECORDER}READ_BATCH_SIZE": "100",
        f"{_RECORDER}FLUSH_INTERVAL": "1",
        **os.environ,
    }
    # Without a question: at a terminal Prefect would ask which of its profiles to write the address into.
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    # In a session of its own: a Ctrl-C at the terminal is for the one that serves, which still has to talk to it.
    process = subprocess.Popen(  # noqa: S603  # our own command
        command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True
    )
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + _PATIENCE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with direct.open(f"{url}/api/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ends.Failure(f"the Prefect server did not start at {url}: what it says is above", ends.WRONG)
