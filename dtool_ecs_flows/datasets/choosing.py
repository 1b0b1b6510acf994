"""Choosing among many datasets: by name, tags and age."""

from __future__ import annotations

import time
from collections.abc import Collection
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows.models import DatasetInfo

_DAY = 24 * 3600.0  # seconds


class Filter(BaseModel):
    """What a dataset must be like to be chosen; with nothing said, all are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name_patterns: tuple[str, ...] = ()
    """Patterns of names with `*`, `?` and `[...]`, as in a shell; one of them has to fit."""
    tags: tuple[str, ...] = ()
    """Tags that it must have, all of them."""
    older_than_days: float = Field(default=0, ge=0)
    """Days since it was frozen, at least; 0 sets no limit."""
    newer_than_days: float = Field(default=0, ge=0)
    """Days since it was frozen, at most; 0 sets no limit."""

    def why_not(self, info: DatasetInfo, now: float | None = None) -> str:
        """Say why a dataset of a listing is not chosen; nothing where it is. A listing with tags is needed for tags."""
        at = info.created_at if info.frozen_at is None else info.frozen_at
        return self.why_name_not(info.name) or self._why_tags_not(info.tags or ()) or self.why_age_not(at, now)

    def why_name_not(self, name: str) -> str:
        """Say why a name does not fit."""
        if not self.name_patterns or any(fnmatchcase(name, pattern) for pattern in self.name_patterns):
            return ""
        return f"its name does not fit {' or '.join(self.name_patterns)}"

    def _why_tags_not(self, tags: Collection[str]) -> str:
        missing = [tag for tag in self.tags if tag not in tags]
        return f"it has no tag {', '.join(missing)}" if missing else ""

    def why_age_not(self, at: float | None, now: float | None = None) -> str:
        """Say why a time, in UTC epoch seconds, does not fit; one that is not known fits no limit."""
        if not (self.older_than_days or self.newer_than_days):
            return ""
        if at is None:
            return "its age is not known"
        days = ((time.time() if now is None else now) - at) / _DAY
        if self.older_than_days and not days >= self.older_than_days:
            return f"it is {days:.1f} days old, younger than {self.older_than_days:g}"
        if self.newer_than_days and not days <= self.newer_than_days:
            return f"it is {days:.1f} days old, older than {self.newer_than_days:g}"
        return ""
