"""Cases of docs/reliability.md as somebody meets them who sees only Prefect."""

from __future__ import annotations

import json
import time
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows.flows.archive import ArchiveOptions, archive
from dtool_ecs_flows.flows.inventory import inventory
from dtool_ecs_flows.flows.retrieve import retrieve
from dtool_ecs_flows.outcomes import RunFailedError
from dtool_ecs_flows.words import human_time
from tests.conformance.helpers import everything_said
from tests.faults.site import Site
from tests.flows.conftest import PrefectApi, block_of
from tests.independent import bucket_dataset, disk_dataset, disk_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]

SECRET = "s3cr3t-of-row-11"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"secret_access_key": SECRET}, "SignatureDoesNotMatch: check the access key"),
        ({"access_key_id": "nobody", "secret_access_key": SECRET}, "InvalidAccessKeyId: check the access key"),
        ({"bucket": "no-such-bucket", "secret_access_key": SECRET}, "bucket"),
    ],
    ids=["secret", "access key", "bucket"],
)
def test_row_11_wrong_settings_in_a_block(site: Site, wrong: dict[str, str], named: str) -> None:
    """The flow fails within seconds, nothing is moved, and of all that Prefect keeps nothing has the secret."""
    block = block_of(site.through, **wrong)
    begun = time.monotonic()

    with pytest.raises(RunFailedError, match=named) as caught:
        archive(f"file://{disk_path(site.source).parent}", block)

    assert time.monotonic() - begun < 60  # Prefect takes most of it
    assert site.proxy.seen("PUT", key="*/data/*") == []
    assert site.objects() == {}
    kept = PrefectApi().text()
    assert block.bucket in kept
    assert SECRET not in kept + everything_said(caught.value)


def test_row_18_a_proto_dataset_in_an_inventory(site: Site) -> None:
    """It is told as unfinished with the time of its creation, and neither inventory nor archive touch it."""
    uuid = bucket_dataset(site.raw, {"a": b"1"}, name="left", admin={"type": "protodataset", "created_at": 1.7e9})
    before = site.raw.state()

    inventory(block_of(site.through))

    artifact = PrefectApi().artifact(f"inventory-{site.through.bucket}")
    (row,) = json.loads(artifact["data"])
    assert (row["UUID"], row["State"], row["Created (UTC)"]) == (uuid, "unfinished", human_time(1.7e9))
    assert "1 unfinished" in artifact["description"]
    assert site.raw.state() == before


def test_row_19_a_run_goes_on_to_the_next_dataset(site: Site, archived: str) -> None:
    """Of two datasets one has a manifest that was cut short: an inventory has both, and the other comes back whole."""
    broken = bucket_dataset(site.raw, {"a": b"1"}, name="broken")
    site.raw.put(f"{broken}/manifest.json", site.raw.get(f"{broken}/manifest.json")[:-20])
    block = block_of(site.through)

    assert {info.uuid for info in inventory(block).datasets} == {broken, site.uuid}
    with pytest.raises(RunFailedError, match=r"broken: .*manifest") as caught:
        retrieve([broken, site.uuid], block, f"file://{site.out}")

    assert {each.uuid: each.outcome for each in caught.value.report.datasets} == {
        broken: "failed",
        site.uuid: "copied",
    }
    assert archived.endswith(site.uuid)
    assert site.is_equal(dtoolcore.DataSet.from_uri(f"file://{site.out}/penguins").uri)


def test_row_26_a_quota_concerns_the_datasets_that_are_left_too(site: Site, tmp_path: Path) -> None:
    """What is not begun when a quota has run out is not tried, and the report says why."""
    for name in ("first", "second"):
        disk_dataset(tmp_path / "two", {"a": b"1"}, name=name)
    site.proxy.on("PUT", key="*/data/*").answer(403, "QuotaExceeded")

    with pytest.raises(RunFailedError, match="raise the quota") as caught:
        archive(f"file://{tmp_path / 'two'}", block_of(site.through), ArchiveOptions(at_once=1))

    tried, left = caught.value.report.datasets
    assert tried.message.startswith("item 'a' of")
    assert left.message.startswith("not tried, because of: item 'a' of")
    assert len(site.proxy.seen("PUT", key="dtool-*")) == 1
