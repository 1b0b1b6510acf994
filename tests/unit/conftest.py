"""What tests of single rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A user's machine without any settings yet."""
    return Machine(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of throw-away; yields the URL of its API. Code under test talks to it by itself."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.setenv("DO_NOT_TRACK", "1")
        # The first start on a fresh machine compiles and migrates: it can take far longer than the default.
        with prefect_test_harness(server_startup_timeout=180):
            yield str(PREFECT_API_URL.value())
