"""One large dataset by many workers: a task for each shard, wherever the flow's task runner runs it."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.futures import wait

from dtool_ecs_flows import datasets
from dtool_ecs_flows.models import CopyReport, ShardReport
from dtool_ecs_flows.tasks.operations import copy_dataset
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, shown
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line


@operation("copy a shard of", "source_uri")
def copy_shard(
    source_uri: str,
    base_uri: str,
    shard: int,
    shards: int,
    *,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> ShardReport:
    """Copy some items of a frozen dataset to another base URI; `copy_dataset` finishes it.

    Args:
        source_uri: URI of a frozen dataset, as the worker sees it.
        base_uri: Base URI to copy it to, for example ecs://my-bucket.
        shard: Which one, from 1 to `shards`.
        shards: How many there are; the same number in each call.
        buckets: Blocks of the buckets that it comes from and goes to.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was copied, and what was there.
    """
    with shown(f"Copying shard {shard} of {shards} of {source_uri} to {base_uri}") as (logger, progress):
        report = datasets.copy_shard(
            source_uri,
            base_uri,
            shard,
            shards,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    logger.info(
        "Copied shard %d of %d of %s: %d of %d items, %s, in %s",
        shard,
        shards,
        one_line(report.name),
        report.copied_items,
        report.items,
        human_bytes(report.copied_bytes),
        human_seconds(report.seconds),
    )
    return report


def copy_in_shards(
    source_uri: str,
    base_uri: str,
    *,
    shards: int,
    buckets: Buckets = (),
    config_path: str | None = None,
    update_metadata: bool = False,
    concurrency: int | None = None,
) -> CopyReport:
    """Copy a dataset by many workers; called in a flow, whose task runner says which: Dask, or its own threads.

    Each shard is a task. When all have ended, the copy of the whole sends what is missing, because a shard failed or
    its worker died, compares all of it with one listing, and freezes. Take some times as many shards as workers: then
    less is left to others when a worker is slow, or is lost.

    Args:
        source_uri: URI of a frozen dataset, as all workers see it.
        base_uri: Base URI to copy it to, for example ecs://my-bucket.
        shards: Into how many the items are divided.
        buckets: Blocks of the buckets that it comes from and goes to.
        config_path: Path of a dtool.json in place of the default one.
        update_metadata: Change README, tags and annotations at the destination where they differ.
        concurrency: Items at once in each shard; by default as the bucket says.

    Returns:
        The report of the last step; what the shards copied is `skipped` in it.
    """
    pieces = [
        copy_shard.with_options(task_run_name=f"copy shard {number} of {shards}").submit(
            source_uri,
            base_uri,
            number,
            shards,
            buckets=buckets,
            config_path=config_path,
            concurrency=concurrency,
        )
        for number in range(1, shards + 1)
    ]
    wait(list(pieces))
    failed = [result for piece in pieces if isinstance(result := piece.result(raise_on_failure=False), BaseException)]
    if failed:
        get_run_logger().warning(
            "%d of %d shards failed, the first: %s. What they lack is copied now", len(failed), shards, failed[0]
        )
    return copy_dataset(
        source_uri,
        base_uri,
        buckets=buckets,
        config_path=config_path,
        update_metadata=update_metadata,
        concurrency=concurrency,
    )
