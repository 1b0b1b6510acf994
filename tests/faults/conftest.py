"""A dataset, a bucket of the gateway, and a proxy before it that lets go wrong what a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.faults.site import ITEMS, Site
from tests.independent import Raw, disk_dataset
from tests.proxy import proxied
from tests.servers import S3Server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset on a disk."""
    return disk_dataset(tmp_path_factory.mktemp("in"), ITEMS)


@pytest.fixture(scope="module")
def undisturbed(rgw: S3Server, source: str) -> dict[str, bytes]:
    """All objects of a bucket into which this dataset was copied, and nothing went wrong."""
    bucket = new_bucket(rgw)
    copy_dataset(source, bucket.base_uri, settings=bucket)
    raw = Raw(bucket)
    return {key: raw.get(key) for key in raw.listed()}


@pytest.fixture
def site(rgw: S3Server, source: str, tmp_path: Path) -> Iterator[Site]:
    """The dataset, an empty folder, an empty bucket, and the way to it through a proxy."""
    direct = new_bucket(rgw)
    out = tmp_path / "out"
    out.mkdir()
    with proxied(rgw) as proxy:
        through = changed(direct, endpoint=proxy.endpoint)
        yield Site(proxy, direct, through, Raw(direct), source, out)


@pytest.fixture
def archived(site: Site) -> str:
    """The dataset in the bucket; its URI. The proxy has seen nothing of it."""
    return str(copy_dataset(site.source, site.direct.base_uri, settings=site.direct).uri)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transient failures are given up after a second: for tests that wait for the end of it."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 1.0)
    monkeypatch.setattr(failures, "BUDGET", 1.0)
