"""What an audit finds: each kind of damage told apart, and what cannot be verified now from what is wrong."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from dtool_ecs_flows import (
    AuditReport,
    BucketSettings,
    audit_bucket,
    copy_dataset,
    delete_dataset,
    verify_dataset,
)
from dtool_ecs_flows.artifacts import audit_headline, audit_markdown
from dtool_ecs_flows.datasets.audit import look
from dtool_ecs_flows.datasets.audit.spread import share_of
from dtool_ecs_flows.errors import CredentialsError, NotADatasetError
from dtool_ecs_flows.store import failures
from tests.conformance.auditing import FILES, TABLE, audit, days_pass, fill, found, quiet_slice, read, uuids
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset, disk_dataset, identifier
from tests.proxy import Answer, Request, proxied

# --- what is found ---


@pytest.mark.parametrize("is_read", [True, False])
def test_damage_of_every_kind_is_told_apart(bucket: BucketSettings, history: Path, is_read: bool) -> None:
    """One bad dataset keeps no other from being audited; only other bytes of the same size need reading to be found."""
    raw = Raw(bucket)
    good, corrupt, missing, extra, unreadable, nameless, headless = fill(raw, 7)
    raw.replace(f"{corrupt}/{TABLE}", bytes(8))
    raw.delete(f"{missing}/{TABLE}", f"{missing}/README.yml")
    raw.put(f"{extra}/data/{identifier('late')}", b"1")
    raw.replace(f"{unreadable}/manifest.json", b'{"items": {')
    raw.put(f"{nameless}/dtool", b"")
    raw.delete(f"{headless}/dtool")
    (orphan, young) = uuids(9)[7:]
    raw.put(f"dtool-{orphan}", b"")
    bucket_dataset(raw, FILES, uuid=young, admin={"type": "protodataset"})

    number = 1 if is_read else quiet_slice(uuids(9))
    report = audit(bucket, history, slices=1 if is_read else 99, slice_number=number)

    expected = {
        missing: [("missing", "README.yml"), ("missing", "a.csv")],
        extra: [("extra", identifier("late"))],
        unreadable: [("manifest unreadable", "manifest.json")],
        nameless: [("metadata unreadable", "dtool")],
        headless: [("missing", "dtool")],
        orphan: [("orphan registration", f"dtool-{orphan}")],
    }
    assert found(report) == expected | ({corrupt: [("corrupt", "a.csv")]} if is_read else {})
    assert {each.uuid for each in report.damaged} == found(report).keys() - {orphan}
    assert not report.ok
    assert sorted(read(report)) == (sorted([good, corrupt, missing, extra]) if is_read else [])
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_damage_is_told_of_on_the_next_days_too(rclone_bucket: BucketSettings, history: Path) -> None:
    """Who did not look on the day that it was found learns of it all the same, until the dataset is read and well."""
    raw = Raw(rclone_bucket)
    bad, good = [bucket_dataset(raw, FILES, uuid=uuid) for uuid in uuids(2)]
    key = f"{bad}/{TABLE}"
    body = raw.get(key)
    raw.replace(key, body[::-1])
    assert [each.uuid for each in audit(rclone_bucket, history).damaged] == [bad]

    next_day = audit(rclone_bucket, history, slices=99, slice_number=quiet_slice([bad, good]))
    raw.replace(key, body)
    read_again = audit(rclone_bucket, history)

    assert [each.uuid for each in next_day.still_damaged] == [bad]
    assert "1 damaged when read last" in audit_headline(next_day)
    assert f"{bad}` |" in audit_markdown(next_day)
    assert (read_again.still_damaged, read_again.ok) == ((), True)


def test_large_datasets_are_looked_at_as_well_as_small_ones(
    bucket: BucketSettings, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, for the sake of memory; what is missing, extra and of another size is found all the same."""
    monkeypatch.setattr(look, "LARGE", 3)
    raw = Raw(bucket)
    contents = {f"item {number}": b"%d" % number for number in range(6)}
    bad, *_ = [bucket_dataset(raw, contents, uuid=uuid) for uuid in uuids(4)]
    raw.delete(f"{bad}/data/{identifier('item 0')}", f"{bad}/structure.json")
    raw.put(f"{bad}/data/{identifier('late')}", b"1")
    raw.replace(f"{bad}/data/{identifier('item 5')}", b"five")

    report = audit(bucket, history, slices=99, slice_number=quiet_slice(uuids(4)))

    assert found(report) == {
        bad: [("extra", identifier("late")), ("missing", "item 0"), ("missing", "structure.json"), ("size", "item 5")]
    }
    assert {each.items for each in report.datasets} == {6}


def test_a_proto_dataset_is_a_finding_when_it_has_been_there_for_long(bucket: BucketSettings, history: Path) -> None:
    """How long counts from its beginning in this bucket: the copy of an old dataset is not stale when it is begun."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, FILES, admin={"type": "protodataset", "created_at": 1000000000.5})

    young = audit(bucket, history)
    stale = audit(bucket, history, stale_after_days=0)

    assert young.ok
    assert [each.type for each in young.datasets] == ["protodataset"]
    assert found(stale) == {uuid: [("stale proto dataset", "dtool")]}
    assert (stale.ok, stale.damaged, stale.due) == (False, (), ())


def test_a_dataset_that_was_read_once_and_is_gone_is_missing(rclone_bucket: BucketSettings, history: Path) -> None:
    """The history knows it, also where its registration key alone is lost; without a history nobody could tell."""
    raw = Raw(rclone_bucket)
    gone, unregistered, _ = fill(raw, 3)
    audit(rclone_bucket, history)
    raw.delete(*raw.listed(f"{gone}/"), f"dtool-{gone}", f"dtool-{unregistered}")

    report = audit(rclone_bucket, history)

    assert found(report) == {uuid: [("missing", f"dtool-{uuid}")] for uuid in (gone, unregistered)}
    told = {each.uuid: each.findings[0].message for each in report.damaged}
    assert "it is gone; all of it was read at 20" in told[gone]
    assert "no listing shows this dataset" in told[unregistered]

    raw.put(f"dtool-{unregistered}", b"")  # put back
    shutil.rmtree(history / rclone_bucket.bucket / "datasets" / gone)  # it was deleted on purpose
    assert audit(rclone_bucket, history).ok


def test_what_is_damaged_can_be_restored_from_a_copy(bucket: BucketSettings, history: Path, tmp_path: Path) -> None:
    """As the page says: verify the copy, delete, copy again; where the metadata alone is lost, the copy mends it."""
    raw = Raw(bucket)
    good = {name: disk_dataset(tmp_path / "disk", FILES, name=name) for name in ("corrupt", "headless", "nameless")}
    there = {name: copy_dataset(uri, bucket.base_uri, settings=bucket) for name, uri in good.items()}
    raw.replace(f"{there['corrupt'].uuid}/{TABLE}", bytes(8))
    raw.delete(f"{there['headless'].uuid}/dtool")
    raw.put(f"{there['nameless'].uuid}/dtool", b"")
    assert {each.uuid for each in audit(bucket, history).damaged} == {report.uuid for report in there.values()}

    assert all(verify_dataset(uri).ok for uri in good.values())
    delete_dataset(there["corrupt"].uri, "corrupt", settings=bucket)
    raw.delete(f"{there['nameless'].uuid}/dtool")
    again = {name: copy_dataset(uri, bucket.base_uri, settings=bucket) for name, uri in good.items()}

    assert {name: report.copied_items for name, report in again.items()} == {"corrupt": 2, "headless": 0, "nameless": 0}
    assert audit(bucket, history).ok


def test_what_is_deleted_during_the_audit_is_no_damage(rclone_bucket: BucketSettings, history: Path) -> None:
    """Its items are gone and it is not frozen any more: somebody is deleting it."""
    raw = Raw(rclone_bucket)
    (uuid,) = fill(raw, 1)

    def delete(request: Request) -> None:
        if request.query.get("prefix", "").startswith(uuid):
            raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type="protodataset"))
            raw.delete(f"{uuid}/{TABLE}")

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on("ListObjects*").call(delete)
        report = audit(changed(rclone_bucket, endpoint=proxy.endpoint), history)

    assert found(report) == {uuid: [("not verified", "dtool")]}
    assert not report.damaged


# --- what cannot be read now ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after a second instead of minutes."""
    monkeypatch.setattr(failures, "BUDGET", 1.0)


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_reached_is_not_verified_and_is_read_later(bucket: BucketSettings, history: Path) -> None:
    """It is no damage, the others are read all the same, and the next runs catch it up."""
    all_of_them = fill(Raw(bucket), 3)
    away = all_of_them[0]
    audit(bucket, history)
    days_pass(history, 5)

    with proxied(bucket.endpoint) as proxy:
        proxy.on("GetObject", key=f"{away}/data/*").answer(503, "SlowDown")
        report = audit(changed(bucket, endpoint=proxy.endpoint), history, slices=1)
    later = audit(bucket, history, slices=4, slice_number=share_of(away, 4, "slice") % 4 + 1)

    assert found(report) == {away: [("not verified", "a.csv"), ("not verified", "b.bin")]}
    assert (report.damaged, sorted(read(report))) == ((), sorted(all_of_them[1:]))
    (caught_up,) = [each for each in later.datasets if each.uuid == away]
    assert (caught_up.due, caught_up.content_read) == ("catch-up", True)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("until", ["the looks", pytest.param("the readings", marks=pytest.mark.slow)])
def test_an_outage_is_waited_for_once_and_not_for_each_dataset(
    rclone_bucket: BucketSettings, history: Path, until: str
) -> None:
    """When the store goes down in the middle, the rest is told as not verified, most of it without being tried."""
    all_of_them = fill(Raw(rclone_bucket), 12)
    down = threading.Event()

    def go_down(request: Request) -> Answer | None:
        if (until == "the looks" and request.key.endswith("/dtool")) or "/data/" in request.key:
            down.set()
        return Answer(500, "InternalError") if down.is_set() else None

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(go_down)
        report = audit(changed(rclone_bucket, endpoint=proxy.endpoint), history, concurrency=2)

    assert report.having("not verified") == report.datasets
    assert len(report.datasets) == len(all_of_them)
    assert (report.damaged, read(report)) == ((), [])
    assert len([each for each in report.datasets if "not tried" in each.findings[-1].message]) >= 8


def test_what_concerns_all_datasets_is_an_error(rclone_bucket: BucketSettings, history: Path) -> None:
    """Nothing is said of a bucket that cannot be listed, and no slice of it counts as read."""
    fill(Raw(rclone_bucket), 1)
    with pytest.raises(CredentialsError):
        audit(rclone_bucket.model_copy(update={"access_key_id": "nobody"}), history)
    with pytest.raises(NotADatasetError):
        audit_bucket(f"{rclone_bucket.base_uri}/{uuids(1)[0]}", slices=1, history=history, settings=rclone_bucket)
    assert not list(history.rglob("*Z-*.json"))
