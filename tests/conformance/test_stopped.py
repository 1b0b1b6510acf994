"""A stop while nothing works: heard between the last item and the freeze, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets
from dtool_ecs_flows.errors import StoppedError
from tests.conformance.helpers import changed
from tests.independent import disk_dataset, everything
from tests.proxy import Answer, proxied
from tests.servers import S3Server

pytestmark = pytest.mark.timeout(60)  # a third of the time for which a request is tried again

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
