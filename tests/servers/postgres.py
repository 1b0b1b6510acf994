"""A PostgreSQL of throw-away, as Debian packages it. Ready in about 4 s.

On Debian: apt-get install --no-install-recommends postgresql   (or `make postgres`)
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.supervisor import READY_SECONDS, ServerUnavailableError, free_ports

HINT = "on Debian, apt-get install --no-install-recommends postgresql"


@contextmanager
def postgres(database: str = "prefect") -> Iterator[str]:
    """Run a cluster of its own for as long as the block lasts; yields the URL of an empty database.

    PostgreSQL refuses to run as root: there it runs as the user of Debian's package.

    Raises:
        ServerUnavailableError: It is not installed, or did not start.
    """
    programs = _programs()
    (port,) = free_ports(1)
    # Not below pytest's own folder, which nobody but root may enter.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        user = _user()
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        where: dict[str, Any] = {"cwd": name, "user": user, "stdin": subprocess.DEVNULL}
        options = ["--pgdata", str(folder / "data"), "--username=prefect", "--auth=trust", "--encoding=UTF8"]
        _run([programs / "initdb", "--no-sync", *options], where)
        log = folder / "log"
        quick = ["-c", "fsync=off", "-c", f"unix_socket_directories={name}", "-c", "listen_addresses=127.0.0.1"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", "-p", str(port), *quick],
                stdout=output,
                stderr=output,
                **where,
            )
            try:
                _wait(programs, port, process, log)
                _run([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", database], where)
                yield f"postgresql+asyncpg://prefect:of-no-use@127.0.0.1:{port}/{database}"
            finally:
                process.terminate()  # it ends its own processes
                process.wait(timeout=60)


def _programs() -> Path:
    """The folder of its programs: Debian keeps one for each version, and the server's on nobody's PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = max(versions, key=lambda path: int(path.parts[-3]), default=None) or shutil.which("initdb")
    if not found:
        raise ServerUnavailableError(f"initdb is not installed: {HINT}")
    return Path(found).resolve().parent


def _user() -> str | None:
    """Whom it runs as: another user than root, where this is root."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _run(command: list[str | Path], where: dict[str, Any]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **where)
    if done.returncode:
        raise ServerUnavailableError(f"{command[0]} failed with {done.returncode}: {done.stderr.strip()}")


def _wait(programs: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ask: list[str | Path] = [programs / "pg_isready", "--quiet", "-h", "127.0.0.1", "-p", str(port)]
    until = time.monotonic() + READY_SECONDS
    while subprocess.run(ask, check=False).returncode:
        if process.poll() is not None or time.monotonic() > until:
            raise ServerUnavailableError(f"postgres did not start; its log ends with: {log.read_text()[-2000:]}")
        time.sleep(0.2)
