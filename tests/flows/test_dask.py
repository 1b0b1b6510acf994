"""Scale-out: datasets, and shards of a large one, on the worker processes of a Dask cluster, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import prefect.settings
import pytest
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets
from dtool_ecs_flows.datasets.shards import shard_of
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.flows.archive import archive
from tests.conformance.helpers import environment
from tests.flows.conftest import MakeDataset, block_of
from tests.independent import everything
from tests.proxy import Proxy, proxied
from tests.servers import S3Server
from tests.servers.supervisor import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
ITEMS, SHARDS = 120, 4
PATIENCE = 240.0  # seconds


@dataclass(frozen=True)
class Cluster:
    """A scheduler with two workers, each a process of its own with one thread."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this environment for as long as the block lasts."""
    api = str(prefect.settings.PREFECT_API_URL.value())
    with log.open("wb") as output:
        started = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            env={**os.environ, "PREFECT_API_URL": api},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """What the first lines of flows/archive_on_dask.py start."""
    port, *dashboards = free_ports(2)
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        where = ("--host", "127.0.0.1", "--port", str(port), "--dashboard-address", f"127.0.0.1:{dashboards[0]}")
        stack.enter_context(process(tmp_path / "scheduler.log", "dask", "scheduler", *where))
        workers = [
            stack.enter_context(
                process(
                    tmp_path / f"worker-{number}.log",
                    *("dask", "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
                    *("--host", "127.0.0.1", "--local-directory", str(tmp_path / f"worker-{number}")),
                )
            )
            for number in (1, 2)
        ]
        wait_until(lambda: all("Registered" in log.read_text() for log in tmp_path.glob("worker-*.log")), "workers")
        yield Cluster(address, workers)


def wait_until(true: Any, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.2)


def sent(proxy: Proxy) -> Counter[str]:
    """How often the store has taken each item, by identifier."""
    taken = (each for each in proxy.seen("PutObject", key="*/data/*") if each.status == 200)
    return Counter(each.key.rpartition("/")[2] for each in taken)


def test_a_worker_that_is_killed_in_mid_copy_costs_its_shard_at_most(
    rclone: S3Server, rclone_bucket: BucketSettings, source: str, tmp_path: Path, cluster: Cluster
) -> None:
    """The other worker does the rest: the dataset ends right, and nothing outside the lost shard was sent twice."""
    files = tmp_path / "files"
    files.mkdir()
    for number in range(ITEMS):
        (files / f"{number}.bin").write_bytes(number.to_bytes(2, "big") * 16_000)
    made = create_dataset("large", source, directory=files)
    items = open_source(made.uri).items
    shards = {identifier: n for n in range(1, SHARDS + 1) for identifier in shard_of(items, n, SHARDS)}

    script = str(ROOT / "flows" / "archive_on_dask.py")
    with proxied(rclone) as proxy:
        # By its limit each worker takes four seconds for a shard: there is time to kill one in the middle.
        bucket = rclone_bucket.model_copy(update={"endpoint": proxy.endpoint, "max_bytes_per_second": 250_000.0})
        variables = {**environment(bucket), f"DTOOL_ECS_MAX_BYTES_PER_SECOND_{bucket.bucket}": "250000"}
        flow = subprocess.Popen(
            [sys.executable, script, made.uri, bucket.bucket, "--scheduler", cluster.address, "--shards", str(SHARDS)],
            env={**os.environ, **variables, "PREFECT_API_URL": str(prefect.settings.PREFECT_API_URL.value())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: len({shards[each] for each in sent(proxy)}) >= 2 and len(sent(proxy)) > 10, "two shards")
        cluster.workers[0].send_signal(signal.SIGKILL)
        cluster.workers[0].wait(timeout=60)
        assert len(sent(proxy)) < ITEMS / 2
        said, _ = flow.communicate(timeout=PATIENCE)
        often = sent(proxy)

    assert flow.returncode == 0, said
    assert "0 of them at the end" in said  # but by the worker that is left
    assert often.keys() == items.keys()
    twice = {identifier for identifier, times in often.items() if times > 1}
    assert len({shards[identifier] for identifier in twice}) <= 1, (twice, said)
    assert len(twice) < ITEMS / SHARDS
    assert max(often.values()) <= 2
    (there,) = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets
    assert (there.uuid, there.type) == (made.uuid, "dataset")
    (tmp_path / "back").mkdir()
    back = copy_dataset(there.uri, str(tmp_path / "back"), settings=rclone_bucket)
    assert everything(back.uri) == everything(made.uri)


def test_the_same_flow_runs_on_dask(
    rclone_bucket: BucketSettings, make: MakeDataset, source: str, cluster: Cluster
) -> None:
    """Its datasets are copied by the workers; the second run finds them there."""
    for name in ("apples", "pears", "plums"):
        make(name)
    on_dask = archive.with_options(task_runner=cast("TaskRunner[Any]", DaskTaskRunner(address=cluster.address)))
    first, second = (on_dask(source, block_of(rclone_bucket)) for _ in range(2))
    assert [each.outcome for each in first.datasets] == ["copied"] * 3
    assert [each.outcome for each in second.datasets] == ["already there"] * 3
    assert len(list_datasets(rclone_bucket.base_uri, settings=rclone_bucket)) == 3
