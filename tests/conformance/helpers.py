"""Small things that several tests over servers need."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import dtoolcore

from dtool_ecs_flows.settings import BucketSettings
from tests.independent import Raw, identifier, md5
from tests.proxy import Request

Files = Callable[[bytes], str]
"""Writes bytes into a new file and returns its path."""

Interrupt = Callable[[Request], None]
"""Sends Ctrl-C when a request passes; the fixture `interrupt`."""


def changed(settings: BucketSettings, **changes: Any) -> BucketSettings:
    """Settings like these, but for what is changed."""
    return BucketSettings(**{**dict(settings), **changes})


def environment(settings: BucketSettings) -> dict[str, str]:
    """Settings as variables of the environment, for a process of its own."""
    return {
        f"DTOOL_ECS_ENDPOINT_{settings.bucket}": settings.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{settings.bucket}": settings.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{settings.bucket}": settings.secret_access_key.get_secret_value(),
        f"DTOOL_ECS_CA_BUNDLE_{settings.bucket}": settings.ca_bundle,
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


def half_made(raw: Raw, handles: dict[str, str], contents: dict[str, bytes], version: str) -> str:
    """A proto dataset as another client leaves it: handles spelt its way, its version in structure.json."""
    uuid = str(uuid4())
    admin = {"uuid": uuid, "name": "half", "type": "protodataset", "creator_username": "olssont", "created_at": 1.5e9}
    raw.put(f"dtool-{uuid}", b"")
    raw.put(f"{uuid}/structure.json", json.dumps({"storage_broker_version": version}).encode())
    raw.put(f"{uuid}/dtool", json.dumps(admin).encode(), {key: str(value) for key, value in admin.items()})
    raw.put(f"{uuid}/README.yml", b"---\n")
    for relpath, data in contents.items():
        raw.put(f"{uuid}/data/{identifier(relpath)}", data, {"handle": handles[relpath], "checksum": md5(data)})
    return uuid


def encoded(relpath: str) -> str:
    return base64.b64encode(relpath.encode()).decode()
