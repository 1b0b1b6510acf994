"""A bucket on the gateway whose settings dtoolcore's own calls find, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings, active
from tests.interop import story
from tests.interop.command import Dtool
from tests.interop.peers.write import write_dataset

MINUTES = 15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder the time that making an environment takes; whichever comes first makes it."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(MINUTES * 60))


@pytest.fixture
def shared(rgw_bucket: BucketSettings) -> Iterator[BucketSettings]:
    """A fresh bucket that this process and the peers use; here its settings are the active ones."""
    with active(rgw_bucket):
        yield rgw_bucket


@pytest.fixture
def dtool(shared: BucketSettings, home: Path) -> Dtool:
    """The `dtool` command, set up for the bucket."""
    command = Dtool(home)
    command.configure(shared)
    return command


@pytest.fixture
def frozen(shared: BucketSettings) -> str:
    """The URI of the whole dataset, frozen in the bucket by our broker."""
    return str(write_dataset({**story.request(), "base_uri": shared.base_uri})["uri"])
