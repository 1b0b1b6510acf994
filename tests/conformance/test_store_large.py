"""`Store` and large objects: fetched chunk by chunk, sent in parts that can be found again."""

from __future__ import annotations

from typing import Any

import pytest

from dtool_ecs_flows.errors import NoSuchKeyError, NoSuchUploadError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Part, Store
from tests.conformance.helpers import changed
from tests.independent import MIB, Raw, md5, noise
from tests.proxy import proxied

SIZE = 3 * MIB + 5


@pytest.fixture(params=["", "ns1"], ids=["fast lane", "boto3"])
def settings(bucket: BucketSettings, request: pytest.FixtureRequest) -> BucketSettings:
    """A bucket through each of the two clients: users of a namespace have boto3 only. Neither server minds one."""
    return changed(bucket, namespace=request.param)


def fetched(store: Store, offset: int, length: int, size: int = SIZE) -> bytes:
    taken: list[bytes] = []
    assert store.fetch("k", offset, length, size, lambda chunk: taken.append(bytes(chunk))) == len(b"".join(taken))
    return b"".join(taken)


def test_some_bytes_come_in_order(settings: BucketSettings) -> None:
    """From the beginning, the middle and the end; nothing, too, is asked for."""
    Raw(settings).put("k", noise(SIZE))
    store = Store(settings)
    for offset, length in ((0, SIZE), (0, 10), (MIB - 3, 2 * MIB), (SIZE - 7, 7), (0, 0)):
        assert fetched(store, offset, length) == noise(SIZE)[offset : offset + length]
    with pytest.raises(NoSuchKeyError):
        store.fetch("another", 0, 10, 10, lambda _: None)


@pytest.mark.parametrize("after", [0, 1, MIB, SIZE - 10])
def test_an_answer_that_is_cut_short_is_continued(settings: BucketSettings, after: int) -> None:
    """Where it stopped, again and again: each byte is handed on once, and few are sent twice."""
    Raw(settings).put("k", noise(SIZE))
    with proxied(settings.endpoint) as proxy:
        proxy.on("GetObject", nth=range(1, 3)).cut_answer(after)
        assert fetched(Store(changed(settings, endpoint=proxy.endpoint)), 5, SIZE - 5) == noise(SIZE)[5:]
        ranges = [request.headers["range"] for request in proxy.seen("GetObject")]
    starts = [int(value.removeprefix("bytes=").split("-")[0]) for value in ranges]
    assert starts == sorted(starts)
    assert after - MIB < starts[-1] - 5 <= 2 * after


def test_an_object_of_another_size_is_no_such_bytes(settings: BucketSettings) -> None:
    """Shorter or longer than it should be: the caller hears that not all came."""
    Raw(settings).put("k", noise(100))
    store = Store(settings)
    for size in (50, 99, 101, 1000):
        assert fetched(store, 0, 10, size) == b""
        assert fetched(store, size - 10, 10, size) == b""


def test_what_the_taker_raises_comes_out(settings: BucketSettings) -> None:
    """A full disk is no failure of the store: nothing is asked for again."""

    def refuse(_: Any) -> None:
        raise OSError("full")

    Raw(settings).put("k", noise(SIZE))
    with proxied(settings.endpoint) as proxy:
        with pytest.raises(OSError, match="full"):
            Store(changed(settings, endpoint=proxy.endpoint)).fetch("k", 0, SIZE, SIZE, refuse)
        assert len(proxy.seen("GetObject")) == 1


def test_parts_can_be_found_again(rgw_bucket: BucketSettings) -> None:
    """Uploads of a key from the oldest to the newest, with the size and MD5 of each part."""
    store, parts = Store(rgw_bucket), [noise(5 * MIB), noise(3)]
    uploads = [store.begin_upload("data/1", {}), store.begin_upload("data/1", {}), store.begin_upload("other", {})]
    for number, part in enumerate(parts, start=1):
        store.put_part("data/1", uploads[1], number, part)

    assert {upload for _, upload in store.uploads("data/")} == set(uploads[:2])
    assert store.parts("data/1", uploads[0]) == {}
    assert store.parts("data/1", uploads[1]) == {
        number: Part(len(part), md5(part)) for number, part in enumerate(parts, start=1)
    }

    for key, upload in store.uploads(""):
        store.abort_upload(key, upload)
    with pytest.raises(NoSuchUploadError):
        store.parts("data/1", uploads[1])
    with pytest.raises(NoSuchUploadError):
        store.put_part("data/1", uploads[1], 1, b"abc")
