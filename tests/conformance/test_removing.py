"""A local copy is removed only when both it and the archive were read and are equal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import archive_folder, copy_dataset, delete_dataset, remove_local_copy
from dtool_ecs_flows.datasets import removing
from dtool_ecs_flows.datasets.folders.tree import FileState, leftovers
from dtool_ecs_flows.errors import DatasetError, UnsafeNameError
from tests.independent import CONTENTS, Raw, disk_dataset, disk_path, files_below, identifier
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("configured", "raw")


@pytest.fixture(scope="module")
def server(rclone: S3Server) -> S3Server:
    """The server that runs anywhere: nothing here differs from one server to the next."""
    return rclone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain folder."""
    root = tmp_path / "instrument" / "run 1"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty folder").mkdir()
    (root / "a.csv").write_text("1,2\n")
    (root / "deep" / "er" / "b.bin").write_bytes(bytes(range(256)))
    (root / "_DONE").write_text("yes")
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """A dtool dataset on a disk."""
    return disk_dataset(tmp_path / "datasets", CONTENTS, overlays={"unit": {"table.csv": "mm"}})


def test_a_plain_folder_goes_when_it_is_archived(folder: Path, base_uri: str) -> None:
    """All of it is gone, and the report says how much that was."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    report = remove_local_copy(str(folder), uri, marker="_DONE")
    assert (report.kept, report.removed_files, report.removed_bytes) == ("", 3, 4 + 256 + 3)
    assert not list(folder.parent.iterdir())


def test_a_dataset_goes_when_it_is_archived(dataset: str, base_uri: str) -> None:
    """The same of a dtool dataset, metadata and all."""
    uri = copy_dataset(dataset, base_uri).uri
    report = remove_local_copy(dataset, uri)
    assert report.kept == ""
    assert report.removed_files > len(CONTENTS)
    assert not disk_path(dataset).exists()
    assert not list(disk_path(dataset).parent.iterdir())


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "a file changed": lambda root: (root / "a.csv").write_text("1,3\n"),
    "a file is new": lambda root: (root / "new").write_text(""),
    "a file is gone": lambda root: (root / "a.csv").unlink(),
    "a symbolic link": lambda root: (root / "link").symlink_to("a.csv"),
    "a link to a folder": lambda root: (root / "link").symlink_to(root / "deep"),
    "a marker in a sub-folder": lambda root: (root / "deep" / "_DONE").write_text("yes"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_meanwhile_is_kept(folder: Path, base_uri: str, change: str) -> None:
    """Where anything in the folder is not archived as it is now, nothing of it is removed, and it has its old name."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    CHANGES[change](folder)
    before = files_below(folder)
    report = remove_local_copy(str(folder), uri, marker="_DONE")
    assert report.kept
    assert report.removed_files == 0
    assert files_below(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


OF_DATASETS: dict[str, Change] = {
    "README": lambda root: (root / "README.yml").write_text("---\nbetter: yes\n"),
    "tag": lambda root: dtoolcore.DataSet.from_uri(str(root)).put_tag("new"),
    "annotation": lambda root: dtoolcore.DataSet.from_uri(str(root)).put_annotation("new", 1),
    "item": lambda root: (root / "data" / "table.csv").write_text("other"),
    "extra item": lambda root: (root / "data" / "extra").write_text("other"),
    "notes beside": lambda root: (root / "notes.txt").write_text("of the night shift"),
    "name": lambda root: dtoolcore.DataSet.from_uri(str(root)).update_name("renamed"),
    "UUID": lambda root: (root / ".dtool" / "dtool").write_text(_of_another_dataset(root)),
    "no dataset any more": lambda root: (root / ".dtool" / "dtool").unlink(),
}


def _of_another_dataset(root: Path) -> str:
    admin = json.loads((root / ".dtool" / "dtool").read_text())
    return json.dumps({**admin, "uuid": "0f4f6f5a-7d4c-4a66-9f0e-0d8f1f1f2a3b"})


@pytest.mark.parametrize("change", OF_DATASETS)
def test_a_dataset_whose_metadata_is_not_archived_is_kept(dataset: str, base_uri: str, change: str) -> None:
    """A better README, one tag more, notes beside the data, or another dataset of the same data: nothing is removed."""
    uri = copy_dataset(dataset, base_uri).uri
    OF_DATASETS[change](disk_path(dataset))
    before = files_below(disk_path(dataset))
    report = remove_local_copy(dataset, uri)
    assert report.kept
    assert files_below(disk_path(dataset)) == before


def test_a_bucket_is_not_read_back_for_what_is_kept_anyway(
    dataset: str, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A README that differs keeps the local copy night after night; the bucket's bytes are left alone."""
    uri = copy_dataset(dataset, base_uri).uri
    (disk_path(dataset) / "README.yml").write_text("---\nbetter: yes\n")
    read: list[str] = []
    monkeypatch.setattr(removing, "verify_dataset", lambda uri, **_: read.append(uri))
    assert "README.yml" in remove_local_copy(dataset, uri).kept
    assert read == []


def test_nothing_goes_where_the_archive_is_damaged(folder: Path, base_uri: str, raw: Raw) -> None:
    """The archived bytes are read; a flipped bit there keeps the only good copy here."""
    made = archive_folder(str(folder), base_uri, marker="_DONE")
    raw.replace(f"{made.uuid}/data/{identifier('a.csv')}", b"1,3\n")
    with pytest.raises(DatasetError, match=r"is kept.*a\.csv"):
        remove_local_copy(str(folder), made.uri, marker="_DONE")
    assert (folder / "a.csv").exists()


def test_a_removal_that_was_cut_short_goes_on(folder: Path, base_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash half way leaves a hidden folder that nobody archives anew, and the next run removes the rest."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    removed: list[str] = []

    def dying(path: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        os.remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            remove_local_copy(str(folder), uri, marker="_DONE")
    ((left, uuid),) = leftovers(str(folder.parent)).items()
    assert uri.endswith(uuid)
    report = remove_local_copy(left, uri, marker="_DONE")
    assert (report.kept, report.removed_files) == ("", 2)
    assert not list(folder.parent.iterdir())


def test_a_dataset_that_is_half_removed_is_none_any_more(
    dataset: str, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a dataset is listed by nobody, and its removal goes on too."""
    uri = copy_dataset(dataset, base_uri).uri
    base = disk_path(dataset).parent
    count = 0

    def dying(path: str) -> None:
        nonlocal count
        if count == 5:
            raise KeyboardInterrupt
        count += 1
        os.remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            remove_local_copy(dataset, uri)
    assert not list(dtoolcore.iter_datasets_in_base_uri(f"file://{base}"))
    (left,) = leftovers(str(base))
    assert remove_local_copy(left, uri).kept == ""
    assert not list(base.iterdir())


def test_a_file_that_changes_in_the_last_moment_stays(
    folder: Path, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the comparison and the removal of a file it is looked at once more."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    original = removing._LocalCopy._checked

    def then_write(copy: removing._LocalCopy) -> dict[str, FileState]:
        files = original(copy)
        Path(files["deep/er/b.bin"].path).write_text("the instrument wakes up")
        return files

    monkeypatch.setattr(removing._LocalCopy, "_checked", then_write)
    report = remove_local_copy(str(folder), uri, marker="_DONE")
    assert "deep/er/b.bin changed in the last moment" in report.kept
    (left,) = leftovers(str(folder.parent))
    assert Path(left, "deep/er/b.bin").read_text() == "the instrument wakes up"


def test_a_file_with_several_names_goes_with_all_of_them(folder: Path, base_uri: str) -> None:
    """Hard links in a folder, as some tools for backups make, are no change in the last moment."""
    os.link(folder / "a.csv", folder / "deep" / "same.csv")
    os.link(folder / "a.csv", folder / "same.csv")
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    assert remove_local_copy(str(folder), uri, marker="_DONE").kept == ""
    assert not list(folder.parent.iterdir())


def test_a_dataset_that_is_deleted_in_the_bucket_meanwhile_is_kept_here(
    folder: Path, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are read for hours perhaps; whether the archived one is still there is asked once more at the end."""
    made = archive_folder(str(folder), base_uri, marker="_DONE")
    before = files_below(folder)
    original = removing._LocalCopy._checked

    def then_delete(copy: removing._LocalCopy) -> dict[str, FileState]:
        files = original(copy)
        delete_dataset(made.uri, made.name)
        return files

    monkeypatch.setattr(removing._LocalCopy, "_checked", then_delete)
    assert "not a dataset" in remove_local_copy(str(folder), made.uri, marker="_DONE").kept
    assert files_below(folder) == before


def test_a_folder_whose_name_is_taken_meanwhile_is_kept_and_told_of(
    folder: Path, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot have its name back, because the instrument made a folder of that name, nothing is lost."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    before = {**files_below(folder), "new": b"not archived"}
    original = removing._LocalCopy._checked

    def made_meanwhile(copy: removing._LocalCopy) -> dict[str, FileState]:
        folder.mkdir()
        Path(copy._hidden, "new").write_text("not archived")
        return original(copy)

    monkeypatch.setattr(removing._LocalCopy, "_checked", made_meanwhile)
    report = remove_local_copy(str(folder), uri, marker="_DONE")
    (left,) = leftovers(str(folder.parent))
    assert left in report.kept
    assert files_below(Path(left)) == before


def test_a_removal_of_a_dataset_with_a_uuid_in_capitals_goes_on(
    dataset: str, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some program wrote the UUID in capitals: what is left half removed is found again all the same."""
    admin = disk_path(dataset) / ".dtool" / "dtool"
    admin.write_text(json.dumps({**json.loads(admin.read_text()), "uuid": "0F4F6F5A-7D4C-4A66-9F0E-0D8F1F1F2A3B"}))
    uri = copy_dataset(dataset, base_uri).uri
    base = disk_path(dataset).parent

    def dying(path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            remove_local_copy(dataset, uri)
    (left,) = leftovers(str(base))
    assert remove_local_copy(left, uri).kept == ""
    assert not list(base.iterdir())


def test_only_local_folders_that_are_archived_in_a_bucket_are_removed(
    folder: Path, base_uri: str, tmp_path: Path
) -> None:
    """A copy on another disk of this machine is no archive, and what is elsewhere is not removed."""
    uri = archive_folder(str(folder), base_uri, marker="_DONE").uri
    other = tmp_path / "other disk"
    other.mkdir()
    beside = copy_dataset(uri, str(other)).uri
    with pytest.raises(DatasetError, match="only what is archived in a bucket"):
        remove_local_copy(str(folder), beside)
    with pytest.raises(UnsafeNameError, match="not a folder of this machine"):
        remove_local_copy(uri, uri)
    for call in (archive_folder, remove_local_copy):
        with pytest.raises(UnsafeNameError, match="is no name of a file"):
            call(str(folder), base_uri if call is archive_folder else uri, marker="deep/er/b.bin")
    assert (folder / "a.csv").exists()
