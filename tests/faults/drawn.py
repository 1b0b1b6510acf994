"""Faults drawn at random, out of the proxy's language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.proxy import Proxy
from tests.proxy.faults import Rule

FOR_EVER = 10**9

KINDS: dict[str, Callable[[Rule], Rule]] = {
    "503": lambda rule: rule.answer(503, "SlowDown"),
    "500": lambda rule: rule.answer(500, "InternalError"),
    "500 though done": lambda rule: rule.answer(500, "InternalError", done=True),
    "400": lambda rule: rule.answer(400, "Refused"),
    "400 though done": lambda rule: rule.answer(400, "Refused", done=True),
    "403": lambda rule: rule.answer(403, "AccessDenied"),
    "reset": Rule.reset,
    "closed": Rule.close,
    "request cut": lambda rule: rule.cut_request(10),
    "answer lost": Rule.lose_answer,
    "answer cut": lambda rule: rule.cut_answer(10),
    "bit of the request": lambda rule: rule.flip_request(5),
    "bit of the answer": lambda rule: rule.flip_answer(5),
}
"""What happens to a request, by name."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to some requests in a row, or to all from one on: an outage that lasts."""

    kind: str
    operation: str
    first: int
    count: int

    def on(self, proxies: Iterable[Proxy]) -> list[Rule]:
        """Have it happen in these proxies."""
        requests = range(self.first, self.first + self.count)
        # Only of items does anybody know what their bytes should be when they are read.
        key = "*/data/*" if self.kind == "bit of the answer" else "*"
        rules = [proxy.on(self.operation, key=key, nth=requests) for proxy in proxies]
        for rule in rules:
            KINDS[self.kind](rule)
        return rules


COUNTS = [FOR_EVER, 1, 5, 2]  # of one request, the third attempt is well, and there is no fifth


@st.composite
def faults(draw: st.DrawFn, operations: Mapping[str, int]) -> Fault | None:
    """Draw a fault, or in one of four cases none.

    Args:
        draw: of hypothesis.
        operations: that it may happen to, and how many of each there are at the most, more or less.
    """
    if draw(st.integers(0, 3)) == 0:
        return None
    kind = draw(st.sampled_from(sorted(KINDS)))
    operation = "GET" if kind == "bit of the answer" else draw(st.sampled_from(sorted(operations)))
    first = draw(st.integers(1, operations.get(operation, 1)))
    return Fault(kind, operation, first, draw(st.sampled_from(COUNTS)))
