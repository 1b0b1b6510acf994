"""The pipelines in flows/ run as they are: as scripts, with arguments or the environment."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import dtoolcore
import prefect.settings
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets
from dtool_ecs_flows.errors import UnsafeNameError
from tests.flows.conftest import MakeDataset, block_of

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # each starts Python and imports Prefect anew


def environment_of(bucket: BucketSettings) -> dict[str, str]:
    return {
        f"DTOOL_ECS_ENDPOINT_{bucket.bucket}": bucket.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{bucket.bucket}": bucket.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket.bucket}": bucket.secret_access_key.get_secret_value(),
    }


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of flows/ against the tests' Prefect server."""
    api = prefect.settings.PREFECT_API_URL.value()
    return subprocess.run(
        [sys.executable, str(ROOT / "flows" / name), *arguments],
        env={**os.environ, "PREFECT_API_URL": str(api), **environment},
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
    )


def test_the_nightly_archive_copies_and_reads_back(
    rclone_bucket: BucketSettings, make: MakeDataset, source: str
) -> None:
    """Arguments or environment say what goes where; the second night finds all of it there."""
    made = make("apples")
    folder, name = source.removeprefix("file://"), rclone_bucket.bucket
    first = run("nightly_archive.py", folder, name, **environment_of(rclone_bucket))
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["copied", "apples", f"ecs://{name}/{made.uuid}"]
    assert "Verified apples" in first.stderr

    variables = {"DTOOL_ARCHIVE_SOURCE": folder, "DTOOL_ARCHIVE_BUCKET": name}
    second = run("nightly_archive.py", **variables, **environment_of(rclone_bucket))
    assert second.stdout.startswith("already there"), second.stderr


def test_the_nightly_archive_fails_aloud(rclone_bucket: BucketSettings, make: MakeDataset, source: str) -> None:
    """With a damaged dataset the exit status is not 0, the reason is said, and the good one is archived."""
    make("good")
    bad = make("spoilt")
    file = next(Path(dtoolcore.DataSet.from_uri(bad.uri)._storage_broker._data_abspath).iterdir())
    file.write_text("damaged")
    night = run("nightly_archive.py", source, rclone_bucket.bucket, **environment_of(rclone_bucket))
    assert night.returncode == 1
    assert "Error: 1 of 2 datasets failed, the first spoilt" in night.stderr
    frozen = [
        i.name for i in list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets if i.type == "dataset"
    ]
    assert frozen == ["good"]


def test_the_nightly_archive_of_no_folder_is_refused(rclone_bucket: BucketSettings) -> None:
    """In a deployment, a variable that is not set would have been the worker's current folder."""
    nightly_archive = runpy.run_path(str(ROOT / "flows" / "nightly_archive.py"))["nightly_archive"]

    with pytest.raises(UnsafeNameError, match="names no place"):
        nightly_archive("", block_of(rclone_bucket))


def test_the_analysis_publishes_means_with_their_source(
    rclone_bucket: BucketSettings, source: str, tmp_path: Path
) -> None:
    """Means and counts are right, what was not measured is left out, and the result names the dataset it is from."""
    table = tmp_path / "birds.csv"
    table.write_text("species,mass\nrobin,10\nrobin,20\nwren,9\nwren,NA\n")
    raw = create_dataset("birds", source, files={"birds.csv": table, "notes.txt": table})
    uri = copy_dataset(raw.uri, rclone_bucket.base_uri, settings=rclone_bucket).uri

    done = run("analysis_publish.py", uri, "--group-by", "species", **environment_of(rclone_bucket))

    assert done.returncode == 0, done.stderr
    result = done.stdout.strip()
    local = copy_dataset(result, source, settings=rclone_bucket)
    dataset = dtoolcore.DataSet.from_uri(local.uri)
    assert dataset.get_annotation("source_dataset_uuid") == raw.uuid
    (item,) = dataset.identifiers
    assert dataset.item_properties(item)["relpath"] == "means/birds.csv"
    with Path(dataset.item_content_abspath(item)).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["robin", "mass", "2", "15.000", "7.071"], ["wren", "mass", "1", "9.000", "0.000"]]
