"""A copy that is killed again and again, at any point: it ends right, and little is sent twice."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, verify_dataset
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, disk_dataset, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server

# A real process of its own for each attempt, which does not have to import everything anew.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dtool_ecs_flows"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_kills(rgw: S3Server, tmp_path: Path) -> None:
    """Two large items and some small ones."""
    kill_again_and_again(rgw, tmp_path, kills=5, large=(40 * MIB, 20 * MIB), small=50)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills(rgw: S3Server, tmp_path: Path) -> None:
    """500 MB in large and small items."""
    large = (150 * MIB, 100 * MIB + 1, 100 * MIB, 64 * MIB, 32 * MIB)
    kill_again_and_again(rgw, tmp_path, kills=50, large=large, small=1000)


def kill_again_and_again(server: S3Server, folder: Path, *, kills: int, large: tuple[int, ...], small: int) -> None:
    """Copy a dataset, with a process killed at random points; where it is done before, begin with a new bucket."""
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(10**6))
    sys.stderr.write(f"KILL_SEED={seed} has it again\n")
    chance = random.Random(seed)
    sizes = [*large, *(chance.randrange(50_000) for _ in range(small))]
    source = disk_dataset(folder / "in", {f"{n:04}.bin": noise(size, n) for n, size in enumerate(sizes)})
    size, most = sum(sizes), 2 * sum(sizes) // kills
    reference = new_bucket(server)
    copy_dataset(source, reference.base_uri, settings=reference)
    undisturbed = stored(reference)
    while kills:
        bucket = new_bucket(server)
        with proxied(bucket.endpoint) as proxy:
            settings = changed(bucket, endpoint=proxy.endpoint)
            while kills and not finished(source, settings, proxy, chance, most):
                kills -= 1
            report = copy_dataset(source, bucket.base_uri, settings=settings)
            complete, cut = sent(proxy.requests)
        assert stored(bucket) == undisturbed
        assert verify_dataset(report.uri, settings=bucket).ok
        assert Raw(bucket).uploads() == []
        sys.stderr.write(f"{complete} bytes sent for {size}, and {cut} on their way when it was killed\n")
        assert complete < 1.3 * size


def finished(source: str, settings: BucketSettings, proxy: Proxy, chance: random.Random, most: int) -> bool:
    """Copy in a process, and kill it after so many bytes, or requests; return whether it was done before."""
    before = len(proxy.requests)
    after_requests, after_bytes = chance.choice(((chance.randrange(30), sys.maxsize), (10**6, chance.randrange(most))))
    process = PROCESSES.Process(target=copy_dataset, args=(source, settings.base_uri), kwargs={"settings": settings})
    process.start()
    while process.is_alive():
        time.sleep(0.002)  # the proxy is in this process: a loop without a rest is most of what it does
        requests = proxy.requests[before:]
        if len(requests) >= after_requests or sent(requests)[0] >= after_bytes:
            time.sleep(chance.random() / 50)  # not always as a request begins
            process.kill()
            process.join()
    proxy.settle()  # before the next one looks
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def sent(requests: list[Request]) -> tuple[int, int]:
    """Bytes of items in requests that were answered, and in those that were not."""
    complete = cut = 0
    for request in requests:
        if request.method != "PUT" or "/data/" not in request.key:
            continue
        length = int(request.headers["content-length"])
        complete, cut = (complete + length, cut) if request.status else (complete, cut + length)
    return complete, cut


def stored(bucket: BucketSettings) -> dict[str, tuple[str, dict[str, str]]]:
    """All objects of a bucket: what is in them, read, and their metadata."""
    raw = Raw(bucket)
    return {key: (hashlib.sha256(raw.get(key)).hexdigest(), raw.metadata(key)) for key in raw.listed()}
