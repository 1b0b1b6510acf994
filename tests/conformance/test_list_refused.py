"""Listing a bucket in which one dataset may not be read."""

from __future__ import annotations

import pytest

from dtool_ecs_flows import BucketSettings, list_datasets
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset
from tests.proxy import Answer, proxied


@pytest.mark.parametrize("prefix", ["", "u/olssont/"])
def test_a_dataset_that_may_not_be_read_does_not_hide_the_others(rclone_bucket: BucketSettings, prefix: str) -> None:
    """It is listed with the reason; where even its registration may not be read, that one too."""
    raw = Raw(rclone_bucket)
    hidden = bucket_dataset(raw, prefix=prefix)
    shown = bucket_dataset(raw, name="shown")
    secret = f"/dtool-{hidden}" if prefix else f"/{hidden}/dtool"

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(lambda request: Answer(403, "AccessDenied") if request.target.endswith(secret) else None)
        settings = changed(rclone_bucket, endpoint=proxy.endpoint)
        found = {info.uuid: info for info in list_datasets(settings.base_uri, settings=settings).datasets}

    assert found.keys() == {hidden, shown}
    assert "AccessDenied" in found[hidden].problem
    assert (found[shown].name, found[shown].problem) == ("shown", "")
