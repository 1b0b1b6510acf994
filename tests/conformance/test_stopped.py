"""A stop while nothing works, or works slowly: heard between the last item and the freeze, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import StoppedError
from tests.conformance.helpers import changed
from tests.independent import MIB, disk_dataset, everything, noise
from tests.proxy import Answer, proxied
from tests.servers import S3Server

pytestmark = pytest.mark.timeout(150)  # less than the time for which a request is tried again

LAST = [("*/README.yml", 1), ("*/manifest.json", 1), ("*/dtool", 2)]
"""The requests after the last item, and which of those to the key."""


@pytest.mark.parametrize(("last", "nth"), LAST)
@pytest.mark.parametrize("name", ["copy", "create"])
def test_a_stop_is_heard_after_the_last_item(
    rclone: S3Server, rclone_bucket: BucketSettings, tmp_path: Path, *, last: str, nth: int, name: str
) -> None:
    """Where the store goes down before the freeze; nothing is frozen, and the same copy again sends no item."""
    source, stop = disk_dataset(tmp_path, {"file": b"content"}), threading.Event()
    (tmp_path / "file").write_bytes(b"content")

    def busy(_: object) -> Answer:
        stop.set()
        return Answer(503, "SlowDown")

    with proxied(rclone) as proxy:
        through = changed(rclone_bucket, endpoint=proxy.endpoint)
        proxy.on("PUT", key=last, nth=range(nth, 1000)).call(busy)
        options: dict[str, Any] = {"settings": through, "stop": stop}
        operations: dict[str, Callable[[], object]] = {
            "copy": lambda: copy_dataset(source, through.base_uri, **options),
            "create": lambda: create_dataset("n", through.base_uri, files={"file": tmp_path / "file"}, **options),
        }
        with pytest.raises(StoppedError):
            operations[name]()

    (left,) = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets
    assert left.type == "protodataset"
    if name == "copy":
        again = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
        assert (again.copied_items, again.skipped) == (0, 1)
        (tmp_path / "out").mkdir()
        back = copy_dataset(again.uri, str(tmp_path / "out"), settings=rclone_bucket)
        assert everything(back.uri) == everything(source)


@pytest.mark.slow
@pytest.mark.parametrize("size", [6 * MIB, 20 * MIB], ids=["one request", "ranges"])
@pytest.mark.parametrize("name", ["copy", "verify"])
def test_a_stop_is_heard_in_the_middle_of_a_slow_download(
    rclone: S3Server, rclone_bucket: BucketSettings, tmp_path: Path, *, name: str, size: int
) -> None:
    """Most of an answer that comes over a slow network is not waited for, and no part of a file stays."""
    source, stop, out = disk_dataset(tmp_path / "in", {"file": noise(size)}), threading.Event(), tmp_path / "out"
    out.mkdir()
    uri = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket).uri

    def passed() -> int:
        return sum(request.passed for request in proxy.seen("GetObject", key="*/data/*"))

    def ask() -> None:
        while passed() < 100_000:
            time.sleep(0.05)
        stop.set()

    with proxied(rclone) as proxy:
        through = changed(rclone_bucket, endpoint=proxy.endpoint)
        proxy.on("GetObject", key="*/data/*").trickle(0.15, step=32 * 1024)
        options: dict[str, Any] = {"settings": through, "stop": stop}
        operations: dict[str, Callable[[], object]] = {
            "copy": lambda: copy_dataset(uri, str(out), **options),
            "verify": lambda: verify_dataset(uri, **options),
        }
        asking = threading.Thread(target=ask)
        asking.start()
        with pytest.raises(StoppedError):
            operations[name]()
        assert passed() < size / 2
        asking.join()

    assert [path for path in out.rglob("*") if path.name == "file" or path.name.startswith("part-")] == []
