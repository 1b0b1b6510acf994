"""Many items at once: bounded threads and memory, stopped within moments, and nothing lost on the way."""

from __future__ import annotations

import collections
import contextvars
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from dtool_ecs_flows import transfer as module
from dtool_ecs_flows.errors import StoppedError
from dtool_ecs_flows.memory import Allocate
from dtool_ecs_flows.transfer import Reader, Transfer, md5_of


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Leaving a transfer ends its threads, whatever happened in it."""
    before = set(threading.enumerate())  # a dataset of an earlier test may still have some
    yield
    left = [each.name for each in set(threading.enumerate()) - before if each.name.startswith("dtool-ecs-")]
    assert not left


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> int:
    """A transfer that may hold 100 bytes, in parts of 10."""
    monkeypatch.setattr(module, "MEMORY", 100)
    monkeypatch.setattr(module, "part_size", lambda _size: 10)
    monkeypatch.setattr(module, "_PART", 10)
    return 100


class Gauge:
    """Counts what happens at once, and the most of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def add(self, amount: int) -> None:
        with self._lock:
            self.now += amount
            self.most = max(self.most, self.now)


class TestEach:
    def test_every_job_comes_back_with_its_own_result_or_error(self) -> None:
        """An error of one job is told with that job, and keeps no other from being done."""

        def work(number: int) -> int:
            if number % 7 == 0:
                raise ValueError(number)
            return number * number

        with Transfer(4) as transfer:
            found = dict(transfer.each(range(200), work))

        assert set(found) == set(range(200))
        for number, result in found.items():
            if number % 7 == 0:
                assert isinstance(result, ValueError)
                assert result.args == (number,)
            else:
                assert result == number * number

    def test_no_jobs_is_no_work(self) -> None:
        """A dataset without items ends at once."""
        with Transfer(4) as transfer:
            assert list(transfer.each([], print)) == []

    def test_as_many_at_once_as_workers_and_no_more(self) -> None:
        """The user's number of requests at once is reached, and never passed."""
        gauge = Gauge()
        meet = threading.Barrier(4, timeout=60)

        def work(_: int) -> None:
            gauge.add(1)
            meet.wait()
            gauge.add(-1)

        with Transfer(4) as transfer:
            errors = [result for _, result in transfer.each(range(16), work) if result is not None]
        assert errors == []
        assert gauge.most == 4

    def test_jobs_are_taken_a_few_ahead_only(self) -> None:
        """A million items need not be in memory: jobs come from an iterable that may have no end."""
        taken = Gauge()

        def jobs() -> Iterator[int]:
            for number in itertools.count():
                taken.add(1)
                yield number

        with Transfer(2) as transfer:
            done = list(itertools.islice(transfer.each(jobs(), lambda number: number), 50))
        assert len(set(done)) == 50
        assert taken.most <= 50 + 2 * 2 + 1

    def test_an_error_of_the_iterable_ends_it(self) -> None:
        """What cannot be listed is not taken for the end of the list."""

        def jobs() -> Iterator[int]:
            yield 1
            raise OSError("the listing broke off")

        with Transfer(2) as transfer, pytest.raises(OSError, match="broke off"):
            list(transfer.each(jobs(), lambda number: number))

    def test_workers_see_the_settings_that_are_active_for_the_caller(self) -> None:
        """Each job runs in a copy of the caller's context, and cannot change it."""
        variable = contextvars.ContextVar[str]("variable")
        variable.set("of the caller")

        def work(_: int) -> str:
            found = variable.get()
            variable.set("of a worker")
            return found

        with Transfer(2) as transfer:
            assert {result for _, result in transfer.each(range(20), work)} == {"of the caller"}
            assert transfer.submit_part(variable.get).result() == "of the caller"
        assert variable.get() == "of the caller"

    def test_stop_ends_it_within_moments(self) -> None:
        """Set from another thread while requests are slow, it ends, though jobs have no end; no further one begins."""
        stop, begun = threading.Event(), Gauge()

        def work(_: int) -> None:
            begun.add(1)
            time.sleep(0.05)

        def stop_soon() -> None:
            time.sleep(0.3)
            stop.set()

        with ThreadPoolExecutor(1) as other, Transfer(2, stop) as transfer:
            other.submit(stop_soon)
            with pytest.raises(StoppedError):
                collections.deque(transfer.each(itertools.count(), work))
        after = begun.now
        time.sleep(0.2)
        assert begun.now == after

    def test_stopped_before_it_began_it_does_nothing(self) -> None:
        """A flow that was cancelled while it was waiting sends no request."""
        stop = threading.Event()
        stop.set()
        with Transfer(2, stop) as transfer, pytest.raises(StoppedError):
            list(transfer.each([1], print))

    def test_an_interrupt_in_a_worker_is_raised_and_not_yielded(self) -> None:
        """What is no Exception ends the operation: Ctrl-C is not the error of an item."""

        def work(_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), Transfer(2) as transfer:
            list(transfer.each([1, 2, 3], work))

    def test_leaving_early_drops_what_was_not_begun(self) -> None:
        """An error of the caller's is not followed by hundreds of requests."""
        begun = Gauge()

        def work(_: int) -> None:
            begun.add(1)
            time.sleep(0.02)

        def fail() -> None:
            with Transfer(2) as transfer:
                for _ in transfer.each(range(1000), work):
                    raise RuntimeError("of the caller")

        with pytest.raises(RuntimeError, match="of the caller"):
            fail()
        assert begun.now <= 6

    def test_leaving_the_transfer_drops_what_was_not_begun(self) -> None:
        """Also where the iteration was neither ended nor closed: its threads do not work for nobody."""
        begun = Gauge()

        def work(_: int) -> None:
            begun.add(1)
            time.sleep(0.02)

        with Transfer(2) as transfer:
            iteration = transfer.each(range(1000), work)
            next(iteration)
        assert begun.now <= 6

    def test_threads_that_ran_out_of_jobs_take_up_those_that_come_later(self) -> None:
        """A listing may be slower than the work on what it lists."""

        def jobs() -> Iterator[int]:
            for number in range(40):
                time.sleep(0.002)
                yield number

        with Transfer(4) as transfer:
            assert dict(transfer.each(jobs(), lambda number: -number)) == {n: -n for n in range(40)}

    def test_work_of_work_does_not_wait_for_itself(self) -> None:
        """Items may have parts in flight on every worker at once: parts have threads of their own."""
        with Transfer(2) as transfer:

            def work(number: int) -> int:
                return sum(transfer.submit_part(partial(int, n)).result() for n in range(number))

            assert dict(transfer.each(range(20), work)) == {n: n * (n - 1) // 2 for n in range(20)}


class TestMemory:
    def test_what_is_held_at_once_stays_below_the_limit(self, memory: int) -> None:
        """Many items of all sizes at once: their bytes in flight never pass the bound, and all get their turn."""
        gauge = Gauge()

        def work(size: int) -> None:
            with transfer.hold(size):
                gauge.add(size)
                time.sleep(0.001)
                gauge.add(-size)

        with Transfer(8) as transfer:
            assert len(list(transfer.each([1, 30, 60, 99, 100, 0] * 10, work))) == 60
        assert 0 < gauge.most <= memory

    def test_one_that_is_larger_than_the_limit_goes_alone(self, memory: int) -> None:
        """It would wait for ever otherwise."""
        gauge = Gauge()

        def work(size: int) -> None:
            with transfer.hold(size):
                gauge.add(1)
                time.sleep(0.001)
                assert size < memory or gauge.now == 1
                gauge.add(-1)

        with Transfer(4) as transfer:
            results = [result for _, result in transfer.each([10, 250] * 10, work)]
        assert results == [None] * 20

    def test_an_error_gives_its_memory_back(self, memory: int) -> None:
        """Items that fail do not make those after them wait for ever."""

        def work(_: int) -> None:
            with transfer.hold(memory):
                raise ValueError

        with Transfer(2) as transfer:
            assert len(list(transfer.each(range(10), work))) == 10


def reader(content: bytes, *, fails_at: int = -1) -> Reader:
    def read(offset: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
        if offset == fails_at:
            raise OSError("cut short")
        data = allocate(length)
        data[:] = content[offset : offset + length]
        return data

    return read


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("ahead", [False, True])
class TestParts:
    @pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 95, 100, 1000])
    def test_parts_come_in_order_and_are_the_whole(self, ahead: bool, size: int) -> None:
        """Read ahead or not, the bytes are those of the item; one that is empty is read as well, it may be missing."""
        content = bytes(number % 251 for number in range(size))
        with Transfer(3) as transfer:
            offsets, data = [], b""
            for offset, part in transfer.parts(reader(content), size, ahead=ahead):
                offsets.append(offset)
                data += part
                transfer.release(part)
        assert data == content
        assert offsets == list(range(0, size, 10)) or (size == 0 and offsets == [0])

    def test_a_part_that_cannot_be_read_is_the_error_of_the_item(self, ahead: bool) -> None:
        """What came before it is delivered; what was read ahead of it is given back, so that others go on."""
        with Transfer(3) as transfer:
            for _ in range(20):  # memory that were lost would make a later one of these wait for ever
                got: list[int] = []

                def run(got: list[int] = got) -> None:
                    for offset, part in transfer.parts(reader(bytes(200), fails_at=30), 200, ahead=ahead):
                        got.append(offset)
                        transfer.release(part)

                with pytest.raises(OSError, match="cut short"):
                    run()
                assert got == [0, 10, 20]

    def test_leaving_early_gives_back_what_was_read_ahead(self, ahead: bool) -> None:
        """A consumer that fails (a disk that is full) holds nobody up."""
        with Transfer(3) as transfer:
            for _ in range(20):
                for _, part in transfer.parts(reader(bytes(200)), 200, ahead=ahead):
                    transfer.release(part)
                    break

    def test_many_items_at_once_share_the_memory(self, ahead: bool) -> None:
        """All workers on items much larger than the memory: the bound holds, and none waits for another for ever."""
        gauge = Gauge()

        def work(number: int) -> str:
            def read(_: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
                gauge.add(length)
                part = allocate(length)
                part[:] = bytes([number]) * length
                return part

            def release(part: memoryview) -> None:
                gauge.add(-len(part))
                transfer.release(part)

            data = b""
            for _, part in transfer.parts(read, 500, ahead=ahead):
                data += part
                transfer.submit_part(partial(release, part))
            return md5_of(data)

        with Transfer(8) as transfer:
            found = dict(transfer.each(range(24), work))
        assert found == {number: md5_of(bytes([number]) * 500) for number in range(24)}
        assert gauge.most <= 100

    def test_two_parts_are_under_way_whatever_their_size(self, ahead: bool) -> None:
        """The parts of a file of a terabyte are nearly the whole memory: two of them still, and never a third."""
        gauge, both = Gauge(), threading.Barrier(2, timeout=60)

        def send(part: memoryview) -> None:
            both.wait()
            gauge.add(-len(part))
            transfer.release(part)

        def read(_: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
            gauge.add(length)
            return allocate(length)

        with Transfer(8) as transfer:
            sent = [
                transfer.submit_part(partial(send, part))
                for _, part in transfer.parts(read, 80 * 6, ahead=ahead, step=80)
            ]
            assert [each.result() for each in sent] == [None] * 6
        assert gauge.most == 160

    def test_a_failing_caller_is_not_held_up_by_slow_parts(self, ahead: bool) -> None:
        """Leaving a transfer while parts are read by a worker: it ends when those under way have ended."""

        def slow(_offset: int, length: int, allocate: Allocate = bytearray) -> bytearray | memoryview:
            time.sleep(0.05)
            return allocate(length)

        def work(number: int) -> None:
            for _, part in transfer.parts(slow, 100_000 if number else 0, ahead=ahead):  # minutes
                transfer.release(part)

        began = time.monotonic()
        with Transfer(2) as transfer:
            next(transfer.each(itertools.count(), work))  # and no more: the iteration is left here
        assert time.monotonic() - began < 60

    def test_a_stop_is_heard_between_parts(self, ahead: bool) -> None:
        """One large item does not have to be finished first."""
        stop = threading.Event()
        with Transfer(2, stop) as transfer:
            parts = transfer.parts(reader(bytes(1000)), 1000, ahead=ahead)
            _, part = next(parts)
            transfer.release(part)
            stop.set()
            with pytest.raises(StoppedError):
                next(parts)


def test_md5_takes_any_buffer() -> None:
    """Bytes, a bytearray and a view of either are one content."""
    content: list[Any] = [b"abc", bytearray(b"abc"), memoryview(b"xabc")[1:]]
    assert {md5_of(each) for each in content} == {"900150983cd24fb0d6963f7d28e17f72"}
