"""Copies between buckets of one endpoint: the server copies, large items in parts, and no byte passes here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset
from dtool_ecs_flows.errors import StoppedError, StoreError
from dtool_ecs_flows.store import ObjectInfo, Store, failures
from dtool_ecs_flows.store import bucket as bucket_module
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, bucket_dataset, identifier, md5, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server

LARGE = 28 * MIB
CONTENTS = {"large.bin": noise(LARGE), "small.bin": noise(1000, 1)}
INSIDE = b"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>InternalError</Code><Message>told so</Message></Error>"


@pytest.fixture
def proxy(rgw: S3Server) -> Iterator[Proxy]:
    with proxied(rgw) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway of the tests has no room for items of more than one request: parts begin earlier."""
    monkeypatch.setattr(bucket_module, "MULTIPART_COPY_ABOVE", 8 * MIB)
    monkeypatch.setattr(bucket_module, "COPY_PART", 8 * MIB)


@pytest.fixture
def buckets(rgw: S3Server, proxy: Proxy) -> Iterator[tuple[BucketSettings, BucketSettings]]:
    """Two buckets of one endpoint, which is the proxy; emptied in the end."""
    both = new_bucket(rgw), new_bucket(rgw)
    yield changed(both[0], endpoint=proxy.endpoint), changed(both[1], endpoint=proxy.endpoint)
    for each in both:
        raw = Raw(each)
        raw.delete(*raw.listed())


def dataset_in(bucket: BucketSettings) -> str:
    """A dataset with one large item and one small one; returns its URI."""
    return f"{bucket.base_uri}/{bucket_dataset(Raw(bucket), CONTENTS)}"


def test_no_byte_passes_and_parts_go_together(proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings]) -> None:
    """Parts many at once, with their progress; the item is whole and has its checksum; the report says "not read"."""
    uri = dataset_in(buckets[0])
    proxy.clear()
    together = threading.Barrier(3, timeout=30)

    def meet(_: Request) -> None:
        together.wait()

    proxy.on("UploadPartCopy", nth=range(1, 4)).call(meet)
    told: list[Progress] = []

    report = copy_dataset(uri, buckets[1].base_uri, settings=buckets, progress=told.append)

    assert len(proxy.seen("UploadPartCopy")) == 4
    assert len(proxy.seen("CopyObject")) == 1
    assert [str(each) for each in proxy.requests if "/data/" in each.key and each.method == "GET"] == []
    raw = Raw(buckets[1])
    for relpath, data in CONTENTS.items():
        key = f"{report.uuid}/data/{identifier(relpath)}"
        assert raw.get(key) == data
        assert raw.metadata(key)["checksum"] == md5(data)
    assert (report.verified, report.copied_bytes, raw.uploads()) == ("not read", LARGE + 1000, [])
    assert told[-1].bytes_done == LARGE + 1000


def test_a_stop_is_heard_between_parts(proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings]) -> None:
    """What runs ends, the rest is not begun, no upload stays open; the same call again does it all."""
    uri = dataset_in(buckets[0])
    buckets = buckets[0], changed(buckets[1], concurrency=1)
    stop = threading.Event()

    def second(_: Request) -> None:
        stop.set()

    proxy.on("UploadPartCopy", nth=2).call(second)
    with pytest.raises(StoppedError):
        copy_dataset(uri, buckets[1].base_uri, settings=buckets, stop=stop)
    assert len(proxy.seen("UploadPartCopy")) == 2
    raw = Raw(buckets[1])
    assert raw.uploads() == []

    report = copy_dataset(uri, buckets[1].base_uri, settings=buckets)
    assert raw.get(f"{report.uuid}/data/{identifier('large.bin')}") == CONTENTS["large.bin"]


def test_a_store_that_encrypts_has_etags_of_its_own(
    buckets: tuple[BucketSettings, BucketSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They look like MD5 and are none: the copy is not taken for damage, though no item's ETag was ever right."""
    uri = dataset_in(buckets[0])
    real_list, real_put = Store.list, Store.put

    def listed(store: Store, prefix: str) -> Iterator[ObjectInfo]:
        return (replace(info, etag=md5(info.etag.encode())) for info in real_list(store, prefix))

    def put(store: Store, key: str, body: bytes, **how: Any) -> str:
        return md5(real_put(store, key, body, **how).encode())

    monkeypatch.setattr(Store, "list", listed)
    monkeypatch.setattr(Store, "put", put)

    report = copy_dataset(uri, buckets[1].base_uri, settings=buckets)

    assert (report.verified, report.copied_items) == ("not read", 2)
    assert Raw(buckets[1]).json(f"{report.uuid}/dtool")["type"] == "dataset"


@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"])
@pytest.mark.parametrize("body", [INSIDE, b"", b"<html>log in"], ids=["error", "nothing", "a web page"])
def test_an_error_inside_an_answer_of_success(
    proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings], operation: str, body: bytes
) -> None:
    """These answer 200 before they know how it ends: what the body says counts, and the request is made again."""
    uri = dataset_in(buckets[0])
    rule = proxy.on(operation, nth=1).answer(200, body=body)
    report = copy_dataset(uri, buckets[1].base_uri, settings=buckets)
    assert rule.fired
    raw = Raw(buckets[1])
    for relpath, data in CONTENTS.items():
        assert raw.get(f"{report.uuid}/data/{identifier(relpath)}") == data


@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"])
def test_an_error_inside_that_lasts_is_an_error(
    proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """It is never taken for an object that is there."""
    monkeypatch.setattr(failures, "BUDGET", 0.2)
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.2)
    Raw(buckets[0]).put("k", noise(20 * MIB))
    proxy.on(operation).answer(200, body=INSIDE)
    with pytest.raises(StoreError, match=f"{operation} .*InternalError"):
        Store(buckets[1]).copy("k", Store(buckets[0]), "k", 3 if operation == "CopyObject" else 20 * MIB, {})
    assert Raw(buckets[1]).listed() == []
    assert Raw(buckets[1]).uploads() == []


def test_a_lost_answer_to_the_last_request(proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings]) -> None:
    """The parts are one object already: its size and checksum say so."""
    uri = dataset_in(buckets[0])
    proxy.on("CompleteMultipartUpload", nth=1).lose_answer()
    report = copy_dataset(uri, buckets[1].base_uri, settings=buckets)
    assert Raw(buckets[1]).get(f"{report.uuid}/data/{identifier('large.bin')}") == CONTENTS["large.bin"]


def test_a_store_that_copies_slowly_is_asked_for_parts(
    proxy: Proxy, buckets: tuple[BucketSettings, BucketSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large copy that is not answered in time is not begun anew and anew; the next one goes in parts at once."""
    monkeypatch.setattr(bucket_module, "MULTIPART_COPY_ABOVE", LARGE)
    monkeypatch.setattr(bucket_module, "COPY_TRIED_ONCE_ABOVE", 8 * MIB)
    Raw(buckets[0]).put("large", CONTENTS["large.bin"])
    Raw(buckets[0]).put("small", b"abc")
    source, target = Store(buckets[0]), Store(buckets[1])
    proxy.on("CopyObject", key="first").reset()

    target.copy("first", source, "large", LARGE, {})
    target.copy("second", source, "large", LARGE, {})
    target.copy("third", source, "small", 3, {})

    assert [request.key for request in proxy.seen("CopyObject")] == ["first", "third"]
    assert len(proxy.seen("UploadPartCopy")) == 8
    assert Raw(buckets[1]).get("first") == Raw(buckets[1]).get("second") == CONTENTS["large.bin"]
