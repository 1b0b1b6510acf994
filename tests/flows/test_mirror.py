"""Mirror: what is in one bucket and not in the other goes there, and nothing else happens."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.flows.archive import archive
from dtool_ecs_flows.flows.mirror import MirrorOptions, mirror
from dtool_ecs_flows.outcomes import RunFailedError
from tests.conftest import new_bucket
from tests.flows.conftest import MakeDataset, PrefectApi, block_of
from tests.independent import Raw
from tests.servers import S3Server


@pytest.fixture
def other(rclone: S3Server) -> BucketSettings:
    """A second bucket."""
    return new_bucket(rclone)


def test_what_is_missing_goes_over_and_nothing_comes_back(
    rclone_bucket: BucketSettings, other: BucketSettings, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """Two blocks, no other setting: the first night copies all, the second only what is new; neither bucket loses."""
    block, there = block_of(rclone_bucket), block_of(other)
    make("apples")
    archive(source, block)
    only_there = create_dataset("only-there", other.base_uri, readme="x", settings=other)
    before = Raw(rclone_bucket).state()

    plan = mirror(block, there, MirrorOptions(dry_run=True))
    assert [(each.name, each.outcome) for each in plan.datasets] == [("apples", "planned")]
    first = mirror(block, there)
    assert [(each.name, each.outcome) for each in first.datasets] == [("apples", "copied")]
    assert first.datasets[0].uri.startswith(other.base_uri)
    assert Raw(rclone_bucket).state() == before

    make("pears")
    archive(source, block)
    second = mirror(block, there)
    assert [(each.name, each.outcome) for each in second.datasets] == [("apples", "already there"), ("pears", "copied")]
    names = {info.name for info in list_datasets(other.base_uri, settings=other).datasets}
    assert names == {"apples", "pears", "only-there"}
    for uri in (first.datasets[0].uri, only_there.uri):
        assert verify_dataset(uri, settings=other).ok
    shown = api.artifact(f"mirror-{rclone_bucket.bucket}")
    assert shown["description"] == "2 datasets: 1 copied (6 B), 1 already there"


def test_a_folder_can_be_the_mirror(block: EcsBucket, make: MakeDataset, source: str, tmp_path: Path) -> None:
    """A base URI in the place of the second block does as well, and the choices hold."""
    for name in ("run-1", "run-2", "test"):
        make(name)
    archive(source, block)
    folder = tmp_path / "mirror"
    folder.mkdir()
    report = mirror(block, f"file://{folder}", MirrorOptions(name_patterns=["run-*"], at_most=1))
    assert [each.outcome for each in report.datasets] == ["copied", "left out", "left out"]
    mirror(block, f"file://{folder}", MirrorOptions(name_patterns=["run-*"]))
    assert sorted(dataset.name for dataset in dtoolcore.iter_datasets_in_base_uri(f"file://{folder}")) == [
        "run-1",
        "run-2",
    ]


def test_one_that_fails_does_not_stop_the_others(
    rclone_bucket: BucketSettings, other: BucketSettings, make: MakeDataset, source: str, tmp_path: Path
) -> None:
    """A damaged dataset does not reach the mirror, the good one does, and the run says which is which."""
    block = block_of(rclone_bucket)
    make("good")
    bad = make("spoilt")
    archive(source, block)
    raw = Raw(rclone_bucket)
    key = next(key for key in raw.listed(f"{bad.uuid}/data/"))
    raw.replace(key, b"12")
    folder = tmp_path / "mirror"
    folder.mkdir()
    with pytest.raises(RunFailedError, match="1 of 2 datasets failed, the first spoilt") as failure:
        mirror(block, str(folder))
    assert [each.outcome for each in failure.value.report.datasets] == ["copied", "failed"]


def test_a_bucket_is_no_mirror_of_itself(block: EcsBucket) -> None:
    """The same bucket twice is a slip, and so is none at all."""
    for destination in (block, block.base_uri, ""):
        with pytest.raises(SettingsError, match="cannot be mirrored"):
            mirror(block, destination)
