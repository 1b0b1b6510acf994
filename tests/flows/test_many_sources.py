"""deployments/archives.yaml: one deployment for each source, on a real Prefect server with a real worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.importtools import import_object
from ruamel.yaml import YAML

from dtool_ecs_flows import BucketSettings, list_datasets
from dtool_ecs_flows.blocks import EcsBucket
from tests.conftest import new_bucket
from tests.flows.conftest import block_of
from tests.flows.site import ROOT, ask, prefect_site, save_block
from tests.servers import S3Server

ARCHIVES = ROOT / "deployments" / "archives.yaml"


def entries(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in YAML(typ="safe").load(path)["deployments"]}


@pytest.mark.parametrize("path", [ARCHIVES, ROOT / "deployments" / "prefect.yaml"], ids=lambda path: path.name)
def test_the_parameters_of_each_entry_are_those_of_its_flow(path: Path, rclone_bucket: BucketSettings) -> None:
    """A name that was misspelt in one of the files would fail every night; here it fails at once."""
    block = block_of(rclone_bucket)
    for entry in entries(path).values():
        flow = import_object(entry["entrypoint"])
        given = {
            name: block if isinstance(value, dict) and "$ref" in value else value
            for name, value in entry.get("parameters", {}).items()
        }
        # What a person fills in is in no file.
        missing = [name for name in flow.parameters.required if name not in given]
        assert not (missing and "schedules" in entry)
        if not missing:
            assert isinstance(flow.validate_parameters(given)["bucket"], EcsBucket)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_source_has_a_deployment_that_overtakes_nobody(
    tmp_path: Path, rclone: S3Server, rclone_bucket: BucketSettings
) -> None:
    """With the two commands of the page all sources are deployed and wait for each other; one is run by its name.

    So is a mirror, which is given two blocks by their names, as the form gives them.
    """
    other = new_bucket(rclone)
    base = tmp_path / "microscope"
    for name in ("image-1", "image-2"):
        (base / name).mkdir(parents=True)
        (base / name / "pixels").write_text(name)
    (base / "image-1" / "_DONE").touch()

    with prefect_site(tmp_path / "site") as site:
        site.run("dtool-ecs-flows", "blocks", "register")
        save_block(site, rclone_bucket)
        save_block(site, other, "mirror")
        site.run("prefect", "work-pool", "create", "--type", "process", "dtool-ecs")
        site.run("prefect", "work-queue", "create", "archives", "--pool", "dtool-ecs", "--limit", "1")
        command = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "archives.yaml")
        site.run(*command, cwd=ROOT / "deployments")

        for name, entry in entries(ARCHIVES).items():
            deployed = ask(site, f"deployments/name/archive/{name}")
            assert deployed["work_queue_name"] == "archives"
            assert deployed["global_concurrency_limit"]["limit"] == 1
            assert deployed["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
            assert [each["schedule"]["cron"] for each in deployed["schedules"]] == [
                each["cron"] for each in entry["schedules"]
            ]
        assert ask(site, "work_pools/dtool-ecs/queues/archives")["concurrency_limit"] == 1

        site.run("prefect", "--no-prompt", "deploy", "--name", "mirror", cwd=ROOT / "deployments")
        first, second = ({"$ref": {"block_document_slug": f"ecs-bucket/{name}"}} for name in ("archive", "mirror"))
        options = {"source_holds": "plain folders", "other_buckets": [second]}
        with site.running("prefect", "worker", "start", "--pool", "dtool-ecs"):
            given = [f"--param=source_base_uri={json.dumps(str(base))}", f"--param=options={json.dumps(options)}"]
            said = site.run("prefect", "deployment", "run", "archive/microscope", *given, "--watch")
            assert "Completed" in said
            given = [f"--param=source_bucket={json.dumps(first)}", f"--param=destination={json.dumps(second)}"]
            said = site.run("prefect", "deployment", "run", "mirror/mirror", *given, "--watch")
            assert "Completed" in said

    (made,) = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket, tags=True).datasets
    assert [info.uuid for info in list_datasets(other.base_uri, settings=other).datasets] == [made.uuid]
    assert (made.name, made.type, made.tags) == ("image-1", "dataset", ("microscope",))
