"""What the doctor found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator

from dtool_ecs_flows.models import Report
from dtool_ecs_flows.words import visible

State: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
"""`warning`: datasets can be worked with, but something should be known. `skipped`: not tried, `found` says why."""

_Text: TypeAlias = Annotated[str, AfterValidator(visible)]


class Step(Report):
    """One thing that was looked at."""

    name: str
    state: State
    found: _Text
    """What is the case."""
    advice: _Text = ""
    """What to do."""
    details: tuple[_Text, ...] = ()


class Diagnosis(Report):
    """All that was looked at, in its order."""

    bucket: str
    ok: bool
    """Whether no step failed; there may be warnings."""
    steps: tuple[Step, ...]
    seconds: float


def skip(names: Iterable[str], why: str) -> list[Step]:
    """Return the steps that were not taken."""
    return [Step(name=name, state="skipped", found=why) for name in names]
