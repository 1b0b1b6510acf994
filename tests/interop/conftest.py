"""A bucket on the gateway whose settings dtoolcore's own calls find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dtool_ecs_flows.settings import BucketSettings, active


@pytest.fixture
def shared(rgw_bucket: BucketSettings) -> Iterator[BucketSettings]:
    """A fresh bucket that this process and the peers use; here its settings are the active ones."""
    with active(rgw_bucket):
        yield rgw_bucket
