"""Fixtures for all tests: a home of one's own, servers, buckets, a counting proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dtoolcore.utils
import hypothesis
import pytest
import stamina

from dtool_ecs_flows.settings import BucketSettings
from tests.proxy import CountingProxy, Proxy, StrictEcs, counting_proxy, proxied
from tests.servers import S3Server, ServerUnavailableError, bypass_proxy, start

# Nothing of the developer's own is read or written. Prefect decides at its import where its database and profiles
# are, so this comes before any test module is imported.
for _name in [name for name in os.environ if name.startswith(("DTOOL_", "AWS_", "PREFECT_"))]:
    del os.environ[_name]
_PREFECT_HOME = tempfile.mkdtemp(prefix="prefect-")
os.environ |= {
    "PREFECT_HOME": _PREFECT_HOME,
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # on a busy machine the first start passes the default
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # and its services wait for each other's writes
    # Task runs are written in one transaction after the other: of two writers one may wait for the other for long, and
    # who waits for the last task run would miss one before it.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "10000",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
bypass_proxy()

# A machine that is busy is slow, and no failure. Where something else fails, the log says how to have it again.
SLOW_IS_FINE = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("here", deadline=None, print_blob=True, suppress_health_check=SLOW_IS_FINE)
hypothesis.settings.load_profile("here")

ROOT = Path(__file__).parents[1]

ServerStarter = Callable[[str], S3Server]


def pytest_unconfigure() -> None:
    """Throw away what prefect stored."""
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a folder that is too slow for `make test`, so that no test there can forget it."""
    for item in items:
        for folder in {"interop", "ui"} & set(item.path.relative_to(Path(__file__).parent).parts):
            item.add_marker(folder)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory; dtoolcore, which looked for the real one at its import, is told of it."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setattr(dtoolcore.utils, "DEFAULT_CONFIG_PATH", str(path / ".config" / "dtool" / "dtool.json"))
    monkeypatch.setattr(dtoolcore.utils, "DEFAULT_CACHE_PATH", str(path / ".cache" / "dtool"))
    return path


@pytest.fixture(scope="session")
def strict_proxies() -> list[Proxy]:
    """The proxies that make of the gateway what is as strict as ECS, in this session."""
    return []


@pytest.fixture(scope="session")
def start_server(strict_proxies: list[Proxy]) -> Iterator[ServerStarter]:
    """Start a server by name when it is first asked for; all of them stop with the session."""
    with ExitStack() as stack:
        running: dict[str, S3Server] = {}

        def get(name: str) -> S3Server:
            if name not in running:
                running[name] = strict(name) if name.startswith("ecs") else _reuse(name) or _start(name, stack)
            return running[name]

        def strict(name: str) -> S3Server:
            server = get("rgw")
            proxy = stack.enter_context(proxied(server, tls=name == "ecs-https", ecs=StrictEcs()))
            strict_proxies.append(proxy)
            return replace(server, endpoint=proxy.endpoint, ca_bundle=proxy.ca_bundle, strict=True)

        yield get


@pytest.fixture(autouse=True)
def nothing_is_refused(strict_proxies: list[Proxy]) -> Iterator[None]:
    """Where ECS would have refused a request, the test fails, though the request may have been made another way."""
    yield
    refused = [str(request) for proxy in strict_proxies for request in proxy.refused]
    for proxy in strict_proxies:
        proxy.clear()
    assert refused == []


def _reuse(name: str) -> S3Server | None:
    """A server that runs already: TEST_RGW holds the line that `python -m tests.servers rgw --json` printed."""
    line = os.environ.get(f"TEST_{name.upper()}")
    return S3Server.from_json(line) if line else None


def _start(name: str, stack: ExitStack) -> S3Server:
    try:
        return stack.enter_context(start(name))
    except ServerUnavailableError as error:
        if name == "rgw" and not (os.environ.get("CI") or os.environ.get("REQUIRE_RGW")):
            pytest.skip(f"no RADOS Gateway: {error}")
        raise


_SERVERS = os.environ.get("TEST_SERVERS", "rgw,rclone,ecs,ecs-https").split(",")


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name.startswith("ecs") else []) for name in _SERVERS],
)
def server(request: pytest.FixtureRequest, start_server: ServerStarter) -> S3Server:
    """Each server in turn. Where a test needs what some lack, it looks at `server.capabilities`.

    "ecs" is the gateway behind a proxy that refuses what ECS refuses, over http and https. TEST_SERVERS names fewer.
    """
    return start_server(request.param)


@pytest.fixture(scope="session")
def rgw(start_server: ServerStarter) -> S3Server:
    """The RADOS Gateway: skipped where it is not installed, but not in CI or under REQUIRE_RGW=1."""
    return start_server("rgw")


@pytest.fixture(scope="session")
def rclone(start_server: ServerStarter) -> S3Server:
    """The server that runs anywhere."""
    return start_server("rclone")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The URL of a Prefect server of throw-away, to which all that runs in this process talks.

    One for the session: Prefect's threads that send events stay with the first that they met.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with ExitStack() as stack:
        # The harness gives up where its server takes five seconds for the first answer, as on a busy machine it may,
        # and where somebody was given its port before it listens.
        for attempt in stamina.retry_context(on=(httpx.TransportError, RuntimeError), attempts=3, timeout=None):
            with attempt:
                # The first start on a fresh machine compiles and migrates: it can take far longer than the default.
                stack.enter_context(prefect_test_harness(server_startup_timeout=180))
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    hatchling = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*hatchling, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*hatchling, "-t", "wheel"], cwd=unpacked, check=True, capture_output=True)
    return folder


def new_bucket(server: S3Server, name: str = "", **settings: object) -> BucketSettings:
    """Make a bucket, and settings for it as its owner; the keywords are further settings."""
    name = name or f"test-{uuid.uuid4()}"
    server.make_bucket(name)
    keys = {"access_key_id": server.access_key_id, "secret_access_key": server.secret_access_key}
    return BucketSettings(bucket=name, endpoint=server.endpoint, ca_bundle=server.ca_bundle, **{**keys, **settings})


@pytest.fixture
def bucket(server: S3Server) -> BucketSettings:
    """A fresh bucket, on each server in turn."""
    return new_bucket(server)


@pytest.fixture
def rgw_bucket(rgw: S3Server) -> BucketSettings:
    """A fresh bucket on the RADOS Gateway."""
    return new_bucket(rgw)


@pytest.fixture
def rclone_bucket(rclone: S3Server) -> BucketSettings:
    """A fresh bucket on rclone."""
    return new_bucket(rclone)


@pytest.fixture
def request_counter() -> Iterator[Callable[[S3Server | str], CountingProxy]]:
    """Put a counting proxy before a server, or an endpoint, until the test is over."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(counting_proxy(server))
