"""The task that takes an inventory."""

from __future__ import annotations

from dtool_ecs_flows import datasets
from dtool_ecs_flows.datasets.inventory import Inventory, Place
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, told
from dtool_ecs_flows.words import human_bytes, human_seconds, plural


@operation("inventory of", "base_uri")
def inventory_bucket(
    base_uri: str,
    *,
    previous: Inventory | Place | None = None,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> Inventory:
    """Take an inventory of a bucket; what the previous one knows and has not changed since is not read again.

    Args:
        base_uri: Base URI of the bucket, for example ecs://my-bucket.
        previous: The previous inventory, or the path of its JSON file, which need not be there yet.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Requests at once; by default as the bucket says.

    Returns:
        The datasets by name, with items, bytes and tags, and what could not be read.
    """
    with told(f"Taking the inventory of {base_uri}") as logger:
        found = datasets.inventory_bucket(
            base_uri,
            previous=previous,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            stop=StopSignal(),
        )
    logger.info(
        "%s in %s, %s, %d new or changed, in %s",
        plural(len(found), "dataset"),
        found.base_uri,
        human_bytes(found.bytes),
        found.changed,
        human_seconds(found.seconds),
    )
    return found
