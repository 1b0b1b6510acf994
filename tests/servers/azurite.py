"""Azurite, Microsoft's own emulator of Azure's blob storage, from npm. Ready in some seconds.

`make azurite` installs it in `.cache/azurite`; it needs node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.model import OtherServer
from tests.servers.supervisor import ROOT, ServerUnavailableError, find_executable, free_ports, running

ACCOUNT = "devstoreaccount1"
# The key of this account in every Azurite there is.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def recipe(directory: Path) -> Iterator[OtherServer]:
    """Run Azurite's blob service.

    Args:
        directory: An empty folder for everything that it writes.

    Yields:
        The server, ready.
    """
    script = ROOT / ".cache" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not script.is_file():
        raise ServerUnavailableError("azurite is not installed: make azurite")
    (port,) = free_ports(1)
    log = directory / "azurite.log"
    with running({}) as processes:
        processes.start(
            find_executable("node", "on Debian, apt-get install nodejs"), script,
            "--blobHost", "127.0.0.1", "--blobPort", str(port),
            "--location", directory / "data",
            # The client of dtool-azure is old: it asks for a version, and in ways, that Azurite would refuse.
            "--loose", "--skipApiVersionCheck", "--disableTelemetry", "--silent",
            log=log,
        )  # fmt: skip  # an option and its value belong on one line
        processes.wait_until_listening(port, log)
        yield OtherServer("azurite", port, ACCOUNT, KEY, directory)
