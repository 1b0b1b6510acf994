"""What a copy says it has verified, and damage that happens on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset
from tests.conformance.helpers import changed
from tests.independent import MIB, Raw, disk_dataset, everything, noise
from tests.proxy import Answer, Request, proxied


def test_what_the_server_copied_before_the_cut_is_not_called_read(rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """A copy between buckets that is taken up says "not read" as one in a single go does: no byte ever passed here."""
    other = changed(rgw_bucket, bucket=f"{rgw_bucket.bucket}-2")
    Raw(other).client.create_bucket(Bucket=other.bucket)
    first = copy_dataset(
        disk_dataset(tmp_path / "in", {"a": b"1", "b": noise(9 * MIB)}), rgw_bucket.base_uri, settings=rgw_bucket
    )

    def cut(progress: Progress) -> None:
        if progress.items_done == progress.items:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_dataset(first.uri, other.base_uri, settings=[rgw_bucket, other], progress=cut)
    again = copy_dataset(first.uri, other.base_uri, settings=[rgw_bucket, other])

    assert (again.skipped, again.verified) == (2, "not read")


def test_a_byte_that_changes_on_the_way_is_fetched_again(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """One flip in flight does not fail a copy; what is written is right."""
    source = disk_dataset(tmp_path / "in", {"a": b"good"})
    there = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    flipped: list[Request] = []

    def flip(request: Request) -> Answer | None:
        if request.method != "GET" or "/data/" not in request.target or flipped:
            return None
        flipped.append(request)
        return Answer(200, body=b"gooe", content_type="application/octet-stream")

    (tmp_path / "out").mkdir()
    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(flip)
        settings = changed(rclone_bucket, endpoint=proxy.endpoint)
        back = copy_dataset(there.uri, str(tmp_path / "out"), settings=settings)

    assert flipped
    assert everything(back.uri) == everything(source)
