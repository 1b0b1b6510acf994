"""How datasets are spread: over the slices of an audit, and over the workers of one run."""

from __future__ import annotations

import hashlib
from typing import Literal

from dtool_ecs_flows.errors import SettingsError

DAY = 86400


def share_of(uuid: str, shares: int, what: Literal["slice", "part"]) -> int:
    """Return the share of a dataset, from 1 to `shares`: by its UUID alone, so that nothing has to be remembered.

    Slices and parts are spread apart from each other: else all of one slice would fall to one worker.
    """
    digest = hashlib.sha1(f"{what} {uuid.lower()}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") % shares + 1


def slice_of_day(slices: int, now: float) -> int:
    """Return the slice that is read on a day (UTC): each in its turn."""
    return int(now // DAY) % slices + 1


def check_share(number: int, shares: int, what: str) -> None:
    """Refuse the fourth of three.

    Raises:
        SettingsError: there is no such share.
    """
    if shares < 1 or not 1 <= number <= shares:
        raise SettingsError(f"there is no {what} {number} of {shares}; they count from 1")
