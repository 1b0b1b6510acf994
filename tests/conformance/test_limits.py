"""The limits of a bucket, as a store sees them: how many requests arrive at once and per second, how many bytes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import limits, open_store
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, disk_dataset, everything, noise
from tests.proxy import Answer, Proxy, Request, proxied
from tests.servers import S3Server


@pytest.fixture
def proxy(rgw: S3Server) -> Iterator[Proxy]:
    with proxied(rgw) as proxy:
        yield proxy


class Door:
    """Holds each request for a moment, and knows how many were there at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.most = 0
        self._seconds = seconds
        self._inside = 0
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        time.sleep(self._seconds)
        with self._lock:
            self._inside -= 1


def small_items(number: int, size: int = 100) -> dict[str, bytes]:
    return {f"{n:03}.bin": noise(size, n) for n in range(number)}


def test_requests_at_once_are_those_of_the_bucket(proxy: Proxy, rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """Items, parts and several copies together: one bound for all that a process does with a bucket."""
    settings = changed(rgw_bucket, endpoint=proxy.endpoint, concurrency=3)
    sources = [disk_dataset(tmp_path / n, {**small_items(12), "large": noise(40 * MIB)}) for n in ("one", "two")]
    proxy.on().call(door := Door())

    with ThreadPoolExecutor(2) as pool:
        there = list(pool.map(lambda uri: copy_dataset(uri, settings.base_uri, settings=settings), sources))
        (tmp_path / "out").mkdir()
        back = list(pool.map(lambda one: copy_dataset(one.uri, f"{tmp_path}/out", settings=settings), there[:1]))

    assert door.most == 3
    assert everything(back[0].uri) == everything(sources[0])


def test_no_more_requests_per_second_than_allowed(proxy: Proxy, rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """Whatever they are for, there and back."""
    rate = 60
    settings = changed(rgw_bucket, endpoint=proxy.endpoint, max_requests_per_second=rate)
    source = disk_dataset(tmp_path / "in", small_items(40))
    (tmp_path / "out").mkdir()

    begun = time.monotonic()
    there = copy_dataset(source, settings.base_uri, settings=settings)
    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=settings)
    seconds = time.monotonic() - begun

    assert 80 < len(proxy.requests) <= rate * (seconds + limits.BURST) + 1
    assert everything(back.uri) == everything(source)


def test_no_more_bytes_per_second_than_allowed(proxy: Proxy, rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """Both directions count together; an item that is larger than a second's share passes all the same."""
    settings = changed(rgw_bucket, endpoint=proxy.endpoint, max_bytes_per_second="8 MiB")
    source = disk_dataset(tmp_path / "in", {**small_items(8, MIB // 2), "large": noise(10 * MIB)})
    (tmp_path / "out").mkdir()

    begun = time.monotonic()
    there = copy_dataset(source, settings.base_uri, settings=settings)
    back = copy_dataset(there.uri, str(tmp_path / "out"), settings=settings)
    seconds = time.monotonic() - begun

    assert 8 * MIB * (seconds + limits.BURST) + 10 * MIB >= 28 * MIB  # the last may still be owed
    assert everything(back.uri) == everything(source)


class Busy:
    """Answers the first requests with "slow down", and looks how many of the others come at once."""

    def __init__(self, number: int) -> None:
        self.left = itertools.count(number, -1)
        self.door = Door()

    def __call__(self, request: Request) -> Answer | None:
        if next(self.left) > 0:
            return Answer(503, "SlowDown")
        self.door(request)
        return None


@pytest.mark.parametrize("lane", ["fast", "boto3"])
def test_a_busy_store_is_asked_for_less(
    proxy: Proxy,
    rgw_bucket: BucketSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    lane: str,
) -> None:
    """Half as many at once; each refused request is made once more, after a pause; every item arrives."""
    monkeypatch.setattr(limits, "PERIOD", 3600)
    namespace = "" if lane == "fast" else "ns"  # of which obstore cannot sign the header
    settings = changed(rgw_bucket, endpoint=proxy.endpoint, concurrency=8, namespace=namespace)
    source = disk_dataset(tmp_path, small_items(60))
    proxy.on("PutObject", key="*/data/*").call(busy := Busy(8))

    with caplog.at_level(logging.INFO, "dtool_ecs_flows.store"):
        there = copy_dataset(source, settings.base_uri, settings=settings)

    assert there.copied_items == 60
    assert busy.door.most <= 4
    assert len(proxy.seen("PutObject", key="*/data/*")) == 68
    assert [message for message in caplog.messages if "busy" in message] == [
        f"bucket {settings.bucket} is busy: 4 requests at once for now"
    ]


def test_a_store_that_is_no_longer_busy_is_used_in_full(
    proxy: Proxy, rgw_bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little by little, up to the setting."""
    monkeypatch.setattr(limits, "PERIOD", 0.01)
    settings = changed(rgw_bucket, endpoint=proxy.endpoint, concurrency=4)
    proxy.on("PutObject", key="*/data/*").call(busy := Busy(3))
    copy_dataset(disk_dataset(tmp_path, small_items(60)), settings.base_uri, settings=settings)
    assert open_store(settings)._limits._allowed == 4
    assert busy.door.most <= 4


@pytest.mark.parametrize("answer", [Answer(503, "ServiceUnavailable"), Answer(429, ""), Answer(503, body=b"<html>")])
def test_other_words_for_busy(
    proxy: Proxy, rgw_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """A load balancer says it in its own: the status counts."""
    monkeypatch.setattr(limits, "PERIOD", 3600)
    store = open_store(changed(rgw_bucket, endpoint=proxy.endpoint))
    proxy.on("PutObject", nth=1).call(lambda _: answer)
    store.put_item("k", b"abc", "900150983cd24fb0d6963f7d28e17f72", {})
    assert store._limits._allowed == 8
    assert Raw(rgw_bucket).get("k") == b"abc"


@pytest.mark.parametrize("lane", ["fast", "boto3"])
def test_connections_are_kept_also_over_tls(rgw: S3Server, tmp_path: Path, lane: str) -> None:
    """Hands are shaken for a few of the requests, about once for each at once and lane, and not for each item."""
    with proxied(rgw, tls=True) as proxy:
        settings = new_bucket(rgw, concurrency=4)
        settings = changed(
            settings,
            endpoint=proxy.endpoint,
            ca_bundle=proxy.ca_bundle,
            namespace="" if lane == "fast" else "ns",
        )
        source = disk_dataset(tmp_path / "in", small_items(100))
        there = copy_dataset(source, settings.base_uri, settings=settings)
        (tmp_path / "out").mkdir()
        back = copy_dataset(there.uri, str(tmp_path / "out"), settings=settings)
        assert len(proxy.requests) > 200
        # A client may make one more while the last is on its way back into its pool.
        assert proxy.connected <= len(proxy.requests) / 10
    assert everything(back.uri) == everything(source)
