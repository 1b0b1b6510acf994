"""What this project aims at beside its peers, and how a run compares. Nothing fails for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import ScenarioResult
from benchmarks.scenarios import DTOOL_S3, ONE_WORKER, RCLONE, S5CMD


@dataclass(frozen=True)
class Compared:
    """One target, and what was measured: how many times as fast as the peer; None where it was not."""

    scenario: str
    operation: str
    peer: str
    wanted: float
    measured: float | None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.measured is None:
            return "not measured"
        return "met" if self.measured >= self.wanted else "not met"

    def cells(self) -> tuple[str, ...]:
        """As a row: what, how much is wanted, how much it is, in words."""
        measured = "" if self.measured is None else f"{self.measured:.2f} ({self.low:.2f} to {self.high:.2f})"
        return f"{self.scenario}, {self.operation}: × {self.peer}", f"{self.wanted:g}", measured, self.verdict

    def line(self) -> str:
        """As a line of text."""
        what, wanted, measured, verdict = self.cells()
        return f"{what:34} wanted {wanted:>4}  measured {measured or '-':24} {verdict}"


TARGETS: Sequence[tuple[str, Sequence[str], str, float]] = (
    ("small", ("up",), S5CMD, 1.2),
    ("small", ("up",), RCLONE, 1.5),
    ("small", ("down",), S5CMD, 1.8),
    ("small", ("down",), RCLONE, 1.1),
    ("small", ("up", "down"), DTOOL_S3, 15),
    ("latency", ("up", "down"), DTOOL_S3, 100),
    ("large", ("up", "down"), S5CMD, 1),
    ("large8", ("up", "down"), S5CMD, 1),
    ("dtool", ("create", "up"), DTOOL_S3, 8),
    ("dtool", ("down", "read"), DTOOL_S3, 4),
    ("list", ("list",), DTOOL_S3, 50),
    ("workers", ("up",), ONE_WORKER, 3),
)
"""Scenario, operations, peer, and how many times as fast as it."""


def compare(scenarios: Iterable[ScenarioResult]) -> list[Compared]:
    """Return all targets of the scenarios that were run."""
    results = {each.name: each for each in scenarios}
    compared = []
    for name, operations, peer, wanted in TARGETS:
        for operation in operations if name in results else ():
            outcome = results[name].outcome(operation, peer)
            ratio = outcome.our_ratio if outcome else None
            spread = (ratio.median, ratio.low, ratio.high) if ratio else (None, None, None)
            compared.append(Compared(name, operation, peer, wanted, *spread))
    return compared
