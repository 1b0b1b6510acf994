"""What one bucket is asked at once and per second: within what its settings allow, and less while the store is busy.

Held around every single request, in both lanes, so what is above may use as many threads as it likes. Waiting here
ends where the caller is asked to stop (`failures.heed`). No library fits: of those for Python, pyrate-limiter keeps an
entry for each byte, throttled-py refuses what is larger than its bucket, limits does not wait.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store.failures import check_stop, says_busy

logger = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two changes of the number of requests at once, after a store was busy."""

BURST = 0.1
"""Seconds whose share may go at once after a pause: sleeping is not exact to the millisecond."""

_LISTEN = 0.5  # seconds after which one who waits looks whether to stop


class Pace:
    """So much per second, together for all threads; one waits at a time, the others behind it.

    Each pays after it went: what is larger than a second's share passes whole, and the next waits the longer. In any
    `t` seconds not more goes than `per_second * (t + BURST)` and one more.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._turn = threading.Lock()
        self._next = 0.0  # when the next may go

    def wait(self, amount: float) -> None:
        """Return when this amount may go."""
        while not self._turn.acquire(timeout=_LISTEN):
            check_stop()
        try:
            while (left := self._next - time.monotonic()) > 0:
                check_stop()
                time.sleep(min(left, _LISTEN))
            self._next = max(self._next, time.monotonic() - BURST) + amount / self._per_second
        finally:
            self._turn.release()


class Limits:
    """The limits of one bucket, shared by all threads that use it.

    Where the store says that it is busy, half as many requests at once are made as before; where it does not any
    more, a little more each second. Both happen once per `PERIOD` at most, and only a request that was made after the
    last change brings the next.
    """

    def __init__(self, bucket: str, concurrency: int, requests_per_second: float, bytes_per_second: float) -> None:
        self._bucket = bucket
        self._most = concurrency
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._active = 0
        self._waiting = 0
        self._allowed = concurrency
        self._since = -math.inf  # when `_allowed` was changed; a clock may begin with the machine, at 0
        self._requests = Pace(requests_per_second) if requests_per_second else None
        self._bytes = Pace(bytes_per_second) if bytes_per_second else None

    @contextmanager
    def request(self, size: int = 0) -> Iterator[float]:
        """Hold one of the requests at once, while one that moves `size` bytes is made; yield the seconds of waiting.

        What it raises is looked at: an answer that says "slow down" counts.
        """
        asked = time.monotonic()
        # Before a place is taken: what carries no bytes does not wait behind what does.
        if self._bytes is not None and size:
            self._bytes.wait(size)
        self._take()
        try:
            if self._requests is not None:
                self._requests.wait(1)
            begun = time.monotonic()
            try:
                yield begun - asked
            except Exception as error:
                if says_busy(error):
                    self._slow_down(begun)
                raise
            if self._allowed < self._most:
                self._speed_up(begun)
        finally:
            with self._lock:
                self._active -= 1
                if self._waiting:
                    self._freed.notify()

    def received(self, size: int) -> None:
        """Count bytes whose number was not known when they were asked for; waits as if they were still to come."""
        if self._bytes is not None and size:
            self._bytes.wait(size)

    def _take(self) -> None:
        with self._lock:
            if self._active >= self._allowed:
                self._waiting += 1
                try:
                    while self._active >= self._allowed:
                        check_stop()
                        self._freed.wait(_LISTEN)
                finally:
                    self._waiting -= 1
            self._active += 1

    def _slow_down(self, begun: float) -> None:
        with self._lock:
            now = time.monotonic()
            if begun <= self._since or now - self._since < PERIOD:
                return
            first, self._allowed = self._allowed == self._most, max(1, self._allowed // 2)
            self._since = now
            allowed = self._allowed
        log = logger.info if first else logger.debug
        log("bucket %s is busy: %d requests at once for now", self._bucket, allowed)

    def _speed_up(self, begun: float) -> None:
        most = self._most
        with self._lock:
            now = time.monotonic()
            if begun <= self._since or now - self._since < PERIOD or self._allowed >= most:
                return
            step = max(1, most // 16)
            self._allowed = min(most, self._allowed + step)
            self._since = now
            self._freed.notify(step)


def limits_of(settings: BucketSettings) -> Limits:
    """Return the limits of a bucket in this process: one for all settings that name it, and the same limits."""
    return _shared(
        settings.endpoint,
        settings.bucket,
        settings.concurrency,
        settings.max_requests_per_second,
        settings.max_bytes_per_second,
        os.getpid(),
    )


@functools.lru_cache(maxsize=1024)
def _shared(_endpoint: str, bucket: str, concurrency: int, requests: float, size: float, _pid: int) -> Limits:
    return Limits(bucket, concurrency, requests, size)
