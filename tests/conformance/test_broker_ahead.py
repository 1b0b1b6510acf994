"""Items that are fetched before they are asked for: when, how many, and that nobody meets what is not whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import cache, create_dataset
from dtool_ecs_flows.errors import CorruptItemError
from dtool_ecs_flows.settings import BucketSettings, active
from tests.conformance.helpers import changed, environment
from tests.conftest import new_bucket
from tests.independent import Raw, identifier, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server

ITEMS = {f"{number:03}.txt": noise(100, number) for number in range(100)}


@pytest.fixture(scope="module")
def one_bucket(rclone: S3Server) -> BucketSettings:
    """One bucket for all these tests, which do not write."""
    return new_bucket(rclone)


@pytest.fixture(scope="module")
def frozen(one_bucket: BucketSettings, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a dataset of 100 items."""
    folder = tmp_path_factory.mktemp("items")
    for relpath, data in ITEMS.items():
        (folder / relpath).write_bytes(data)
    return create_dataset("penguins", one_bucket.base_uri, directory=folder, settings=one_bucket).uri


@pytest.fixture
def proxy(one_bucket: BucketSettings, home: Path) -> Iterator[Proxy]:
    """A recording proxy, through which this process reaches the bucket; the cache is in this test's home."""
    with proxied(one_bucket.endpoint) as proxy:
        mine = {"endpoint": proxy.endpoint, "cache_directory": str(home / ".cache" / "dtool")}
        with active(changed(one_bucket, **mine)):
            yield proxy


def asked(proxy: Proxy) -> list[str]:
    """Identifiers of the items that were fetched so far."""
    return [request.target.rpartition("/")[2] for request in proxy.seen("GET", key="*/data/*")]


def cached(home: Path) -> list[str]:
    """Names of the files in the cache."""
    return sorted(path.name for path in (home / ".cache" / "dtool").rglob("*") if path.is_file())


@pytest.fixture
def reading() -> Callable[[], list[threading.Thread]]:
    """Tells which threads read ahead, but for those of datasets that earlier tests have let go: they may be late."""
    earlier = set(threading.enumerate())
    return lambda: [each for each in threading.enumerate() if each.name == "dtool-ecs-ahead" and each not in earlier]


def ended(threads: list[threading.Thread]) -> bool:
    """Whether threads end that nobody needs any more: a dataset that is let go waits for them a moment only."""
    until = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def test_in_the_order_of_the_manifest_requests_overlap(frozen: str, proxy: Proxy) -> None:
    """While one item is on its way, those after it are asked for already; each is asked for once."""
    dataset = dtoolcore.DataSet.from_uri(frozen)
    order = list(dataset.identifiers)
    later, overlapped = threading.Event(), []

    def script(request: Request) -> None:
        if order[3] in request.target:
            later.set()
        if order[2] in request.target:
            overlapped.append(later.wait(20))

    proxy.on().call(script)
    content = {i: Path(dataset.item_content_abspath(i)).read_bytes() for i in order}

    assert content == {identifier(relpath): data for relpath, data in ITEMS.items()}
    assert overlapped == [True]
    assert sorted(asked(proxy)) == sorted(order)


def test_in_another_order_nothing_is_fetched_that_was_not_asked_for(
    frozen: str, proxy: Proxy, reading: Callable[[], list[threading.Thread]]
) -> None:
    """A program that looks for one item, or goes backwards, pays for what it reads."""
    dataset = dtoolcore.DataSet.from_uri(frozen)
    wanted = list(dataset.identifiers)[10::-2]

    for each in wanted:
        dataset.item_content_abspath(each)
        dataset.item_content_abspath(each)

    assert asked(proxy) == wanted
    assert reading() == []


def test_what_is_fetched_ahead_is_bounded(
    frozen: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, reading: Callable[[], list[threading.Thread]]
) -> None:
    """A look at the first items fetches a few more; a long read at most so many, in items and in bytes."""
    monkeypatch.setattr(cache, "AHEAD_ITEMS", 16)
    dataset = dtoolcore.DataSet.from_uri(frozen)
    order = list(dataset.identifiers)

    for each in order[:2]:
        dataset.item_content_abspath(each)
    del dataset
    assert ended(reading())
    assert len(asked(proxy)) <= 2 + 2

    proxy.clear()
    dataset = dtoolcore.DataSet.from_uri(frozen)
    for each in order[:40]:
        dataset.item_content_abspath(each)
    del dataset
    assert ended(reading())
    assert len(asked(proxy)) <= 40 + 16 - 2

    monkeypatch.setattr(cache, "AHEAD_BYTES", 300)  # items of 100
    proxy.clear()
    dataset = dtoolcore.DataSet.from_uri(frozen)
    for each in order[60:90]:
        dataset.item_content_abspath(each)
    del dataset
    assert len(asked(proxy)) <= 30 + 3


def test_the_cache_holds_what_was_asked_for_and_no_more(
    frozen: str, proxy: Proxy, home: Path, reading: Callable[[], list[threading.Thread]]
) -> None:
    """What was fetched and not asked for leaves no file, and no thread stays when the dataset is let go."""
    dataset = dtoolcore.DataSet.from_uri(frozen)
    order = list(dataset.identifiers)

    for each in order[:5]:
        dataset.item_content_abspath(each)
    assert reading()
    del dataset

    assert ended(reading())
    assert cached(home) == sorted(f"{each}.txt" for each in order[:5])


def test_what_is_in_the_cache_is_not_fetched_ahead(frozen: str, proxy: Proxy) -> None:
    """A second program that reads the same dataset asks for the manifest alone."""
    first, second = dtoolcore.DataSet.from_uri(frozen), dtoolcore.DataSet.from_uri(frozen)
    order = list(first.identifiers)
    for each in order:
        first.item_content_abspath(each)
    proxy.clear()

    for each in order:
        second.item_content_abspath(each)

    assert asked(proxy) == []


def test_an_error_comes_up_at_the_item_that_it_belongs_to(
    frozen: str, proxy: Proxy, one_bucket: BucketSettings, home: Path
) -> None:
    """Neither earlier nor later, and the items after it can be read."""
    dataset = dtoolcore.DataSet.from_uri(frozen)
    order = list(dataset.identifiers)
    raw, key = Raw(one_bucket), f"{dataset.uuid}/data/{order[7]}"
    good = raw.get(key)
    raw.replace(key, b"x" * 100)
    failed = []
    for place, each in enumerate(order[:20]):
        try:
            dataset.item_content_abspath(each)
        except CorruptItemError as error:
            failed.append((place, error.relpath))
    raw.replace(key, good)

    assert failed == [(7, dataset.item_properties(order[7])["relpath"])]
    assert f"{order[7]}.txt" not in cached(home)
    assert Path(dataset.item_content_abspath(order[7])).read_bytes() == good


def test_many_threads_may_read_one_dataset(frozen: str, proxy: Proxy) -> None:
    """Each in an order of its own; all get whole items."""
    dataset = dtoolcore.DataSet.from_uri(frozen)
    order = list(dataset.identifiers)
    found: list[dict[str, bytes]] = [{} for _ in range(4)]

    def read(number: int) -> None:
        for each in order[number * 25 :] + order[: number * 25]:
            found[number][each] = Path(dataset.item_content_abspath(each)).read_bytes()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = {identifier(relpath): data for relpath, data in ITEMS.items()}
    assert all(each == expected for each in found)


READ = """
import os, sys, dtoolcore
dataset = dtoolcore.DataSet.from_uri(sys.argv[1])
order = list(dataset.identifiers)
for each in order[:3]:
    dataset.item_content_abspath(each)
"""

IN_A_CHILD = """
pid = os.fork()
for each in order[3:]:
    dataset.item_content_abspath(each)
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run(script: str, uri: str, settings: BucketSettings, home: Path) -> subprocess.CompletedProcess[str]:
    variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environment(settings)}
    command = [sys.executable, "-W", "ignore", "-c", script, uri]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=240)


def test_a_program_ends_though_the_store_hangs_on_what_comes_next(
    frozen: str, one_bucket: BucketSettings, home: Path
) -> None:
    """What was fetched ahead is nobody's business at its end: no wait, no crash, no file."""
    hanging = threading.Event()
    with active(one_bucket):
        order = list(dtoolcore.DataSet.from_uri(frozen).identifiers)
    with proxied(one_bucket.endpoint) as proxy:

        def script(request: Request) -> None:
            if any(each in request.target for each in order[3:]):
                hanging.wait(100)

        proxy.on().call(script)
        done = run(READ, frozen, changed(one_bucket, endpoint=proxy.endpoint), home)
        hanging.set()

    assert (done.returncode, done.stderr) == (0, "")
    assert cached(home) == sorted(f"{each}.txt" for each in order[:3])


def test_a_forked_child_reads_on(frozen: str, one_bucket: BucketSettings, home: Path) -> None:
    """It has none of its parent's threads, and waits for none of them; both read all."""
    done = run(READ + IN_A_CHILD, frozen, one_bucket, home)

    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert cached(home) == sorted(f"{identifier(relpath)}.txt" for relpath in ITEMS)
