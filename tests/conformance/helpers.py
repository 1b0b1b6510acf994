"""Small things that several tests over servers need."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dtoolcore

from dtool_ecs_flows.settings import BucketSettings

Files = Callable[[bytes], str]
"""Writes bytes into a new file and returns its path."""


def changed(settings: BucketSettings, **changes: Any) -> BucketSettings:
    """Settings like these, but for what is changed."""
    return BucketSettings(**{**dict(settings), **changes})


def environment(settings: BucketSettings) -> dict[str, str]:
    """Settings as variables of the environment, for a process of its own."""
    return {
        f"DTOOL_ECS_ENDPOINT_{settings.bucket}": settings.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{settings.bucket}": settings.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{settings.bucket}": settings.secret_access_key.get_secret_value(),
    }


def everything_said(error: BaseException) -> str:
    """All text that an error can leave in a log or at a terminal."""
    return "".join([*traceback.format_exception(error), str(error), repr(error), repr(error.__dict__)])


def proto_dataset(base_uri: str, name: str = "penguins") -> Any:
    """A proto dataset without items, its README written."""
    return dtoolcore.create_proto_dataset(name, base_uri, "---\n", "Jörg")


def content(dataset: Any) -> dict[str, bytes]:
    """Bytes by relpath, through the cache."""
    return {
        dataset.item_properties(i)["relpath"]: Path(dataset.item_content_abspath(i)).read_bytes()
        for i in dataset.identifiers
    }
