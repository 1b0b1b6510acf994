"""What all operations share: their settings, their number of requests at once, their loop over items."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dtool_ecs_flows.datasets.running import DEFAULT_CONCURRENCY, concurrency_for, each_item, settings_given
from dtool_ecs_flows.errors import (
    CorruptItemError,
    CredentialsError,
    ManifestError,
    SettingsError,
    StoppedError,
    StoreError,
    TransferError,
    UnavailableError,
)
from dtool_ecs_flows.models import Item, Progress
from dtool_ecs_flows.settings import BucketSettings, resolve
from dtool_ecs_flows.transfer import Transfer

UUID = "00000000-0000-0000-0000-000000000000"
ITEMS = [Item(f"id{size}", f"item {size}", size, "hash", 0.0) for size in range(1, 31)]


@pytest.fixture
def transfer() -> Iterator[Transfer]:
    with Transfer(4) as running:
        yield running


def settings(bucket: str, concurrency: int = 16) -> BucketSettings:
    return BucketSettings(
        bucket=bucket,
        endpoint="http://127.0.0.1:9",
        access_key_id="key",
        secret_access_key="secret",
        concurrency=concurrency,
    )


def run(
    transfer: Transfer, work: Callable[[Item], object], progress: Callable[[Progress], None] | None = None
) -> list[tuple[Item, object]]:
    return list(each_item(transfer, ITEMS, work, progress, "ecs://b/u"))


def corrupt(item: Item) -> CorruptItemError:
    return CorruptItemError(item.relpath, expected="1", actual="2", where="here")


# --- settings ---


def test_settings_that_are_given_count_as_long_as_the_operation_lasts() -> None:
    """One, several or none; afterwards nothing of them is left."""
    one, two = settings("one"), settings("two")

    with settings_given(one):
        assert resolve("one") == one
    with settings_given([one, two]):
        assert (resolve("one"), resolve("two")) == (one, two)
        with settings_given(()):
            assert resolve("one") == one
    with pytest.raises(SettingsError):
        resolve("one")


def test_the_most_careful_bucket_decides_how_many_requests_there_are_at_once() -> None:
    """Of all that take part; where there is no bucket, a default."""
    with settings_given([settings("careful", 3), settings("bold", 100)]):
        assert concurrency_for(f"ecs://careful/{UUID}", "ecs://bold", config_path=None) == 3
        assert concurrency_for("ecs://bold", "file:///x", config_path=None) == 100
    assert concurrency_for("file:///x", "/y", config_path=None) == DEFAULT_CONCURRENCY


# --- the loop over items ---


def test_every_item_is_done_once_and_counted(transfer: Transfer) -> None:
    """Each comes with its result, and the progress ends at the whole."""
    seen: list[Progress] = []

    done = run(transfer, lambda item: item.size * 2, seen.append)

    assert sorted(item.size for item, _ in done) == list(range(1, 31))
    assert all(result == item.size * 2 for item, result in done)
    total = sum(range(1, 31))
    assert list(dict.fromkeys(progress.items_done for progress in seen if progress.relpath)) == list(range(1, 31))
    assert (seen[-1].items, seen[-1].bytes_done, seen[-1].bytes) == (30, total, total)
    assert list(dict.fromkeys(progress.relpath for progress in seen if progress.relpath)) == [
        item.relpath for item, _ in done
    ]


def test_a_progress_that_raises_ends_the_operation(transfer: Transfer) -> None:
    """A callback's error is not swallowed, and nothing more is begun."""
    begun: list[Item] = []

    def progress(now: Progress) -> None:
        if now.items_done:
            raise ZeroDivisionError

    def work(item: Item) -> None:
        begun.append(item)
        time.sleep(0.2)

    with pytest.raises(ZeroDivisionError):
        run(transfer, work, progress)
    assert len(begun) < 30


def test_large_items_come_first() -> None:
    """So that none of them is left to run alone at the end."""
    begun: list[int] = []

    with Transfer(1) as transfer:
        run(transfer, lambda item: begun.append(item.size))

    assert begun == list(range(30, 0, -1))


def test_no_more_run_at_once_than_allowed(transfer: Transfer) -> None:
    """And no fewer, where there is work for all."""
    lock, full, now, most = threading.Lock(), threading.Event(), 0, 0

    def work(item: Item) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 4:
                full.set()
        full.wait(60)  # none has ended before as many are there as may be
        time.sleep(0.01)
        with lock:
            now -= 1

    run(transfer, work)

    assert most == 4


def test_nothing_to_do_is_nothing_wrong(transfer: Transfer) -> None:
    """A dataset may be empty."""
    assert list(each_item(transfer, [], lambda item: item, None, "ecs://b/u")) == []


@pytest.mark.parametrize("error", [corrupt(ITEMS[0]), FileNotFoundError("gone"), PermissionError("closed")], ids=repr)
def test_an_item_that_fails_does_not_keep_the_others_from_being_done(transfer: Transfer, error: Exception) -> None:
    """All others are done; the error at the end names the failed ones with their causes, and counts."""
    done: list[Item] = []
    seen: list[Progress] = []

    def work(item: Item) -> None:
        if item.size in (7, 8):
            raise error

    with pytest.raises(TransferError, match=r"2 of 30 items failed for ecs://b/u") as caught:
        done.extend(item for item, _ in each_item(transfer, ITEMS, work, seen.append, "ecs://b/u"))

    assert len(done) == 28
    assert sorted(relpath for relpath, _ in caught.value.failures) == ["item 7", "item 8"]
    assert {cause for _, cause in caught.value.failures} == {error}
    assert (seen[-1].items_done, seen[-1].items) == (28, 30)


def test_an_error_about_many_items_stays_short(transfer: Transfer) -> None:
    """A message names three, and how many more there are; all of them are at hand."""

    def work(item: Item) -> None:
        raise corrupt(item)

    with pytest.raises(TransferError, match=r"\(and 27 more\)") as caught:
        run(transfer, work)

    assert len(caught.value.failures) == 30
    assert str(caught.value).count("is corrupt") == 3


def test_what_failed_does_not_stay_in_memory(transfer: Transfer) -> None:
    """A traceback holds the variables of its frames, the bytes of the item among them: many would fill the memory."""

    def work(item: Item) -> None:
        try:
            raise OSError("first")
        except OSError:
            raise corrupt(item) from None

    with pytest.raises(TransferError) as caught:
        run(transfer, work)

    causes = [cause for _, cause in caught.value.failures]
    assert not any(cause.__traceback__ or cause.__context__ or cause.__cause__ for cause in causes)


@pytest.mark.parametrize(
    "error",
    [UnavailableError("down"), CredentialsError("wrong"), StoreError("full"), ManifestError("odd"), ValueError("bug")],
    ids=repr,
)
def test_what_concerns_all_items_ends_it_at_once(transfer: Transfer, error: Exception) -> None:
    """No use in trying a million times what cannot work; of a store's error it is told at which item it came."""
    begun: list[int] = []
    ended = threading.Event()

    def work(item: Item) -> None:
        begun.append(item.size)
        if item.size == 30:
            raise error
        assert ended.wait(60)

    with pytest.raises(type(error)) as caught:
        run(transfer, work)
    ended.set()

    assert str(error) in str(caught.value)
    assert ("'item 30' of ecs://b/u" in str(caught.value)) == isinstance(error, StoreError)
    assert len(begun) < 30


def test_a_stop_is_heard_between_items() -> None:
    """From the progress callback, or any other thread."""
    stop = threading.Event()
    done: list[Progress] = []

    def progress(now: Progress) -> None:
        done.append(now)
        stop.set()

    with Transfer(2, stop) as transfer, pytest.raises(StoppedError, match="the same call again"):
        run(transfer, lambda _: time.sleep(0.01), progress)

    assert 1 <= len(done) < 30


def test_progress_is_told_in_the_callers_thread(transfer: Transfer) -> None:
    """A callback need not be thread-safe."""
    threads = set()

    run(transfer, lambda _: None, lambda _: threads.add(threading.get_ident()))

    assert threads == {threading.get_ident()}


def test_what_the_caller_made_active_is_found_in_the_threads(transfer: Transfer) -> None:
    """Settings travel with the context of the caller."""
    one = settings("one")

    with settings_given(one):
        found = run(transfer, lambda _: resolve("one"))

    assert all(result == one for _, result in found)
