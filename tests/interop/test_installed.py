"""The package as its users install it: with the newest of everything that its own requirements allow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings
from tests.conformance.helpers import environment
from tests.independent import Raw
from tests.interop.environments import install

ARCHIVE = """
import sys
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.archive import archive

if __name__ == "__main__":
    report = archive(sys.argv[1], EcsBucket.configured(sys.argv[2]))
    print([dataset.outcome for dataset in report.datasets])
"""


TYPED = """
from typing_extensions import assert_type

from dtool_ecs_flows import BucketSettings, CopyReport, copy_dataset, list_datasets
from dtool_ecs_flows.blocks import EcsBucket


def report_of(bucket: EcsBucket, settings: BucketSettings) -> None:
    assert_type(copy_dataset("file:///a", bucket.base_uri, settings=settings), CopyReport)
    assert_type([dataset.name for dataset in list_datasets(bucket.base_uri).datasets], list[str])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, distributions: Path) -> Path:
    """The folder with the commands of an environment that pip has made from the sdist and dtool, without pins."""
    (sdist,) = distributions.glob("*.tar.gz")
    return install(tmp_path_factory.mktemp("installed"), [str(sdist), "dtool==3.27.0"])


def run(command: list[str], variables: Mapping[str, str], *, stdin: str = "", folder: Path | None = None) -> str:
    inherited = {**os.environ, **variables}
    done = subprocess.run(
        command, env=inherited, cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_pip_alone_installs_what_works(
    installed: Path, rclone_bucket: BucketSettings, home: Path, tmp_path: Path
) -> None:
    """Beside `dtool`: the command makes a dataset and moves it, and a flow archives it on Prefect's own server."""
    variables = {**environment(rclone_bucket), "HOME": str(home), "PREFECT_HOME": str(tmp_path / "prefect")}
    dtool = str(installed / "dtool")
    (tmp_path / "datasets").mkdir()
    uri = run([dtool, "create", "--quiet", "penguins", str(tmp_path / "datasets")], variables).strip()
    (tmp_path / "item.txt").write_text("content")
    run([dtool, "add", "item", str(tmp_path / "item.txt"), uri], variables)
    run([dtool, "freeze", uri], variables)

    flow = tmp_path / "archive_datasets.py"
    flow.write_text(ARCHIVE)
    said = run([str(installed / "python"), str(flow), str(tmp_path / "datasets"), rclone_bucket.bucket], variables)

    assert "['copied']" in said
    assert "penguins" in run([dtool, "ls", rclone_bucket.base_uri], variables)
    assert b"content" in {Raw(rclone_bucket).get(key) for key in Raw(rclone_bucket).listed()}
    assert run([str(installed / "dtool-ecs-flows"), "--version"], variables).startswith("dtool-ecs-flows")


def test_who_checks_types_has_them(installed: Path, tmp_path: Path) -> None:
    """A program's types are checked against those of the installed package, lazy imports included."""
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    checker = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed / "python")]
    # In a folder that is not the repository, whose package mypy would take before the installed one.
    run([*checker, "--cache-dir", str(tmp_path / "cache"), str(program)], {"PYTHONPATH": ""}, folder=tmp_path)
