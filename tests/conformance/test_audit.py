"""The fixity audit: everything is read in its turn, within what it may cost, and nothing is written to the bucket."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtool_ecs_flows import (
    BucketSettings,
    Progress,
)
from dtool_ecs_flows.datasets.audit.spread import share_of
from dtool_ecs_flows.errors import EcsFlowsError, SettingsError, StoppedError
from tests.conformance.auditing import FILES, TABLE, TOTAL, audit, days_pass, fill, quiet_slice, read, uuids
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset
from tests.proxy import proxied

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
    none = quiet_slice(all_of_them)
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


# --- what it costs, and what it leaves ---


def test_a_look_costs_three_requests_for_a_dataset(bucket: BucketSettings, history: Path) -> None:
    """Metadata, manifest and one listing page each, and one page for all registration keys; no item is asked for."""
    all_of_them = fill(Raw(bucket), 12)
    none = quiet_slice(all_of_them)

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
        ("file://", "needs a folder"),
    ):
        with pytest.raises(SettingsError, match=why):
            audit(changed(rclone_bucket, endpoint="http://127.0.0.1:9"), place)
    for numbers in ({"slices": 0}, {"slices": 3, "slice_number": 4}, {"part": 3, "parts": 2}, {"catch_up": -1}):
        with pytest.raises(SettingsError):
            audit(rclone_bucket, tmp_path / "history", **numbers)


def test_a_history_that_cannot_be_written_is_named(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Here a file is in its place; a full disk is told in the same way."""
    (tmp_path / "audits").write_text("a list of audits\n")

    with pytest.raises(EcsFlowsError, match=rf"the history in {tmp_path}/audits.* cannot be written: Not a directory"):
        audit(rclone_bucket, tmp_path / "audits")


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
