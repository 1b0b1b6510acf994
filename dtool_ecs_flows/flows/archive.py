"""The flow `archive`: the datasets of one place go into a bucket."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from pydantic import Field

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.copying import CopyOptions, choose, copy_all, pool
from dtool_ecs_flows.outcomes import RunReport
from dtool_ecs_flows.tasks import list_datasets

__all__ = ["ArchiveOptions", "archive"]

DESCRIPTION = """\
Copies datasets into a bucket: all of a source, or those that are named.

- What is in the bucket already is **compared and skipped**, so running again does only what is missing.
- What is half there is **resumed**. A dataset counts as archived once every byte was hashed and found right.
- A dataset that fails does not stop the others; the run then fails with a table of what failed and why.
- A **dry run** shows the plan and copies nothing.
"""


class ArchiveOptions(CopyOptions):
    """How to archive."""

    datasets: list[str] = Field(
        default=[],
        title="Only these datasets",
        description="Names, UUIDs or URIs. With none given, every dataset of the source is archived.",
        json_schema_extra={"position": 0},
    )
    metadata_that_differs: Literal["report", "update"] = Field(
        default="report",
        title="README, tags and annotations that differ in the bucket",
        description="Report them, or make them in the bucket what they are at the source.",
        json_schema_extra={"position": 1},
    )


DEFAULTS = ArchiveOptions()


@flow(name="archive", description=DESCRIPTION, task_runner=pool())
def archive(source_base_uri: str, bucket: EcsBucket, options: ArchiveOptions = DEFAULTS) -> RunReport:
    """Copy datasets into a bucket; running again does only what is missing.

    Args:
        source_base_uri: Where the datasets are: a folder that the worker can read, as file:///data/datasets, or
            another dtool base URI.
        bucket: The bucket that they go into.
        options: How to archive.

    Returns:
        What became of each dataset.

    Raises:
        RunFailedError: Some datasets failed; the others are archived.
    """
    listing = list_datasets(source_base_uri, buckets=bucket)
    return copy_all(
        "Archive",
        choose(listing, options.datasets),
        source=source_base_uri,
        destination=bucket.base_uri,
        bucket=bucket,
        update_metadata=options.metadata_that_differs == "update",
        at_once=options.at_once,
        dry_run=options.dry_run,
    )
