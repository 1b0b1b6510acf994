"""What tests over servers share."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, open_store
from tests.conformance.helpers import Files, Interrupt, environment
from tests.conftest import new_bucket
from tests.independent import Raw
from tests.proxy import Request
from tests.servers import S3Server


@pytest.fixture(scope="module")
def shared_bucket(server: S3Server) -> BucketSettings:
    """One bucket for all tests of a module: a bucket and its clients cost more than most tests."""
    return new_bucket(server)


@pytest.fixture(scope="module")
def raw_client(shared_bucket: BucketSettings) -> Raw:
    """The plain client of the shared bucket."""
    return Raw(shared_bucket)


@pytest.fixture
def raw(raw_client: Raw) -> Iterator[Raw]:
    """The shared bucket through plain boto3; emptied after each test."""
    yield raw_client
    raw_client.delete(*raw_client.listed())


@pytest.fixture
def store(shared_bucket: BucketSettings, raw: Raw) -> Store:
    """The shared bucket through our store."""
    return open_store(shared_bucket)


@pytest.fixture(scope="session")
def other_user(rgw: S3Server) -> Callable[[BucketSettings], BucketSettings]:
    """A second user of the gateway: returns settings for a bucket with that user's keys."""
    keys = {"access_key_id": f"other-{uuid.uuid4().hex[:8]}", "secret_access_key": uuid.uuid4().hex}
    rgw.add_user(keys["access_key_id"], keys["access_key_id"], keys["secret_access_key"])
    return lambda settings: BucketSettings(**{**dict(settings), **keys})


@pytest.fixture
def configured(shared_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has set the bucket up in the environment, as for any dtool program."""
    for name, value in environment(shared_bucket).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def base_uri(shared_bucket: BucketSettings) -> str:
    return shared_bucket.base_uri


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Writes bytes into a new file and returns its path."""

    def write(data: bytes) -> str:
        path = tmp_path / str(uuid.uuid4())
        path.write_bytes(data)
        return str(path)

    return write


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A folder that no audit has used yet."""
    return tmp_path / "history"


@pytest.fixture
def interrupt(capfd: pytest.CaptureFixture[str]) -> Interrupt:
    """Ctrl-C, for `Rule.call`: the request goes on when the command has heard it, however busy the main thread is."""

    def interrupt(_: Request) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        said = ""
        while "stopping" not in said:
            time.sleep(0.01)
            said += capfd.readouterr().err

    return interrupt


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
