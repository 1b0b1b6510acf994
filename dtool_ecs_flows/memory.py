"""Memory for the content of items: how much may be in flight, and buffers for parts that are used again."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable

__all__ = ["Allocate", "Buffers", "Memory"]

Allocate = Callable[[int], "bytearray | memoryview"]
"""Returns a buffer of so many bytes."""


class Memory:
    """Bytes that may be in flight. A request for more than there is in all is met alone.

    Args:
        limit: how many.
        check: called from time to time by whoever waits; what it raises ends the waiting, with nothing taken.
    """

    def __init__(self, limit: int, check: Callable[[], None]) -> None:
        self._limit = limit
        self._check = check
        self._used = 0
        self._changed = threading.Condition()

    def take(self, size: int, *, block: bool = True, at_least: int = 0) -> bool:
        """Take some bytes; return whether it worked, after waiting for them with `block`.

        `at_least` says how much the limit is for one request, where that is more.
        """
        limit = max(self._limit, at_least)
        with self._changed:
            while self._used and self._used + size > limit:
                if not block:
                    return False
                self._changed.wait(timeout=0.2)  # nobody who asks for a stop knows of this condition
                self._check()
            self._used += size
            return True

    def left(self) -> int:
        """Return how many bytes nobody has taken."""
        with self._changed:
            return max(0, self._limit - self._used)

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class Buffers:
    """Buffers of one usual length are used again; of any other length they are made, and go back to the system.

    They are of `mmap`, not of `malloc`: glibc keeps what was given back for the thread that had asked for it, some
    32 MiB each, and with many threads that is several times of what is in flight.

    Args:
        usual: bytes of the usual length.
    """

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def take(self, length: int) -> memoryview:
        """Return a buffer of this length, in bytes. What is in it is not defined."""
        if not length:
            return memoryview(bytearray())
        with self._lock:
            if length == self._usual and self._free:
                return memoryview(self._free.pop())
            del self._free[: -(-length // self._usual)]  # those in use and those that are free are never more together
        # Private: a forked child that writes into it must not change what its parent sends.
        return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def keep(self, size: int) -> None:
        """Of the free buffers, keep no more than so many bytes, but for a part of one: others want their memory."""
        with self._lock:
            del self._free[-(-size // self._usual) :]

    def give(self, data: object) -> None:
        """Take a buffer back, if it is one: whoever gives it reads and writes it no more."""
        if isinstance(data, memoryview) and isinstance(data.obj, mmap.mmap) and len(data.obj) == self._usual:
            with self._lock:
                self._free.append(data.obj)
