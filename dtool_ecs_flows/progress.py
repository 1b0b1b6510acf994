"""How far an operation has come: counted while it runs, and shown at a terminal.

`Meter` counts inside of an operation and calls the callback; `progress_bar` and `dtool_progressbar` make callbacks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from dtool_ecs_flows.models import Item, Progress, ProgressCallback, work_of
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line, plural

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DtoolProgressBar", "Meter", "dtool_progressbar", "progress_bar", "summary"]

PAUSE = 0.1
"""Seconds at least between a call of a callback and one that tells of parts only, and between two drawings."""

PACE = 30.0
"""Seconds that the pace is measured over; half of the time since the start where that is longer."""


class Meter:
    """Counts what is done of some items, and tells a callback. All but `moved` is for one thread.

    Args:
        items: all that there are.
        callback: told of each item.
        clock: seconds that never go back.
    """

    def __init__(
        self, items: Collection[Item], callback: ProgressCallback, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._callback = callback
        self._clock = clock
        self._items, self._bytes = len(items), sum(item.size for item in items)
        self._items_done = self._bytes_done = 0
        self._items_moved = self._bytes_moved = 0
        self._relpath = ""
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[int, int]] = {}  # of each large item under way: bytes moved, and kept
        self._begun = self._told_at = clock()
        self._samples = deque([(self._begun, 0, 0)])  # time, bytes moved, work done by then
        self._told: Progress | None = None

    def moved(self, item: Item, length: int, *, kept: bool = False) -> None:
        """Count bytes of an item that goes in parts, from any thread; `kept` are those of an earlier attempt."""
        with self._lock:
            moved, before = self._parts.get(item.identifier, (0, 0))
            self._parts[item.identifier] = (moved, before + length) if kept else (moved + length, before)

    def done(self, item: Item, *, skipped: bool = False) -> None:
        """Count an item that is done; `skipped` ones did not move now."""
        with self._lock:
            _, kept = self._parts.pop(item.identifier, (0, 0))
        self._items_done += 1
        self._bytes_done += item.size
        if not skipped:
            self._items_moved += 1
            self._bytes_moved += item.size - min(kept, item.size)
        self._relpath = item.relpath
        self._tell()

    def failed(self, item: Item) -> None:
        """Take back what was counted of an item that is not done."""
        with self._lock:
            self._parts.pop(item.identifier, None)

    def tick(self) -> None:
        """Tell the callback of the parts that are done, unless it was told just now."""
        if self._clock() - self._told_at >= PAUSE:
            self._tell()

    def finish(self) -> None:
        """Tell the callback the end, unless it knows."""
        told = self._told
        if told is None or (told.items_done, told.bytes_done) != (self._items_done, self._bytes_done):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            parts = list(self._parts.values())
        # An item that is begun anew moves more than it has.
        bytes_done = min(self._bytes, self._bytes_done + sum(moved + kept for moved, kept in parts))
        bytes_moved = self._bytes_moved + sum(moved for moved, _ in parts)
        self._told_at = now = self._clock()
        per_second, work_per_second = self._pace(now, bytes_moved)
        left = work_of(self._items - self._items_done, self._bytes - bytes_done)
        seconds_left = left / work_per_second if work_per_second else None if left else 0.0
        self._told = Progress(
            self._items_done,
            self._items,
            bytes_done,
            self._bytes,
            self._relpath,
            now - self._begun,
            per_second,
            seconds_left,
        )
        self._callback(self._told)

    def _pace(self, now: float, bytes_moved: int) -> tuple[float, float]:
        """Return bytes and work per second of late."""
        samples = self._samples
        span = max(PACE, (now - self._begun) / 2)
        work = work_of(self._items_moved, bytes_moved)
        while len(samples) > 1 and samples[1][0] <= now - span:
            samples.popleft()
        since, bytes_before, work_before = samples[0]
        if now - samples[-1][0] >= span / 50:
            samples.append((now, bytes_moved, work))
        if now <= since:
            return 0.0, 0.0
        return max(0.0, (bytes_moved - bytes_before) / (now - since)), max(0.0, (work - work_before) / (now - since))


def tell_all_there(items: Collection[Item], callback: ProgressCallback | None) -> None:
    """Tell a callback that all is done, because all was there."""
    if callback is not None:
        size = sum(item.size for item in items)
        callback(Progress(len(items), len(items), size, size, seconds_left=0.0))


def summary(progress: Progress) -> str:
    """Say in words how far it has come: items, bytes, and where they are known rate and time left."""
    return ", ".join(_told(progress, " of "))


def _told(progress: Progress, of: str) -> list[str]:
    """Return what a summary says, the most important last."""
    if progress.items_done == progress.items:
        told = [plural(progress.items, "item"), human_bytes(progress.bytes)]
        if progress.seconds:  # else it was there
            told.append(f"in {human_seconds(progress.seconds)}")
    else:
        told = [
            f"{progress.items_done:,}{of}{progress.items:,} items",
            f"{human_bytes(progress.bytes_done)}{of}{human_bytes(progress.bytes)}",
        ]
    if progress.bytes_per_second:
        told.append(f"{human_bytes(progress.bytes_per_second)}/s")
    if progress.seconds_left:
        told.append(f"{_rounded(progress.seconds_left)} left")
    return told


def _rounded(seconds: float) -> str:
    """Return a duration that is an estimate."""
    return f"{max(1, round(seconds))} s" if seconds < 59.5 else human_seconds(seconds)


# --- at a terminal ---


@contextmanager
def progress_bar(label: str, console: Console | None = None) -> Iterator[ProgressCallback]:
    """Show a bar at the terminal while a `with` block runs, which gets the callback to hand to an operation.

    The bar tells items, bytes, rate and time left. Where the output is no terminal, one line is printed at the end,
    when all is done.

    Args:
        label: what is going on.
        console: a console of rich to draw on; by default standard error.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    console = console or Console(stderr=True)
    label = one_line(label)
    last: Progress | None = None
    if not console.is_terminal or console.is_dumb_terminal:

        def note(progress: Progress) -> None:
            nonlocal last
            last = progress

        yield note
        if last is not None and last.items_done == last.items:
            console.print(f"{label}: {summary(last)}", markup=False, highlight=False, soft_wrap=True)
        return

    labels = max(8, console.width // 3)
    width = 20 if console.width >= 100 else 10
    bar = Bar(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=labels)),
        BarColumn(width),
        TextColumn("{task.fields[percent]:3d} %", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[told]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
    )
    with bar:
        task = bar.add_task(label, total=1.0, percent=0, told="")
        next_time = 0.0

        def draw(progress: Progress) -> None:
            nonlocal next_time
            if progress.items_done < progress.items and time.monotonic() < next_time:
                return
            next_time = time.monotonic() + PAUSE
            told = _told(progress, "/")
            room = console.width - min(labels, cell_len(label)) - width - len("  100 %  ")
            while told and len(", ".join(told)) > room:
                del told[0]
            # Not rounded up: 100 % means all.
            bar.update(task, completed=progress.fraction, percent=int(100 * progress.fraction), told=", ".join(told))

        yield draw


# --- dtool's own ---


class DtoolProgressBar(Protocol):
    """A progress bar as `dtoolcore.copy` takes it; that of click is one."""

    length: int | None
    item_show_func: Callable[[Any], str | None] | None

    def update(self, n_steps: int, /) -> None:
        """Go some steps on, of `length` in all."""


def dtool_progressbar(bar: DtoolProgressBar) -> ProgressCallback:
    """Return a callback that moves a progress bar of click, or another that `dtoolcore.copy` would take.

    Args:
        bar: its length may be any; it is all done when the operation is.
    """
    steps = 0

    def move(progress: Progress) -> None:
        nonlocal steps
        if progress.relpath:
            bar.item_show_func = lambda _: one_line(progress.relpath, 60)
        ahead = int(progress.fraction * (bar.length or 0)) - steps
        if ahead > 0:
            steps += ahead
            bar.update(ahead)

    return move
