"""What deployments/ sets up without containers: systemd's units, a real PostgreSQL, every deployment by name."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dtool_ecs_flows import BucketSettings, create_dataset, list_datasets
from tests.flows.site import DEPLOYMENTS, Site, ask, prefect_site, save_block
from tests.servers import ServerUnavailableError
from tests.servers.postgres import postgres
from tests.units import service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PATIENCE = 300.0  # seconds, until a run has ended
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of an empty database: skipped where there is no PostgreSQL, but not in CI or under REQUIRE_POSTGRES=1."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres())
        except ServerUnavailableError as error:
            if os.environ.get("CI") or os.environ.get("REQUIRE_POSTGRES"):
                raise
            pytest.skip(f"no PostgreSQL: {error}")
        yield url


def deployments() -> dict[str, dict[str, Any]]:
    """The deployments of prefect.yaml, by the name that a person gives at a terminal."""
    document = YAML(typ="safe").load(DEPLOYMENTS / "prefect.yaml")
    return {f"{each['entrypoint'].rpartition('.')[2]}/{each['name']}": each for each in document["deployments"]}


NOTIFY = """
from prefect.blocks.notifications import SlackWebhook
print(SlackWebhook(url="https://hooks.example.org/services/of-no-use").save("operators"))
"""


def automate(site: Site, folder: Path, destination: Path) -> None:
    """Load the automations, with the edits that their files ask for."""
    (notify,) = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", site.run("python", "-c", NOTIFY))
    retrieve = ask(site, "deployments/name/retrieve/retrieve")["id"]
    loaded = []
    for file in sorted((DEPLOYMENTS / "automations").iterdir()):
        text = file.read_text(encoding="utf-8").replace("ecs-bucket/my-bucket", "ecs-bucket/archive")
        text = text.replace("file:///scratch/datasets", f"file://{destination}")
        edited = retrieve if "run-deployment" in text else notify
        loaded.append(YAML(typ="safe").load(text.replace("00000000-0000-0000-0000-000000000000", edited)))
    together = folder / "automations.json"  # one command is quicker than one for each
    together.write_text(json.dumps(loaded), encoding="utf-8")
    site.run("prefect", "automation", "create", "--from-file", str(together))
    assert {each["name"] for each in ask(site, "automations/filter", {})} == {each["name"] for each in loaded}


def wait_for(path: Path) -> None:
    """Wait until a file or folder is there."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.5)


def run_all(site: Site, parameters: dict[str, dict[str, Any]]) -> None:
    """Run deployments by name, all at once, each with some parameters of its own, and wait until all are completed."""
    runs = {}
    for name, own in parameters.items():
        deployment = ask(site, f"deployments/name/{name}")
        runs[name] = ask(site, f"deployments/{deployment['id']}/create_flow_run", {"parameters": own})["id"]
    until = time.monotonic() + PATIENCE
    states: dict[str, Any] = {}
    while any(states.get(name, {}).get("type") not in ENDS for name in runs):
        assert time.monotonic() < until, states
        states = {name: ask(site, f"flow_runs/{run}")["state"] for name, run in runs.items()}
        time.sleep(0.5)
    assert {name: state["type"] for name, state in states.items()} == dict.fromkeys(runs, "COMPLETED"), states


def test_every_deployment_runs_by_name(tmp_path: Path, rclone_bucket: BucketSettings, database: str) -> None:
    """With the units' commands and those of the README, server and two workers run; so do all flows and automations."""
    names = ("datasets", "files", "back", "mirror", "scratch")
    source, files, back, mirror, scratch = (tmp_path / name for name in names)
    for folder in (source, files, back, mirror, scratch):
        folder.mkdir()
    (files / "a.txt").write_text("a")
    inventories = tmp_path / "inventories"
    made = create_dataset("apples", f"file://{source}", directory=files)
    server, workers = service("prefect-server.service"), [service("dtool-ecs-worker@.service", n) for n in "12"]
    settings = {**server.files, "PREFECT_SERVER_DATABASE_CONNECTION_URL": database}

    with ExitStack() as stack:
        site = stack.enter_context(prefect_site(tmp_path / "site", server.command, **settings))
        save_block(site, rclone_bucket)
        site.deploy(source=f"file://{source}", audits=str(tmp_path / "audits"), inventories=str(inventories))
        for worker in workers:
            environment = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(tmp_path / worker.command[-1])}
            stack.enter_context(site.running(*worker.command, log=worker.command[-1], environment=environment))

        automate(site, tmp_path, scratch)
        bucket = {"$ref": {"block_document_slug": "ecs-bucket/archive"}}
        rest: dict[str, dict[str, Any]] = {
            "archive/archive-now": {"source_base_uri": f"file://{source}", "bucket": bucket},
            "expire/expire": {"bucket": bucket, "tags": ["not-there"], "older_than_days": 1},
            "inventory/inventory": {},
            "mirror/mirror": {"source_bucket": bucket, "destination": f"file://{mirror}"},
            "audit/audit-daily": {"slices": 1},
            "retrieve/retrieve": {
                "datasets": ["apples"],
                "bucket": bucket,
                "destination_base_uri": f"file://{back}",
            },
            "publish/publish": {"folder": str(files), "name": "pears", "bucket": bucket},
        }
        run_all(site, {"archive/archive-nightly": {}})
        run_all(site, rest)
        wait_for(scratch / "apples" / ".dtool" / "manifest.json")
        assert deployments().keys() == {"archive/archive-nightly", *rest}

        for name, said in deployments().items():
            check(ask(site, f"deployments/name/{name}"), said)
        online = ask(site, "work_pools/dtool-ecs/workers/filter", {})
        assert {(each["name"], each["status"]) for each in online} == {("worker-1", "ONLINE"), ("worker-2", "ONLINE")}
        artifacts = {each["key"]: each for each in ask(site, "artifacts/latest/filter", {})}
        everything = json.dumps([ask(site, f"{kind}/filter", {}) for kind in ("flow_runs", "deployments", "logs")])
        again = site.run("python", "starter.py", "--source=file:///elsewhere", cwd=DEPLOYMENTS)

    assert "made" not in again
    assert f"variable dtool_source: is file://{source}, and stays so without --overwrite" in again
    there = {info.name: info.uuid for info in list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets}
    assert there["apples"] == made.uuid
    assert "pears" in there
    assert (back / "apples").is_dir()
    assert (mirror / "apples").is_dir()
    name = rclone_bucket.bucket
    assert {file.name for file in inventories.iterdir()} == {f"{name}.{suffix}" for suffix in ("html", "csv", "json")}
    assert {f"{flow}-{name}" for flow in ("archive", "audit", "inventory", "retrieve", "publish")} <= artifacts.keys()
    assert rclone_bucket.secret_access_key.get_secret_value() not in everything


def check(deployment: dict[str, Any], said: dict[str, Any]) -> None:
    """Compare a deployment with what prefect.yaml says of it: pool, schedule, and that no run overtakes another."""
    assert deployment["pull_steps"] in ([], None)
    assert deployment["work_pool_name"] == "dtool-ecs"
    assert [each["active"] for each in deployment["schedules"]] == [True for _ in said.get("schedules", [])]
    assert bool(said.get("schedules")) == bool(said.get("concurrency_limit"))
    if said.get("schedules"):
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
