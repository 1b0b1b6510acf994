"""Archive: plain folders, choices, limits, and local copies that are removed."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import list_datasets, verify_dataset
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.folders.tree import leftover_name
from dtool_ecs_flows.errors import SettingsError, UnsafeNameError
from dtool_ecs_flows.events import ARCHIVED, resource_id
from dtool_ecs_flows.flows.archive import ArchiveOptions, FolderOptions, archive
from dtool_ecs_flows.outcomes import RunFailedError, RunReport
from tests.conftest import new_bucket
from tests.flows.conftest import MakeDataset, PrefectApi, block_of
from tests.independent import Raw
from tests.servers import S3Server

PLAIN = ArchiveOptions(source_holds="plain folders")
MARKED = FolderOptions(marker="_DONE", tags=["instrument"])


@pytest.fixture
def instrument(tmp_path: Path) -> Path:
    """What an instrument has written: two runs that are complete, and one that is not."""
    base = tmp_path / "data sets" / "instrument"
    for name in ("run-1", "run-2", "run-3"):
        (base / name / "raw").mkdir(parents=True)
        (base / name / "raw" / "counts.txt").write_text(f"counts of {name}")
        (base / name / "log.txt").write_text("all well")
    for name in ("run-1", "run-2"):
        (base / name / "_DONE").touch()
    return base


def told(report: RunReport) -> dict[str, tuple[str, str]]:
    return {each.name: (each.outcome, each.message) for each in report.datasets}


def test_complete_folders_become_datasets_and_the_next_night_does_the_rest(
    block: EcsBucket, instrument: Path, api: PrefectApi
) -> None:
    """Each complete sub-folder is archived once, with its provenance; the others wait, and the report says for what."""
    plan = archive(str(instrument), block, ArchiveOptions(source_holds="plain folders", dry_run=True), MARKED)
    assert [each.outcome for each in plan.datasets] == ["planned", "planned", "left out"]
    assert not len(list_datasets(block.base_uri, settings=block.settings()))
    shown = api.artifact(f"archive-{block.bucket}")["data"]
    assert "not complete: it has no \\_DONE" in shown
    assert "nothing was copied" in shown

    first = archive(f"file://{instrument}", block, PLAIN, MARKED)
    assert [each.outcome for each in first.datasets] == ["copied", "copied", "left out"]
    with block.active():
        dataset = dtoolcore.DataSet.from_uri(first.datasets[0].uri)
        assert dataset.name == "run-1"
        assert dataset.list_tags() == ["instrument"]
        assert dataset.get_annotation("prefect_flow_run")["flow"] == "archive"
        assert dataset.get_annotation("archived_folder")["path"] == str(instrument / "run-1")
        assert {dataset.item_properties(i)["relpath"] for i in dataset.identifiers} == {"log.txt", "raw/counts.txt"}

    (instrument / "run-3" / "_DONE").touch()
    (instrument / "run-2" / "log.txt").write_text("not so well")
    second = archive(str(instrument), block, PLAIN, MARKED)
    assert [each.outcome for each in second.datasets] == ["already there", "copied", "copied"]
    assert sorted(info.name for info in list_datasets(block.base_uri, settings=block.settings()).datasets) == [
        "run-1",
        "run-2",
        "run-2",
        "run-3",
    ]
    (event,) = api.events(ARCHIVED, resource_id(first.datasets[0].uuid))
    assert event["payload"]["name"] == "run-1"


def test_a_folder_that_changed_fails_where_that_is_asked_for(block: EcsBucket, instrument: Path) -> None:
    """Nothing is archived under an old name unnoticed; the others are, and a plan names the earlier dataset."""
    archive(str(instrument), block, PLAIN, MARKED)
    (instrument / "run-1" / "log.txt").write_text("edited")
    (instrument / "run-3" / "_DONE").touch()
    careful = FolderOptions(marker="_DONE", changed="fail")
    plan = archive(str(instrument), block, ArchiveOptions(source_holds="plain folders", dry_run=True), careful)
    assert "archived with this name before: ecs://" in plan.datasets[0].message
    with pytest.raises(RunFailedError, match="run-1 has changed since it was archived") as failure:
        archive(str(instrument), block, PLAIN, careful)
    outcomes = [each.outcome for each in failure.value.report.datasets]
    assert outcomes == ["failed", "already there", "copied"]


def test_local_copies_go_once_the_bucket_was_read_back(block: EcsBucket, instrument: Path, api: PrefectApi) -> None:
    """What is archived is removed, the rest stays; a removal that was cut short on another night is finished."""
    archived = archive(str(instrument), block, PLAIN, MARKED)
    cut_short = archived.datasets[1]
    (instrument / "run-2").rename(instrument / leftover_name(cut_short.uuid, "run-2"))
    (instrument / leftover_name(cut_short.uuid, "run-2") / "log.txt").unlink()
    keeping = archive(str(instrument), block, PLAIN, MARKED)
    assert [each.outcome for each in keeping.datasets] == ["left out", "already there", "left out"]
    assert "its removal was cut short" in keeping.datasets[0].message
    options = ArchiveOptions(source_holds="plain folders", afterwards="remove the local copy")

    plan = archive(str(instrument), block, options.model_copy(update={"dry_run": True}), MARKED)
    assert [each.local_copy for each in plan.datasets] == ["", "to be removed", ""]
    assert (instrument / "run-1").exists()

    report = archive(str(instrument), block, options, MARKED)
    assert [(each.outcome, each.local_copy) for each in report.datasets] == [
        ("already there", "removed"),
        ("already there", "removed"),
        ("left out", ""),
    ]
    assert [path.name for path in instrument.iterdir()] == ["run-3"]
    assert "2 local copies removed" in api.artifact(f"archive-{block.bucket}")["description"]
    for each in archived.having("copied"):
        assert verify_dataset(each.uri, settings=block.settings()).ok


def test_datasets_are_removed_too_but_never_what_is_not_archived(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """Of two datasets the one with a note beside its data stays, and the run says why without failing."""
    made = [make("apples"), make("pears")]
    folders = [Path(source.removeprefix("file://"), each.name) for each in made]
    (folders[1] / "note.txt").write_text("only here")
    report = archive(source, block, ArchiveOptions(afterwards="remove the local copy"))
    assert [(each.outcome, each.local_copy) for each in report.datasets] == [
        ("copied", "removed"),
        ("copied", "kept"),
    ]
    assert "note.txt" in report.datasets[1].message
    assert "1 local copy removed, 1 local copy kept" in api.artifact(f"archive-{block.bucket}")["description"]
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_damaged_archive_keeps_the_local_copy_and_fails(block: EcsBucket, instrument: Path) -> None:
    """Where the bucket's bytes are not right, the only good copy stays, and somebody is told."""
    archived = archive(str(instrument), block, PLAIN, MARKED)
    raw = Raw(block.settings())
    key = next(key for key in raw.listed(f"{archived.datasets[0].uuid}/data/"))
    raw.replace(key, b"damaged!")
    options = ArchiveOptions(source_holds="plain folders", afterwards="remove the local copy")
    with pytest.raises(RunFailedError, match="is kept") as failure:
        archive(str(instrument), block, options, MARKED)
    assert [each.outcome for each in failure.value.report.datasets] == ["failed", "already there", "left out"]
    assert (instrument / "run-1" / "log.txt").exists()


def test_datasets_are_chosen_by_pattern_tag_and_age(block: EcsBucket, make: MakeDataset, source: str) -> None:
    """What does not fit is left out, and the plan says what it was."""
    dtoolcore.DataSet.from_uri(make("run-1").uri).put_tag("raw")
    make("run-2")
    dtoolcore.DataSet.from_uri(make("test").uri).put_tag("raw")
    plan = archive(source, block, ArchiveOptions(name_patterns=["run-*"], tags=["raw"], dry_run=True))
    assert told(plan) == {
        "run-1": ("planned", ""),
        "run-2": ("left out", "it has no tag raw"),
        "test": ("left out", "its name does not fit run-*"),
    }
    none = archive(source, block, ArchiveOptions(older_than_days=1))
    assert {each.outcome for each in none.datasets} == {"left out"}
    assert "younger than 1" in none.datasets[0].message
    all_of_them = archive(source, block, ArchiveOptions(newer_than_days=1))
    assert {each.outcome for each in all_of_them.datasets} == {"copied"}


def test_a_run_copies_no_more_than_it_may_and_the_next_goes_on(
    block: EcsBucket, make: MakeDataset, source: str
) -> None:
    """With a limit each night does a part; what is there already takes nothing from it."""
    for name in ("a", "b", "c"):
        make(name)
    limited = ArchiveOptions(at_most=1)
    nights = [[each.outcome for each in archive(source, block, limited).datasets] for _ in range(3)]
    assert nights == [
        ["copied", "left out", "left out"],
        ["already there", "copied", "left out"],
        ["already there", "already there", "copied"],
    ]


def test_after_its_hours_a_run_begins_no_more(block: EcsBucket, make: MakeDataset, source: str) -> None:
    """A night that is over leaves the rest to the next, and says so."""
    make("a")
    report = archive(source, block, ArchiveOptions(begin_for_hours=1e-9))
    assert report.datasets[0].outcome == "left out"
    assert "begins none after" in report.datasets[0].message


def test_a_source_in_another_bucket_has_a_block_of_its_own(
    block: EcsBucket, rclone: S3Server, make: MakeDataset, source: str
) -> None:
    """From bucket to bucket nothing is looked up in the environment: both blocks are given."""
    other = block_of(new_bucket(rclone))
    make("apples")
    archive(source, other)
    report = archive(other.base_uri, block, ArchiveOptions(other_buckets=[other]))
    assert [each.outcome for each in report.datasets] == ["copied"]


def test_what_cannot_be_meant_is_refused_at_once(block: EcsBucket, instrument: Path) -> None:
    """Tags of plain folders, or the removal of what is not on this machine, are no choices."""
    with pytest.raises(SettingsError, match="plain folders have no tags"):
        archive(str(instrument), block, ArchiveOptions(source_holds="plain folders", tags=["raw"]))
    with pytest.raises(UnsafeNameError, match="not a folder of this machine"):
        archive(block.base_uri, block, ArchiveOptions(afterwards="remove the local copy"))
    for options in (PLAIN, ArchiveOptions()):  # as where a deployment has a variable that is not set
        with pytest.raises(UnsafeNameError, match="an empty text names no place"):
            archive("", block, options)


def test_without_a_marker_what_changed_lately_waits(block: EcsBucket, instrument: Path) -> None:
    """An hour is the default: what was just written is left for later, and the report says when it changed."""
    report = archive(str(instrument), block, PLAIN)
    assert {each.outcome for each in report.datasets} == {"left out"}
    assert all("not complete: it changed" in each.message for each in report.datasets)
    quiet = archive(str(instrument), block, PLAIN, FolderOptions(quiet_minutes=0))
    assert {each.outcome for each in quiet.datasets} == {"copied"}
