"""A real Prefect server for all tests of flows, and datasets to move."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client

from dtool_ecs_flows import BucketSettings, CreateReport, create_dataset
from dtool_ecs_flows.blocks import EcsBucket

MakeDataset = Callable[..., CreateReport]


@pytest.fixture(scope="session", autouse=True)
def server_is_there(prefect_server: str) -> None:
    """Flows run under a Prefect server, in each of these tests."""


@task
def nothing() -> None:
    """Do nothing."""


@flow
def with_nothing(name: str) -> None:
    """Make a task run of this name."""
    nothing.with_options(task_run_name=name)()


class PrefectApi:
    """What the server has on record, read as a browser would."""

    def records(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        """Return all records of a kind: flow_runs, task_runs, logs, artifacts."""
        with get_client(sync_client=True) as client:
            found = client.request("POST", f"/{kind}/filter", json=filters).json()  # type: ignore[arg-type]
        assert isinstance(found, list)
        return found

    def task_runs(self) -> list[dict[str, Any]]:
        """Return the task runs when all are on record: they go there as events, one after the other, and take a while.

        So one more is made, and waited for.
        """
        name = f"last of all, {uuid4()}"
        with_nothing(name)
        until = time.monotonic() + 120
        while True:
            found = self.records("task_runs")
            if any(each["name"] == name and each["state_type"] == "COMPLETED" for each in found):
                return found
            assert time.monotonic() < until, "the server has not heard of the last task run"
            time.sleep(0.1)

    def events(self, name: str, resource: str) -> list[dict[str, Any]]:
        """Return the events of a name about a resource, when the first is on record: that takes a while."""
        wanted = {"event": {"name": [name]}, "resource": {"id": [resource]}}
        until = time.monotonic() + 120
        with get_client(sync_client=True) as client:
            while True:
                answer = client.request("POST", "/events/filter", json={"filter": wanted}).json()
                if answer["events"] or time.monotonic() > until:
                    found: list[dict[str, Any]] = answer["events"]
                    return found
                time.sleep(0.2)

    def text(self) -> str:
        """Return everything that the server has on record, but for the blocks, as one text."""
        with get_client(sync_client=True) as client:
            kinds = ("flow_runs", "task_runs", "logs", "artifacts", "deployments")
            texts = [client.request("POST", f"/{kind}/filter", json={}).text for kind in kinds]  # type: ignore[arg-type]
            texts.append(client.request("POST", "/events/filter", json={"filter": {}, "limit": 50}).text)
        return "\n".join(texts)

    def artifact(self, key: str) -> dict[str, Any]:
        """Return the newest artifact of a key."""
        with get_client(sync_client=True) as client:
            answer: dict[str, Any] = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
        return answer


@pytest.fixture
def api() -> PrefectApi:
    """The records of the Prefect server."""
    return PrefectApi()


def block_of(settings: BucketSettings, **changes: Any) -> EcsBucket:
    """Return a block with these settings."""
    values = {**settings.model_dump(exclude={"cache_directory", "publish_expiry"}), **changes}
    return EcsBucket(**values)


@pytest.fixture
def block(rclone_bucket: BucketSettings) -> EcsBucket:
    """The block of a fresh bucket on the server that runs anywhere."""
    return block_of(rclone_bucket)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """An empty base URI on disk."""
    folder = tmp_path / "source"
    folder.mkdir()
    return f"file://{folder}"


@pytest.fixture
def make(source: str, tmp_path: Path) -> MakeDataset:
    """Make a frozen dataset with some files in the source."""

    def make_dataset(name: str, **contents: str) -> CreateReport:
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        for stem, text in (contents or {"first": "one", "second": "two"}).items():
            (folder / f"{stem}.txt").write_text(text)
        return create_dataset(name, source, directory=folder, readme=f"---\nname: {name}\n")

    return make_dataset
