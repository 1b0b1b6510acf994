"""Ending early while nothing works: a store that does not answer, threads of the caller's own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dtool_ecs_flows import copy_dataset, create_dataset, delete_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import StoppedError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, failures, open_store
from dtool_ecs_flows.transfer import MEMORY, Transfer


@pytest.fixture
def gone() -> Iterator[Store]:
    """A bucket whose server has answered before, and is down now; nobody else gets its port meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        store = Store(BucketSettings(bucket="b", endpoint=endpoint, access_key_id="a", secret_access_key="s"))
        store._succeeded = True
        yield store


def test_a_stop_is_heard_while_a_store_is_down(gone: Store) -> None:
    """The minutes for which a request is tried again are not waited for when somebody wants the operation to stop."""
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(StoppedError), Transfer(4, stop) as transfer:
        for _ in transfer.each(range(8), lambda _: gone.get("k")):
            pass
    assert time.monotonic() - begun < 60 < failures.BUDGET


@pytest.mark.parametrize("name", ["copy in", "copy out", "create", "derive", "verify", "list", "delete"])
def test_an_operation_hears_a_stop_from_its_first_request_on(gone: Store, tmp_path: Path, name: str) -> None:
    """Where the store is down already when it begins, too: not after the minutes for which a request is tried again."""
    here, there = str(tmp_path), gone.settings.base_uri
    source, uri = create_dataset("penguins", here, readme="---\n").uri, f"{there}/{uuid4()}"
    open_store(gone.settings)._succeeded = True
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    options: dict[str, Any] = {"settings": gone.settings, "stop": stop}
    operations: dict[str, Callable[[], object]] = {
        "copy in": lambda: copy_dataset(source, there, **options),
        "copy out": lambda: copy_dataset(uri, here, **options),
        "create": lambda: create_dataset("n", there, **options),
        "derive": lambda: create_dataset("n", here, derived_from=[uri], **options),
        "verify": lambda: verify_dataset(uri, **options),
        "list": lambda: list_datasets(there, **options),
        "delete": lambda: delete_dataset(uri, "n", **options),
    }

    with pytest.raises(StoppedError):
        operations[name]()


def test_an_interrupt_is_not_held_up_by_a_store_that_is_down(gone: Store) -> None:
    """Whatever is raised in the main thread ends the requests of the others too, those of parts included."""

    def interrupted() -> None:
        with Transfer(4) as transfer:
            transfer.submit_part(lambda: gone.get("k"))
            next(transfer.each(range(5), lambda number: gone.get("k") if number else None))
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 60 < failures.BUDGET


def test_a_thread_of_the_callers_own_is_not_left_waiting_for_its_parts() -> None:
    """Parts that had not begun when the transfer was left end too, so that whoever waits for them goes on."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(60)

    def fail(transfer: Transfer, caller: ThreadPoolExecutor) -> None:
        with transfer:
            parts = [transfer.submit_part(slow), transfer.submit_part(lambda: None)]
            waiting.append(caller.submit(wait, parts))
            begun.wait(60)
            threading.Timer(0.2, go_on.set).start()
            raise ZeroDivisionError

    waiting: list[Future[object]] = []
    with ThreadPoolExecutor(1) as caller:
        with pytest.raises(ZeroDivisionError):
            fail(Transfer(1), caller)
        waiting[0].result(timeout=60)


WAITS: dict[str, Callable[[Transfer], object]] = {
    "a small item": lambda transfer: transfer.hold(1).__enter__(),
    "a large item": lambda transfer: next(transfer.parts(lambda *_: b"", 1, ahead=True)),
}


class JustAfterwards(threading.Event):
    """A stop that comes just after one thread has looked for it."""

    thread = 0

    def is_set(self) -> bool:
        was = super().is_set()
        if threading.get_ident() == self.thread:
            self.set()
        return was


@pytest.mark.parametrize("item", WAITS)
def test_a_stop_is_heard_by_an_item_that_waits_for_the_memory_of_another(item: str) -> None:
    """It ends before the other one, however long that takes; all memory is free afterwards."""
    stop, held, ended = JustAfterwards(), threading.Event(), threading.Event()
    results: dict[str, object] = {}

    def hold_all(transfer: Transfer) -> None:
        with transfer.hold(MEMORY):
            held.set()
            results["it ended first"] = ended.wait(60)

    def wait_for_it(transfer: Transfer) -> None:
        held.wait(60)
        stop.thread = threading.get_ident()
        try:
            WAITS[item](transfer)
        except StoppedError:
            results["it heard the stop"] = True
        finally:
            ended.set()

    with Transfer(2, stop) as transfer:
        for work in (hold_all, wait_for_it):
            transfer.submit_part(lambda work=work: work(transfer))  # type: ignore[misc]  # of this turn, not the last
    assert results == {"it ended first": True, "it heard the stop": True}
    assert transfer._memory.left() == MEMORY
