"""How far an operation has come: what is counted, how fast it is, and what a terminal shows."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import click
import pytest
from rich.console import Console

from dtool_ecs_flows.models import Item, Progress
from dtool_ecs_flows.progress import Meter, dtool_progressbar, progress_bar, summary, tell_all_there

MB = 10**6


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def items(*sizes: int) -> list[Item]:
    return [Item(f"id{number}", f"item {number}", size, "hash", 0.0) for number, size in enumerate(sizes)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> list[Progress]:
    return []


# --- counting ---


def test_the_callback_is_told_of_each_item(clock: Clock, seen: list[Progress]) -> None:
    """Once each, in order; the last call says that all is done."""
    all_items = items(*[10] * 1000)
    meter = Meter(all_items, seen.append, clock)
    for item in all_items:
        meter.done(item)
    meter.finish()
    assert [each.relpath for each in seen] == [item.relpath for item in all_items]
    assert (seen[-1].items_done, seen[-1].bytes_done, seen[-1].fraction, seen[-1].seconds_left) == (1000, 10_000, 1, 0)


def test_the_callback_is_not_called_for_each_part(clock: Clock, seen: list[Progress]) -> None:
    """A thousand parts in a second are ten calls."""
    (item,) = items(10_000)
    meter = Meter([item], seen.append, clock)
    for _ in range(1000):
        clock.forward(0.001)
        meter.moved(item, 10)
        meter.tick()
    assert 9 <= len(seen) <= 10
    assert [each.items_done for each in seen] == [0] * len(seen)


def test_a_large_item_shows_how_it_moves(clock: Clock, seen: list[Progress]) -> None:
    """Each part counts at once, with its rate; what is left has an end."""
    (item,) = items(100 * MB)
    meter = Meter([item], seen.append, clock)
    for _ in range(4):
        clock.forward(1)
        meter.moved(item, 20 * MB)
        meter.tick()
    assert [each.bytes_done for each in seen] == [20 * MB, 40 * MB, 60 * MB, 80 * MB]
    assert seen[-1].bytes_per_second == 20 * MB
    assert seen[-1].seconds_left == pytest.approx(1, rel=0.02)
    meter.done(item)
    meter.finish()
    assert (seen[-1].bytes_done, seen[-1].items_done) == (100 * MB, 1)


def test_what_was_there_does_not_make_it_faster(clock: Clock, seen: list[Progress]) -> None:
    """Skipped items and parts that are kept count as done, and not into the rate."""
    first, second, third = items(10**12, 10**12, 50 * MB)
    meter = Meter([first, second, third], seen.append, clock)
    clock.forward(1)
    meter.done(first, skipped=True)
    assert (seen[-1].bytes_done, seen[-1].bytes_per_second, seen[-1].seconds_left) == (10**12, 0, None)
    clock.forward(1)
    meter.moved(second, 10**12 - 10 * MB, kept=True)
    meter.moved(second, 10 * MB)
    meter.done(second)
    assert seen[-1].bytes_per_second == 5 * MB
    assert seen[-1].seconds_left == pytest.approx(10, rel=0.2)


def test_an_item_that_is_tried_again_is_not_counted_twice(clock: Clock, seen: list[Progress]) -> None:
    """Neither while it runs, nor when it is done or has failed."""
    first, second = items(30 * MB, 30 * MB)
    meter = Meter([first, second], seen.append, clock)
    for _ in range(8):
        meter.moved(first, 10 * MB)
    clock.forward(1)
    meter.tick()
    assert seen[-1].bytes_done == 60 * MB
    meter.done(first)
    meter.moved(second, 20 * MB)
    meter.failed(second)
    meter.finish()
    assert (seen[-1].items_done, seen[-1].bytes_done) == (1, 30 * MB)


def test_the_rate_is_that_of_late(clock: Clock, seen: list[Progress]) -> None:
    """When a line gets slower, the time left follows."""
    (item,) = items(10**12)
    meter = Meter([item], seen.append, clock)
    for speed, seconds in ((100 * MB, 100), (1 * MB, 200)):
        for _ in range(seconds):
            clock.forward(1)
            meter.moved(item, speed)
            meter.tick()
    assert seen[99].bytes_per_second == pytest.approx(100 * MB)
    assert seen[-1].bytes_per_second == pytest.approx(1 * MB, rel=0.1)


def test_small_items_count_though_they_have_few_bytes(clock: Clock, seen: list[Progress]) -> None:
    """Two thousand small items after a large one are not the last percent, and not the last second."""
    large, *small = items(1000 * MB, *[4096] * 4000)
    meter = Meter([large, *small], seen.append, clock)
    clock.forward(10)
    meter.done(large)
    assert 0.4 < seen[-1].fraction < 0.6
    assert seen[-1].seconds_left == pytest.approx(10, rel=0.1)


def test_parts_may_be_told_from_many_threads(clock: Clock, seen: list[Progress]) -> None:
    """None is lost."""
    (item,) = items(80_000)
    meter = Meter([item], seen.append, clock)

    def tell() -> None:
        for _ in range(10_000):
            meter.moved(item, 1)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.forward(1)
    meter.tick()
    assert seen[-1].bytes_done == 80_000


def test_an_empty_dataset_is_done(clock: Clock, seen: list[Progress]) -> None:
    """One call, which says so."""
    Meter([], seen.append, clock).finish()
    assert [(each.items_done, each.fraction, each.seconds_left) for each in seen] == [(0, 1, 0)]


def test_a_dataset_that_was_there_is_done(seen: list[Progress]) -> None:
    """One call, which says so; nobody is called where nobody wants it."""
    tell_all_there(items(1, 2), seen.append)
    tell_all_there(items(1, 2), None)
    assert [(each.items_done, each.bytes_done, each.fraction) for each in seen] == [(2, 3, 1)]


# --- in words, and drawn ---

HALF = Progress(1200, 2000, 5_100_000, 8_200_000, "a", 1.2, 4_200_000.0, 12.3)
DONE = Progress(2000, 2000, 8_200_000, 8_200_000, "b", 12.3, 4_200_000.0, 0.0)


def test_it_is_said_in_words() -> None:
    """Items, bytes, rate and time left, as far as they are known."""
    assert summary(HALF) == "1,200 of 2,000 items, 5.1 MB of 8.2 MB, 4.2 MB/s, 12 s left"
    assert summary(DONE) == "2,000 items, 8.2 MB, in 12.3 s, 4.2 MB/s"
    assert summary(Progress(1, 1, 1500, 1500)) == "1 item, 1.5 kB"
    assert summary(Progress(0, 3, 0, 1500)) == "0 of 3 items, 0 B of 1.5 kB"


def terminal(columns: int) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=columns, legacy_windows=False, _environ={}), file


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (40, ""),
        (80, "5.1 MB/8.2 MB, 4.2 MB/s, 12 s left"),
        (120, "1,200/2,000 items, 5.1 MB/8.2 MB, 4.2 MB/s, 12 s left"),
    ],
)
def test_a_terminal_shows_a_bar(columns: int, shown: str) -> None:
    """Label, bar and percents in one line of any terminal; the rest as far as there is room."""
    console, file = terminal(columns)
    with progress_bar("copy [penguins]", console) as progress:
        progress(HALF)
    plain = re.sub("\x1b\\[[^a-zA-Z]*[a-zA-Z]", "", file.getvalue()).replace("\r", "\n")
    drawn = [line for line in plain.splitlines() if line.strip()]
    assert all(len(line) <= columns for line in drawn)
    assert re.fullmatch(rf"copy \[pengui.*[━╸╺]{{10,}} +60 % {re.escape(shown)} *", drawn[-1]), drawn


@pytest.mark.parametrize("label", ["line\nbreak", "\x1b[31mred", "[red]x[/red]", "x" * 1000])
def test_a_label_cannot_break_the_bar(label: str) -> None:
    """Names come from strangers; they stay in their line and mean nothing to the terminal."""
    console, file = terminal(100)
    with progress_bar(label, console) as progress:
        progress(DONE)
    assert "\x1b[31m" not in file.getvalue()
    assert all(len(line) < 600 for line in file.getvalue().splitlines())


def test_where_no_terminal_is_only_the_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error for a log, when all is done; nothing of what failed half way."""
    with progress_bar("copy penguins") as progress:
        progress(HALF)
        progress(DONE)
    assert capsys.readouterr() == ("", "copy penguins: 2,000 items, 8.2 MB, in 12.3 s, 4.2 MB/s\n")
    with progress_bar("copy penguins") as progress:
        progress(HALF)
    with progress_bar("copy penguins"):
        pass
    assert capsys.readouterr() == ("", "")


# --- dtool's own ---


@pytest.mark.parametrize("length", [0, 1, 7, 100, 4000])
def test_a_progress_bar_of_dtool_ends_where_the_operation_does(length: int) -> None:
    """Whatever its length means: it moves forward only, shows what was done last, and is full at the end."""
    bar: Any
    with click.progressbar(length=length, label="Copying dataset", file=io.StringIO()) as bar:
        progress = dtool_progressbar(bar)
        positions = []
        for now in (Progress(0, 2000, 0, 8_200_000), HALF, Progress(1100, 2000, 0, 8_200_000), DONE):
            progress(now)
            positions.append(bar.pos)
        assert positions == sorted(positions)
        assert bar.pos == length
        assert bar.item_show_func(None) == "b"
