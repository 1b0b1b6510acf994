"""A large item whose upload was cut short: its parts are in the store, and are taken up by whoever copies again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset, create_dataset
from dtool_ecs_flows.errors import StoppedError
from dtool_ecs_flows.layout import item_metadata
from tests.conformance.helpers import changed
from tests.independent import MIB, Raw, disk_dataset, everything, identifier, md5, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server

LARGE = noise(54 * MIB + 3)
PARTS = {number: LARGE[(number - 1) * 16 * MIB : number * 16 * MIB] for number in range(1, 5)}


class HalfSent:
    """A proto dataset with a small item, and one large item that is not there: what a killed copy leaves."""

    def __init__(self, bucket: BucketSettings, folder: Path) -> None:
        self.bucket = bucket
        self.source = disk_dataset(folder / "in", {"large": LARGE, "small": b"1"})
        self.folder = folder
        self.raw = Raw(bucket)
        self.uuid = str(dtoolcore.DataSet.from_uri(self.source).uuid)
        self.key = f"{self.uuid}/data/{identifier('large')}"
        report = copy_dataset(self.source, bucket.base_uri, settings=bucket)
        self.raw.edit_json(f"{report.uuid}/dtool", lambda admin: admin.update(type="protodataset"))
        self.raw.delete(f"{report.uuid}/manifest.json", self.key)

    def begin(self, metadata: dict[str, str] | None = None) -> str:
        metadata = item_metadata("large", md5(LARGE)) if metadata is None else metadata
        begun = self.raw.client.create_multipart_upload(Bucket=self.bucket.bucket, Key=self.key, Metadata=metadata)
        return str(begun["UploadId"])

    def put(self, upload: str, number: int, body: bytes) -> None:
        where = {"Bucket": self.bucket.bucket, "Key": self.key, "UploadId": upload}
        self.raw.client.upload_part(**where, PartNumber=number, Body=body)

    def finish(self, prepare: Callable[[Proxy], object] = lambda _: None) -> Proxy:
        """Copy again, and see that all is right in the end; return the proxy that saw it."""
        with proxied(self.bucket.endpoint) as proxy:
            prepare(proxy)
            copy_dataset(self.source, self.bucket.base_uri, settings=changed(self.bucket, endpoint=proxy.endpoint))
        out = self.folder / "out"
        out.mkdir()
        uri = f"{self.bucket.base_uri}/{self.uuid}"
        assert everything(copy_dataset(uri, str(out), settings=self.bucket).uri) == everything(self.source)
        metadata = self.raw.metadata(self.key).items()
        assert metadata >= item_metadata("large", md5(LARGE)).items()
        assert self.raw.uploads() == []
        return proxy


def numbers(proxy: Proxy) -> list[int]:
    return sorted(int(request.query["partNumber"]) for request in proxy.seen("UploadPart"))


@pytest.fixture
def half_sent(rgw_bucket: BucketSettings, tmp_path: Path) -> HalfSent:
    return HalfSent(rgw_bucket, tmp_path)


def test_parts_that_are_there_and_right_are_not_sent_again(half_sent: HalfSent) -> None:
    """Each is told by its MD5; one that is damaged, or of another size, is replaced."""
    upload = half_sent.begin()
    half_sent.put(upload, 1, PARTS[1])
    half_sent.put(upload, 2, bytes(reversed(PARTS[2])))
    half_sent.put(upload, 4, PARTS[4])

    proxy = half_sent.finish()

    assert numbers(proxy) == [2, 3]
    assert proxy.seen("CreateMultipartUpload") == []


def test_an_upload_goes_on_with_the_parts_that_it_was_begun_with(half_sent: HalfSent) -> None:
    """Another version, or another client, may have cut the item in another way."""
    upload = half_sent.begin()
    for number in (1, 2, 5):
        half_sent.put(upload, number, LARGE[(number - 1) * 8 * MIB : number * 8 * MIB])

    proxy = half_sent.finish()

    assert numbers(proxy) == [3, 4, 6, 7]


def test_parts_that_cannot_be_of_this_item_are_thrown_away(half_sent: HalfSent) -> None:
    """Part numbers beyond its end: the upload starts again."""
    upload = half_sent.begin()
    half_sent.put(upload, 1, PARTS[1])
    half_sent.put(upload, 9, PARTS[2])

    proxy = half_sent.finish()

    assert numbers(proxy) == [1, 2, 3, 4]


def test_of_several_uploads_the_newest_with_parts_counts(half_sent: HalfSent) -> None:
    """The others are thrown away in the end."""
    for number in (1, 2):
        half_sent.put(half_sent.begin(), number, PARTS[number])
    half_sent.begin()

    proxy = half_sent.finish()

    assert numbers(proxy) in ([1, 3, 4], [2, 3, 4])  # begun within one second, which may be all that a store tells
    assert len(proxy.seen("AbortMultipartUpload")) == 2


def test_an_upload_without_parts_is_taken_up(half_sent: HalfSent) -> None:
    """Uploads do not become more with each copy that is killed early."""
    half_sent.begin()

    proxy = half_sent.finish()

    assert numbers(proxy) == [1, 2, 3, 4]
    assert proxy.seen("CreateMultipartUpload") == []


def test_an_upload_that_was_begun_for_other_content_is_not_the_item(half_sent: HalfSent) -> None:
    """Its metadata shows only when it is complete; it is looked at, and the item is sent anew where it is wrong."""
    upload = half_sent.begin(item_metadata("large", md5(b"another")))
    for number in (1, 2, 3):
        half_sent.put(upload, number, PARTS[number])

    proxy = half_sent.finish()

    assert len(proxy.seen("CreateMultipartUpload")) == 1


@pytest.mark.parametrize("operation", ["ListMultipartUploads", "ListParts"])
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_where_parts_are_not_told_the_item_starts_again(
    half_sent: HalfSent, caplog: pytest.LogCaptureFixture, operation: str, status: int, code: str
) -> None:
    """Not allowed, or not known to the store: the log says why, and the copy succeeds."""
    upload = half_sent.begin()
    half_sent.put(upload, 1, PARTS[1])
    with caplog.at_level(logging.INFO, "dtool_ecs_flows"), proxied(half_sent.bucket.endpoint) as proxy:
        proxy.on(operation).answer(status, code)
        settings = changed(half_sent.bucket, endpoint=proxy.endpoint)
        copy_dataset(half_sent.source, half_sent.bucket.base_uri, settings=settings)
    assert numbers(proxy) == [1, 2, 3, 4]
    (said,) = [record.getMessage() for record in caplog.records if code in record.getMessage()]
    assert "start" in said


@pytest.mark.parametrize("end", ["complete", "abort"])
def test_an_upload_that_another_process_ends_is_no_harm(half_sent: HalfSent, end: str) -> None:
    """Two copies of one dataset take up the same parts; who comes second finds the item, or sends it anew."""
    upload = half_sent.begin()
    for number in (1, 2, 3, 4):
        half_sent.put(upload, number, PARTS[number] if number != 2 else bytes(16 * MIB))
    where = {"Bucket": half_sent.bucket.bucket, "Key": half_sent.key, "UploadId": upload}

    def be_faster(_: Request) -> None:
        if end == "abort":
            half_sent.raw.client.abort_multipart_upload(**where)
        else:
            half_sent.put(upload, 2, PARTS[2])
            parts = [{"PartNumber": number, "ETag": md5(part)} for number, part in PARTS.items()]
            half_sent.raw.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    proxy = half_sent.finish(lambda proxy: proxy.on("UploadPart", nth=1).call(be_faster))

    assert numbers(proxy) == ([2] if end == "complete" else [1, 2, 2, 3, 4])


def test_a_large_item_that_is_stopped_keeps_its_parts(rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """What was sent is not sent again: the same call goes on from there."""
    stop = threading.Event()
    source = disk_dataset(tmp_path / "in", {"large": LARGE, "small": b"1"})
    raw = Raw(rgw_bucket)
    with proxied(rgw_bucket.endpoint) as proxy:
        settings = changed(rgw_bucket, endpoint=proxy.endpoint)
        proxy.on("UploadPart", nth=2).call(lambda _: stop.set())
        with pytest.raises(StoppedError):
            copy_dataset(source, settings.base_uri, settings=settings, concurrency=1, stop=stop)
        assert len(raw.uploads()) == 1
        sent = {request.query["partNumber"] for request in proxy.seen("UploadPart") if request.status == 200}
        told: list[Progress] = []

        report = copy_dataset(source, settings.base_uri, settings=settings, progress=told.append)

        assert len(numbers(proxy)) <= len(PARTS) + 2  # some may have been on their way when it stopped
        assert len(sent) >= 1
    assert told[-1].fraction == 1
    assert raw.uploads() == []
    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(report.uri, str(tmp_path / "out"), settings=rgw_bucket).uri) == everything(source)


def test_creating_leaves_no_parts_that_nobody_could_take_up(
    rgw: S3Server, rgw_bucket: BucketSettings, tmp_path: Path
) -> None:
    """A dataset that is created anew has a UUID of its own: what a stopped attempt has sent is thrown away."""
    large, stop = tmp_path / "large", threading.Event()
    large.write_bytes(LARGE)

    with proxied(rgw) as proxy:
        proxy.on("UploadPart", nth=2).call(lambda _: stop.set())
        through = changed(rgw_bucket, endpoint=proxy.endpoint)
        with pytest.raises(StoppedError):
            create_dataset("penguins", through.base_uri, files={"large": large}, settings=through, stop=stop)

    assert proxy.seen("UploadPart")
    assert Raw(rgw_bucket).uploads() == []
