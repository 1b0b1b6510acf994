"""Archive and retrieve: the story of a folder of datasets that goes into a bucket and comes back."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, list_datasets
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import NotADatasetError, SettingsError, UnsafeNameError
from dtool_ecs_flows.flows.archive import ArchiveOptions, archive
from dtool_ecs_flows.flows.inventory import inventory
from dtool_ecs_flows.flows.retrieve import RetrieveOptions, retrieve
from dtool_ecs_flows.outcomes import RunFailedError
from tests.flows.conftest import MakeDataset, PrefectApi, block_of


def damage(uri: str) -> Path:
    """Change a file of a dataset on disk behind dtool's back."""
    file = next((path_of(uri) / "data").iterdir())
    file.write_text("damaged")
    return file


def path_of(uri: str) -> Path:
    return Path("/" + uri.partition("://")[2].partition("/")[2])


def test_datasets_go_into_the_bucket_and_come_back(
    bucket: BucketSettings, make: MakeDataset, source: str, tmp_path: Path, api: PrefectApi
) -> None:
    """Everything in a folder is archived, listed and retrieved by three flows that were given a block alone."""
    block = block_of(bucket)
    made = [make("apples"), make("pears", only="a pear")]

    archived = archive(source, block)
    assert [(each.name, each.outcome) for each in archived.datasets] == [("apples", "copied"), ("pears", "copied")]

    listing = inventory(block)
    assert [info.uuid for info in listing.datasets] == [each.uuid for each in made]

    (tmp_path / "back").mkdir()
    back = retrieve(["apples", made[1].uuid], block, f"file://{tmp_path / 'back'}")
    assert back.ok
    pear = dtoolcore.DataSet.from_uri(f"file://{tmp_path / 'back' / 'pears'}")
    assert Path(pear.item_content_abspath(*pear.identifiers)).read_text() == "a pear"
    assert pear.get_readme_content() == "---\nname: pears\n"

    told = api.artifact(f"archive-{bucket.bucket}")
    assert "2 datasets: 2 copied" in told["description"]
    assert "`pears`" in told["data"]


def test_running_again_does_only_what_is_missing(block: EcsBucket, make: MakeDataset, source: str) -> None:
    """The second night sends the new dataset and nothing else."""
    make("old")
    archive(source, block)
    make("young")
    again = archive(source, block)
    assert {each.name: each.outcome for each in again.datasets} == {"old": "already there", "young": "copied"}
    assert sum(each.copied_bytes for each in again.having("already there")) == 0


def test_a_dry_run_shows_the_plan_and_copies_nothing(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """After a dry run the bucket is as it was, and the artifact says what would have been copied."""
    make("old")
    archive(source, block)
    make("young")
    plan = archive(source, block, ArchiveOptions(dry_run=True))
    assert {each.name: each.outcome for each in plan.datasets} == {"old": "already there", "young": "planned"}
    assert len(list_datasets(block.base_uri, settings=block.settings())) == 1
    assert "nothing was copied" in api.artifact(f"archive-{block.bucket}")["data"]


def test_one_dataset_that_fails_does_not_stop_the_others(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """The others are archived, the run fails and tells what failed and why; once mended, a rerun does the rest."""
    make("good")
    bad = make("spoilt", only="as it was")
    make("sound")
    file = damage(bad.uri)

    with pytest.raises(RunFailedError, match="1 of 3 datasets failed, the first spoilt") as failure:
        archive(source, block)

    outcomes = {each.name: each.outcome for each in failure.value.report.datasets}
    assert outcomes == {"good": "copied", "sound": "copied", "spoilt": "failed"}
    told = api.artifact(f"archive-{block.bucket}")["data"]
    assert "## Failed" in told
    assert "only.txt" in told
    frozen = {info.name for info in inventory(block).datasets if info.type == "dataset"}
    assert frozen == {"good", "sound"}

    file.write_text("as it was")
    assert {each.name for each in archive(source, block).having("copied")} == {"spoilt"}


def test_a_name_that_is_not_there_is_refused_before_anything_is_copied(
    block: EcsBucket, make: MakeDataset, source: str
) -> None:
    """A slip of the pen in a list of names copies nothing at all."""
    make("apples")
    with pytest.raises(NotADatasetError, match="'aples'"):
        archive(source, block, ArchiveOptions(datasets=["apples", "aples"]))
    assert not len(list_datasets(block.base_uri, settings=block.settings()))


def test_datasets_are_chosen_by_name_uuid_or_uri(
    block: EcsBucket, make: MakeDataset, source: str, tmp_path: Path
) -> None:
    """All three ways to name a dataset work, also for one that is somewhere else."""
    by_name, by_uuid, by_uri = make("by-name"), make("by-uuid"), make("by-uri")
    make("not-asked-for")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = path_of(by_uri.uri).rename(elsewhere / "by-uri")

    done = archive(source, block, ArchiveOptions(datasets=["by-name", by_uuid.uuid, f"file://{moved}"]))

    assert {each.uuid for each in done.having("copied")} == {by_name.uuid, by_uuid.uuid, by_uri.uuid}


def test_an_unfinished_dataset_is_left_out_and_told_of(block: EcsBucket, make: MakeDataset, source: str) -> None:
    """A proto dataset is no failure: it will be archived when it is frozen."""
    make("done")
    dtoolcore.create_proto_dataset("begun", source)
    report = archive(source, block)
    assert {each.name: (each.outcome, each.message) for each in report.datasets} == {
        "done": ("copied", ""),
        "begun": ("left out", "not frozen yet"),
    }


def test_a_readme_that_differs_is_reported_and_changed_only_when_asked(
    block: EcsBucket, make: MakeDataset, source: str
) -> None:
    """What somebody wrote into the bucket is not overwritten by a nightly run, unless the run says so."""
    made = make("apples")
    there = archive(source, block).datasets[0].uri
    dtoolcore.DataSet.from_uri(made.uri).put_readme("---\nname: better\n")

    assert "README.yml" in archive(source, block).datasets[0].message
    with block.active():
        assert dtoolcore.DataSet.from_uri(there).get_readme_content() == "---\nname: apples\n"

    archive(source, block, ArchiveOptions(metadata_that_differs="update"))
    with block.active():
        assert dtoolcore.DataSet.from_uri(there).get_readme_content() == "---\nname: better\n"


def test_retrieve_shows_a_plan_too(block: EcsBucket, make: MakeDataset, source: str, tmp_path: Path) -> None:
    """A dry run of retrieve leaves the destination empty."""
    make("apples")
    archive(source, block)
    back = tmp_path / "back"
    back.mkdir()
    plan = retrieve(["apples"], block, f"file://{back}", RetrieveOptions(dry_run=True))
    assert [each.outcome for each in plan.datasets] == ["planned"]
    assert not list(back.iterdir())


def test_some_items_of_several_datasets_come_as_plain_files(
    block: EcsBucket, make: MakeDataset, source: str, tmp_path: Path, api: PrefectApi
) -> None:
    """Asked for by pattern, from all datasets that fit; the report counts them, and no dataset is made."""
    made = [make("apples", first="one", second="two"), make("pears", first="three"), make("plums", second="four")]
    archive(source, block)
    back = tmp_path / "back"
    back.mkdir()
    report = retrieve(["*"], block, str(back), RetrieveOptions(items=["fir*"], name_patterns=["*a*", "plums"]))
    assert [(each.outcome, each.items) for each in report.datasets] == [("copied", 1), ("copied", 1), ("left out", 0)]
    found = {path.relative_to(back).as_posix(): path.read_text() for path in back.rglob("*.txt")}
    assert found == {
        f"apples-{made[0].uuid[:8]}/data/first.txt": "one",
        f"pears-{made[1].uuid[:8]}/data/first.txt": "three",
    }
    assert "1 of 2 items fit" in api.artifact(f"retrieve-{block.bucket}")["data"]
    again = retrieve(["pears"], block, str(back), RetrieveOptions(items=["*"]))
    assert [each.outcome for each in again.datasets] == ["already there"]
    with pytest.raises(UnsafeNameError, match="not a folder of this machine"):
        retrieve(["*"], block, block.base_uri, RetrieveOptions(items=["*"]))
    with pytest.raises(SettingsError, match="not which overlay"):
        retrieve(["*"], block, str(back), RetrieveOptions(overlay_values=["mm"]))
