"""What was deleted on purpose: the history is told, and no audit takes it for lost, nor what was lost for deleted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtool_ecs_flows import AuditReport, BucketSettings, Deletion, copy_dataset, delete_dataset
from dtool_ecs_flows.errors import DatasetDiffersError, DatasetError, NotADatasetError, SettingsError
from tests.conformance.auditing import FILES, audit, fill, found, quiet_slice, read, uuids
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset, disk_dataset
from tests.proxy import Request, proxied


def remove(bucket: BucketSettings, uuid: str, history: Path | str, name: str = "penguins") -> None:
    delete_dataset(
        f"{bucket.base_uri}/{uuid}", name, settings=bucket, history=history, by="Curator", reason="its time was over"
    )


def lose(raw: Raw, uuid: str) -> None:
    """Take all of a dataset away, as an accident would."""
    raw.delete(*raw.listed(f"{uuid}/"), f"dtool-{uuid}")


def test_what_was_deleted_on_purpose_is_told_and_is_no_finding(bucket: BucketSettings, history: Path) -> None:
    """Who, when and why are in the report; beside it, what was lost is missing as ever."""
    raw = Raw(bucket)
    old, gone, kept = fill(raw, 3)
    audit(bucket, history)
    begun = time.time()
    remove(bucket, old, history)
    lose(raw, gone)

    report = audit(bucket, history)

    assert found(report) == {gone: [("missing", f"dtool-{gone}")]}
    assert [each.uuid for each in report.datasets] == sorted((gone, kept))
    (deleted,) = report.deleted
    assert (deleted.uuid, deleted.uri, deleted.name) == (old, f"{bucket.base_uri}/{old}", "penguins")
    assert (deleted.by, deleted.reason) == ("Curator", "its time was over")
    assert begun < deleted.at < time.time()
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_a_dataset_that_was_never_read_is_told_too(rclone_bucket: BucketSettings, history: Path) -> None:
    """The history need not have known it; the parts of a run tell it once."""
    (uuid,) = fill(Raw(rclone_bucket), 1)
    remove(rclone_bucket, uuid, history)

    parts = [audit(rclone_bucket, history, part=part, parts=2) for part in (1, 2)]

    assert all(report.ok and not report.datasets for report in parts)
    assert [each.uuid for report in parts for each in report.deleted] == [uuid]


def test_another_process_reads_what_is_told(rclone_bucket: BucketSettings, history: Path, tmp_path: Path) -> None:
    """`decs audit` says so in its last line, and ends well."""
    (uuid,) = fill(Raw(rclone_bucket), 1)
    audit(rclone_bucket, history)
    remove(rclone_bucket, uuid, history)
    config = tmp_path / "environment"
    environment = {
        "HOME": str(config),
        f"DTOOL_ECS_ENDPOINT_{rclone_bucket.bucket}": rclone_bucket.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{rclone_bucket.bucket}": rclone_bucket.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{rclone_bucket.bucket}": rclone_bucket.secret_access_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "dtool_ecs_flows.cli", "audit", rclone_bucket.base_uri, "--history", str(history)]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0 datasets looked at, 0 read in full (0 B), no finding, 1 deleted on purpose\n")


def test_what_is_there_again_is_audited_as_any_other(
    rclone_bucket: BucketSettings, history: Path, tmp_path: Path
) -> None:
    """It is read in its turn, and when it is lost then, it is missing: what was meant was the first time."""
    raw = Raw(rclone_bucket)
    source = disk_dataset(tmp_path, FILES)
    made = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    audit(rclone_bucket, history)
    remove(rclone_bucket, made.uuid, history, made.name)
    copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    looked = audit(rclone_bucket, history, slices=99, slice_number=quiet_slice([made.uuid]))
    lose(raw, made.uuid)
    lost = audit(rclone_bucket, history)
    copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    again = audit(rclone_bucket, history)
    remove(rclone_bucket, made.uuid, history, made.name)

    assert (looked.deleted, [each.uuid for each in looked.datasets], looked.ok) == ((), [made.uuid], True)
    assert (lost.deleted, found(lost)) == ((), {made.uuid: [("missing", f"dtool-{made.uuid}")]})
    assert (again.deleted, read(again), again.ok) == ((), [made.uuid], True)
    assert [each.uuid for each in audit(rclone_bucket, history).deleted] == [made.uuid]


@pytest.mark.parametrize("listing", [2, 3])
def test_a_deletion_in_the_middle_of_an_audit_counts(
    rclone_bucket: BucketSettings, history: Path, listing: int
) -> None:
    """In its look or its reading: it remembers that it could not read the dataset, no sign that it came back."""
    (uuid,) = fill(Raw(rclone_bucket), 1)
    audit(rclone_bucket, history)

    def delete(request: Request) -> None:
        if len(proxy.seen("ListObjects*")) == listing:  # the first is that of the registrations
            remove(rclone_bucket, uuid, history)

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on("ListObjects*").call(delete)
        report = audit(changed(rclone_bucket, endpoint=proxy.endpoint), history)

    assert set(found(report)[uuid]) == {("not verified", "dtool")}
    after = audit(rclone_bucket, history)
    assert (after.ok, [each.uuid for each in after.deleted]) == (True, [uuid])


def test_a_record_makes_nobody_blind(rclone_bucket: BucketSettings, history: Path) -> None:
    """That of another dataset or bucket is none, and what still has its metadata is missing whatever a record says."""
    raw = Raw(rclone_bucket)
    there, lost, other = fill(raw, 3)
    audit(rclone_bucket, history)
    raw.delete(f"dtool-{there}")
    lose(raw, lost)
    base = rclone_bucket.base_uri
    forged = {
        there: [Deletion(uri=f"{base}/{there}", uuid=there, at=time.time())],
        lost: [
            Deletion(uri=f"{base}/{other}", uuid=other, at=time.time()),
            Deletion(uri=f"{base}/{other}", uuid=lost, at=time.time()),
            Deletion(uri=f"ecs://another/{lost}", uuid=lost, at=time.time()),
        ],
        other: [Deletion(uri=f"{base}/{other}", uuid=other, at=time.time())],
    }
    for uuid, records in forged.items():
        for number, record in enumerate(records):
            file = history / rclone_bucket.bucket / "datasets" / uuid / f"20990101T00000{number}.000000Z-x.deleted.json"
            file.write_text(record.model_dump_json(), encoding="utf-8")

    report = audit(rclone_bucket, history)

    assert found(report) == {uuid: [("missing", f"dtool-{uuid}")] for uuid in (there, lost)}
    assert report.deleted == ()
    assert read(report) == [other]


def test_what_is_back_under_a_prefix_of_its_own_is_missed(
    rclone_bucket: BucketSettings, history: Path, tmp_path: Path
) -> None:
    """It lost its registration before any audit saw it again: who audits need not write under the same prefix."""
    theirs, source = changed(rclone_bucket, dataset_prefix="u/olssont/"), disk_dataset(tmp_path, FILES)
    made = copy_dataset(source, theirs.base_uri, settings=theirs)
    remove(theirs, made.uuid, history, made.name)
    with proxied(rclone_bucket.endpoint) as proxy:
        gone = audit(changed(rclone_bucket, endpoint=proxy.endpoint), history)
    copy_dataset(source, theirs.base_uri, settings=theirs)
    Raw(rclone_bucket).delete(f"dtool-{made.uuid}")

    lost = audit(rclone_bucket, history)

    assert ([each.prefix for each in gone.deleted], len(proxy.requests)) == (["u/olssont/"], 3)
    assert (found(lost), lost.deleted) == ({made.uuid: [("missing", f"dtool-{made.uuid}")]}, ())


def test_nothing_is_told_of_what_was_not_deleted(rclone_bucket: BucketSettings, history: Path) -> None:
    """A wrong name, a dataset that is gone already, a history that is none: no record, and nothing is deleted."""
    raw = Raw(rclone_bucket)
    uuid, gone = uuids(2)
    bucket_dataset(raw, FILES, uuid=uuid)
    audit(rclone_bucket, history)
    state = raw.state()

    with pytest.raises(DatasetDiffersError):
        remove(rclone_bucket, uuid, history, "another")
    with pytest.raises(NotADatasetError):
        remove(rclone_bucket, gone, history)
    for place in (history / "not" / "there", rclone_bucket.base_uri):
        with pytest.raises(SettingsError):
            remove(rclone_bucket, uuid, place)

    assert raw.state() == state
    assert not list(history.rglob("*.deleted.json"))


def test_a_history_that_cannot_be_told_is_an_error(rclone_bucket: BucketSettings, history: Path) -> None:
    """The dataset is deleted, which the error says, and what the next audit makes of it."""
    raw = Raw(rclone_bucket)
    (uuid,) = fill(raw, 1)
    audit(rclone_bucket, history)
    folder = history / rclone_bucket.bucket / "datasets" / uuid
    shutil.rmtree(folder)
    folder.write_text("in the way", encoding="utf-8")

    with pytest.raises(DatasetError, match=r"is deleted, but .* could not be told .*reports it as missing"):
        remove(rclone_bucket, uuid, history)

    assert raw.listed() == []


def test_a_history_whose_disk_is_full_is_the_same_error(rclone_bucket: BucketSettings, small_disk: Path) -> None:
    """It is told only then: a folder that is there says nothing of the room in it."""
    raw = Raw(rclone_bucket)
    (uuid,) = fill(raw, 1)
    audit(rclone_bucket, small_disk)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "ballast").write_bytes(bytes(9 * 1024**2))

    with pytest.raises(DatasetError, match=r"is deleted, but .* could not be told .*No space left"):
        remove(rclone_bucket, uuid, small_disk)

    assert raw.listed() == []
    assert not list(small_disk.rglob("*.deleted.json"))
