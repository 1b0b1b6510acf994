"""The flow `retrieve`: datasets come back out of a bucket."""

from __future__ import annotations

from prefect import flow

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.copying import choose, copy_steps, frozen_at
from dtool_ecs_flows.flows.options import CopyOptions
from dtool_ecs_flows.flows.steps import pool, run
from dtool_ecs_flows.outcomes import RunReport
from dtool_ecs_flows.tasks import list_datasets

__all__ = ["RetrieveOptions", "retrieve"]

DESCRIPTION = """\
Copies datasets out of a bucket to a folder or another dtool base URI.

- Every byte is hashed on the way and compared with the dataset's manifest.
- What is at the destination already is **compared and skipped**; what is half there is **resumed**.
- A dataset that fails does not stop the others; the run then fails with a table of what failed and why.
"""


class RetrieveOptions(CopyOptions):
    """How to retrieve."""


DEFAULTS = RetrieveOptions()


@flow(name="retrieve", description=DESCRIPTION, task_runner=pool())
def retrieve(
    datasets: list[str], bucket: EcsBucket, destination_base_uri: str, options: RetrieveOptions = DEFAULTS
) -> RunReport:
    """Copy datasets out of a bucket.

    Args:
        datasets: Names, UUIDs or URIs of the datasets. A name that several datasets have stands for all of them.
        bucket: The bucket that they are in.
        destination_base_uri: Where they go: a folder that the worker can write, as file:///data/restored, or
            another dtool base URI.
        options: How to retrieve.

    Returns:
        What became of each dataset.

    Raises:
        NotADatasetError: One of the names is not in the bucket; nothing is copied then.
        RunFailedError: Some datasets failed; the others are there.
    """
    listing = list_datasets(bucket.base_uri, buckets=bucket, tags=bool(options.tags))
    buckets = [bucket, *options.other_buckets]
    steps = copy_steps(
        choose(listing, datasets) if datasets else (),
        destination_base_uri,
        buckets,
        chosen=options.filter,
        there=frozen_at(destination_base_uri, buckets) if options.dry_run else {},
    )
    return run(
        "Retrieve",
        steps,
        source=bucket.base_uri,
        destination=destination_base_uri,
        key=bucket.bucket,
        options=options,
    )
