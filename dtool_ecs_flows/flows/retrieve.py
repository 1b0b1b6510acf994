"""The flow `retrieve`: datasets come back out of a bucket."""

from __future__ import annotations

from prefect import flow

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.copying import CopyOptions, choose, copy_all, pool
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
    listing = list_datasets(bucket.base_uri, buckets=bucket)
    return copy_all(
        "Retrieve",
        choose(listing, datasets) if datasets else (),
        source=bucket.base_uri,
        destination=destination_base_uri,
        bucket=bucket,
        update_metadata=False,
        at_once=options.at_once,
        dry_run=options.dry_run,
    )
