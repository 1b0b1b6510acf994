"""In which steps an object was cut into the parts that a store holds."""

from __future__ import annotations

import pytest

from dtool_ecs_flows.items.unfinished import fit
from dtool_ecs_flows.store import Part

MIB = 1024**2


def parts(**sizes: int) -> dict[int, Part]:
    return {int(name[1:]): Part(size, "0" * 32) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("held", "step", "fitting"),
    [
        ({}, 16, set()),
        ({"p1": 16 * MIB, "p3": 16 * MIB, "p4": 2 * MIB}, 16, {1, 3, 4}),
        ({"p4": 2 * MIB}, 16, {4}),
        ({"p1": 5 * MIB, "p2": 16 * MIB}, 16, {2}),
        ({"p1": 8 * MIB, "p7": 2 * MIB}, 8, {1, 7}),
        ({"p1": 50 * MIB}, 50, {1}),
        ({"p1": 100 * MIB}, 16, set()),
        ({"p1": 1 * MIB, "p2": 1 * MIB}, 16, set()),
        ({"p1": 16 * MIB, "p5": 16 * MIB}, 0, set()),
    ],
    ids=[
        "none",
        "ours",
        "the last alone",
        "one is wrong",
        "smaller",
        "larger",
        "of a larger object",
        "tiny",
        "too many",
    ],
)
def test_the_step_follows_from_the_sizes(held: dict[str, int], step: int, fitting: set[int]) -> None:
    """Of an object of 50 MiB: today's step, or that of most parts, or none that can be used."""
    found = fit(parts(**held), 50 * MIB)
    assert (found[0], set(found[1])) == (step * MIB, fitting)


def test_parts_larger_than_memory_allows_are_left_alone() -> None:
    """Another client may have cut a large object into a few parts; a part has to be in memory here."""
    assert fit(parts(p1=500 * MIB), 1000 * MIB) == (16 * MIB, {})


def test_parts_of_a_very_large_object_are_as_large_as_they_must_be() -> None:
    """Above 160 GB the number of parts decides."""
    size = 1000 * 1000**3
    (step, fitting) = fit(parts(p1=96 * MIB, p2=96 * MIB), size)
    assert (step, set(fitting)) == (96 * MIB, {1, 2})
