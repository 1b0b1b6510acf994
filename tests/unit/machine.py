"""A user's machine for tests of settings, and the settings that are put on it."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows.settings import BucketSettings

SECRET = "do/not+show=me"


class Machine:
    """The empty home that every test has, its environment without settings, and no dtool.json yet."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.home = home
        self.config = home / ".config" / "dtool" / "dtool.json"
        self.config.parent.mkdir(parents=True)

    def environment(self, values: dict[str, str]) -> None:
        """Set environment variables."""
        for key, value in values.items():
            self._monkeypatch.setenv(key, value)

    def file(self, values: Any, *, mode: int = 0o600) -> Path:
        """Write dtool.json; text is written as it stands."""
        self.config.write_text(values if isinstance(values, str) else json.dumps(values))
        self.config.chmod(mode)
        return self.config


def keys(bucket: str, **more: Any) -> dict[str, Any]:
    """Return what makes a bucket complete, in the manner of dtool.json."""
    return {
        f"DTOOL_ECS_ENDPOINT_{bucket}": "https://ecs.example.org:9021",
        f"DTOOL_ECS_ACCESS_KEY_ID_{bucket}": "olssont",
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket}": SECRET,
        **more,
    }


def record(bucket: str = "my-bucket", **more: Any) -> BucketSettings:
    """Return complete settings, as a caller would pass them."""
    complete = {
        "bucket": bucket,
        "endpoint": "https://ecs.example.org:9021",
        "access_key_id": "olssont",
        "secret_access_key": SECRET,
    }
    return BucketSettings(**complete | more)


def assert_no_secret(error: BaseException) -> None:
    """Check that nothing a log would show of an error holds the secret."""
    assert SECRET not in "".join(traceback.TracebackException.from_exception(error).format())
    assert error.__context__ is None
    assert error.__cause__ is None
