"""A run as a picture: a bar for what each client did, as plain SVG that reads well on light and on dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from benchmarks.clients import OPERATIONS
from benchmarks.results import Outcome, ScenarioResult

WIDTH, LEFT, BARS = 860, 210, 420
"""Of the picture, of the names, and of the longest bar."""
ROW, GAP, PADDING = 20, 16, 16

STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.quiet { fill: #57606a; }
.ours { fill: #0969da; }
.peer { fill: #afb8c1; }
.range { stroke: #57606a; stroke-width: 1.5; }
.us { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #8b949e; }
  .ours { fill: #58a6ff; }
  .peer { fill: #484f58; }
  .range { stroke: #8b949e; }
}"""


def draw(results: Iterable[ScenarioResult]) -> str:
    """Return the picture: a group of bars for each operation of each scenario; a line spans the range of the rounds."""
    parts: list[str] = []
    top = PADDING
    for result in results:
        for operation in dict.fromkeys(each.operation for each in result.outcomes):
            outcomes = [each for each in result.outcomes if each.operation == operation and each.rate]
            if outcomes:
                parts += _group(f"{result.title}: {OPERATIONS[operation]}", result, outcomes, top)
                top += ROW * (len(outcomes) + 1) + GAP
    height = top - GAP + PADDING
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="Rates of this project beside its peers">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _group(title: str, result: ScenarioResult, outcomes: Sequence[Outcome], top: int) -> list[str]:
    where = f"{result.unit}, {result.server}"
    aside = f'<tspan class="quiet" font-weight="400">({escape(where)})</tspan>'
    parts = [f'<text class="title" x="{PADDING}" y="{top + 13}">{escape(title)} {aside}</text>']
    longest = max(each.rate.high for each in outcomes if each.rate)
    for number, outcome in enumerate(outcomes, 1):
        parts += _bar(outcome, BARS / longest, top + ROW * number, ours=number == 1)
    return parts


def _bar(outcome: Outcome, scale: float, top: int, *, ours: bool) -> list[str]:
    rate = outcome.rate
    assert rate
    low, high = (LEFT + each * scale for each in (rate.low, rate.high))
    middle, base = top + ROW / 2, top + 14
    told = f"{rate.median:,.0f}" if rate.median >= 10 else f"{rate.median:.1f}"
    if outcome.our_ratio:
        told += f'  <tspan class="quiet">× {outcome.our_ratio.median:.2f}</tspan>'
    name, bar = ("us", "ours") if ours else ("them", "peer")
    size = f'width="{max(rate.median * scale, 1):.1f}" height="{ROW - 6}"'
    return [
        f'<text class="{name}" x="{LEFT - 8}" y="{base}" text-anchor="end">{escape(outcome.client)}</text>',
        f'<rect class="{bar}" x="{LEFT}" y="{top + 3}" {size} rx="2"/>',
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{high + 8:.1f}" y="{base}">{told}</text>',
    ]
