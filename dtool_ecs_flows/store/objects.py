"""What a store tells of an object."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dtool_ecs_flows.errors import ManifestError

SMALL_DOCUMENT = 1024**2
"""Bytes; no registration key and no administrative metadata has more."""

DOCUMENT = 1024**3
"""Bytes; no manifest and no overlay has more: one of four million items."""

WRITTEN_DOCUMENT = 64 * 1024**2
"""Bytes; no README and no annotation, which people and programs write about a dataset as a whole, has more. JSON may
take 25 times as much memory as it has bytes."""

_TEXT = "text/plain; charset=utf-8"
_TYPES = MappingProxyType({".json": "application/json", ".txt": _TEXT, ".yml": _TEXT})

_MD5 = re.compile(r"[0-9a-f]{32}")


def content_type_of(key: str) -> dict[str, str]:
    """Return the type of a document, as a parameter of a put: who has its URL, a browser too, reads it right then."""
    kind = _TYPES.get(key[key.rfind(".") :])
    return {"ContentType": kind} if kind else {}


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or a HEAD tells of an object."""

    key: str
    size: int
    etag: str
    """MD5 in hex after a single PUT; after a multipart upload anything."""
    last_modified: float
    """UTC epoch seconds."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata; empty in a listing."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A small object, read whole."""

    body: bytes
    info: ObjectInfo


def check_document(key: str, size: int, most: int) -> None:
    """Look at the size of a document before it is read into memory; whoever can write to the bucket chose it.

    Raises:
        ManifestError: it is larger than `most` bytes.
    """
    if size > most:
        raise ManifestError(f"object {key} is no document of a dataset: it has {size} bytes, where {most} are the most")


def is_md5(etag: str) -> bool:
    """Whether an ETag has the form of an MD5, as after a single PUT."""
    return _MD5.fullmatch(etag) is not None


def content_md5(md5: str) -> str:
    """Return the Content-MD5 header for an MD5 in hex."""
    return base64.b64encode(bytes.fromhex(md5)).decode("ascii")


def info_of(key: str, response: dict[str, Any], size: int | None = None) -> ObjectInfo:
    """Return what the answer to a GET or a HEAD tells of an object."""
    return ObjectInfo(
        key=key,
        size=int(response["ContentLength"]) if size is None else size,
        etag=etag_of(response),
        last_modified=response["LastModified"].timestamp(),
        metadata=metadata_of(response["Metadata"]),
    )


def metadata_of(headers: Mapping[str, str], without: Collection[str] = ()) -> dict[str, str]:
    """Return user metadata by its names; a RADOS Gateway gives `-` for `_`, others title case: one spelling for all."""
    return {name.lower().replace("-", "_"): value for name, value in headers.items() if name not in without}


def etag_of(response: dict[str, Any]) -> str:
    """Return the ETag in an answer, unquoted and in lower case."""
    return str(response.get("ETag", "")).strip('"').lower()


def made_etag(response: dict[str, Any]) -> str:
    """Return the ETag of what a store made of what it holds, which stands in the body of its answer.

    Such an answer begins with status 200 before the store knows how it ends.

    Raises:
        OSError: there is none: the answer was cut short, or is no store's.
    """
    result = response.get("CopyObjectResult") or response.get("CopyPartResult") or response
    if "ETag" not in result:  # it may be empty: a RADOS Gateway says so of an object that it made of parts
        raise OSError("no ETag in the answer")
    return etag_of(result)
