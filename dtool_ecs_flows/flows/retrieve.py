"""The flow `retrieve`: datasets, or some of their items, come back out of a bucket."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture
from pydantic import Field

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.folders import local_path
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.flows.copying import choose, copy_steps, frozen_at
from dtool_ecs_flows.flows.options import CopyOptions
from dtool_ecs_flows.flows.steps import named, pool, run
from dtool_ecs_flows.models import DatasetInfo
from dtool_ecs_flows.outcomes import RunReport
from dtool_ecs_flows.plugins import without_signature
from dtool_ecs_flows.tasks import list_datasets, retrieve_items

__all__ = ["RetrieveOptions", "retrieve"]

DESCRIPTION = """\
Copies datasets out of a bucket to a folder or another dtool base URI; or some of their items to a folder.

- Every byte is hashed on the way and compared with the dataset's manifest.
- What is at the destination already is **compared and skipped**; what is half there is **resumed**.
- A dataset that fails does not stop the others; the run then fails with a table of what failed and why.
- **Some items** come as plain files, in a folder for each dataset that is no dtool dataset: README.yml and
  selection.json beside them tell which dataset they are of, with its tags, annotations, hashes and overlays.
"""


class RetrieveOptions(CopyOptions):
    """What to retrieve, and how."""

    items: list[str] = Field(
        default=[],
        title="Only items that fit",
        description="Patterns of paths inside the datasets, for example raw/*.csv. One of them has to fit; with none, "
        "whole datasets are retrieved, but for what is said of an overlay.",
        json_schema_extra={"position": 0},
    )
    overlay: str = Field(
        default="",
        title="Only items with this overlay",
        description="Name of an overlay; items fit for which it says something.",
        json_schema_extra={"position": 1},
    )
    overlay_values: list[str] = Field(
        default=[],
        title="Values of the overlay",
        description="Patterns of values, of which one has to fit, for example true or mm*. With none, any value does.",
        json_schema_extra={"position": 2},
    )


DEFAULTS = RetrieveOptions()


@flow(name="retrieve", description=DESCRIPTION, task_runner=pool())
def retrieve(
    datasets: list[str], bucket: EcsBucket, destination_base_uri: str, options: RetrieveOptions = DEFAULTS
) -> RunReport:
    """Copy datasets out of a bucket.

    Args:
        datasets: Names, UUIDs or URIs of the datasets. A name that several datasets have stands for all of them. An
            asterisk alone stands for all datasets that fit the options.
        bucket: The bucket that they are in.
        destination_base_uri: Where they go: a folder that the worker can write, as file:///data/restored, or
            another dtool base URI. Single items go to a folder only.
        options: What to retrieve, and how.

    Returns:
        What became of each dataset.

    Raises:
        NotADatasetError: One of the names is not in the bucket; nothing is copied then.
        RunFailedError: Some datasets failed; the others are there.
    """
    if options.overlay_values and not options.overlay:
        raise SettingsError("values of an overlay were given, and not which overlay")
    some = bool(options.items or options.overlay)
    folder = local_path(destination_base_uri) if some else ""
    buckets = [bucket, *options.other_buckets]
    listing = list_datasets(bucket.base_uri, buckets=bucket, tags=bool(options.tags))
    wanted = [name for name in datasets if name.strip()]
    every = wanted == ["*"]

    def begin(info: DatasetInfo) -> PrefectFuture[Any]:
        return named(retrieve_items, "retrieve items of", info.name or without_signature(info.uri), info.uuid).submit(
            info.uri,
            folder,
            patterns=options.items,
            overlay=options.overlay,
            values=options.overlay_values,
            buckets=buckets,
        )

    steps = copy_steps(
        listing.datasets if every else choose(listing, wanted) if wanted else (),
        destination_base_uri,
        buckets,
        chosen=options.filter,
        there=frozen_at(destination_base_uri, buckets) if options.dry_run and not some else {},
        begin=begin if some else None,
    )
    return run(
        "Retrieve",
        steps,
        source=bucket.base_uri,
        destination=destination_base_uri,
        key=bucket.bucket,
        options=options,
    )
