"""The nightly archive of a site: every dataset of a folder goes into the bucket, and what is new is read back.

    python flows/nightly_archive.py /data/datasets my-bucket

The bucket's endpoint and keys are those that dtool is configured with (environment or dtool.json); with `--block` the
bucket is the name of a saved EcsBucket block instead. DTOOL_ARCHIVE_SOURCE and DTOOL_ARCHIVE_BUCKET stand for the two
arguments. Run by Prefect every night: see deployments/.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.futures import wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from dtool_ecs_flows.artifacts import artifact_key, verify_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import DatasetError
from dtool_ecs_flows.flows.archive import archive
from dtool_ecs_flows.models import VerifyReport
from dtool_ecs_flows.outcomes import RunFailedError, RunReport
from dtool_ecs_flows.tasks import verify_dataset

TWO_AT_ONCE: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2)


@flow(name="nightly archive", task_runner=TWO_AT_ONCE)
def nightly_archive(folder: str, bucket: EcsBucket) -> RunReport:
    """Archive a folder of datasets, then read back from the bucket what was copied tonight.

    Args:
        folder: Path of the folder, or any dtool base URI.
        bucket: The bucket that the datasets go into.
    """
    failure: RunFailedError | None = None
    try:
        report = archive(folder, bucket)
    except RunFailedError as error:
        # What did arrive is read back all the same, before this night counts as failed.
        failure, report = error, error.report
    damaged = read_back([dataset.uri for dataset in report.having("copied")], bucket)
    if damaged:
        raise DatasetError(f"{len(damaged)} archived datasets did not come back right: {', '.join(damaged)}")
    if failure:
        raise failure
    return report


def read_back(uris: list[str], bucket: EcsBucket) -> list[str]:
    """Read datasets from the bucket and compare every hash; return the URIs of those that are not right."""
    verifications = {uri: verify_dataset.submit(uri, buckets=bucket) for uri in uris}
    wait(list(verifications.values()))
    reports: dict[str, Any] = {uri: each.result(raise_on_failure=False) for uri, each in verifications.items()}
    for report in reports.values():
        if isinstance(report, VerifyReport) and not report.ok:
            create_markdown_artifact(verify_markdown(report), key=artifact_key("damaged", report.uuid))
    return [uri for uri, report in reports.items() if not (isinstance(report, VerifyReport) and report.ok)]


def main() -> None:
    """Run once, now."""
    parser = argparse.ArgumentParser(description="Archive a folder of dtool datasets.")
    parser.add_argument("folder", nargs="?", default=os.environ.get("DTOOL_ARCHIVE_SOURCE"))
    parser.add_argument("bucket", nargs="?", default=os.environ.get("DTOOL_ARCHIVE_BUCKET"))
    parser.add_argument("--block", action="store_true", help="the bucket is the name of an EcsBucket block")
    arguments = parser.parse_args()
    if not arguments.folder or not arguments.bucket:
        parser.error("which folder, and which bucket?")
    bucket = EcsBucket.load(arguments.bucket) if arguments.block else EcsBucket.configured(arguments.bucket)
    assert isinstance(bucket, EcsBucket)
    try:
        report = nightly_archive(arguments.folder, bucket)
    except DatasetError as error:
        sys.exit(f"Error: {error}")
    for dataset in report.datasets:
        print(f"{dataset.outcome:<14} {dataset.name} {dataset.uri}")


if __name__ == "__main__":
    main()
