"""Row 23 of docs/reliability.md: a large copy on a worker, cancelled in Prefect or ended by a bare SIGTERM.

`tests/ui` presses the button.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.cancelling import SOON, LargeCopy, large_copy
from tests.flows.site import ROOT, Site, ask, prefect_site
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Prefect server with the archive deployed, and a worker."""
    with prefect_site(tmp_path_factory.mktemp("cancelling") / "site") as site:
        site.environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
        site.run("prefect", "work-pool", "create", "--type", "process", "dtool-ecs")
        site.run("prefect", "--no-prompt", "deploy", "--name", "archive-now", cwd=ROOT / "deployments")
        with site.running("prefect", "worker", "start", "--pool", "dtool-ecs"):
            yield site


@pytest.fixture
def copy(prefect: Site, rclone: S3Server, tmp_path: Path) -> Iterator[LargeCopy]:
    """A copy in the middle."""
    with large_copy(prefect, rclone, tmp_path) as copy:
        yield copy


def test_row_23_cancelled(copy: LargeCopy) -> None:
    """Asked as the UI does it: the copy stops within seconds, is shown as Cancelled, and the same again ends well."""
    wish = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    ask(copy.site, f"flow_runs/{copy.run}/set_state", wish)

    assert copy.outcome() == "Cancelled"
    assert copy.seconds_to_stop() < SOON
    copy.finish()


def test_row_23_a_bare_sigterm(copy: LargeCopy) -> None:
    """To the flow run's process: it stops as soon, is shown as Crashed, and the same again ends well."""
    pid = copy.record()["infrastructure_pid"].rpartition(":")[2]  # with or without the host's name
    os.kill(int(pid), signal.SIGTERM)

    assert copy.outcome() == "Crashed"
    assert copy.seconds_to_stop() < SOON
    copy.finish()
