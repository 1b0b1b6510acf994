"""The stores of other dtool plugins, each on a real server but iRODS, and the gateway as the ECS side.

These tests need the extra [all]: `make test-stores` has an environment with it. Elsewhere they are left out.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings
from tests.conformance.helpers import environment
from tests.conftest import new_bucket
from tests.independent import CONTENTS
from tests.servers import OtherServer, S3Server, ServerUnavailableError, start_other
from tests.servers.samba import SHARE
from tests.servers.supervisor import ROOT
from tests.stores import azure, icommands

if importlib.util.find_spec("dtool_smb") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the plugins' own code, when it is compiled and imported
        for _module in ("dtool_azure", "dtool_http", "dtool_irods", "dtool_s3", "dtool_smb", "dtool_symlink"):
            importlib.import_module(f"{_module}.storagebroker")

MINUTES = 5
WRITABLE = ("s3", "azure", "smb", "irods")


@dataclass(frozen=True)
class Other:
    """A place in another store."""

    scheme: str
    base_uri: str
    variables: dict[str, str] = field(default_factory=dict)
    """What its plugin is told by."""

    @property
    def contents(self) -> dict[str, bytes]:
        """Items with names of every kind that it can hold."""
        if self.scheme == "smb":
            return {name: data for name, data in CONTENTS.items() if not set(name) & set('\n?*:"<>|\\')}
        return dict(CONTENTS)


def pytest_configure(config: pytest.Config) -> None:
    """Let plugins leave what they have opened to the garbage collector, which may come after the last test."""
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give these tests the time that a busy machine takes."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(MINUTES * 60))
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"))  # dtool-smb's
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:dtool_smb"))


def killed_copy(source: str, base_uri: str, *, after: int) -> subprocess.CompletedProcess[str]:
    """Copy in a process that kills itself once so many items are done; return how it ended."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.stores.child", source, base_uri, str(after)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def other_server() -> Iterator[Callable[[str], OtherServer]]:
    """Start a server by name when it is first asked for: skipped where it is not installed, but not in CI."""
    with ExitStack() as stack:
        running: dict[str, OtherServer] = {}

        def get(name: str) -> OtherServer:
            if name not in running:
                try:
                    running[name] = stack.enter_context(start_other(name))
                except ServerUnavailableError as error:
                    if os.environ.get("CI"):
                        raise
                    pytest.skip(f"no {name}: {error}")
            return running[name]

        yield get


@pytest.fixture
def place(
    other_server: Callable[[str], OtherServer], rgw: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Other]:
    """Make an empty place in a store, by its scheme, with the plugin's settings in the environment."""

    def make(scheme: str) -> Other:
        other = _MAKERS[scheme](other_server, rgw, tmp_path)
        for name, value in other.variables.items():
            monkeypatch.setenv(name, value)
        if scheme == "azure":
            import dtool_azure.storagebroker

            monkeypatch.setattr(dtool_azure.storagebroker, "get_blob_service", None)  # put back at the end
            azure.redirect()
        return other

    monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(tmp_path / "cache"))
    return make


@pytest.fixture(params=WRITABLE)
def other(request: pytest.FixtureRequest, place: Callable[[str], Other]) -> Other:
    """An empty place in each store that can be written, in turn."""
    return place(request.param)


@pytest.fixture
def ecs(rgw: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[], BucketSettings]:
    """Make a bucket on the gateway, its settings in the environment."""

    def make() -> BucketSettings:
        bucket = new_bucket(rgw)
        for name, value in environment(bucket).items():
            monkeypatch.setenv(name, value)
        return bucket

    return make


def _s3(_: Callable[[str], OtherServer], rgw: S3Server, __: Path) -> Other:
    bucket = f"plain-{uuid.uuid4()}"
    rgw.make_bucket(bucket)
    variables = {
        f"DTOOL_S3_ENDPOINT_{bucket}": rgw.endpoint,
        f"DTOOL_S3_ACCESS_KEY_ID_{bucket}": rgw.access_key_id,
        f"DTOOL_S3_SECRET_ACCESS_KEY_{bucket}": rgw.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",  # boto3 asks for one even where the endpoint has none
    }
    return Other("s3", f"s3://{bucket}", variables)


def _azure(servers: Callable[[str], OtherServer], _: S3Server, __: Path) -> Other:
    server = servers("azurite")
    variables = {f"DTOOL_AZURE_ACCOUNT_KEY_{server.user}": server.secret, azure.ENDPOINT: server.endpoint}
    return Other("azure", f"azure://{server.user}", variables)


def _smb(servers: Callable[[str], OtherServer], _: S3Server, __: Path) -> Other:
    server, name = servers("samba"), f"share{uuid.uuid4().hex[:8]}"
    (server.directory / "share" / name).mkdir()
    settings = {
        "USERNAME": server.user,
        "PASSWORD": server.secret,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": str(server.port),
        "DOMAIN": "WORKGROUP",
        "SERVICE_NAME": SHARE,
        "PATH": name,
    }
    return Other("smb", f"smb://{name}", {f"DTOOL_SMB_{key}_{name}": value for key, value in settings.items()})


def _irods(_: Callable[[str], OtherServer], __: S3Server, folder: Path) -> Other:
    commands = icommands.install(str(folder))
    return Other("irods", f"irods://{icommands.ZONE}", {"PATH": f"{commands}:{os.environ['PATH']}"})


_MAKERS = {"s3": _s3, "azure": _azure, "smb": _smb, "irods": _irods}
