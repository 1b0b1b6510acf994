"""Sources that mean harm, and disks that have no room: what a copy out of a bucket refuses, and when."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset
from dtool_ecs_flows.errors import (
    DatasetDiffersError,
    DatasetError,
    EcsFlowsError,
    ManifestError,
    StoreError,
    UnsafeNameError,
)
from tests.conftest import new_bucket
from tests.independent import (
    CONTENTS,
    MIB,
    Raw,
    bucket_dataset,
    disk_dataset,
    disk_path,
    edit_json,
    everything,
    files_below,
    identifier,
    noise,
)
from tests.servers import S3Server

HOSTILE = ["../escaped", "a/../../escaped", "/escaped", "a\0b", "a\\..\\b", "..\\escaped", "..", ""]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder that is copied into."""
    path = tmp_path / "out"
    path.mkdir()
    return path


# --- names that lead elsewhere ---


@pytest.mark.parametrize("relpath", HOSTILE)
def test_a_relpath_that_leaves_the_dataset_is_refused_before_anything_is_written(
    rclone_bucket: BucketSettings, tmp_path: Path, out: Path, relpath: str
) -> None:
    """The whole manifest is looked at first: one bad name among good ones, and not even a folder is made."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"good": b"1", "also good": b"2", relpath: b"evil"})

    with pytest.raises(EcsFlowsError, match="relpath"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert list(out.iterdir()) == []
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("relpath", [name for name in HOSTILE if name and "\0" not in name])
def test_such_a_relpath_is_not_handed_on_to_another_bucket(
    rclone: S3Server, rclone_bucket: BucketSettings, relpath: str
) -> None:
    """A bucket could hold such a name, but the next reader would suffer from it."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"good": b"1", relpath: b"evil"})
    other = new_bucket(rclone)

    with pytest.raises(UnsafeNameError, match="relpath"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", other.base_uri, settings=[rclone_bucket, other])

    assert Raw(other).listed() == []


@pytest.mark.parametrize("pair", [("a", "a/b"), ("a/b/c", "a/b"), ("a", "./a"), ("a/b", "a//b"), ("d/", "d/e")])
def test_relpaths_that_no_disk_can_hold_both_are_refused_before_anything_is_written(
    rclone_bucket: BucketSettings, out: Path, pair: tuple[str, str]
) -> None:
    """Two names for one file, or a file where a folder is needed."""
    uuid = bucket_dataset(Raw(rclone_bucket), dict.fromkeys(pair, b"1"))

    with pytest.raises(UnsafeNameError, match="relpath"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert list(out.iterdir()) == []


def test_a_file_name_too_long_for_a_disk_is_refused_before_anything_is_written(
    rclone_bucket: BucketSettings, out: Path
) -> None:
    """256 bytes are one too many, in umlauts as well."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"good": b"1", "ü" * 128: b"2"})

    with pytest.raises(UnsafeNameError, match="üü"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "../escaped", "/escaped", "a/b", "", "a\0b"])
def test_a_dataset_name_that_leads_elsewhere_is_refused(
    rclone_bucket: BucketSettings, tmp_path: Path, out: Path, name: str
) -> None:
    """A folder is named after the dataset, so the name is looked at like a relpath."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"good": b"1"}, name=name)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(UnsafeNameError):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("uuid", ["", "../x", "00000000-0000-0000-0000-000000000000", None])
def test_a_dataset_that_gives_another_uuid_than_its_own_is_refused(
    rclone: S3Server, rclone_bucket: BucketSettings, uuid: str | None
) -> None:
    """It would be written under keys that are another dataset's, or nobody's."""
    raw = Raw(rclone_bucket)
    own = bucket_dataset(raw, {"good": b"1"}, admin={"uuid": uuid})
    other = new_bucket(rclone)

    with pytest.raises(EcsFlowsError, match="UUID"):
        copy_dataset(f"{rclone_bucket.base_uri}/{own}", other.base_uri, settings=[rclone_bucket, other])

    assert Raw(other).listed() == []


@pytest.mark.parametrize("uuid", ["", "../x", None])
def test_a_dataset_on_a_disk_without_a_uuid_is_refused(
    rclone_bucket: BucketSettings, tmp_path: Path, uuid: str | None
) -> None:
    """The same where the source is a folder."""
    source = disk_dataset(tmp_path, {"a": b"1"})
    edit_json(disk_path(source) / ".dtool" / "dtool", lambda admin: admin.update(uuid=uuid))

    with pytest.raises(EcsFlowsError, match="UUID"):
        copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    assert Raw(rclone_bucket).listed() == []


# --- manifests that lie ---

ENTRIES: list[dict[str, Any]] = [
    {"hash": ""},
    {"hash": None},
    {"size_in_bytes": -1},
    {"size_in_bytes": "many"},
    {"size_in_bytes": float("inf")},
    {"utc_timestamp": None},
    {"utc_timestamp": float("nan")},
    {"relpath": 7},
    {"relpath": "other"},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_that_cannot_be_right_makes_the_manifest_unreadable(
    rclone_bucket: BucketSettings, out: Path, entry: dict[str, Any]
) -> None:
    """An empty hash above all: it would let any bytes pass as verified."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"good": b"1", "bad": b"2"}, entries={"bad": entry})

    with pytest.raises(ManifestError, match="unreadable"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert list(out.iterdir()) == []


@pytest.mark.parametrize("body", [b"", b'{"items": ', b"[]", b"null", b'{"items": []}', b"\xff\xfe"])
def test_a_manifest_that_cannot_be_read_is_told_apart(rclone_bucket: BucketSettings, out: Path, body: bytes) -> None:
    """Cut short, of another form, or no JSON at all: the error says that it is the manifest."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, {"good": b"1"})
    raw.put(f"{uuid}/manifest.json", body)

    with pytest.raises(ManifestError, match=r"manifest"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert list(out.iterdir()) == []


@pytest.mark.parametrize("time", [-5.0, 0.0, 1e11, 1e300])
def test_a_time_that_no_file_can_have_is_kept_in_the_manifest(
    rclone_bucket: BucketSettings, out: Path, time: float
) -> None:
    """An odd clock at the source does not keep anyone from their data."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"a": b"1"}, entries={"a": {"utc_timestamp": time}})

    report = copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert everything(report.uri)["items"][identifier("a")]["utc_timestamp"] == time


@pytest.mark.parametrize("function", ["sha1sum_hexdigest", "sha256sum_hexdigest", "crc32"])
def test_hashes_of_another_function_are_checked_or_refused(
    rclone_bucket: BucketSettings, out: Path, function: str
) -> None:
    """A manifest may name another hash than MD5: it is checked with that one, or not copied as if it had been."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, {"a": b"1"})
    raw.edit_json(f"{uuid}/manifest.json", lambda manifest: manifest.update(hash_function=function))

    with pytest.raises(EcsFlowsError, match=r"'a'|crc32"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert not (out / "penguins" / "data" / "a").exists()


# --- what lies in wait at the destination ---


def lead_item_away(folder: Path, elsewhere: Path) -> None:
    (elsewhere / "table.csv").write_bytes(b"precious")
    (folder / "data" / "table.csv").symlink_to(elsewhere / "table.csv")


def lead_subfolder_away(folder: Path, elsewhere: Path) -> None:
    (folder / "data" / "deep").symlink_to(elsewhere)


def lead_data_away(folder: Path, elsewhere: Path) -> None:
    (folder / "data").rmdir()
    (folder / "data").symlink_to(elsewhere)


def lead_metadata_away(folder: Path, elsewhere: Path) -> None:
    (folder / ".dtool" / "tmp_fragments").symlink_to(elsewhere)
    (folder / ".dtool" / "tags").rmdir()
    (folder / ".dtool" / "tags").symlink_to(elsewhere)


def lead_readme_away(folder: Path, elsewhere: Path) -> None:
    (elsewhere / "readme").write_bytes(b"precious")
    (folder / "README.yml").unlink(missing_ok=True)
    (folder / "README.yml").symlink_to(elsewhere / "readme")


@pytest.mark.parametrize(
    "plant", [lead_item_away, lead_subfolder_away, lead_data_away, lead_metadata_away, lead_readme_away]
)
def test_nothing_is_written_through_a_symbolic_link(
    rclone_bucket: BucketSettings, tmp_path: Path, out: Path, plant: Any
) -> None:
    """Whoever can write to the destination cannot make a copy write anywhere else."""
    report = copy_dataset(disk_dataset(tmp_path / "in", CONTENTS), rclone_bucket.base_uri, settings=rclone_bucket)
    folder = disk_path(copy_dataset(report.uri, str(out), settings=rclone_bucket).uri)
    edit_json(folder / ".dtool" / "dtool", lambda admin: admin.update(type="protodataset"))
    for path in sorted((folder / "data").rglob("*"), reverse=True) + list((folder / ".dtool" / "tags").iterdir()):
        path.rmdir() if path.is_dir() else path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    plant(folder, elsewhere)
    before = files_below(elsewhere), sorted(elsewhere.rglob("*"))

    with pytest.raises(UnsafeNameError, match="symbolic link"):
        copy_dataset(report.uri, str(out), settings=rclone_bucket)

    assert (files_below(elsewhere), sorted(elsewhere.rglob("*"))) == before


@pytest.mark.parametrize("document", ["README.yml", ".dtool/annotations/project.json", ".dtool/overlays/unit.json"])
def test_no_document_is_read_through_a_link_that_leads_out_of_its_dataset(
    rclone_bucket: BucketSettings, tmp_path: Path, document: str
) -> None:
    """Whoever can write to a folder that is archived does not get into the bucket what only the archiver may read."""
    uri = disk_dataset(tmp_path / "in", CONTENTS, annotations={"project": 1}, overlays={"unit": {"table.csv": "mm"}})
    private, planted = tmp_path / "private.json", disk_path(uri) / document
    private.write_text('{"key": "only for the archiver"}')
    planted.unlink()
    planted.symlink_to(private)
    with pytest.raises(UnsafeNameError, match="leads out of the dataset"):
        copy_dataset(uri, rclone_bucket.base_uri, settings=rclone_bucket)
    raw = Raw(rclone_bucket)
    assert not [key for key in raw.listed() if b"only for the archiver" in raw.get(key)]


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "dangling"])
def test_what_is_no_dataset_is_not_written_into(
    rclone_bucket: BucketSettings, tmp_path: Path, out: Path, kind: str
) -> None:
    """A folder of the user's, or a file, that happens to bear the dataset's name."""
    uuid = bucket_dataset(Raw(rclone_bucket), {"a": b"1"})
    target, elsewhere = out / "penguins", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_bytes(b"precious")
    if kind == "file":
        target.write_bytes(b"precious")
    elif kind == "folder":
        target.mkdir()
        (target / "thesis.tex").write_bytes(b"precious")
    else:
        target.symlink_to(elsewhere if kind == "symlink" else tmp_path / "nowhere")
    before = files_below(tmp_path)

    with pytest.raises(DatasetError, match="not a dataset"):
        copy_dataset(f"{rclone_bucket.base_uri}/{uuid}", str(out), settings=rclone_bucket)

    assert files_below(tmp_path) == before


# --- no room ---


def test_a_disk_that_is_too_small_is_noticed_before_the_start(
    rclone_bucket: BucketSettings, tmp_path: Path, small_disk: Path
) -> None:
    """The error says how much there is and how much is needed, and nothing was written."""
    source = disk_dataset(tmp_path / "in", {"large": noise(9 * MIB)})
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    with pytest.raises(StoreError, match=rf"{8 * MIB} bytes free.*needs {9 * MIB}"):
        copy_dataset(report.uri, str(small_disk), settings=rclone_bucket)

    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("when", [1, 6])
def test_a_disk_that_fills_up_meanwhile_leaves_what_can_be_finished(
    rclone_bucket: BucketSettings, tmp_path: Path, small_disk: Path, when: int
) -> None:
    """Whether among the items or after the last: a clear error, no half file; with room again, the rest follows."""
    contents = {f"item {number}": noise(MIB, number) for number in range(6)}
    source = disk_dataset(tmp_path / "in", contents)
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    ballast = small_disk / "ballast"

    def fill(progress: Progress) -> None:
        if progress.items_done == when:
            with open(ballast, "wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(b"x" * 4096)

    with pytest.raises(StoreError, match=r"is full: \d+ bytes free"):
        copy_dataset(report.uri, str(small_disk), settings=rclone_bucket, concurrency=1, progress=fill)

    for path in (small_disk / "penguins" / "data").iterdir():
        assert path.read_bytes() == contents[path.name]
    assert not list(small_disk.rglob("part-*"))

    ballast.unlink()
    again = copy_dataset(report.uri, str(small_disk), settings=rclone_bucket)
    assert again.skipped >= when
    assert everything(again.uri) == everything(source)


def test_a_uri_of_a_dataset_is_no_base_uri(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Copying "onto" a dataset is a slip of the hand, and told so."""
    source = disk_dataset(tmp_path, {"a": b"1"})
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    with pytest.raises(DatasetDiffersError, match="base URI"):
        copy_dataset(source, report.uri, settings=rclone_bucket)
