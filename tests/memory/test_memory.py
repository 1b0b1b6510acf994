"""Memory is bounded, whatever the number and the sizes of the items: each bound is measured in a process of its own."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtool_ecs_flows.transfer import MEMORY, part_size
from tests.memory.simulated import write_files
from tests.memory.sink import Sink, sink, zeros

MB = 1e6
MIB = 1024**2
TB = 10**12

PART = part_size(TB)
"""Bytes of a part of a file of 1 TB; two of them are in memory."""

SIZE = 4 * PART
"""Bytes of a file that stands for one of 1 TB: as many parts at once are under way, and then it starts again."""

pytestmark = pytest.mark.timeout(600)


def peak_of(name: str, *arguments: object) -> float:
    """Do something of `tests.memory.child` and return its peak over the bare import, in bytes."""
    command = [sys.executable, "-m", "tests.memory.child", name, *map(str, arguments)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return float(done.stdout) * MB


def test_a_manifest_takes_less_than_a_kilobyte_per_item(tmp_path: Path) -> None:
    """In and out again: neither the dictionaries of its JSON nor the pieces of its text are held, only the items."""
    count = 50_000
    write_files(tmp_path, count)
    assert peak_of("manifest_in_and_out", tmp_path / "manifest.json") / count < 1100


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_a_hundred_thousand_items_are_copied_in_a_third_of_the_bound(there: bool, tmp_path: Path) -> None:
    """With the manifest, the listings and the threads; 300 MB is the bound with the largest files besides."""
    write_files(tmp_path, 100_000)
    peak = peak_of("copy_simulated", tmp_path, 100_000, *(["there"] if there else []))
    assert filecmp.cmp(tmp_path / "manifest.json", tmp_path / "copied.json", shallow=False)
    assert peak + max(MEMORY, 2 * PART) < 300 * MB


@pytest.mark.slow
def test_a_million_items_are_planned_in_less_than_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    """Manifest in, compared with a listing of all keys, compared again at the end, manifest out."""
    write_files(tmp_path, 1_000_000)
    assert peak_of("plan_simulated", tmp_path) < 1500 * MB
    assert filecmp.cmp(tmp_path / "manifest.json", tmp_path / "copied.json", shallow=False)


@pytest.mark.slow
def test_a_hundred_thousand_datasets_are_gone_through_in_bounded_memory() -> None:
    """Though each has a registration key of its own: neither the keys nor their prefixes pile up."""
    assert peak_of("list_crowded", 100_000) < 40 * MB


@pytest.fixture(scope="module")
def source() -> Iterator[Sink]:
    """A bucket with one item of `SIZE`."""
    with sink(zeros(SIZE)) as server:
        yield server


@pytest.mark.slow
class TestParts:
    """Parts as large as those of 1 TB: nothing is held but two of them."""

    def test_sending(self, tmp_path: Path) -> None:
        """From a file into a bucket."""
        path = tmp_path / "zeros"
        path.touch()
        os.truncate(path, SIZE)
        with sink({}) as target:
            assert peak_of("send_large", path, target.endpoint, PART) < 280 * MB

    def test_passing_on(self, source: Sink) -> None:
        """From one store to another: what was received is sent as it is, not from a copy."""
        with sink({}) as target:
            assert peak_of("pass_large_on", source.endpoint, target.endpoint, PART) < 280 * MB

    def test_verifying(self, source: Sink) -> None:
        """Out of a bucket and through the hash alone."""
        assert peak_of("verify_large", source.endpoint, PART) < 280 * MB

    def test_fetching(self, source: Sink, tmp_path: Path) -> None:
        """Onto a disk: written as it comes, whatever the size."""
        assert peak_of("fetch_large", source.endpoint, tmp_path, PART) < 150 * MB


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size", "most"), [(8, 128 * MIB, 200), (40, 31 * MIB, 200), (200, 8 * MIB, 200)])
def test_many_large_items_at_once_take_no_more_than_one(count: int, size: int, most: int, tmp_path: Path) -> None:
    """What 32 threads gave back is used again, or is the system's: it does not stay with each of them."""
    for number in range(count):
        (tmp_path / f"{number}.dat").touch()
        os.truncate(tmp_path / f"{number}.dat", size)
    with sink({}) as target:
        assert peak_of("send_many", tmp_path, target.endpoint) < most * MB


@pytest.mark.slow
def test_what_large_items_have_left_is_not_on_top_of_what_small_ones_take(tmp_path: Path) -> None:
    """Large items go first; then the buffers of their parts make room for items that go whole."""
    for number in range(128):
        (tmp_path / f"{number}.dat").touch()
        os.truncate(tmp_path / f"{number}.dat", 64 * MIB if number < 8 else 8 * MIB)
    with sink({}) as target:
        assert peak_of("send_many", tmp_path, target.endpoint) < 200 * MB


def test_an_object_much_larger_than_its_item_is_not_read(tmp_path: Path) -> None:
    """Whoever can write to a bucket can make an object of any size of an item that its manifest calls small."""
    objects = zeros(4)
    objects.update({key: 1024**3 for key in objects if "/data/" in key})
    with sink(objects) as server:
        assert peak_of("fetch_another_size", server.endpoint, tmp_path) < 100 * MB
