"""The flow `inventory`: the table that somebody sees, the files that stay, and what a run knows from the last."""

from __future__ import annotations

import json
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, load_inventory
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.flows.inventory import InventoryOptions, inventory
from tests.flows.conftest import PrefectApi, block_of
from tests.independent import Raw, bucket_dataset
from tests.proxy import proxied

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(256)}


@pytest.fixture
def raw(rclone_bucket: BucketSettings) -> Raw:
    """The bucket of the block, through plain boto3."""
    return Raw(rclone_bucket)


def test_a_bucket_is_a_table_and_files(block: EcsBucket, raw: Raw, tmp_path: Path, api: PrefectApi) -> None:
    """With items, bytes and tags, problems first, in a folder that is made; nothing is written to the bucket."""
    folder = tmp_path / "inventories"
    for name in ("apples", "pears"):
        bucket_dataset(raw, FILES, name=name, tags=["raw"])
    broken = bucket_dataset(raw, FILES, name="spoilt")
    raw.put(f"{broken}/manifest.json", b"{")
    state = raw.state()

    found = inventory(block, str(folder), InventoryOptions(formats=["html", "csv", "parquet"]))

    assert raw.state() == state
    artifact = api.artifact(f"inventory-{block.bucket}")
    rows = [(row["Name"], row["State"], row.get("Size")) for row in json.loads(artifact["data"])]
    assert rows == [("spoilt", "problem", ""), ("apples", "frozen", "264 B"), ("pears", "frozen", "264 B")]
    assert "3 datasets; 4 items, 528 B; 1 with a problem" in artifact["description"]
    files = {path.name for path in folder.iterdir()}
    assert files == {f"{block.bucket}.{suffix}" for suffix in ("html", "csv", "json", "parquet")}
    assert all(name in artifact["description"] for name in files)
    assert load_inventory(folder / f"{block.bucket}.json") == found


@pytest.mark.parametrize("kept", ["in a folder", "filed"])
def test_a_run_does_not_read_what_the_last_one_knows(
    rclone_bucket: BucketSettings, raw: Raw, source: str, tmp_path: Path, kept: str
) -> None:
    """From the folder, or from what was filed as a dataset where the worker keeps no folder; unless asked for."""
    bucket_dataset(raw, FILES, name="apples")
    folder, base_uri = (str(tmp_path), "") if kept == "in a folder" else ("", source)

    with proxied(rclone_bucket.endpoint) as proxy:
        block = block_of(rclone_bucket, endpoint=proxy.endpoint)
        changed, read = [], []
        for read_all in (False, False, True):
            proxy.clear()
            found = inventory(block, folder, InventoryOptions(report_base_uri=base_uri, read_all=read_all))
            changed.append(found.changed)
            read.append(len(proxy.seen("GetObject")))

    assert (changed, read) == ([1, 0, 1], [2, 0, 2])
    if base_uri:
        filed = list(dtoolcore.iter_datasets_in_base_uri(source))
        assert {each.name[: len(f"inventory-{block.bucket}")] for each in filed} == {f"inventory-{block.bucket}"}
        items = {filed[0].item_properties(identifier)["relpath"] for identifier in filed[0].identifiers}
        assert items == {"inventory.json", "inventory.html", "inventory.csv"}
        assert filed[0].get_annotation("prefect_flow_run")["flow"] == "inventory"


def test_a_memory_that_is_damaged_costs_time_alone(block: EcsBucket, raw: Raw, tmp_path: Path) -> None:
    """All is read anew, and the file is whole again."""
    bucket_dataset(raw, FILES)
    (tmp_path / f"{block.bucket}.json").write_text("{")

    assert [inventory(block, str(tmp_path)).changed for _ in range(2)] == [1, 0]


def test_what_cannot_be_written_is_said_before_the_bucket_is_asked(tmp_path: Path) -> None:
    """A folder that is not there, one that is a file, and the bucket itself."""
    block = EcsBucket(bucket="b", endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="s")

    with pytest.raises(SettingsError, match="there is no folder"):
        inventory(block, str(tmp_path / "no" / "where"))
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"the folder .*/file cannot be made: File exists"):
        inventory(block, str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="cannot be filed in ecs://b"):
        inventory(block, "", InventoryOptions(report_base_uri="ecs://b/"))


def test_a_full_disk_fails_the_run_and_the_table_is_there(
    block: EcsBucket, raw: Raw, tmp_path: Path, api: PrefectApi
) -> None:
    """What was found is not lost with the files."""
    bucket_dataset(raw, FILES, name="apples")
    (tmp_path / f"{block.bucket}.html").mkdir()

    with pytest.raises(OSError, match="directory"):
        inventory(block, str(tmp_path))

    artifact = api.artifact(f"inventory-{block.bucket}")
    assert [row["Name"] for row in json.loads(artifact["data"])] == ["apples"]
    assert "Files:" not in artifact["description"]
