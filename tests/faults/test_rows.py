"""Cases of docs/reliability.md as a user meets them: what goes wrong on the way, and what may be relied on then."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import CredentialsError, EcsFlowsError, NoSuchBucketError, UnavailableError
from dtool_ecs_flows.settings import active
from dtool_ecs_flows.store import Store, failures
from tests.conformance.helpers import changed, everything_said
from tests.faults.site import ITEMS, LARGE_ONE, ONE_OF_THEM, Site
from tests.independent import bucket_dataset, disk_path, edit_json, md5
from tests.proxy import Answer, Proxy, Request
from tests.proxy.faults import Rule

pytestmark = pytest.mark.slow

SECONDS = 60.0
"""That a wrong setting may take to show, on a busy machine; a request is tried again for 8, if it never succeeded."""


def test_row_01_killed_in_the_middle_of_a_multipart_upload(site: Site, undisturbed: dict[str, bytes]) -> None:
    """By -9, one part has arrived and the other has not: the same copy again sends only that, to the same upload."""
    started = threading.Event()

    def kill(_: Request) -> Answer:
        assert started.wait(60)
        until = time.monotonic() + 60
        while not [request for request in site.proxy.seen("UploadPart") if request.status == 200]:
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        process.wait()
        return Answer(500, "InternalError")  # to nobody

    rule = site.proxy.on("UploadPart", nth=2).call(kill)
    with site.start_copy() as process:
        started.set()
        _, said = process.communicate()
    assert (rule.fired, process.returncode) == (1, -signal.SIGKILL), said
    assert site.is_unfinished()
    assert len(site.raw.uploads()) == 1

    site.proxy.clear()
    site.copy_in()

    assert len(site.proxy.seen("UploadPart")) == 1
    assert site.proxy.seen("CreateMultipartUpload") == []
    assert site.objects() == undisturbed
    assert site.raw.uploads() == []


@pytest.mark.parametrize(("last", "nth"), [("*/manifest.json", 1), ("*/dtool", 2)])
def test_row_02_killed_between_the_last_item_and_the_freeze(
    site: Site, undisturbed: dict[str, bytes], last: str, nth: int
) -> None:
    """By -9, when it is about to write the manifest, or to freeze: the same copy again does that, and sends no item."""
    started = threading.Event()

    def kill(_: Request) -> Answer:
        assert started.wait(60)
        process.kill()
        process.wait()
        return Answer(500, "InternalError")  # to nobody; the store hears nothing of the request

    site.proxy.on("PUT", key=last, nth=nth).call(kill)
    with site.start_copy() as process:
        started.set()
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert site.is_unfinished()

    site.proxy.clear()
    again = site.copy_in()

    assert (again.copied_items, again.skipped) == (0, len(ITEMS))
    assert site.proxy.seen("PUT", key="*/data/*") == []
    assert site.objects() == undisturbed


def restless(proxy: Proxy) -> list[Rule]:
    """Let the store answer 500 and 503, and connections break, now and then."""
    return [
        proxy.on("UploadPart", nth=1).answer(500, "InternalError"),
        proxy.on("UploadPart", nth=3).cut_request(after=100_000),
        proxy.on("PutObject", key="*/data/*", nth=4).reset(),
        proxy.on("PutObject", key="*/data/*", nth=6).lose_answer(),
        proxy.on("PUT", nth=range(3, 5)).answer(503, "SlowDown"),
        proxy.on("GET", nth=2).answer(502),
        proxy.on("GET", nth=4).reset(),
    ]


def test_row_03_what_passes_is_not_noticed(site: Site, undisturbed: dict[str, bytes]) -> None:
    """Errors of the store and broken connections, in the middle of a copy in and out: all is right in the end."""
    rules = restless(site.proxy)

    there = site.copy_in()
    back = site.copy_out(there.uri)

    assert [rule.words for rule in rules if not rule.fired] == []
    assert site.objects() == undisturbed
    assert site.is_equal(back.uri)


def test_row_03_a_store_that_is_away_for_a_while(site: Site, undisturbed: dict[str, bytes]) -> None:
    """Connections are refused for two seconds, in the middle of the copy: it waits, and goes on."""
    away = threading.Event()

    def leave() -> None:
        with site.proxy.down():
            away.wait(2)

    down = threading.Thread(target=leave)

    def once(_: Request) -> Answer | None:
        down.start()
        return Answer(503, "SlowDown")

    site.proxy.on("PutObject", key="*/data/*", nth=2).call(once)
    try:
        site.copy_in()
    finally:
        down.join()

    assert site.objects() == undisturbed


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_03_what_does_not_pass_ends_the_copy(site: Site, undisturbed: dict[str, bytes], key: str) -> None:
    """The item is named with its cause, nothing is frozen, and the same copy again sends what is missing."""
    name = "large" if key == LARGE_ONE else "item 3"
    site.proxy.on("PUT", key=key).answer(503, "SlowDown")

    with pytest.raises(UnavailableError, match=f"item '{name}' .*SlowDown"):
        site.copy_in()

    assert site.is_unfinished()
    site.proxy.calm()
    again = site.copy_in()
    assert again.copied_items >= 1
    assert again.copied_items + again.skipped == len(ITEMS)
    assert site.objects() == undisturbed


def test_row_03_patience_begins_with_the_first_success(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has never answered is given up on at once here; one that has is asked again."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.0)
    store, never = Store(site.through), Store(site.through)
    assert list(store.list("")) == []
    site.proxy.on("List*", nth=range(1, 3)).answer(503, "SlowDown")

    with pytest.raises(UnavailableError):
        list(never.list(""))
    assert list(store.list("")) == []

    assert [request.status for request in site.proxy.seen("List*")] == [200, 503, 503, 200]


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done all the same"])
def test_row_04_an_error_inside_200(site: Site, undisturbed: dict[str, bytes], done: bool) -> None:
    """CompleteMultipartUpload says 200 and tells of an error in its body: it is made again, whatever the store did."""
    rule = site.proxy.on("CompleteMultipartUpload", nth=1).answer(200, "InternalError", done=done)

    site.copy_in()

    assert rule.fired == 1
    assert site.objects() == undisturbed


def test_row_05_the_answer_to_the_completion_is_lost(site: Site, undisturbed: dict[str, bytes]) -> None:
    """The repeated request meets NoSuchUpload: what is there says that it had worked, and nothing is sent twice."""
    rule = site.proxy.on("CompleteMultipartUpload", nth=1).lose_answer()

    site.copy_in()

    assert rule.fired == 1
    assert len(site.proxy.seen("CreateMultipartUpload")) == 1
    assert site.objects() == undisturbed


@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_06_a_download_that_is_cut_short(site: Site, archived: str, key: str) -> None:
    """It is asked for again, or from where it was cut; what has its final name is whole."""
    rule = site.proxy.on("GetObject", key=key, nth=range(1, 3)).cut_answer(after=500)

    back = site.copy_out(archived)

    assert rule.fired == 2
    assert site.is_equal(back.uri)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_06_a_download_that_is_always_cut_short(site: Site, archived: str, key: str) -> None:
    """The item is named, and has no file under its name, not even a short one; the same copy again does the rest."""
    name = "large" if key == LARGE_ONE else "item 3"
    site.proxy.on("GetObject", key=key).cut_answer(after=0, reset=True)

    with pytest.raises(UnavailableError, match=f"item '{name}' "):
        site.copy_out(archived)

    assert name not in site.files()
    site.proxy.calm()
    again = site.copy_out(archived)
    assert again.copied_items + again.skipped == len(ITEMS)
    assert site.is_equal(again.uri)


@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_07_a_bit_that_flips_on_the_way_in(site: Site, undisturbed: dict[str, bytes], key: str) -> None:
    """The store checks what it is sent, and is sent it again."""
    rule = site.proxy.on("PUT", key=key, nth=1).flip_request(at=17)

    site.copy_in()

    assert rule.fired == 1
    assert site.objects() == undisturbed


@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_07_a_bit_that_flips_on_the_way_out(site: Site, archived: str, key: str) -> None:
    """Once: it is fetched again, and right."""
    rule = site.proxy.on("GetObject", key=key, nth=1).flip_answer(at=17)

    back = site.copy_out(archived)

    assert rule.fired == 1
    assert site.is_equal(back.uri)


@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE], ids=["small", "large"])
def test_row_07_a_bit_that_flips_every_time(site: Site, archived: str, key: str) -> None:
    """Fetched twice, then an error of the process that names item and hashes; what was good there is not touched."""
    name = "large" if key == LARGE_ONE else "item 3"
    folder = disk_path(copy_dataset(archived, str(site.out), settings=site.direct).uri)
    edit_json(folder / ".dtool" / "dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    (folder / "data" / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("data/*")}
    site.proxy.on("GetObject", key=key).flip_answer(at=17)

    with site.start_copy(archived, str(site.out)) as process:
        _, said = process.communicate()

    assert process.returncode == 1
    assert f"item '{name}' is corrupt in {archived}: expected {md5(ITEMS[name])}, found" in said
    assert {path: path.stat().st_mtime_ns for path in folder.glob("data/*")} == before
    site.proxy.calm()
    again = site.copy_out(archived)
    assert (again.copied_items, again.skipped) == (1, len(ITEMS) - 1)
    assert site.is_equal(again.uri)


def test_row_10_a_clock_that_is_off(site: Site, undisturbed: dict[str, bytes]) -> None:
    """One request, no blind retry, nothing written; the error says by how much."""
    site.proxy.offset = 3650

    with pytest.raises(CredentialsError, match=r"clock is off by -36\d\d s"):
        site.copy_in()

    assert len(site.proxy.requests) == 1
    assert site.objects() == {}
    site.proxy.calm()
    site.copy_in()
    assert site.objects() == undisturbed


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        ({"secret_access_key": "wrongsecret0123"}, CredentialsError, "secret"),
        ({"access_key_id": "nobody"}, CredentialsError, "access key"),
        ({"bucket": "no-such-bucket"}, NoSuchBucketError, "no-such-bucket"),
        ({"endpoint": "http://127.0.0.1:9"}, UnavailableError, "endpoint"),
        ({"endpoint": "{proxy}/other"}, EcsFlowsError, "endpoint"),
    ],
    ids=["secret", "access key", "bucket", "endpoint", "path of the endpoint"],
)
def test_row_11_wrong_settings(site: Site, wrong: dict[str, str], error: type[EcsFlowsError], named: str) -> None:
    """Within seconds, nothing moved; the error names the setting and where it came from, and no text has the secret."""
    changes = {name: value.format(proxy=site.proxy.endpoint) for name, value in wrong.items()}
    settings = changed(site.through, **changes)
    begun = time.monotonic()

    with pytest.raises(error, match=named) as caught:
        copy_dataset(site.source, settings.base_uri, settings=settings)

    assert time.monotonic() - begun < SECONDS
    assert site.objects() == {}
    assert site.proxy.seen("PUT", key="*/data/*") == []
    assert settings.secret_access_key.get_secret_value() not in everything_said(caught.value)
    assert "bucket" in wrong or "from" in str(caught.value)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken"])
def test_row_11_credentials_that_have_expired(site: Site, code: str) -> None:
    """The same, at the first request; none is made a second time."""
    site.proxy.on().answer(403, code)

    with pytest.raises(CredentialsError, match=f"{code}: check the access key .from the caller"):
        site.copy_in()

    assert len(site.proxy.requests) == 1
    assert site.objects() == {}


def test_row_12_a_bucket_is_never_made(site: Site, tmp_path: Path) -> None:
    """By nothing that writes: each says that there is none, and asks for nothing that would make one."""
    nowhere = changed(site.through, bucket=f"{site.through.bucket}-missing")
    (tmp_path / "a").write_bytes(b"1")
    writers: list[Callable[[], object]] = [
        lambda: copy_dataset(site.source, nowhere.base_uri),
        lambda: create_dataset("penguins", nowhere.base_uri, files={"a": tmp_path / "a"}),
        lambda: dtoolcore.create_proto_dataset("penguins", nowhere.base_uri),
        lambda: dtoolcore.copy(site.source, nowhere.base_uri),
    ]

    with active(nowhere):
        for write in writers:
            with pytest.raises(NoSuchBucketError, match=f"{nowhere.bucket}' does not exist"):
                write()

    assert [request for request in site.proxy.requests if not request.key and request.method != "GET"] == []
    assert nowhere.bucket not in [each["Name"] for each in site.raw.client.list_buckets()["Buckets"]]


def test_row_17_two_processes_copy_the_same_dataset(site: Site, undisturbed: dict[str, bytes]) -> None:
    """At the same time: at least one succeeds, the other does too or says why not, and what is there is right."""
    with site.start_copy() as one, site.start_copy() as other:
        said = [one.communicate()[1], other.communicate()[1]]

    assert 0 in (one.returncode, other.returncode), said
    assert site.objects() == undisturbed


def test_row_17_a_frozen_dataset_is_not_overwritten(site: Site, archived: str) -> None:
    """Whoever comes too late finds it there, and writes nothing."""
    before = site.raw.state()

    report = site.copy_in()

    assert report.already_there
    assert report.uri == archived
    assert [request for request in site.proxy.requests if request.method in ("PUT", "POST", "DELETE")] == []
    assert site.raw.state() == before


def test_row_18_a_proto_dataset_that_was_left_over(site: Site, archived: str) -> None:
    """It is listed with the time of its creation; nobody resumes or removes it unasked."""
    site.raw.edit_json(f"{site.uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    before = site.raw.state()

    (left,) = list_datasets(site.through.base_uri, settings=site.through).datasets

    assert (left.uri, left.type) == (archived, "protodataset")
    assert left.created_at is not None
    assert site.raw.state() == before


def test_row_19_an_audit_goes_on_to_the_next_dataset(site: Site, archived: str) -> None:
    """A manifest that cannot be read is told apart from missing items, and the other dataset is verified after it."""
    broken = bucket_dataset(site.raw, {"a": b"1"}, name="broken")
    site.raw.put(f"{broken}/manifest.json", site.raw.get(f"{broken}/manifest.json")[:-20])

    listing = list_datasets(site.through.base_uri, settings=site.through).datasets
    reports = {info.name: verify_dataset(info.uri, settings=site.through) for info in listing}

    assert {name: [finding.kind for finding in report.findings] for name, report in reports.items()} == {
        "broken": ["manifest unreadable"],
        "penguins": [],
    }
    assert reports["penguins"].bytes_read == sum(map(len, ITEMS.values()))
