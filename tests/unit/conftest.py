"""What tests of single rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.machine import Machine


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A user's machine without any settings yet."""
    return Machine(home, monkeypatch)
