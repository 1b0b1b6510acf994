"""deployments/prefect.yaml on a real Prefect server with a real worker."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import stamina

from dtool_ecs_flows import BucketSettings, create_dataset, list_datasets
from tests.flows.site import ROOT, Site, prefect_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SAVE_BLOCK = """
import json, sys
from dtool_ecs_flows.blocks import EcsBucket
EcsBucket(**json.loads(sys.argv[1])).save(sys.argv[2], overwrite=True)
"""


def save_block(site: Site, settings: BucketSettings, name: str = "archive") -> None:
    values = settings.model_dump(mode="json", exclude={"cache_directory", "publish_expiry"})
    values["secret_access_key"] = settings.secret_access_key.get_secret_value()
    site.run("python", "-c", SAVE_BLOCK, json.dumps(values), name)


def ask(site: Site, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        f"{site.url}/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Prefect answers 503 while its SQLite is locked, and its own client tries again.
    for attempt in stamina.retry_context(on=_is_busy, attempts=30, timeout=120):
        with attempt, urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    raise AssertionError("attempts end by returning or raising")


def _is_busy(error: Exception) -> bool:
    if not isinstance(error, urllib.error.HTTPError):
        return False
    error.close()
    return error.code == 503


def test_every_deployment_runs_by_name(tmp_path: Path, rclone_bucket: BucketSettings) -> None:
    """With the four commands of the README all flows are deployed, run on a worker, and leave their artifacts."""
    source, files, back = tmp_path / "datasets", tmp_path / "files", tmp_path / "back"
    for folder in (source, files, back):
        folder.mkdir()
    (files / "a.txt").write_text("a")
    made = create_dataset("apples", f"file://{source}", directory=files)

    with prefect_site(tmp_path / "site") as site:
        site.run("dtool-ecs-flows", "blocks", "register")
        save_block(site, rclone_bucket)
        site.run("prefect", "work-pool", "create", "--type", "process", "dtool-ecs")
        site.run("prefect", "--no-prompt", "deploy", "--all", cwd=ROOT / "deployments")

        nightly = ask(site, "deployments/name/archive/archive-nightly")
        assert nightly["global_concurrency_limit"]["limit"] == 1
        assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert nightly["schedules"][0]["active"]
        assert nightly["pull_steps"] in ([], None)

        def run(deployment: str, **parameters: Any) -> None:
            given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
            said = site.run("prefect", "deployment", "run", deployment, *given, "--watch", "--watch-interval", "1")
            assert "Completed" in said

        by_name = {"$ref": {"block_document_slug": "ecs-bucket/archive"}}
        with site.running("prefect", "worker", "start", "--pool", "dtool-ecs"):
            run("archive/archive-nightly", source_base_uri=f"file://{source}")
            run("inventory/inventory")
            run("audit/audit-daily", history=str(tmp_path / "audits"), slices=1)
            run("retrieve/retrieve", datasets=["apples"], bucket=by_name, destination_base_uri=f"file://{back}")
            run("publish/publish", folder=str(files), name="pears", bucket=by_name)

        artifacts = {each["key"]: each for each in ask(site, "artifacts/latest/filter", {})}
        everything = json.dumps([ask(site, f"{kind}/filter", {}) for kind in ("flow_runs", "deployments", "logs")])

    names = {info.name: info.uuid for info in list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets}
    assert names["apples"] == made.uuid
    assert "pears" in names
    assert (back / "apples").is_dir()
    bucket = rclone_bucket.bucket
    assert {f"{flow}-{bucket}" for flow in ("archive", "audit", "inventory", "retrieve", "publish")} <= artifacts.keys()
    assert rclone_bucket.secret_access_key.get_secret_value() not in everything
