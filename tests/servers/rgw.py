"""A real S3 server: Ceph's RADOS Gateway over a one-host cluster that lives in memory. Ready in about 12 s.

On Debian: apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw   (or `make rgw`)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.model import S3Server
from tests.servers.supervisor import Processes, find_executable, free_ports, running

ACCESS_KEY_ID = "testkey"
SECRET_ACCESS_KEY = "testsecret"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool")
HINT = "on Debian, apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw"

# Of memory, not taken before it is used. A store that is full hangs instead of failing: give it room.
STORE_BYTES = 8 * 2**30

# A part of an upload that is not its last has at least so many bytes: less than the 5 MiB of S3, for tests of many.
LEAST_PART = 64 * 2**10

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public addr = 127.0.0.1
ms bind ipv6 = false
keyring = {directory}/keyring
mon data = {directory}/mon
mgr data = {directory}/mgr
osd data = {directory}/osd
run dir = {directory}/run
admin socket = {directory}/run/$name.$pid.asok
log file = {directory}/log/$name.log
pid file = {directory}/run/$name.pid
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {store_bytes}
# Without tcp_nodelay every GET is answered 40 ms late.
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable usage log = false
rgw enable lc threads = false
# What was deleted gives its room back within seconds, not hours: the store is small, and hangs when it is full.
rgw gc obj min wait = 2
rgw gc processor period = 2
rgw gc processor max time = 60
rgw thread pool size = 64
rgw multipart min part size = {least_part}
"""


@contextmanager
def recipe(directory: Path) -> Iterator[S3Server]:
    """Run a monitor, a manager, an in-memory OSD and a gateway, which hangs without the manager and without cephx.

    Args:
        directory: An empty folder for everything that they write.

    Yields:
        The server, ready.
    """
    for program in PROGRAMS:
        find_executable(program, HINT)
    port, mon_v1, mon_v2 = free_ports(3)
    fsid = str(uuid.uuid4())
    for name in ("mon", "mgr", "osd", "run", "log"):
        (directory / name).mkdir()
    configuration = directory / "ceph.conf"
    configuration.write_text(
        CONFIGURATION.format(
            fsid=fsid,
            directory=directory,
            port=port,
            mon_v1=mon_v1,
            mon_v2=mon_v2,
            store_bytes=STORE_BYTES,
            least_part=LEAST_PART,
        )
    )
    endpoint = f"http://127.0.0.1:{port}"
    output = directory / "log" / "output"
    with running({"CEPH_CONF": str(configuration)}) as processes:
        _start_monitor(processes, directory, fsid, f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]", output)
        _start_osd(processes, directory, output)
        processes.start("ceph-mgr", "-f", "-i", "x", log=output)
        processes.start("radosgw", "-f", "-n", "client.rgw.a", log=output)
        processes.wait_until_answering(endpoint, output)
        server = S3Server("rgw", endpoint, ACCESS_KEY_ID, SECRET_ACCESS_KEY, directory)
        server.add_user("test", ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        yield server


def _start_monitor(processes: Processes, directory: Path, fsid: str, address: str, output: Path) -> None:
    keyring, monmap = directory / "keyring", directory / "monmap"
    keys = {
        "mon.": {"mon": "allow *"},
        "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
        "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
        "client.rgw.a": {"mon": "allow rw", "osd": "allow rwx", "mgr": "allow rw"},
    }
    processes.run("ceph-authtool", keyring, "--create-keyring")
    for name, capabilities in keys.items():
        pairs = [word for pair in capabilities.items() for word in ("--cap", *pair)]
        processes.run("ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
    processes.run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
    processes.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    processes.start("ceph-mon", "-f", "-i", "a", log=output)


def _start_osd(processes: Processes, directory: Path, output: Path) -> None:
    osd, secret = str(uuid.uuid4()), processes.run("ceph-authtool", "--gen-print-key").strip()
    processes.run("ceph", "osd", "new", osd, "-i", "-", stdin=json.dumps({"cephx_secret": secret}))
    capabilities = ("--cap", "mon", "allow profile osd", "--cap", "mgr", "allow profile osd", "--cap", "osd", "allow *")
    processes.run("ceph-authtool", directory / "keyring", "-n", "osd.0", "--add-key", secret, *capabilities)
    processes.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    processes.start("ceph-osd", "-f", "-i", "0", log=output)
