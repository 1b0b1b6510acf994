"""Plain folders: each becomes a dataset when it is complete, and the same folder only once."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import archive_folder, list_datasets, look_at_folders
from dtool_ecs_flows.datasets.folders import Completeness, content, dataset_name
from dtool_ecs_flows.errors import DatasetError, NotADatasetError, StoppedError, TransferError, UnsafeNameError
from dtool_ecs_flows.models import Progress
from tests.independent import CONTENTS, Raw, everything
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("configured", "raw")

AT_ONCE = Completeness(quiet_minutes=0)


@pytest.fixture(scope="module")
def server(rclone: S3Server) -> S3Server:
    """The server that runs anywhere: nothing here differs from one server to the next."""
    return rclone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of all kinds of names."""
    root = tmp_path / "instrument" / "run-1"
    for relpath, data in CONTENTS.items():
        path = root / relpath
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture
def memory(tmp_path: Path) -> str:
    return str(tmp_path / "memory")


def age(folder: Path) -> None:
    """Wait until files are older than what a disk's clock cannot tell apart."""
    newest = max(path.stat().st_ctime for path in folder.rglob("*"))
    time.sleep(max(0.0, newest + 2.2 - time.time()))


def test_a_folder_is_archived_once_whatever_happens_to_its_times(folder: Path, base_uri: str, tmp_path: Path) -> None:
    """Tonight it is sent; tomorrow, touched, moved elsewhere and on another worker, it is found by its content."""
    first = archive_folder(str(folder), base_uri, tags=["raw"], readme="---\nfrom: here\n")
    assert (first.name, first.items, first.copied_items, first.verified) == ("run-1", 12, 12, "content")
    with_dtool = dtoolcore.DataSet.from_uri(first.uri)
    found = {
        with_dtool.item_properties(i)["relpath"]: Path(with_dtool.item_content_abspath(i)).read_bytes()
        for i in with_dtool.identifiers
    }
    assert found == CONTENTS
    assert with_dtool.list_tags() == ["raw"]
    assert with_dtool.get_readme_content() == "---\nfrom: here\n"
    assert with_dtool.get_annotation("archived_folder")["path"] == str(folder)

    moved = tmp_path / "elsewhere" / "run-1"
    shutil.copytree(folder, moved)
    for each in (folder, moved):
        os.utime(each / "table.csv", (1e9, 1e9))
        again = archive_folder(f"file://{each}", base_uri, tags=["other"], readme="another")
        assert (again.already_there, again.uri, again.copied_items) == (True, first.uri, 0)
    assert len(list_datasets(base_uri)) == 1


@pytest.mark.parametrize("change", ["content", "name", "new", "gone"])
def test_a_folder_that_changed_is_another_dataset(folder: Path, base_uri: str, change: str) -> None:
    """Nothing that was archived is changed, and nothing that is new is taken for archived."""
    first = archive_folder(str(folder), base_uri)
    before = everything(first.uri)
    if change == "content":
        state = (folder / "table.csv").stat()
        (folder / "table.csv").write_bytes(b"a,b\n1,3\n")
        os.utime(folder / "table.csv", ns=(state.st_atime_ns, state.st_mtime_ns))  # as if nothing had happened
    elif change == "name":
        (folder / "table.csv").rename(folder / "tables.csv")
    elif change == "new":
        (folder / "new").write_bytes(b"")
    else:
        (folder / "empty").unlink()
    second = archive_folder(str(folder), base_uri)
    assert second.uri != first.uri
    assert not second.already_there
    assert everything(first.uri) == before


def test_the_memory_saves_reading_and_decides_nothing(
    folder: Path, base_uri: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that nobody touched are not read again; one that changed is, though it has its old size and time."""
    first = archive_folder(str(folder), base_uri, memory=memory)  # too young to be remembered
    age(folder)
    archive_folder(str(folder), base_uri, memory=memory)
    read: list[str] = []
    original = os.open

    def opening(path: str, *how: int) -> int:
        read.append(str(path))
        return original(path, *how)

    monkeypatch.setattr(os, "open", opening)
    assert archive_folder(str(folder), base_uri, memory=memory).uri == first.uri
    assert not [path for path in read if path.startswith(str(folder))]

    state = (folder / "table.csv").stat()
    (folder / "table.csv").write_bytes(b"a,b\n1,3\n")
    os.utime(folder / "table.csv", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert archive_folder(str(folder), base_uri, memory=memory).uri != first.uri
    assert str(folder / "table.csv") in read

    for file in Path(memory).iterdir():
        file.write_text('{"table.csv": 7')
    (folder / "table.csv").write_bytes(CONTENTS["table.csv"])
    assert archive_folder(str(folder), base_uri, memory=memory).uri == first.uri


def test_an_interrupted_run_goes_on_with_the_same_dataset(folder: Path, base_uri: str, raw: Raw) -> None:
    """What was sent before the stop is not sent again, and nothing half is left over."""
    stop = threading.Event()

    def stop_soon(progress: Progress) -> None:
        if progress.items_done:
            stop.set()

    with pytest.raises(StoppedError):
        archive_folder(str(folder), base_uri, progress=stop_soon, stop=stop, concurrency=1)
    (half,) = list_datasets(base_uri).datasets
    assert half.type == "protodataset"
    sent = len([key for key in raw.listed() if "/data/" in key])

    rest = archive_folder(str(folder), base_uri)
    assert (rest.uri, rest.skipped, rest.copied_items) == (half.uri, sent, len(CONTENTS) - sent)
    assert [info.type for info in list_datasets(base_uri).datasets] == ["dataset"]


def test_a_file_that_changes_while_it_is_read_freezes_nothing(
    folder: Path, base_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instrument that still writes makes an error that names the file, and no dataset."""
    original = os.preadv

    def reading(file: int, buffers: list[memoryview], offset: int) -> int:
        count = original(file, buffers, offset)
        with (folder / "table.csv").open("ab") as more:
            more.write(b"2,3\n")
        return count

    monkeypatch.setattr(os, "preadv", reading)
    with pytest.raises(TransferError, match=r"table\.csv"):
        archive_folder(str(folder), base_uri)
    monkeypatch.undo()


def test_a_readme_in_the_folder_is_the_readme(folder: Path, base_uri: str) -> None:
    """Who writes a README.yml beside the data has it in the dataset, and as a file too."""
    (folder / "README.yml").write_text("---\nby: hand\n")
    report = archive_folder(str(folder), base_uri, readme="---\nby: default\n")
    dataset = dtoolcore.DataSet.from_uri(report.uri)
    assert dataset.get_readme_content() == "---\nby: hand\n"
    assert report.items == len(CONTENTS) + 1


def test_links_lead_nowhere_else(folder: Path, base_uri: str, tmp_path: Path) -> None:
    """A link to a file in the folder is the file; one that leads out, to others' files, is left out and told of."""
    (tmp_path / "private").write_text("not for everybody")
    (folder / "same.csv").symlink_to(folder / "table.csv")
    (folder / "out").symlink_to(tmp_path / "private")
    (folder / "up").symlink_to(tmp_path)
    (folder / "dangling").symlink_to("nowhere")
    report = archive_folder(str(folder), base_uri)
    dataset = dtoolcore.DataSet.from_uri(report.uri)
    assert {dataset.item_properties(i)["relpath"] for i in dataset.identifiers} == {*CONTENTS, "same.csv"}
    assert dataset.get_annotation("archived_folder")["links_left_out"] == ["dangling", "out", "up"]
    (seen,) = look_at_folders(str(folder.parent), AT_ONCE).folders
    assert "3 symbolic links" in seen.note


def test_what_is_no_folder_of_files_is_refused(tmp_path: Path, base_uri: str) -> None:
    """Nothing is written for a folder without files, for a pipe in it, or for what is elsewhere."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no files"):
        archive_folder(str(tmp_path / "empty"), base_uri)
    os.mkfifo(tmp_path / "empty" / "pipe")
    with pytest.raises(DatasetError, match="not a regular file"):
        archive_folder(str(tmp_path / "empty"), base_uri)
    with pytest.raises(DatasetError, match="not a folder"):
        archive_folder(str(tmp_path / "missing"), base_uri)
    with pytest.raises(UnsafeNameError, match="not a folder of this machine"):
        archive_folder("ecs://elsewhere", base_uri)
    with pytest.raises(UnsafeNameError, match="empty text"):
        archive_folder("", base_uri)
    for nowhere in ("file://", "file:", "FILE://data"):
        with pytest.raises(UnsafeNameError, match="names no folder"):
            archive_folder(nowhere, base_uri)
    assert not len(list_datasets(base_uri))


# --- which are complete ----------------------------------------------------------------------------------------------


def test_a_marker_says_that_a_folder_is_complete(folder: Path, base_uri: str) -> None:
    """Without it the folder waits, however old; the marker is no content, so writing it again changes nothing."""
    marked = Completeness(marker="_DONE")
    (seen,) = look_at_folders(str(folder.parent), marked, now=time.time() + 1e6).folders
    assert seen.why_not == "not complete: it has no _DONE"
    (folder / "_DONE").write_text("at noon")
    (seen,) = look_at_folders(str(folder.parent), marked).folders
    assert (seen.why_not, seen.files) == ("", len(CONTENTS))
    first = archive_folder(str(folder), base_uri, marker="_DONE")
    (folder / "_DONE").write_text("at midnight")
    assert archive_folder(str(folder), base_uri, marker="_DONE").uri == first.uri


def test_without_a_marker_a_folder_must_be_left_alone_for_a_while(folder: Path) -> None:
    """What counts is when its disk saw the last change, which copying tools that set times back cannot hide."""
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    now = time.time()
    (seen,) = look_at_folders(str(folder.parent), Completeness(quiet_minutes=30), now=now + 29 * 60).folders
    assert "not complete: it changed 29 min" in seen.why_not
    (seen,) = look_at_folders(str(folder.parent), Completeness(quiet_minutes=30), now=now + 31 * 60).folders
    assert seen.why_not == ""
    os.utime(folder / "table.csv", (9e9, 9e9))  # of a camera whose clock is wrong
    (seen,) = look_at_folders(str(folder.parent), Completeness(quiet_minutes=30), now=time.time() + 31 * 60).folders
    assert seen.why_not == ""


def test_each_sub_folder_has_its_line(tmp_path: Path, folder: Path) -> None:
    """Datasets, empty and hidden folders and loose files are told apart, and one that cannot be read harms no other."""
    base = folder.parent
    for name in ("Größe 20 µm", ".hidden", "empty"):
        (base / name).mkdir()
    (base / "Größe 20 µm" / "a").write_text("a")
    (base / "loose").write_text("no folder")
    (base / "link").symlink_to(folder)
    (base / "broken").mkdir()
    os.mkfifo(base / "broken" / "pipe")
    dtoolcore.create_proto_dataset("a-dataset", f"file://{base}")
    seen = {Path(each.path).name: each for each in look_at_folders(f"file://{base}", AT_ONCE).folders}
    assert sorted(seen) == ["Größe 20 µm", "a-dataset", "broken", "empty", "run-1"]
    assert seen["Größe 20 µm"].name == "Gr-e-20-m"
    assert "dtool dataset" in seen["a-dataset"].why_not
    assert "not a regular file" in seen["broken"].problem
    assert seen["empty"].why_not == "it has no files"
    assert seen["run-1"].bytes == sum(map(len, CONTENTS.values()))
    with pytest.raises(NotADatasetError, match="no folder"):
        look_at_folders(str(tmp_path / "missing"))
    with pytest.raises(UnsafeNameError, match="marker"):
        look_at_folders(str(base), Completeness(marker="a/b"))


def test_a_plan_knows_what_is_archived_without_reading(
    folder: Path, base_uri: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the files were read on another day, a look tells the dataset's UUID."""
    with monkeypatch.context() as patched:
        patched.setattr(content, "_SETTLED", 3600 * 10**9)  # too young to be remembered, however slow this machine is
        uuid = archive_folder(str(folder), base_uri, memory=memory).uuid
    age(folder)
    assert [each.uuid for each in look_at_folders(str(folder.parent), AT_ONCE, memory=memory).folders] == [""]
    archive_folder(str(folder), base_uri, memory=memory)
    assert [each.uuid for each in look_at_folders(str(folder.parent), AT_ONCE, memory=memory).folders] == [uuid]


@pytest.mark.parametrize(
    ("folder_name", "name"),
    [("run-1", "run-1"), ("a b", "a-b"), ("日本", "-"), ("..", "folder-"), ("x" * 200, "x" * 71)],
)
def test_names_are_those_that_dtool_allows(folder_name: str, name: str) -> None:
    """Whatever a folder is called, its dataset has a name, which is its own where it may be."""
    assert dataset_name(folder_name).startswith(name if name != "-" else "folder-")
