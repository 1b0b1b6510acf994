"""One large dataset into a bucket by all workers of a Dask cluster, a shard each.

    pip install "dtool-ecs-flows[dask]"
    dask scheduler                                  # in a terminal of its own
    dask worker tcp://scheduler:8786 --nthreads 1     # likewise, on as many machines as there are
    python flows/archive_on_dask.py file:///data/datasets/large my-bucket --scheduler tcp://scheduler:8786

Every worker sees the dataset and the bucket, and has this package and PREFECT_API_URL. Each makes as many requests at
once as the bucket's setting says. A worker that is lost costs the rest of its shard; the others take it up.
"""

from __future__ import annotations

import argparse
from typing import Any, cast

from prefect import flow
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.models import CopyReport
from dtool_ecs_flows.tasks import copy_in_shards


@flow(name="archive on dask")
def archive_on_dask(source_uri: str, bucket: EcsBucket, shards: int) -> CopyReport:
    """Copy a dataset in shards.

    Args:
        source_uri: The dataset, as all workers see it.
        bucket: The bucket that it goes into.
        shards: Into how many its items are divided.
    """
    return copy_in_shards(source_uri, bucket.base_uri, shards=shards, buckets=bucket)


def main() -> None:
    """Run once, now."""
    parser = argparse.ArgumentParser(description="Archive a large dataset with a Dask cluster.")
    parser.add_argument("source_uri")
    parser.add_argument("bucket")
    parser.add_argument("--scheduler", required=True, help="address of the Dask scheduler")
    parser.add_argument("--shards", type=int, default=16, help="some times as many as there are workers (default 16)")
    parser.add_argument("--block", action="store_true", help="the bucket is the name of an EcsBucket block")
    arguments = parser.parse_args()
    bucket = EcsBucket.load(arguments.bucket) if arguments.block else EcsBucket.configured(arguments.bucket)
    assert isinstance(bucket, EcsBucket)
    runner = cast("TaskRunner[Any]", DaskTaskRunner(address=arguments.scheduler))
    report = archive_on_dask.with_options(task_runner=runner)(arguments.source_uri, bucket, arguments.shards)
    print(f"{report.uri}: {report.items} items, {report.bytes} bytes, {report.copied_items} of them at the end")


if __name__ == "__main__":
    main()
