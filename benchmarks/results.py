"""What a run has found, as records that become JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the spread of values; None where there are none."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass
class Outcome:
    """One client at one operation of one scenario; lists have one value per round."""

    client: str
    operation: str
    unit: str
    files: int
    bytes: int
    datasets: int
    amount: float
    """What one round does, in the unit of the rate."""
    seconds: list[float] = field(default_factory=list)
    """Of the operation; of a program, of its process."""
    cpu_seconds: list[float] = field(default_factory=list)
    process_seconds: list[float] = field(default_factory=list)
    process_cpu_seconds: list[float] = field(default_factory=list)
    peak_rss: list[int] = field(default_factory=list)
    """Bytes, of the process."""
    imported_rss: list[int] = field(default_factory=list)
    """Bytes, before the operation; 0 for programs."""
    rounds: list[int] = field(default_factory=list)
    """In which round each value was found: a round in which the client failed is missing."""
    requests: int | None = None
    """Counted once, in a pass of its own."""
    failures: list[str] = field(default_factory=list)
    rate: Spread | None = None
    cpu: Spread | None = None
    """CPU milliseconds per file, or per MB where the unit is MB/s, or per dataset."""
    our_ratio: Spread | None = None
    """How many times as fast the first client of the scenario was, round by round."""

    def conclude(self, first: Outcome) -> None:
        """Fill in what follows from the values, compared with the scenario's first client."""
        self.rate = Spread.of(self.amount / each for each in self.seconds)
        self.cpu = Spread.of(each * 1000 / self.amount for each in self.cpu_seconds)
        if first is not self:
            theirs = dict(zip(self.rounds, self.seconds, strict=True))
            ours = dict(zip(first.rounds, first.seconds, strict=True))
            self.our_ratio = Spread.of(
                (first.amount / ours[number]) / (self.amount / theirs[number]) for number in ours.keys() & theirs.keys()
            )


@dataclass(frozen=True)
class ScenarioResult:
    """All clients of one scenario."""

    name: str
    title: str
    server: str
    latency_ms: float
    unit: str
    outcomes: Sequence[Outcome]

    def outcome(self, operation: str, client: str) -> Outcome | None:
        """Find one; None where it was not measured."""
        found = [each for each in self.outcomes if (each.operation, each.client) == (operation, client)]
        return found[0] if found else None
