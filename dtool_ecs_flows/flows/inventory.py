"""The flow `inventory`: what a bucket holds, as a table."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from dtool_ecs_flows.artifacts import artifact_key, dataset_list_rows, dataset_list_summary
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.models import DatasetList
from dtool_ecs_flows.tasks import list_datasets

__all__ = ["inventory"]

DESCRIPTION = """\
Lists the datasets of a bucket as a table: name, UUID, state, creator, times, and tags on request.

Nothing is written to the bucket, and no item is read.
"""


@flow(name="inventory", description=DESCRIPTION)
def inventory(bucket: EcsBucket, with_tags: bool = False) -> DatasetList:
    """List the datasets of a bucket.

    Args:
        bucket: The bucket to look into.
        with_tags: Read the tags too, which costs one request for each dataset.

    Returns:
        The datasets by name, and what could not be read.
    """
    listing = list_datasets(bucket.base_uri, buckets=bucket, tags=with_tags)
    create_table_artifact(
        dataset_list_rows(listing),
        key=artifact_key("inventory", bucket.bucket),
        description=dataset_list_summary(listing),
    )
    return listing
