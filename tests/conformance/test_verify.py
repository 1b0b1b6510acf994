"""Verifying a dataset: what is wrong with it, each kind of damage told apart."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, Finding, Progress, copy_dataset, verify_dataset
from dtool_ecs_flows.errors import CredentialsError, EcsFlowsError, NotADatasetError, StoppedError
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import changed
from tests.independent import CONTENTS, MIB, Raw, bucket_dataset, disk_dataset, disk_path, identifier, noise
from tests.proxy import Answer, Request, proxied

TOTAL = sum(map(len, CONTENTS.values()))


def kinds(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in findings]


@pytest.mark.parametrize("prefix", ["", "u/olssont/"])
def test_a_good_dataset_has_no_findings(bucket: BucketSettings, tmp_path: Path, prefix: str) -> None:
    """All of its bytes were read, and the report says so."""
    mine = bucket.model_copy(update={"dataset_prefix": prefix})
    source = disk_dataset(tmp_path, {**CONTENTS, "large": noise(17 * MIB)}, overlays={"colour": {"empty": 1}})
    there = copy_dataset(source, mine.base_uri, settings=mine)

    for uri in (source, there.uri):
        report = verify_dataset(uri, settings=mine)

        assert (report.ok, report.findings, report.content_read) == (True, (), True)
        assert (report.name, report.uuid, report.items) == ("penguins", there.uuid, len(CONTENTS) + 1)
        assert report.bytes == report.bytes_read == TOTAL + 17 * MIB


def test_what_a_peer_wrote_is_good_too(bucket: BucketSettings) -> None:
    """A dataset that another client left is held to no more than the format."""
    uuid = bucket_dataset(Raw(bucket), CONTENTS, tags=["raw"])

    assert verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket).ok


# --- each kind of damage ---


@pytest.mark.parametrize("read", [True, False])
def test_an_item_that_is_gone_is_missing(bucket: BucketSettings, read: bool) -> None:
    """It is named by its relpath, and everything else is still looked at."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.delete(f"{uuid}/data/{identifier('table.csv')}", f"{uuid}/data/{identifier('empty')}")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", read=read, settings=bucket)

    assert sorted(kinds(report.findings)) == [("missing", "empty"), ("missing", "table.csv")]
    assert not report.ok
    assert report.bytes_read == (TOTAL - len(CONTENTS["table.csv"]) if read else 0)


@pytest.mark.parametrize("read", [True, False])
def test_an_object_that_no_manifest_knows_is_extra(bucket: BucketSettings, read: bool) -> None:
    """Somebody put it there after the freeze."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.put(f"{uuid}/data/{identifier('late')}", b"1")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", read=read, settings=bucket)

    assert kinds(report.findings) == [("extra", identifier("late"))]


@pytest.mark.parametrize("body", [b"A,b\n1,2\n", bytes(8)])
def test_other_bytes_of_the_same_size_are_corrupt(bucket: BucketSettings, body: bytes) -> None:
    """The finding has what was expected and what was found, and the report counts the bytes that were read."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", body)

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    (finding,) = report.findings
    assert (finding.kind, finding.subject) == ("corrupt", "table.csv")
    assert report.bytes_read == TOTAL  # to say that it is corrupt, it was read like the others
    assert finding.expected == raw.json(f"{uuid}/manifest.json")["items"][identifier("table.csv")]["hash"]
    assert finding.actual == raw.client.head_object(Bucket=raw.bucket, Key=f"{uuid}/data/{identifier('table.csv')}")[
        "ETag"
    ].strip('"')
    assert "table.csv" in finding.message


def test_a_flipped_byte_in_an_item_of_many_parts_is_found(bucket: BucketSettings, tmp_path: Path) -> None:
    """Wherever it is."""
    data = bytearray(noise(20 * MIB))
    there = copy_dataset(disk_dataset(tmp_path, {"large": bytes(data)}), bucket.base_uri, settings=bucket)
    data[17 * MIB] ^= 1
    Raw(bucket).replace(f"{there.uuid}/data/{identifier('large')}", bytes(data))

    report = verify_dataset(there.uri, settings=bucket)

    assert kinds(report.findings) == [("corrupt", "large")]
    assert report.bytes_read == 20 * MIB


@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("body", [b"", b"a,b\n", b"a,b\n1,2\n3,4\n"])
def test_another_size_is_told_apart_from_damage(bucket: BucketSettings, body: bytes, read: bool) -> None:
    """It shows without reading, and is found once, not as corrupt too."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", body)

    (finding,) = verify_dataset(f"{bucket.base_uri}/{uuid}", read=read, settings=bucket).findings

    assert (finding.kind, finding.subject) == ("size", "table.csv")
    assert (finding.expected, finding.actual) == ("8 bytes", f"{len(body)} bytes")


@pytest.mark.parametrize("body", [b"", b'{"items": {"', b"[]", b'{"items": {"x": {}}}', None], ids=repr)
def test_a_manifest_that_cannot_be_read_is_told_apart(bucket: BucketSettings, body: bytes | None) -> None:
    """Cut short or gone, it is the manifest that is wrong: no item is called missing or extra because of it."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    if body is None:
        raw.delete(f"{uuid}/manifest.json")
    else:
        raw.put(f"{uuid}/manifest.json", body)

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert kinds(report.findings) == [("manifest unreadable", "manifest.json")]
    assert (report.name, report.ok, report.items) == ("penguins", False, 0)


def test_a_manifest_without_hashes_verifies_nothing(rclone_bucket: BucketSettings) -> None:
    """Where there is nothing to compare with, nothing is called good."""
    uuid = bucket_dataset(Raw(rclone_bucket), CONTENTS, entries={"empty": {"hash": ""}})

    report = verify_dataset(f"{rclone_bucket.base_uri}/{uuid}", settings=rclone_bucket)

    assert kinds(report.findings) == [("manifest unreadable", "manifest.json")]


def test_a_hash_function_that_is_not_known_is_no_damage(rclone_bucket: BucketSettings) -> None:
    """The items could not be verified, which is not the same as corrupt."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.edit_json(f"{uuid}/manifest.json", lambda manifest: manifest.update(hash_function="crc32"))

    report = verify_dataset(f"{rclone_bucket.base_uri}/{uuid}", settings=rclone_bucket)

    assert {finding.kind for finding in report.findings} == {"not verified"}
    assert len(report.findings) == len(CONTENTS)


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("structure.json", None, "missing"),
        ("structure.json", b"{", "structure unreadable"),
        ("structure.json", b"[]", "structure unreadable"),
        ("README.yml", None, "missing"),
        ("README.yml", b"\xff\xfe", "metadata unreadable"),
        ("overlays/colour.json", b"{", "metadata unreadable"),
        ("annotations/grant.json", b"", "metadata unreadable"),
    ],
)
def test_documents_are_looked_at_too(bucket: BucketSettings, name: str, body: bytes | None, kind: str) -> None:
    """What other clients, and a copy out of the bucket, would stumble over is found here."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.put(f"{uuid}/overlays/good.json", b"{}")
    raw.put(f"{uuid}/annotations/good.json", b"1")
    if body is None:
        raw.delete(f"{uuid}/{name}")
    else:
        raw.put(f"{uuid}/{name}", body)

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert kinds(report.findings) == [(kind, name)]
    assert report.bytes_read == TOTAL


def test_a_dataset_that_is_not_registered_is_found(bucket: BucketSettings) -> None:
    """No listing shows it, so it is as good as lost: that is a finding, though every item is right."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.delete(f"dtool-{uuid}")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert kinds(report.findings) == [("missing", f"dtool-{uuid}")]


def test_several_things_may_be_wrong_at_once(bucket: BucketSettings) -> None:
    """All of them are found in one go."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.delete(f"{uuid}/structure.json", f"{uuid}/data/{identifier('empty')}")
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", bytes(8))
    raw.replace(f"{uuid}/data/{identifier('NFC é')}", b"")
    raw.put(f"{uuid}/data/{identifier('late')}", b"1")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert sorted(kinds(report.findings)) == [
        ("corrupt", "table.csv"),
        ("extra", identifier("late")),
        ("missing", "empty"),
        ("missing", "structure.json"),
        ("size", "NFC é"),
    ]


def test_verifying_changes_nothing(bucket: BucketSettings) -> None:
    """Neither a good dataset nor a damaged one."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", bytes(8))
    state = raw.state()

    verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert raw.state() == state


def test_on_a_disk_the_same_kinds_are_found(tmp_path: Path) -> None:
    """Missing, extra, corrupt and another size, in a folder."""
    source = disk_dataset(tmp_path, CONTENTS)
    data = disk_path(source) / "data"
    (data / "empty").unlink()
    (data / "late").write_bytes(b"1")
    (data / "table.csv").write_bytes(bytes(8))
    (data / "NFC é").write_bytes(b"")

    report = verify_dataset(source)

    assert sorted(kinds(report.findings)) == [
        ("corrupt", "table.csv"),
        ("extra", identifier("late")),
        ("missing", "empty"),
        ("size", "NFC é"),
    ]


# --- what cannot be read now ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after a second instead of minutes."""
    monkeypatch.setattr(failures, "BUDGET", 1.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("size", [1000, 9 * MIB])
@pytest.mark.parametrize("answer", [Answer(503, "SlowDown"), Answer(500, "InternalError"), Answer()], ids=str)
def test_an_item_that_cannot_be_reached_is_not_called_corrupt(
    rclone_bucket: BucketSettings, tmp_path: Path, size: int, answer: Answer
) -> None:
    """While a site is down, nothing can be said of its items; the others are verified."""
    bucket = rclone_bucket
    there = copy_dataset(
        disk_dataset(tmp_path, {**CONTENTS, "out of reach": noise(size)}), bucket.base_uri, settings=bucket
    )
    with proxied(bucket.endpoint) as proxy:
        proxy.on().call(lambda request: answer if identifier("out of reach") in request.target else None)
        report = verify_dataset(there.uri, settings=changed(bucket, endpoint=proxy.endpoint))

    assert kinds(report.findings) == [("not verified", "out of reach")]
    assert (report.ok, report.bytes_read) == (False, TOTAL)


@pytest.mark.usefixtures("impatient")
def test_while_a_store_is_down_not_every_item_is_waited_for(rclone_bucket: BucketSettings) -> None:
    """When it has gone for good, the items that were not read are told as such, and most of them are not even tried."""
    contents = {f"item {number}": b"%d" % number for number in range(60)}
    uuid = bucket_dataset(Raw(rclone_bucket), contents)
    names = {identifier(relpath): relpath for relpath in contents}
    tried: set[str] = set()

    def go_down(request: Request) -> Answer | None:
        tried.update(name for key, name in names.items() if key in request.target)
        return Answer(500, "InternalError") if len(tried) > 20 else None

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(go_down)
        report = verify_dataset(
            f"{rclone_bucket.base_uri}/{uuid}",
            settings=changed(rclone_bucket, endpoint=proxy.endpoint),
            concurrency=2,
        )

    assert {finding.kind for finding in report.findings} == {"not verified"}
    assert len(contents) - 20 <= len(report.findings) <= len(contents) - 18
    assert len(tried) <= 24
    assert sum("not tried" in finding.message for finding in report.findings) >= 30


def test_a_bit_that_flips_on_the_way_is_no_damage(rclone_bucket: BucketSettings) -> None:
    """Bytes that are wrong once, and right when they are read again, were wrong on the wire only."""
    uuid = bucket_dataset(Raw(rclone_bucket), CONTENTS)
    flipped: list[Request] = []

    def flip_once(request: Request) -> Answer | None:
        if flipped or request.method != "GET" or identifier("table.csv") not in request.target:
            return None
        flipped.append(request)
        return Answer(200, body=b"A,b\n1,2\n", content_type="application/octet-stream")

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(flip_once)
        report = verify_dataset(
            f"{rclone_bucket.base_uri}/{uuid}", settings=changed(rclone_bucket, endpoint=proxy.endpoint)
        )

    assert flipped
    assert report.ok


# --- what is no frozen dataset, and stopping ---


def test_a_proto_dataset_is_a_finding_that_tells_its_age(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """In a bucket and in a folder: it has no manifest yet, so nothing is said of its items."""
    uuid = bucket_dataset(Raw(rclone_bucket), CONTENTS, prefix="u/", admin={"type": "protodataset"})
    on_disk = disk_dataset(tmp_path, CONTENTS, freeze=False)

    report = verify_dataset(f"{rclone_bucket.base_uri}/{uuid}", settings=rclone_bucket)

    assert (report.ok, report.uuid, report.name, report.items) == (False, uuid, "penguins", 0)
    assert kinds(report.findings) == [("proto dataset", "dtool")]
    assert "created at 2023-11-14 22:13:20 UTC" in report.findings[0].message
    assert kinds(verify_dataset(on_disk).findings) == [("proto dataset", "dtool")]


def test_a_registration_that_stands_alone_is_a_finding(bucket: BucketSettings) -> None:
    """As a deletion that was cut short leaves it, or a dataset whose administrative metadata got lost."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.delete(f"{uuid}/dtool")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket)

    assert (report.ok, report.uuid, report.name) == (False, uuid, "")
    assert kinds(report.findings) == [("orphan registration", f"dtool-{uuid}")]


def test_what_is_not_there_cannot_be_verified(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Of nothing there is nothing to say: an error, no finding."""
    base = rclone_bucket.base_uri
    for uri in (f"{base}/00000000-0000-0000-0000-000000000000", base, str(tmp_path / "nothing"), "gopher://hole/1"):
        with pytest.raises(NotADatasetError):
            verify_dataset(uri, settings=rclone_bucket)


def test_metadata_that_cannot_be_read_is_an_error_that_names_it(rclone_bucket: BucketSettings) -> None:
    """Without it nobody knows whether this is a frozen dataset at all."""
    raw = Raw(rclone_bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.put(f"{uuid}/dtool", b"")

    with pytest.raises(EcsFlowsError, match=f"{uuid}/dtool unreadable"):
        verify_dataset(f"{rclone_bucket.base_uri}/{uuid}", settings=rclone_bucket)


def test_wrong_credentials_are_no_finding(bucket: BucketSettings) -> None:
    """Nothing is said of a dataset that this user cannot see."""
    uuid = bucket_dataset(Raw(bucket), CONTENTS)

    with pytest.raises(CredentialsError):
        verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket.model_copy(update={"access_key_id": "nobody"}))


def test_it_shows_its_progress_and_can_be_stopped(bucket: BucketSettings) -> None:
    """It counts up to the whole; asked to stop, it ends at once and reports nothing half."""
    uuid = bucket_dataset(Raw(bucket), CONTENTS)
    seen: list[Progress] = []
    verify_dataset(f"{bucket.base_uri}/{uuid}", settings=bucket, progress=seen.append)
    assert (seen[-1].items_done, seen[-1].items, seen[-1].bytes_done, seen[-1].bytes) == (12, 12, TOTAL, TOTAL)
    stop = threading.Event()

    with pytest.raises(StoppedError):
        verify_dataset(
            f"{bucket.base_uri}/{uuid}", settings=bucket, concurrency=1, progress=lambda _: stop.set(), stop=stop
        )
