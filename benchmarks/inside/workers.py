"""This project's operations by several worker processes: `python -m benchmarks.inside.workers 4`.

The workers are there, and have imported the package, before the clock starts, as those of a cluster are.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.pool import Pool
from typing import Any

from benchmarks.inside import timing
from dtool_ecs_flows import BucketSettings, copy_dataset, copy_shard

PATIENCE = 120.0  # seconds until all workers are there


def up(request: dict[str, Any], pool: Pool | None, workers: int) -> dict[str, Any]:
    """Copy the dataset `source_uri` to `base_uri`; where there is more than one worker, a shard each comes first."""
    elsewhere = 0.0
    if pool is not None:
        jobs = [(request, shard, workers) for shard in range(1, workers + 1)]
        elsewhere = sum(pool.starmap(_shard, jobs, chunksize=1))
    report = copy_dataset(request["source_uri"], request["base_uri"], settings=_settings(request))
    return {"uri": report.uri, "items": report.items, "cpu_seconds_elsewhere": elsewhere}


def _shard(request: dict[str, Any], shard: int, shards: int) -> float:
    """Copy a shard; return the CPU time that it took."""
    begun = time.process_time()
    copy_shard(request["source_uri"], request["base_uri"], shard, shards, settings=_settings(request))
    return time.process_time() - begun


def _settings(request: dict[str, Any]) -> list[BucketSettings]:
    return [BucketSettings(**each) for each in request["settings"]]


def _wait_for_all(barrier: Any) -> None:
    barrier.wait(PATIENCE)


def main() -> None:
    """Start the workers, then do what the request says."""
    workers = int(sys.argv[1])
    if workers == 1:
        timing.run({"up": lambda request: up(request, None, 1)})
        return
    spawn = multiprocessing.get_context("spawn")  # obstore hangs in a forked child
    barrier = spawn.Barrier(workers + 1)
    with spawn.Pool(workers, _wait_for_all, [barrier]) as pool:
        barrier.wait(PATIENCE)
        timing.run({"up": lambda request: up(request, pool, workers)})
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
