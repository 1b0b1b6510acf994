"""The fixity audit: everything is read in its turn, damage is told apart, and nothing is written to the bucket."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import AuditReport, BucketSettings, Progress, audit_bucket
from dtool_ecs_flows.datasets.audit.spread import DAY, share_of
from dtool_ecs_flows.errors import CredentialsError, NotADatasetError, SettingsError, StoppedError
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset, edit_json, identifier, md5
from tests.proxy import Answer, Request, proxied

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(range(256))}
TOTAL = sum(map(len, FILES.values()))
TABLE = f"data/{identifier('a.csv')}"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A folder that no audit has used yet."""
    return tmp_path / "history"


def audit(bucket: BucketSettings, history: Path | str, **how: Any) -> AuditReport:
    """Audit a bucket; unless something else is said, all of it is read."""
    return audit_bucket(bucket.base_uri, history=history, settings=bucket, **{"slices": 1, **how})


def uuids(number: int) -> list[str]:
    """The same every time, so that the same fall into the same slices."""
    return [f"{md5(b'%d' % n)[:8]}-0000-4000-8000-{n:012d}" for n in range(number)]


def fill(raw: Raw, number: int) -> list[str]:
    """Put some datasets into a bucket."""
    return [bucket_dataset(raw, FILES, uuid=uuid) for uuid in uuids(number)]


def found(report: AuditReport) -> dict[str, list[tuple[str, str]]]:
    """Kind and subject of all findings, by UUID."""
    return {
        each.uuid: sorted((str(f.kind), f.subject) for f in each.findings) for each in report.datasets if each.findings
    }


def read(report: AuditReport) -> list[str]:
    """The datasets of which every byte was read."""
    return [each.uuid for each in report.datasets if each.content_read]


def days_pass(history: Path, days: int) -> None:
    """Make all that was remembered this much older."""

    def age(entry: dict[str, Any]) -> None:
        for name in ("at", "begun", "last_read"):
            if entry.get(name):
                entry[name] -= days * DAY

    for file in history.rglob("*.json"):
        edit_json(file, age)


# --- what is read, and when ---


def test_in_t_days_every_dataset_is_read_exactly_once(bucket: BucketSettings, history: Path) -> None:
    """Each day looks at all of them and reads its slice; the next round reads them again, in the same order."""
    raw = Raw(bucket)
    all_of_them = fill(raw, 8)

    first = [audit(bucket, history, slices=3, slice_number=number) for number in (1, 2, 3)]
    again = [audit(bucket, history, slices=3, slice_number=number) for number in (1, 2, 3)]

    assert all(report.ok and len(report.datasets) == 8 for report in first + again)
    assert sorted(uuid for report in first for uuid in read(report)) == sorted(all_of_them)
    assert [read(report) for report in first] == [read(report) for report in again]
    assert len([report for report in first if read(report)]) > 1
    assert all(each.bytes_read == (TOTAL if each.content_read else 0) for each in first[0].datasets)
    assert all(each.items == 2 and each.bytes == TOTAL for each in first[0].datasets)
    assert all(each.last_read and each.last_read_ok for each in again[0].datasets)


def test_a_dataset_has_its_slice_by_its_uuid_alone() -> None:
    """The spread is even, the same on any machine, and that of the workers has nothing to do with that of the days."""
    many = uuids(3000)
    slices = Counter(share_of(uuid, 30, "slice") for uuid in many)
    assert sorted(slices) == list(range(1, 31))
    assert max(slices.values()) < 2 * min(slices.values())
    assert share_of("7a2c7b3e-0000-4000-8000-000000000001", 30, "slice") == 25
    assert share_of("7A2C7B3E-0000-4000-8000-000000000001", 30, "slice") == 25
    of_a_slice = [uuid for uuid in many if share_of(uuid, 30, "slice") == 1]
    assert {share_of(uuid, 2, "part") for uuid in of_a_slice} == {1, 2}


def test_a_new_dataset_falls_into_its_slice_at_once(rclone_bucket: BucketSettings, history: Path) -> None:
    """Nothing had to be remembered to choose it; one that was never read yet and has time is not hurried."""
    raw = Raw(rclone_bucket)
    old, new = uuids(2)
    bucket_dataset(raw, FILES, uuid=old)
    audit(rclone_bucket, history)
    days_pass(history, 40)
    bucket_dataset(raw, FILES, uuid=new)
    slot = share_of(new, 50, "slice")

    other = audit(rclone_bucket, history, slices=50, slice_number=slot % 50 + 1)
    mine = audit(rclone_bucket, history, slices=50, slice_number=slot)

    assert new not in read(other)
    assert new in read(mine)


def test_missed_days_are_caught_up_within_a_bound(bucket: BucketSettings, history: Path) -> None:
    """What was not read for longer than a round is read besides, a few a day, until all of it is up to date."""
    all_of_them = fill(Raw(bucket), 6)
    audit(bucket, history)
    none = next(n for n in range(1, 100) if n not in {share_of(uuid, 99, "slice") for uuid in all_of_them})
    days_pass(history, 90)
    assert not read(audit(bucket, history, slices=99, slice_number=none))
    days_pass(history, 10)

    days = [audit(bucket, history, slices=99, slice_number=none, catch_up=2) for _ in range(4)]

    assert [len(read(day)) for day in days] == [2, 2, 2, 0]
    assert sorted(uuid for day in days for uuid in read(day)) == sorted(all_of_them)
    assert {each.due for day in days for each in day.due} == {"catch-up"}
    assert not read(audit(bucket, history, slices=99, slice_number=none, catch_up=0))


def test_workers_share_a_run_without_overlap(bucket: BucketSettings, history: Path) -> None:
    """Two parts at the same time, with one history: every dataset is looked at, and read, by one of them."""
    all_of_them = fill(Raw(bucket), 8)

    with ThreadPoolExecutor(2) as workers:
        parts = list(workers.map(lambda part: audit(bucket, history, part=part, parts=2), (1, 2)))

    assert sorted(uuid for report in parts for uuid in read(report)) == sorted(all_of_them)
    assert sorted(each.uuid for report in parts for each in report.datasets) == sorted(all_of_them)
    assert all(read(report) for report in parts)
    assert all(each.last_read for each in audit(bucket, history, slices=99, slice_number=1).datasets)


def test_what_was_read_before_a_stop_is_remembered(rclone_bucket: BucketSettings, history: Path) -> None:
    """A worker that ends in the middle of its run loses only the dataset that it was at."""
    fill(Raw(rclone_bucket), 3)
    stop = threading.Event()
    ended: list[Progress] = []

    def stop_at_the_second(progress: Progress) -> None:
        ended.append(progress)
        if len([each for each in ended if each.items_done == each.items]) > 1:
            stop.set()

    with pytest.raises(StoppedError):
        audit(rclone_bucket, history, progress=stop_at_the_second, stop=stop, concurrency=1)

    later = audit(rclone_bucket, history, slices=99, slice_number=1, catch_up=0)
    assert len([each for each in later.datasets if each.last_read]) in (1, 2)


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

    number = 1 if is_read else next(n for n in range(1, 99) if n not in {share_of(u, 99, "slice") for u in uuids(9)})
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


# --- what it costs, and what it leaves ---


def test_a_look_costs_three_requests_for_a_dataset(bucket: BucketSettings, history: Path) -> None:
    """Metadata, manifest and one listing page each, and one page for all registration keys; no item is asked for."""
    all_of_them = fill(Raw(bucket), 12)
    none = next(n for n in range(1, 100) if n not in {share_of(uuid, 99, "slice") for uuid in all_of_them})

    with proxied(bucket.endpoint) as proxy:
        report = audit(changed(bucket, endpoint=proxy.endpoint), history, slices=99, slice_number=none)
        asked = Counter(request.operation for request in proxy.requests)
        keys = {request.key for request in proxy.seen("GetObject")}

    assert report.ok
    assert asked == {"GetObject": 24, "ListObjectsV2": 13}
    assert keys == {f"{uuid}/{name}" for uuid in all_of_them for name in ("dtool", "manifest.json")}


def test_nothing_is_written_to_the_bucket(bucket: BucketSettings, history: Path) -> None:
    """Whatever is found: the bucket is as before, and what is remembered is in the history, file by file."""
    raw = Raw(bucket)
    good, bad = fill(raw, 2)
    raw.replace(f"{bad}/{TABLE}", bytes(8))
    state = raw.state()

    for _ in range(2):
        audit(bucket, f"file://{history}")

    assert raw.state() == state
    assert raw.uploads() == []
    readings = history / bucket.bucket / "datasets"
    assert {folder.name: len(list(folder.iterdir())) for folder in readings.iterdir()} == {good: 2, bad: 2}
    assert len(list((history / bucket.bucket / "runs").iterdir())) == 2
    assert not [file for file in history.rglob("*") if file.name.startswith(".")]


def test_a_history_in_the_bucket_is_refused(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """So is what is no folder, and a folder whose parent is not there: before anything is asked of the bucket."""
    base = rclone_bucket.base_uri
    for place, why in (
        (base, "is in the bucket that is audited"),
        (f"{base}/{uuids(1)[0]}", "is in the bucket that is audited"),
        ("ecs://another-bucket", "is no folder"),
        (str(tmp_path / "not" / "there"), "there is no folder"),
        ("", "needs a folder"),
    ):
        with pytest.raises(SettingsError, match=why):
            audit(changed(rclone_bucket, endpoint="http://127.0.0.1:9"), place)
    for numbers in ({"slices": 0}, {"slices": 3, "slice_number": 4}, {"part": 3, "parts": 2}, {"catch_up": -1}):
        with pytest.raises(SettingsError):
            audit(rclone_bucket, tmp_path / "history", **numbers)


def test_a_broken_file_in_the_history_is_passed_over(
    rclone_bucket: BucketSettings, history: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that names it: what the older ones say counts."""
    (uuid,) = fill(Raw(rclone_bucket), 1)
    audit(rclone_bucket, history)
    (history / rclone_bucket.bucket / "datasets" / uuid / "20990101T000000.000000Z-x.json").write_text('{"uri":')

    (dataset,) = audit(rclone_bucket, history, slices=2, slice_number=3 - share_of(uuid, 2, "slice")).datasets

    assert dataset.last_read_ok
    assert not dataset.due
    assert "20990101T000000.000000Z-x.json" in caplog.text
