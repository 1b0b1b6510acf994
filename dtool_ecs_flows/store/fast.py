"""The fast lane for item bytes: obstore, at a fifth of boto3's CPU time per request.

It is used where it can be: not for users of a namespace (it cannot sign the header), not for keys that it cannot
spell, not under the few AWS variables that it would follow and cannot be talked out of, and not in a child that was
forked after a parent had used it, where it would hang. Whatever fails here is tried again through boto3, which has the
retries and tells errors apart; so an error of obstore is never interpreted.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store.objects import ObjectInfo, StoredObject, check_document, metadata_of

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

FAILURES = (BaseError, OSError, ValueError)
"""What a request in the fast lane may raise."""

CHUNK = 256 * 1024
"""Bytes of a larger answer that are handed on at a time; between two of them a stop is heard."""

_SAFE_KEY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

_FOLLOWED = ("AWS_CHECKSUM_ALGORITHM", "AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_")

_OTHER_ATTRIBUTES = frozenset(
    {"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Storage-Class"}
)

# obstore's runtime belongs to the process and does not survive a fork: the one thing that has to be known
# process-wide. It is a fact about the process, the same for all buckets.
_runtime_of: set[int] = set()


def usable(settings: BucketSettings) -> bool:
    """Whether the fast lane can serve this bucket in this process."""
    return not settings.namespace and not _forked()


def can_spell(key: str) -> bool:
    """Whether obstore sends exactly this key."""
    return _SAFE_KEY.fullmatch(key) is not None


def _forked() -> bool:
    return bool(_runtime_of) and os.getpid() not in _runtime_of


class FastLane:
    """One bucket through obstore. Thread-safe; no request is made before the first call."""

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._store: S3Store | None = None

    def put(self, key: str, body: Any, metadata: dict[str, str]) -> str:
        """Put one object with a single request, its SHA-256 in the signature; return its ETag, unquoted."""
        result = obstore.put(self._open(), key, body, attributes=dict(metadata), use_multipart=False)
        return (result["e_tag"] or "").strip('"').lower()

    def get(self, key: str, size: int) -> memoryview:
        """Return a whole object's bytes; `ValueError` where it has another size."""
        result = obstore.get(self._open(), key)
        _check_size(result, size)
        return memoryview(result.bytes())

    def get_object(self, key: str, most: int) -> StoredObject:
        """Return a document whole, with its user metadata; `ManifestError` where it has more than `most` bytes."""
        result = obstore.get(self._open(), key)
        check_document(key, result.meta["size"], most)
        meta, metadata = result.meta, metadata_of(dict(result.attributes), _OTHER_ATTRIBUTES)
        body = bytes(result.bytes())
        etag = (meta["e_tag"] or "").strip('"').lower()
        return StoredObject(body, ObjectInfo(key, len(body), etag, meta["last_modified"].timestamp(), metadata))

    def chunks(self, key: str, offset: int, length: int, size: int) -> Iterator[bytes]:
        """Yield some bytes of an object as they come, `CHUNK` at a time; `ValueError` where it has another size."""
        # A server may answer a range that is all with 200, which obstore takes for an error.
        options: GetOptions = {} if length == size else {"range": (offset, offset + length)}
        result = obstore.get(self._open(), key, options=options)
        _check_size(result, size)
        yield from result.stream(min_chunk_size=CHUNK)

    def _open(self) -> S3Store:
        with self._lock:
            if self._store is None:
                _runtime_of.add(os.getpid())
                self._store = _build(self._settings)
            return self._store


def _check_size(result: GetResult, size: int) -> None:
    """Look at an answer's head before its body is read, which may be of any size."""
    if result.meta["size"] != size:
        raise ValueError("the object has another size")


def _build(settings: BucketSettings) -> S3Store:
    for name in os.environ:
        if name.startswith(_FOLLOWED):
            raise ValueError(f"the environment variable {name} would change what obstore sends")
    secret = settings.secret_access_key.get_secret_value()
    options: dict[str, Any] = {
        "allow_http": True,
        "allow_invalid_certificates": not settings.verify_tls,
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "read_timeout": timedelta(seconds=settings.read_timeout),
        "timeout": timedelta(hours=1),  # of a whole request; its default of 30 s cuts slow parts short
    }
    if settings.ca_bundle:
        options["root_certificate"] = Path(settings.ca_bundle).read_bytes()
    return S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        region="us-east-1",
        virtual_hosted_style_request=False,
        # obstore takes what is not said here from AWS_* variables, which are meant for another store: they would send
        # items to another endpoint, with another user's token, unsigned, or without a hash that the server checks.
        aws_endpoint_url_s3=settings.endpoint,
        credential_provider=lambda: {  # type: ignore[arg-type]  # mypy takes it for any dict; asked once
            "access_key_id": settings.access_key_id,
            "secret_access_key": secret,
            "token": None,
            "expires_at": None,
        },
        request_payer=False,
        s3_express=False,
        skip_signature=False,
        unsigned_payload=False,
        client_options=options,  # type: ignore[arg-type]  # a TypedDict that exists only in stubs
        retry_config={"max_retries": 0},
    )
