"""A real SMB server: Samba's, as whoever runs the tests, on a port of loopback. Ready in a second.

On Debian: apt-get install --no-install-recommends samba   (or `make samba`)
"""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.model import OtherServer
from tests.servers.supervisor import ServerUnavailableError, find_executable, free_ports, running

SECRET = "testsecret"
SHARE = "sandbox"
HINT = "on Debian, apt-get install --no-install-recommends samba"

CONFIGURATION = """\
[global]
workgroup = WORKGROUP
server role = standalone server
smb ports = {port}
bind interfaces only = yes
interfaces = 127.0.0.1
private dir = {directory}/private
state directory = {directory}/state
cache directory = {directory}/cache
lock directory = {directory}/lock
pid directory = {directory}/pid
ncalrpc dir = {directory}/ncalrpc
log file = {directory}/log/log
passdb backend = tdbsam:{directory}/private/passdb.tdb
load printers = no
disable spoolss = yes
# pysmb 1.2 knows no newer dialect
server min protocol = SMB2_02
[sandbox]
path = {directory}/share
read only = no
"""


@contextmanager
def recipe(directory: Path) -> Iterator[OtherServer]:
    """Run Samba over a folder.

    Args:
        directory: An empty folder for everything that it writes.

    Yields:
        The server, ready; its share is called "sandbox".
    """
    smbd = shutil.which("smbd") or shutil.which("smbd", path="/usr/sbin:/usr/local/sbin")
    if smbd is None:
        raise ServerUnavailableError(f"smbd is not installed: {HINT}")
    smbpasswd = find_executable("smbpasswd", HINT)
    (port,) = free_ports(1)
    for name in ("private", "state", "cache", "lock", "pid", "ncalrpc", "log", "share"):
        (directory / name).mkdir()
    configuration, user = directory / "smb.conf", getpass.getuser()
    configuration.write_text(CONFIGURATION.format(directory=directory, port=port))
    log = directory / "log" / "output"
    with running({}) as processes:
        processes.run(smbpasswd, "-c", configuration, "-a", "-s", user, stdin=f"{SECRET}\n{SECRET}\n")
        processes.start(
            smbd, "--foreground", "--no-process-group", f"--configfile={configuration}", "--debug-stdout", log=log
        )
        processes.wait_until_listening(port, log)
        yield OtherServer("samba", port, user, SECRET, directory)
