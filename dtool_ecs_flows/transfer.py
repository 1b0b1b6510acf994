"""Many items at once, within bounds: threads, memory, and how to stop.

Memory: of content, never more is in flight than `max(MEMORY, 2 * part_size(largest item))` bytes, whatever the number
and the sizes of the items. Parts are 16 MiB up to 168 GB, and a 10,000th of the item above: so this is 134 MB up to
671 GB, 202 MB at 1 TB, and 1.1 GB at 5 TiB, the most that S3 holds. Where all items go in one request and are as large
as that allows (8 MiB), 150 MB were seen; of a user of a namespace they are in memory twice while they are sent. A copy
of a dataset takes 40 MB more, and 900 bytes per item (with relpaths of 40 letters): for the items, and for the manifest
while it is read or written.
"""

from __future__ import annotations

import collections
import contextvars
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from dtool_ecs_flows.errors import StoppedError
from dtool_ecs_flows.memory import Allocate, Buffers, Memory
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.progress import Meter
from dtool_ecs_flows.store import heed

SINGLE_PUT = 8 * 1024**2
"""Bytes; an item up to this size is one request, a larger one is moved in parts."""

MEMORY = 128 * 1024**2
"""Bytes of content in flight in one transfer, all threads together."""

MAX_PARTS = 10_000
"""S3's limit for a multipart upload."""

_PART = 16 * 1024**2
_FROM_SYSTEM = 1024**2  # bytes; malloc is faster for less, and keeps what was given back
_AHEAD = 6  # parts of one item that are read before their turn

J = TypeVar("J")
R = TypeVar("R")


class Reader(Protocol):
    """Reads a range of one item, exactly; many threads may call it."""

    def __call__(self, offset: int, length: int, allocate: Allocate = bytearray, /) -> Any:
        """Return `length` bytes from `offset` on; more than a small item's are read into a buffer of `allocate`."""


def part_size(size: int) -> int:
    """Return the size of a part, in bytes: 16 MiB, or more where 10,000 parts would not hold the item."""
    needed = -(-size // MAX_PARTS)
    mib = 1024**2
    return max(_PART, -(-needed // mib) * mib)


def md5_of(data: Any) -> str:
    """Return the MD5 of some bytes, in hex."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class _Shared(Generic[J, R]):
    """The jobs and results of one `each`, between its caller and the threads that work.

    A thread takes one job after the other: a `Future` for each would cost more than a small request does. The caller
    is woken for a handful of results, not for each.
    """

    def __init__(self, work: Callable[[J], R], check: Callable[[], None], workers: int) -> None:
        self._work = work
        self._check = check
        self._workers = workers
        self._context = contextvars.copy_context()
        self._jobs: collections.deque[J] = collections.deque()
        self._done: collections.deque[tuple[J, R | BaseException]] = collections.deque()
        self._lock = threading.Lock()
        self._working = 0
        self._told = threading.Event()

    def add(self, job: J) -> bool:
        """Add a job; return whether one more thread should call `work_off`."""
        with self._lock:
            self._jobs.append(job)
            if self._working == self._workers:
                return False
            self._working += 1
            return True

    def work_off(self) -> None:
        """Do jobs until there are none."""
        while True:
            with self._lock:
                if not self._jobs:
                    self._working -= 1
                    return
                job = self._jobs.popleft()
            try:
                self._check()
                result: R | BaseException = self._context.copy().run(self._work, job)
            except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
                result = error
            self._done.append((job, result))
            # Before the threads run out of jobs, or when something has failed.
            if 2 * len(self._done) >= self._workers or not self._jobs or isinstance(result, BaseException):
                self._told.set()
            del job, result  # what they hold must not wait for the next job

    def done(self) -> Iterator[tuple[J, R | BaseException]]:
        """Yield what is done, after waiting a little for it; it may be nothing."""
        # The time-out lets a signal handler and `stop` be heard, and parts be told of, while requests are slow.
        self._told.wait(timeout=0.2)
        self._told.clear()
        while self._done:
            yield self._done.popleft()

    def drop(self) -> None:
        """Forget the jobs that were not begun."""
        with self._lock:
            self._jobs.clear()


class Transfer:
    """The threads and the memory of one operation. A context manager: on leaving, no thread of it runs any more.

    Args:
        workers: how many requests at once.
        stop: set it from any thread, and the operation ends with `StoppedError` after the requests under way.
    """

    def __init__(self, workers: int, stop: threading.Event | None = None) -> None:
        self._workers = workers
        self._asked = stop or threading.Event()
        self._failed = threading.Event()
        self.meter: Meter | None = None
        self._memory = Memory(MEMORY, self.check)
        self._buffers = Buffers(_PART)
        self._shared: list[_Shared[Any, Any]] = []
        self._items = ThreadPoolExecutor(workers, "dtool-ecs-item")
        # Parts run in threads of their own: an item waits for its parts, and must not take the place they need.
        self._parts = ThreadPoolExecutor(workers, "dtool-ecs-part")

    def __enter__(self) -> Transfer:  # noqa: PYI034  # typing.Self came with 3.11
        """Return the transfer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all threads; what was not begun is dropped."""
        if error is not None:
            self._failed.set()
        for shared in self._shared:
            shared.drop()
        self._items.shutdown(cancel_futures=True)
        # Not cancelled: a thread of the caller's own may wait for its parts, and would wait for ever. They end at once.
        self._parts.shutdown()

    def check(self) -> None:
        """Raise `StoppedError` where the operation was asked to stop, or has failed elsewhere."""
        if self._asked.is_set() or self._failed.is_set():
            raise StoppedError("stopped; the same call again does the rest")

    def moved(self, item: Item, length: int, *, kept: bool = False) -> None:
        """Tell that bytes of an item that goes in parts have moved, or were `kept` from an earlier attempt."""
        if self.meter is not None:
            self.meter.moved(item, length, kept=kept)

    def each(self, jobs: Iterable[J], work: Callable[[J], R]) -> Iterator[tuple[J, R | Exception]]:
        """Do `work` on every job, many at once; yield each job with its result or its error, as they are done.

        Jobs are taken from the iterable a few ahead, so it may be endless. Each runs in a copy of the caller's
        context. Leaving the iteration early stops the rest.
        """
        with heed(self.check):
            shared = _Shared(work, self.check, self._workers)
        self._shared.append(shared)
        queue = iter(jobs)
        more, under_way = True, 0
        try:
            while more or under_way:
                self.check()
                while more and under_way < 2 * self._workers:
                    try:
                        job = next(queue)
                    except StopIteration:
                        more = False
                    else:
                        under_way += 1
                        if shared.add(job):
                            self._items.submit(shared.work_off)
                for job, result in shared.done() if under_way else ():
                    under_way -= 1
                    if isinstance(result, BaseException) and not isinstance(result, Exception):
                        raise result
                    yield job, result
                if self.meter is not None:
                    self.meter.tick()
        except BaseException:
            self._failed.set()
            raise
        finally:
            shared.drop()
            self._shared.remove(shared)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold memory for some bytes; waits until there is enough, or the operation is to stop."""
        self._memory.take(size)
        self._buffers.keep(self._memory.left())
        try:
            yield
        finally:
            self._memory.give(size)

    def whole(self, length: int) -> bytearray | memoryview:
        """Return a buffer for an item that goes in one request; a larger one goes back to the system afterwards."""
        return bytearray(length) if length < _FROM_SYSTEM else self._buffers.take(length)

    def parts(self, read: Reader, size: int, *, ahead: bool, step: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield `(offset, bytes)` of an item in order, in parts of `step` bytes, by default of `part_size`.

        With `ahead`, the next parts are read by other threads meanwhile. A part's memory is held until `release` is
        called with it, by whoever is last to use it: then the next part is read into it.
        """
        step = step or part_size(size)
        offsets = collections.deque(range(0, size, step) or [0])  # an empty item is read too: it may be missing
        ahead = ahead and len(offsets) > 1
        window: collections.deque[tuple[int, int, Future[Any]]] = collections.deque()
        depth = _AHEAD if ahead else 1
        try:
            while offsets or window:
                self.check()
                while offsets and len(window) < depth:
                    length = min(step, size - offsets[0])
                    # Two parts at least: a file of a terabyte shall not go one part after the other.
                    if not self._memory.take(length, block=not window, at_least=2 * step):
                        break
                    offset = offsets.popleft()
                    arguments = (offset, length, self._buffers.take)
                    future = self._submit(read, *arguments) if ahead else _done(read, *arguments)
                    window.append((offset, length, future))
                offset, length, future = window[0]
                data = future.result()
                window.popleft()
                yield offset, data
                del data, future  # whoever waits for memory here holds none of it
        finally:
            for _, length, future in window:
                future.cancel()
                wait([future])
                self._memory.give(length)

    def release(self, data: Any) -> None:
        """Give the memory of a part back; nobody may look at it any more."""
        self._buffers.give(data)
        self._memory.give(len(data))

    def submit_part(self, work: Callable[[], R]) -> Future[R]:
        """Run something that belongs to a part in a thread of its own."""
        return self._submit(work)

    def _submit(self, work: Callable[..., R], *arguments: Any) -> Future[R]:
        return self._parts.submit(contextvars.copy_context().run, self._heeding, work, *arguments)

    def _heeding(self, work: Callable[..., R], *arguments: Any) -> R:
        with heed(self.check):
            return work(*arguments)


def _done(read: Reader, *arguments: Any) -> Future[Any]:
    """Read at once, and return the outcome in the form of one that was read ahead."""
    future: Future[Any] = Future()
    try:
        future.set_result(read(*arguments))
    except Exception as error:  # noqa: BLE001  # handed on, whatever it is
        future.set_exception(error)
    return future
