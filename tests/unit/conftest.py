"""What tests of single rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.machine import Machine


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A user's machine without any settings yet."""
    return Machine(home, monkeypatch)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A Prefect server of throw-away; yields the URL of its API. Code under test talks to it by itself."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    # The first start on a fresh machine compiles and migrates: it can take far longer than the default.
    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())
