"""A freeze through dtoolcore that failed half way, and what can be done after it."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, verify_dataset
from dtool_ecs_flows.errors import StoreError
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed
from tests.proxy import proxied


def test_an_item_can_be_added_after_a_freeze_that_failed(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """What the failed freeze had learnt is not taken for what is there now; the next one freezes everything."""
    (tmp_path / "file").write_bytes(b"1")
    with proxied(rclone_bucket.endpoint) as proxy, active(changed(rclone_bucket, endpoint=proxy.endpoint)):
        proto = dtoolcore.create_proto_dataset("penguins", rclone_bucket.base_uri)
        proto.put_readme("---\n")
        proto.put_item(str(tmp_path / "file"), "a")
        proxy.on("PUT", key="*manifest.json").answer(403, "AccessDenied")
        with pytest.raises(StoreError):
            proto.freeze()
        proxy.calm()

        proto.put_item(str(tmp_path / "file"), "b")
        assert sorted(proto._storage_broker.iter_item_handles()) == ["a", "b"]
        proto.freeze()

        assert verify_dataset(proto.uri).ok
        items = dtoolcore.DataSet.from_uri(proto.uri)._manifest["items"].values()
        assert sorted(item["relpath"] for item in items) == ["a", "b"]
