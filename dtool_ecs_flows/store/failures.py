"""What a store's failures mean, and who tries again.

botocore's errors are translated here and nowhere else. There is one owner of retries: `Attempts`.
"""

from __future__ import annotations

import email.utils
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import botocore.exceptions as boto
import stamina
from botocore.parsers import ResponseParserError

from dtool_ecs_flows.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CredentialsError,
    NoSuchBucketError,
    NoSuchKeyError,
    NoSuchUploadError,
    QuotaExceededError,
    StoreError,
    UnavailableError,
)
from dtool_ecs_flows.settings import BucketSettings

FIRST_BUDGET = 8.0
"""Seconds of retries until a first request has succeeded: a wrong endpoint must show within seconds."""

BUDGET = 180.0
"""Seconds of retries per request afterwards: a node of the store may restart meanwhile."""

_LISTEN = 0.5  # seconds after which one who waits as the store asked looks whether to stop

_BUSY_CODES = frozenset({"RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})
_BUSY_STATUS = re.compile(r"status code: (429|503)\b")  # as obstore tells it

# What OpenSSL calls a connection that the other side dropped, or whose bytes were damaged: nothing that settings mend.
_TLS_BROKE = re.compile(r"EOF occurred|BAD_RECORD_MAC|DECRYPTION_FAILED|reset by peer|timed out", re.IGNORECASE)

_TRANSIENT_CODES = _BUSY_CODES | {
    "BadDigest",  # a bit flipped on the way: the source was hashed before, so the next try may pass
    "ConcurrentModification",
    "ConditionalRequestConflict",  # two writers at once; the next try meets the other's object, or none
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "XAmzContentSHA256Mismatch",
}
_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "SignatureDoesNotMatch",
    }
)
_QUOTA_CODE = "QuotaExceeded"  # of a RADOS Gateway, with status 403; other stores have words of their own
_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "GetObject": "s3:GetObject",
        "HeadObject": "s3:GetObject",
        "PutObject": "s3:PutObject",
        "CopyObject": "s3:PutObject",
        "CreateMultipartUpload": "s3:PutObject",
        "UploadPart": "s3:PutObject",
        "UploadPartCopy": "s3:PutObject",
        "CompleteMultipartUpload": "s3:PutObject",
        "AbortMultipartUpload": "s3:AbortMultipartUpload",
        "ListMultipartUploads": "s3:ListBucketMultipartUploads",
        "ListParts": "s3:ListMultipartUploadParts",
        "ListObjectsV2": "s3:ListBucket",
        "DeleteObject": "s3:DeleteObject",
        "DeleteObjects": "s3:DeleteObject",
        "PutObjectAcl": "s3:PutObjectAcl",
        "GetBucketVersioning": "s3:GetBucketVersioning",
    }
)


_ASKED = "the store asks to wait"


class _RetryInWords(logging.Filter):
    """Puts into the text of stamina's records what failed, and when it is tried again: most logs show only the text."""

    def filter(self, record: logging.LogRecord) -> bool:
        cause = str(record.__dict__.get("stamina.caused_by", ""))  # a repr
        if cause.startswith(UnavailableError.__name__):
            what = cause[len(UnavailableError.__name__) + 2 : -2]
            at_least = "at least " * (_ASKED in cause)
            record.msg = "%s; trying again in %s%.1f s"
            record.args = (what, at_least, record.__dict__["stamina.wait_for"])
        return True


logging.getLogger("stamina").addFilter(_RetryInWords())


_check: ContextVar[Callable[[], None] | None] = ContextVar("dtool_ecs_flows_check", default=None)


@contextmanager
def heed(check: Callable[[], None]) -> Iterator[None]:
    """Have this called while a request waits and before it is tried again, in this context; what it raises ends it."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check_stop() -> None:
    """Raise what the caller's check raises, where it was asked to stop."""
    check = _check.get()
    if check is not None:
        check()


class Attempts:
    """The attempts of one request: backoff with jitter while it raises `UnavailableError`, within a budget of time.

    Where the store said when to come back (Retry-After), it is not asked before; where that is after the end of the
    budget, once more at its end.

    Attributes:
        waited: seconds that the caller waited in it for the limits of the bucket, which are not the store's fault.
    """

    def __init__(self, *, succeeded_before: bool, once: bool = False) -> None:
        self.waited = 0.0
        self._once = once
        self._not_before = 0.0
        self._end = time.monotonic() + (BUDGET if succeeded_before else FIRST_BUDGET)

    def __iter__(self) -> Iterator[Any]:
        """Yield a context for each attempt."""
        retries = stamina.retry_context(
            on=self._may_help, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0, wait_jitter=1.0
        )
        for number, attempt in enumerate(retries):
            if number:
                self._wait_as_asked()
            yield attempt

    def _wait_as_asked(self) -> None:
        check_stop()
        while (left := self._not_before - time.monotonic()) > 0:
            time.sleep(min(left, _LISTEN))
            check_stop()

    def _may_help(self, error: Exception) -> bool:
        if self._once or not isinstance(error, UnavailableError):
            return False
        now, end = time.monotonic(), self._end + self.waited
        self._not_before = min(now + error.retry_after, end)
        return now < end


def says_busy(error: Exception) -> bool:
    """Whether an error of botocore or obstore is a store's wish for fewer requests."""
    if isinstance(error, boto.ClientError):
        response: dict[str, Any] = dict(error.response)
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in (429, 503) or response.get("Error", {}).get("Code") in _BUSY_CODES
    return _BUSY_STATUS.search(str(error)) is not None


def busy(settings: BucketSettings, operation: str, key: str) -> UnavailableError:
    """Return our error for a request that a store was too busy for."""
    return UnavailableError(f"{_where(settings, operation, key)}: SlowDown")


def _where(settings: BucketSettings, operation: str, key: str) -> str:
    return f"{operation} {settings.bucket}/{key}".rstrip("/") + f" at {settings.endpoint}"


def translate(
    error: Exception, settings: BucketSettings, operation: str, key: str, *, succeeded_before: bool = True
) -> StoreError:
    """Return our error for one of botocore's; `UnavailableError` means that trying again may help."""
    where = _where(settings, operation, key)
    if isinstance(error, boto.ClientError):
        return _answered(error, settings, operation, key, where)
    if isinstance(error, boto.SSLError) and not _TLS_BROKE.search(str(error)):
        if "WRONG_VERSION_NUMBER" in str(error):
            advice = f"the endpoint (from {settings.origin('endpoint')}) speaks http, not https"
        else:
            advice = f"for a private CA set DTOOL_ECS_CA_BUNDLE_{settings.bucket}"
        return StoreError(f"{where}: TLS failed: {error}; {advice}")
    if isinstance(error, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)):
        return UnavailableError(
            f"{where}: no answer ({type(error).__name__}); the endpoint comes from {settings.origin('endpoint')}"
        )
    if isinstance(error, boto.BotoCoreError):
        return StoreError(f"{where}: {error}")
    if isinstance(error, (KeyError, ResponseParserError)) and not succeeded_before:
        what = f"has no {error}" if isinstance(error, KeyError) else "cannot be read"
        return StoreError(
            f"{where}: the answer {what}, so it is no object store's; the endpoint comes from "
            f"{settings.origin('endpoint')}"
        )
    return UnavailableError(f"{where}: the answer was cut short ({type(error).__name__})")


def _answered(error: boto.ClientError, settings: BucketSettings, operation: str, key: str, where: str) -> StoreError:
    response: dict[str, Any] = dict(error.response)
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{where}: {code}"
    if code == "NoSuchBucket":
        return NoSuchBucketError(
            f"bucket {settings.bucket!r} does not exist at {settings.endpoint} (endpoint from "
            f"{settings.origin('endpoint')}); a bucket is never made silently, ask its administrator"
        )
    # Only a HEAD, whose answer has no body, may say so by its status alone: anything can answer 404 to the rest.
    if code == "NoSuchKey" or (status == 404 and operation == "HeadObject"):
        return NoSuchKeyError(f"{where}: no such key")
    if code == "NoSuchUpload":
        return NoSuchUploadError(f"{said}: completed or aborted, perhaps by another process")
    if status == 404:
        return StoreError(
            f"{where}: status 404, and not in the words of an object store; "
            f"check the endpoint (from {settings.origin('endpoint')})"
        )
    if code == "RequestTimeTooSkewed":
        return CredentialsError(f"{said}: this computer's clock is off by {_skew(response)}; set it right")
    if code in _CREDENTIAL_CODES or status == 401:
        return CredentialsError(
            f"{said}: check the access key (from {settings.origin('access_key_id')}) and its secret "
            f"(from {settings.origin('secret_access_key')})"
            + ("" if settings.namespace else ", or set the namespace if the user belongs to one")
        )
    if code in ("AccessDenied", "403", _QUOTA_CODE) or status == 403:
        return _denied(settings, operation, key, said, quota=code == _QUOTA_CODE)
    if code in _TRANSIENT_CODES or (status >= 500 and status != 501) or status == 429:  # 501: not implemented
        return _transient(response, f"{said} (status {status}")
    if code == "PreconditionFailed" or (status == 412 and operation == "PutObject"):
        return AlreadyExistsError(f"{where}: the key exists")
    message = str(response.get("Error", {}).get("Message") or "")
    return StoreError(f"{said} {message}".rstrip() + f" (status {status})")


def _transient(response: dict[str, Any], said: str) -> UnavailableError:
    """Return the error of an answer that tells of something transient, and perhaps when to come back."""
    asked = _retry_after(response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
    error = UnavailableError(said + (f"; {_ASKED} {asked:.0f} s)" if asked else ")"))
    error.retry_after = asked
    return error


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of a Retry-After header; 0 where there is none that can be read, or it tells of the past."""
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told)
    try:  # a time of the store's clock, which its answer tells too
        then, now = (email.utils.parsedate_to_datetime(text) for text in (told, headers.get("date", "")))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: one of them has no time zone
        return 0.0


def _denied(settings: BucketSettings, operation: str, key: str, said: str, *, quota: bool) -> StoreError:
    if quota:
        return QuotaExceededError(
            f"{said}: bucket {settings.bucket!r} or its owner may not hold more; delete what is not needed, or ask its "
            "administrator to raise the quota; the same call then does the rest"
        )
    action = _ACTIONS.get(operation, operation)
    return AccessDeniedError(
        f"{said}: the policy of bucket {settings.bucket!r} does not allow {action} on key {key!r} to the user "
        f"of the access key from {settings.origin('access_key_id')}; if it allows a prefix only, set "
        f"DTOOL_ECS_DATASET_PREFIX_{settings.bucket} to it (now {settings.dataset_prefix!r}, from "
        f"{settings.origin('dataset_prefix')})"
    )


def seconds_ahead(response: dict[str, Any]) -> float:
    """Return by how many seconds the store's clock is ahead of this one, by the Date header of its answer.

    Raises:
        KeyError: there is no date in it.
    """
    told = response["ResponseMetadata"]["HTTPHeaders"]["date"]
    try:
        theirs = email.utils.parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        raise KeyError("date") from None
    return theirs.timestamp() - time.time()


def _skew(response: dict[str, Any]) -> str:
    """Tell how far this clock is from the store's."""
    try:
        return f"{-seconds_ahead(response):+.0f} s"
    except KeyError:
        return "more than the store allows"
