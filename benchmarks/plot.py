"""A run as a picture: a bar for what each client did, as plain SVG that reads well on light and on dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from benchmarks.clients import OPERATIONS
from benchmarks.results import Outcome, ScenarioResult

SHOWN = ("small", "latency", "large", "mix", "dtool", "list")
"""The scenarios that are drawn; the tables have all."""

COLUMN, NAMES, BARS = 470, 185, 165
"""Widths: of one of the two columns, in it of the names, and of the longest bar."""
ROW, GAP, MARGIN = 19, 14, 14

STYLE = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; }
.us { font-weight: 600; }
.quiet { fill: #57606a; }
.ours { fill: #0969da; }
.peer { fill: #afb8c1; }
.range { stroke: #57606a; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #8b949e; }
  .ours { fill: #58a6ff; }
  .peer { fill: #484f58; }
  .range { stroke: #8b949e; }
}"""

LEGEND = (
    "Longer is faster: medians, a line from the slowest to the fastest round, "
    "and × how many times as fast dtool-ecs-flows was."
)


def draw(results: Iterable[ScenarioResult]) -> str:
    """Return the picture: scenarios one below the other, their operations in two columns."""
    parts = [_text(MARGIN, MARGIN + 12, LEGEND, "quiet")]
    top = MARGIN + ROW + GAP
    for result in results:
        if result.name not in SHOWN:
            continue
        parts.append(_text(MARGIN, top + 12, result.title, "title"))
        top += ROW
        operations = list(dict.fromkeys(each.operation for each in result.outcomes))
        for pair in zip(operations[::2], [*operations[1::2], ""], strict=False):
            groups = [[each for each in result.outcomes if each.operation == name and each.rate] for name in pair]
            for column, outcomes in enumerate(groups):
                if outcomes:
                    parts += _group(result.unit, outcomes, column * COLUMN + MARGIN, top)
            top += ROW * (max(map(len, groups)) + 1)
        top += GAP
    width = 2 * (COLUMN + MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}" '
        f'role="img" aria-label="Rates of this project beside its peers">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _group(unit: str, outcomes: Sequence[Outcome], left: int, top: int) -> list[str]:
    parts = [_text(left + NAMES, top + 13, f"{OPERATIONS[outcomes[0].operation]}, {unit}", "quiet")]
    longest = max(each.rate.high for each in outcomes if each.rate)
    for number, outcome in enumerate(outcomes, 1):
        parts += _bar(outcome, BARS / longest, left, top + ROW * number, ours=number == 1)
    return parts


def _bar(outcome: Outcome, scale: float, left: int, top: int, *, ours: bool) -> list[str]:
    rate = outcome.rate
    assert rate
    zero = left + NAMES
    low, high = (zero + each * scale for each in (rate.low, rate.high))
    middle, base = top + ROW / 2, top + 13
    told = f"{rate.median:,.0f}" if rate.median >= 10 else f"{rate.median:.1f}"
    if outcome.our_ratio:
        told += f"  × {outcome.our_ratio.median:.3g}"
    size = f'width="{max(rate.median * scale, 1):.1f}" height="{ROW - 6}"'
    return [
        _text(zero - 8, base, outcome.client, "us" if ours else "them", anchor="end"),
        f'<rect class="{"ours" if ours else "peer"}" x="{zero}" y="{top + 3}" {size} rx="2"/>',
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        _text(high + 6, base, told, "us" if ours else "them"),
    ]


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
