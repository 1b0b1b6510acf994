"""A run that is stopped stops soon, and the next one takes up its work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import prefect.settings
import pytest

from dtool_ecs_flows import BucketSettings, create_dataset, list_datasets
from dtool_ecs_flows.flows.archive import archive
from tests.flows.conftest import block_of
from tests.independent import Raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ITEMS = 6000

ARCHIVE = """
import json, sys
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.archive import archive
archive(sys.argv[1], EcsBucket(**json.loads(sys.argv[2])))
"""

THEIR_OWN = """
import json, sys
from prefect import flow
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.tasks import copy_dataset, list_datasets

@flow
def theirs(source, bucket):
    copies = [
        copy_dataset.submit(info.uri, bucket.base_uri, buckets=bucket) for info in list_datasets(source).datasets
    ]
    [copy.result() for copy in copies]

theirs(sys.argv[1], EcsBucket(**json.loads(sys.argv[2])))
"""


@pytest.mark.parametrize("script", [ARCHIVE, THEIR_OWN], ids=["our flow", "a flow of somebody else's"])
def test_a_run_that_is_terminated_stops_soon_and_is_resumed(
    rclone_bucket: BucketSettings, source: str, tmp_path: Path, script: str
) -> None:
    """SIGTERM, which is what a cancel sends, ends the copy in seconds; what was sent is not sent again."""
    files = tmp_path / "many"
    files.mkdir()
    for number in range(ITEMS):
        (files / str(number)).write_text(str(number))
    create_dataset("many", source, directory=files)
    slow = block_of(rclone_bucket, concurrency=1)
    values = {**slow.model_dump(), "secret_access_key": slow.secret_access_key.get_secret_value()}
    values.pop("block_type_slug")

    process = subprocess.Popen(
        [sys.executable, "-c", script, source, json.dumps(values)],
        env={**os.environ, "PREFECT_API_URL": str(prefect.settings.PREFECT_API_URL.value())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Copying" in line:
            break
    raw, until = Raw(rclone_bucket), time.monotonic() + 120
    while not any("/data/" in key for key in raw.listed()):
        assert time.monotonic() < until, "no item arrives"
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "Stopped: what is there can be resumed" in said

    (half,) = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets
    assert half.type == "protodataset"
    (rest,) = archive(source, block_of(rclone_bucket)).datasets
    assert rest.outcome == "copied"
    assert rest.copied_items < ITEMS
