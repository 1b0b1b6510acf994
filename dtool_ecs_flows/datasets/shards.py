"""Copying one large dataset in shards: some of its items each, by as many processes or machines as there are."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Iterable, Mapping

from dtool_ecs_flows.datasets.copy import _copy_items, _other_dataset, open_destination
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.errors import DatasetError
from dtool_ecs_flows.models import Item, ProgressCallback, ShardReport
from dtool_ecs_flows.settings import BucketSettings

logger = logging.getLogger(__name__)

_REQUEST = 256 * 1024  # bytes that take about as long as a request does besides


def shard_of(items: Mapping[str, Item], shard: int, shards: int) -> dict[str, Item]:
    """Return the items of one shard. Every process that reads the same manifest gets the same answer.

    The shards are about equally large: each item, the largest first, goes to the one that has the least so far.

    Args:
        items: all items of the dataset by identifier.
        shard: which one, from 1 on.
        shards: how many there are.
    """
    filled = [(0, number) for number in range(1, shards + 1)]
    mine: dict[str, Item] = {}
    for identifier, item in sorted(items.items(), key=lambda one: (-one[1].size, one[0])):
        size, number = filled[0]
        heapq.heapreplace(filled, (size + item.size + _REQUEST, number))
        if number == shard:
            mine[identifier] = item
    return mine


def copy_shard(
    source_uri: str,
    base_uri: str,
    shard: int,
    shards: int,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> ShardReport:
    """Copy some items of a frozen dataset to another base URI; nothing is frozen there.

    For the large dataset that one machine would copy for too long. The shards can be copied at the same time, in any
    order, again, or not at all: `copy_dataset` with the same URIs, at the end, sends what is missing, compares all of
    it with one listing, and freezes. An item is the smallest unit: one file of a terabyte is not divided.

    Args:
        source_uri: URI of the dataset.
        base_uri: where to: `ecs://bucket`, or a folder on a disk that all who copy see.
        shard: which one, from 1 to `shards`.
        shards: how many there are; the same number in each call.
        settings: of the buckets that take part; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called in this thread as items, and parts of large ones, are done; see `ProgressCallback`.
        stop: set it to end early with `StoppedError`.

    Raises:
        NotADatasetError: there is no frozen dataset at `source_uri`.
        DatasetDiffersError: another dataset is in the place of this one at the destination.
        TransferError: items failed; the others of the shard were copied.
        StoreError, SettingsError: the store or its settings; what is there can be taken up again.
    """
    if not 1 <= shard <= shards:
        raise DatasetError(f"there is no shard {shard} of {shards}: they are counted from 1 on")
    begun = time.monotonic()
    with operation(
        source_uri, base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop
    ) as transfer:
        source = open_source(source_uri, config_path)
        destination = open_destination(base_uri, source.admin, config_path)
        mine = shard_of(source.items, shard, shards)
        there = destination.existing()
        if there is not None and there.get("uuid") != source.admin["uuid"]:
            raise _other_dataset(destination.uri, there, source)
        copied: list[Item] = []
        if mine and not (there is not None and there["type"] == "dataset"):  # else the final copy compares it
            logger.info("copy shard %d of %d of %s: %d items", shard, shards, source.uri, len(mine))
            _, copied = _copy_items(source, destination, transfer, progress, mine)
    return ShardReport(
        source_uri=source.uri,
        uri=destination.uri,
        uuid=source.admin["uuid"],
        name=source.admin["name"],
        shard=shard,
        shards=shards,
        items=len(mine),
        bytes=sum(item.size for item in mine.values()),
        copied_items=len(copied),
        copied_bytes=sum(item.size for item in copied),
        seconds=time.monotonic() - begun,
    )
