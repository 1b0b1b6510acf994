"""What a dataset made by a run says about where it comes from."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from prefect import flow, task
from prefect.runtime import flow_run
from pydantic import BaseModel, SecretStr

from dtool_ecs_flows import DatasetWriter, list_datasets
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.publish import Description, publish
from dtool_ecs_flows.provenance import _git_commit, provenance, publish_dataset
from tests.flows.conftest import MakeDataset, PrefectApi


def annotations_of(uri: str, block: EcsBucket) -> dict[str, Any]:
    with block.active():
        dataset = dtoolcore.DataSet.from_uri(uri)
        return {name: dataset.get_annotation(name) for name in dataset.list_annotation_names()}


def test_the_publish_flow_records_the_run_and_draws_the_dataset(
    block: EcsBucket, make: MakeDataset, tmp_path: Path, api: PrefectApi
) -> None:
    """A folder becomes a dataset with README, tags, source and the run that made it; the artifact leads to it."""
    raw = make("raw")
    folder = tmp_path / "results"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "means.csv").write_text("a,b\n1,2\n")

    made = publish(
        str(folder),
        "results",
        block,
        Description(readme="---\nabout: means\n", tags=["final"], derived_from=[raw.uri], creator="ada"),
    )

    with block.active():
        dataset = dtoolcore.DataSet.from_uri(made.uri)
        assert [dataset.item_properties(each)["relpath"] for each in dataset.identifiers] == ["tables/means.csv"]
        assert dataset.get_readme_content() == "---\nabout: means\n"
        assert dataset.list_tags() == ["final"]
        assert dataset._admin_metadata["creator_username"] == "ada"
    told = annotations_of(made.uri, block)
    assert told["prefect_flow_run"]["parameters"]["name"] == "results"
    assert told["source_dataset_uri"] == raw.uri
    drawn = api.artifact(f"publish-{block.bucket}")["data"]
    assert made.uri in drawn
    assert raw.uri in drawn


def test_a_step_that_fails_publishes_nothing(block: EcsBucket) -> None:
    """An exception in the step leaves a proto dataset, which nobody takes for a result."""

    @task
    def step(bucket: EcsBucket) -> None:
        with publish_dataset("half", bucket) as out:
            out.put_bytes(b"begun", "begun.txt")
            raise ZeroDivisionError("on purpose")

    @flow
    def pipeline(bucket: EcsBucket) -> None:
        step(bucket)

    with pytest.raises(ZeroDivisionError):
        pipeline(block)
    listing = list_datasets(block.base_uri, settings=block.settings())
    assert [info.type for info in listing.datasets] == ["protodataset"]


def test_a_base_uri_does_in_place_of_a_block(source: str) -> None:
    """The same step writes to a folder, for instance in a test of the pipeline itself."""
    with publish_dataset("local", source, annotations={"mine": 1}) as out:
        assert isinstance(out, DatasetWriter)
        out.staging_path("a.txt").write_text("a")
    dataset = dtoolcore.DataSet.from_uri(out.uri)
    assert dataset.get_annotation("mine") == 1
    assert set(dataset.list_annotation_names()) >= {"software", "mine"}


class Colour(Enum):
    RED = "red"


class Login(BaseModel):
    user: str = "ada"
    password: str = "hunter2"
    passphrase: str = "hunter2"
    pin: SecretStr = SecretStr("hunter2")


def test_no_secret_is_recorded(block: EcsBucket) -> None:
    """Blocks appear by name, secrets as stars, URLs without their password, strange objects by their type alone."""

    @task
    def step(**parameters: Any) -> dict[str, Any]:
        return provenance()

    @flow
    def pipeline(bucket: EcsBucket) -> dict[str, Any]:
        return step(
            bucket=bucket,
            login=Login(),
            api_token="hunter2",
            url="https://ada:hunter2@example.org/data?X-Amz-Signature=hunter2&page=1",
            nested=[{"secret_access_key": "hunter2"}, SecretStr("hunter2"), SystemError("hunter2")],
            colour=Colour.RED,
            keep=float("nan"),
            path=Path("a/b"),
        )

    told = pipeline(block)
    assert "hunter2" not in str(told)
    assert block.secret_access_key.get_secret_value() not in str(told)
    parameters = told["prefect_task_run"]["parameters"]["parameters"]
    assert parameters["bucket"] == "block ecs-bucket/not saved"
    assert parameters["login"]["user"] == "ada"
    assert parameters["url"].startswith("https://")
    assert parameters["url"].endswith("&page=1")
    assert (parameters["colour"], parameters["path"], parameters["keep"]) == ("red", "a/b", "nan")


def test_long_parameters_are_cut() -> None:
    """A parameter with a million entries does not become an annotation with a million entries."""

    @flow
    def pipeline(numbers: list[int], text: str) -> dict[str, Any]:
        return provenance()

    parameters = pipeline(list(range(1000)), "x" * 5000)["prefect_flow_run"]["parameters"]
    assert parameters["numbers"][-1] == "… 900 more"
    assert parameters["text"].endswith("… (5000 characters)")
    assert len(parameters["text"]) < 1100


def test_the_flow_run_is_named_as_in_the_ui() -> None:
    """Identifier, name and address are those under which the UI shows the run."""

    @flow
    def pipeline() -> tuple[str, dict[str, Any]]:
        return str(flow_run.id), provenance()

    run_id, told = pipeline()
    assert told["prefect_flow_run"]["id"] == run_id
    assert told["prefect_flow_run"]["url"].endswith(f"/runs/flow-run/{run_id}")
    assert "prefect_task_run" not in told


def test_outside_of_a_run_there_is_no_run_to_tell_of() -> None:
    """A script without Prefect can record its software all the same."""
    assert "prefect_flow_run" not in provenance()
    assert provenance()["software"]["python"].startswith(f"{sys.version_info.major}.")


def test_the_commit_of_the_code_is_recorded(tmp_path: Path) -> None:
    """Commit, path in the repository and whether there were changes; the password in a remote's URL is not."""
    script = tmp_path / "flows" / "step.py"
    script.parent.mkdir()
    script.write_text("print()")

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert not _git_commit(script)
    git("init", "--quiet")
    git("remote", "add", "origin", "https://ada:hunter2@example.org/flows.git")
    git("add", ".")
    git("commit", "--quiet", "--message", "A step")
    assert _git_commit(script) == {
        "commit": git("rev-parse", "HEAD"),
        "dirty": False,
        "file": "flows/step.py",
        "repository": "https://**********@example.org/flows.git",
    }
    script.write_text("print(1)")
    assert _git_commit(script)["dirty"] is True
    (tmp_path / ".gitignore").write_text("ignored.py")
    ignored = tmp_path / "ignored.py"
    ignored.touch()
    assert not _git_commit(ignored)
