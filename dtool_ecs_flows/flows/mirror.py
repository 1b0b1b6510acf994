"""The flow `mirror`: what is in one bucket and not in another, or not at another base URI, is copied there."""

from __future__ import annotations

from prefect import flow

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.flows.copying import copy_steps, frozen_at
from dtool_ecs_flows.flows.options import CopyOptions
from dtool_ecs_flows.flows.steps import pool, run
from dtool_ecs_flows.outcomes import RunReport
from dtool_ecs_flows.tasks import list_datasets

__all__ = ["MirrorOptions", "mirror"]

DESCRIPTION = """\
Copies what is in one bucket, and not yet at the destination, to the destination: another bucket, or any dtool base URI.

- **One way**: nothing is changed in the first bucket, and nothing is removed at the destination.
- **Only what is missing**: both are listed, and a dataset that is frozen at the destination is not looked into again.
- What is half there is **resumed**. Between buckets of one endpoint the server copies, and no byte passes the worker.
- A dataset that fails does not stop the others; the run then fails with a table of what failed and why.
"""


class MirrorOptions(CopyOptions):
    """What to mirror, and how."""


DEFAULTS = MirrorOptions()


@flow(name="mirror", description=DESCRIPTION, task_runner=pool())
def mirror(source_bucket: EcsBucket, destination: EcsBucket | str, options: MirrorOptions = DEFAULTS) -> RunReport:
    """Copy what is missing at the destination, one way.

    Args:
        source_bucket: The bucket that is mirrored. Nothing is changed in it.
        destination: The bucket that becomes the mirror, or a text with another dtool base URI, for example a folder
            that the worker can write, as file:///mnt/mirror.
        options: What to mirror, and how.

    Returns:
        What became of each dataset.

    Raises:
        RunFailedError: Some datasets failed; the others are there.
    """
    buckets = [source_bucket, *options.other_buckets]
    if isinstance(destination, EcsBucket):
        buckets.append(destination)
    base_uri = destination.base_uri if isinstance(destination, EcsBucket) else destination
    if not base_uri.strip() or base_uri.rstrip("/") == source_bucket.base_uri:
        raise SettingsError(
            f"{source_bucket.base_uri} cannot be mirrored to {base_uri or 'nowhere'}: choose another destination. Two "
            "buckets of one name, on two endpoints, cannot be told apart"
        )
    listing = list_datasets(source_bucket.base_uri, buckets=buckets, tags=bool(options.tags))
    steps = copy_steps(listing.datasets, base_uri, buckets, chosen=options.filter, there=frozen_at(base_uri, buckets))
    return run(
        "Mirror",
        steps,
        source=source_bucket.base_uri,
        destination=base_uri,
        key=source_bucket.bucket,
        options=options,
    )
