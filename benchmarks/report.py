"""A whole run: as JSON, as a markdown table, as what is printed, and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import machine, plot, targets
from benchmarks.clients import CONCURRENCY, OPERATIONS
from benchmarks.results import Outcome, ScenarioResult

FORMAT = 1
"""Of the JSON; it grows when something in it changes its meaning."""

HEADINGS = ("client", "rate", "range", "ours / it", "CPU ms", "peak MB", "requests")


@dataclass
class Run:
    """What was measured, where and with what."""

    begun_at: str
    commit: str
    rounds: int
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    concurrency: int = CONCURRENCY
    format: int = FORMAT
    scenarios: list[ScenarioResult] = field(default_factory=list)

    @classmethod
    def begin(cls, versions: dict[str, str], rounds: int, *, quick: bool) -> Run:
        """Begin now, on this machine."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(now, machine.commit(), rounds, quick, machine.describe(), versions)

    def store(self, folder: Path) -> None:
        """Write latest.json, latest.md and latest.svg."""
        folder.mkdir(parents=True, exist_ok=True)
        found = {**asdict(self), "targets": [asdict(each) for each in targets.compare(self.scenarios)]}
        (folder / "latest.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "latest.md").write_text(as_markdown(self), encoding="utf-8")
        (folder / "latest.svg").write_text(plot.draw(self.scenarios), encoding="utf-8")


def as_text(result: ScenarioResult) -> str:
    """Return one scenario as it is printed."""
    lines = [f"\n{_title(result)}"]
    for operation in dict.fromkeys(each.operation for each in result.outcomes):
        rows = [(OPERATIONS[operation], *HEADINGS[1:]), *_rows(result, operation)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for row in rows:
            cells = [cell.rjust(width) if column else cell.ljust(width)
                     for column, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            lines.append("  " + "  ".join(cells))
    lines += [f"  ! {line}" for line in _failures(result)]
    return "\n".join(lines)


def targets_as_text(scenarios: list[ScenarioResult]) -> str:
    """Return what was aimed at, and whether it was met, as it is printed."""
    return "\n".join(["\nTargets", *(f"  {each.line()}" for each in targets.compare(scenarios))])


def as_markdown(run: Run) -> str:
    """Return the whole run as a page."""
    how = f"{run.rounds} rounds, clients in turn, {run.concurrency} requests at once"
    lines = ["# Results", "", f"Run of {run.begun_at}, commit {run.commit}: {how}.", ""]
    for result in run.scenarios:
        lines += [f"## {_title(result)}", ""]
        for operation in dict.fromkeys(each.operation for each in result.outcomes):
            head = (OPERATIONS[operation], *HEADINGS[1:])
            lines += [_row(head), _row(("---", *["---:"] * (len(HEADINGS) - 1)))]
            lines += [*map(_row, _rows(result, operation)), ""]
        lines += [f"- {line}" for line in _failures(result)]
    lines += ["## Targets", "", _row(("target", "wanted", "measured", "")), _row(("---", "---:", "---:", "---"))]
    lines += [_row(each.cells()) for each in targets.compare(run.scenarios)]
    lines += ["", "## Where and with what", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in {**run.machine, **run.versions}.items()]
    return "\n".join(lines) + "\n"


def _title(result: ScenarioResult) -> str:
    return f"{result.title} ({result.unit}, {result.server})"


def _failures(result: ScenarioResult) -> list[str]:
    """What went wrong, the last line of each; the JSON has all of it."""
    failed = [(each, text.splitlines()[-1]) for each in result.outcomes for text in each.failures]
    return [f"{each.client}, {each.operation}: {line[:300]}" for each, line in failed]


def _rows(result: ScenarioResult, operation: str) -> list[tuple[str, ...]]:
    return [_cells(each) for each in result.outcomes if each.operation == operation]


def _cells(outcome: Outcome) -> tuple[str, ...]:
    rate, ratio, cpu = outcome.rate, outcome.our_ratio, outcome.cpu
    imported = max(outcome.imported_rss, default=0)
    peak = max(outcome.peak_rss, default=0)
    return (
        outcome.client,
        _number(rate.median) if rate else "failed",
        f"{_number(rate.low)} to {_number(rate.high)}" if rate else "",
        f"{_number(ratio.median)} ({_number(ratio.low)} to {_number(ratio.high)})" if ratio else "",
        _number(cpu.median) if cpu else "",
        f"{peak / 1e6:.0f}" + (f" (+{(peak - imported) / 1e6:.0f})" if imported else ""),
        "" if outcome.requests is None else f"{outcome.requests:,}",
    )


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
