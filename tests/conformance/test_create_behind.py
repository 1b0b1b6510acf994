"""Small items are sent while the step goes on: what it may do meanwhile, and when it hears of a failure."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, DatasetWriter, new_dataset, transfer, verify_dataset
from dtool_ecs_flows.datasets import behind
from dtool_ecs_flows.errors import AccessDeniedError, CorruptItemError, StoppedError
from tests.conformance.helpers import changed
from tests.independent import Raw, identifier, noise
from tests.proxy import Answer, Proxy, Request, proxied


@pytest.fixture
def proxy(rclone_bucket: BucketSettings) -> Iterator[Proxy]:
    with proxied(rclone_bucket.endpoint) as proxy:
        yield proxy


@pytest.fixture
def recorded(rclone_bucket: BucketSettings, proxy: Proxy) -> BucketSettings:
    """The bucket through a recording proxy."""
    return changed(rclone_bucket, endpoint=proxy.endpoint)


def is_item(request: Request, relpath: str = "") -> bool:
    name = identifier(relpath) if relpath else ""
    return request.method == "PUT" and f"/data/{name}" in request.target


def put_without_end(dataset: DatasetWriter) -> None:
    for number in itertools.count():
        dataset.put_bytes(b"1", f"{number}")


def test_a_file_may_change_and_go_as_soon_as_it_was_put(recorded: BucketSettings, proxy: Proxy, tmp_path: Path) -> None:
    """What was there when `put` was called is what is frozen, though no request was answered before the last put."""
    all_put = threading.Event()
    proxy.on().call(lambda request: None if not is_item(request) or all_put.wait(50) else Answer(400, "TooEarly"))
    path, expected = tmp_path / "out.bin", {}

    with new_dataset("result", recorded.base_uri, settings=recorded) as dataset:
        for number in range(40):
            data = noise(1000, number)
            path.write_bytes(data)
            dataset.put(path, f"{number}")
            expected[f"{number}"] = data
        path.unlink()
        buffer = bytearray(b"first")
        dataset.put_bytes(buffer, "buffer")  # type: ignore[arg-type]  # a caller without types
        buffer[:] = b"later"
        expected["buffer"] = b"first"
        all_put.set()

    raw = Raw(recorded)
    assert {relpath: raw.get(f"{dataset.uuid}/data/{identifier(relpath)}") for relpath in expected} == expected
    assert verify_dataset(dataset.uri, settings=recorded).ok
    assert (dataset.report.items, dataset.report.bytes) == (41, 40_005)


@pytest.mark.parametrize("last", [False, True])
def test_what_could_not_be_sent_is_told_before_anything_is_frozen(
    recorded: BucketSettings, proxy: Proxy, last: bool
) -> None:
    """At a later put, or when the block is left; it names the item, and no later call takes it back."""

    def script(request: Request) -> Answer | None:
        return Answer(403, "AccessDenied") if is_item(request, "bad.txt") else None

    proxy.on().call(script)
    with (  # noqa: PT012  # it fails inside, or when the block is left
        pytest.raises(AccessDeniedError, match=r"item 'bad\.txt' of ecs://"),
        new_dataset("result", recorded.base_uri, settings=recorded) as dataset,
    ):
        dataset.put_bytes(b"0", "bad.txt")
        if not last:
            with pytest.raises(AccessDeniedError, match=r"bad\.txt"):
                put_without_end(dataset)
            with pytest.raises(AccessDeniedError, match=r"bad\.txt"):
                dataset.put_bytes(b"1", "after")

    assert not Raw(recorded).is_frozen(dataset.uuid)
    assert f"{dataset.uuid}/manifest.json" not in Raw(recorded).listed()


def test_what_is_on_its_way_is_bounded(recorded: BucketSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that writes faster than the store takes waits in `put`, and its memory does not grow."""
    size = 100_000
    monkeypatch.setattr(behind, "BEHIND", 10 * size)
    full, most = threading.Event(), 0
    proxy.on("PUT", key="*/data/*").call(lambda _: None if full.wait(50) else Answer(400, "TooLate"))

    with new_dataset("result", recorded.base_uri, settings=recorded) as dataset:
        for number in range(60):
            dataset.put_bytes(noise(size, number), f"{number}")
            sent = [request for request in proxy.seen("PUT", key="*/data/*") if request.status]
            most = max(most, number + 1 - len(sent))
            if most == 10:
                full.set()

    assert most == 10
    assert dataset.report.items == 60


def test_a_stop_is_heard_while_a_put_waits(
    recorded: BucketSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the store does not answer and there is no room for more."""
    monkeypatch.setattr(behind, "BEHIND", 1)
    stop, ended = threading.Event(), threading.Event()

    def script(request: Request) -> None:
        if is_item(request):
            stop.set()
            ended.wait(20)

    proxy.on().call(script)
    with (  # noqa: PT012  # it is stopped inside
        pytest.raises(StoppedError),
        new_dataset("result", recorded.base_uri, settings=recorded, stop=stop) as dataset,
    ):
        dataset.put_bytes(b"1", "a")
        try:
            dataset.put_bytes(b"2", "b")
        finally:
            ended.set()

    assert not Raw(recorded).is_frozen(dataset.uuid)


def test_a_file_that_changes_while_it_is_read_is_told_by_its_own_put(
    rclone_bucket: BucketSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the step can still put it again."""
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    read, real = [], os.stat

    def stat(name: Any, **options: Any) -> os.stat_result:
        if name == path:
            read.append(name)
            if len(read) == 2:  # after the file was read
                path.write_bytes(b"123456")
        return real(name, **options)

    with new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:
        monkeypatch.setattr(os, "stat", stat)
        with pytest.raises(CorruptItemError, match="changed while it was read"):
            dataset.put(path)
        monkeypatch.undo()
        dataset.put(path)

    assert dataset.report.bytes == 6


def test_small_items_do_not_wait_for_the_memory_of_a_large_one(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Its parts, which are to give the memory back, may be next in the same threads: both would wait for ever."""
    with new_dataset("figs", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:
        (tmp_path / "a").write_bytes(b"1")
        with dataset._transfer.hold(transfer.MEMORY):
            dataset.put(tmp_path / "a")
            dataset.put_bytes(b"2", "b")
            dataset._behind.wait()
    assert dataset.report.items == 2
