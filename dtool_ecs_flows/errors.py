"""Errors: one base, few leaves; each leaf is also the builtin that a caller would expect.

Every message names the thing (key, relpath, setting), where it came from and what to do.
No message ever contains a secret, nor anything that a terminal or a log would take for more than text: names in a
bucket come from strangers.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
from dtoolcore.storagebroker import StorageBrokerOSError

from dtool_ecs_flows.words import unsigned, visible

__all__ = [
    "AccessDeniedError",
    "AlreadyExistsError",
    "CorruptItemError",
    "CredentialsError",
    "DatasetDiffersError",
    "DatasetError",
    "DatasetTimeoutError",
    "EcsFlowsError",
    "FrozenDatasetError",
    "ManifestError",
    "NoSuchBucketError",
    "NoSuchKeyError",
    "NoSuchUploadError",
    "NotADatasetError",
    "PluginError",
    "QuotaExceededError",
    "SettingsError",
    "StoppedError",
    "StoreError",
    "TransferError",
    "UnavailableError",
    "UnsafeNameError",
]


_MAX_BEGIN, _MAX_END = 3000, 1000  # characters of a message that are kept; what is wrong often stands at its end


class EcsFlowsError(click.ClickException):
    """Base of every error that this package raises on purpose.

    It is click's error too, so that the `dtool` command, which calls the broker from within click, shows the message
    on one line instead of a traceback. What cannot be seen in it is spelled out, what signs a URL is left out, and what
    is very long is cut.
    """

    def __init__(self, message: str) -> None:
        message = unsigned(message)
        if len(message) > _MAX_BEGIN + _MAX_END:
            message = f"{message[:_MAX_BEGIN]} … {message[-_MAX_END:]}"
        super().__init__(visible(message))


class SettingsError(EcsFlowsError, ValueError):
    """A setting is missing or wrong; the message names it and where it was looked for."""


class PluginError(EcsFlowsError, ImportError):
    """An installed dtool plugin cannot be imported, so that dtoolcore cannot look up any."""


class UnsafeNameError(EcsFlowsError, ValueError):
    """A relpath, URI, prefix or name that cannot be stored, or must not be written."""


class StoppedError(EcsFlowsError):
    """The operation was asked to stop; what is there can be resumed."""


class StoreError(EcsFlowsError, StorageBrokerOSError):  # type: ignore[misc]  # dtoolcore has no types
    """The object store refused a request, or could not be reached; dtoolcore's own error for this."""


class NoSuchKeyError(StoreError, FileNotFoundError):
    """There is no object under this key: the only error that means "not there"."""


class NoSuchUploadError(StoreError, LookupError):
    """The multipart upload is not there any more: completed or aborted, perhaps by another process."""


class NoSuchBucketError(StoreError, FileNotFoundError):
    """The bucket does not exist; a bucket is never made silently."""


class AlreadyExistsError(StoreError, FileExistsError):
    """Put-if-absent met an object that is already there."""


class AccessDeniedError(StoreError, PermissionError):
    """The credentials are good but do not allow this request on this key."""


class CredentialsError(StoreError, PermissionError):
    """The access key, its secret, the namespace or the clock is wrong."""


class QuotaExceededError(StoreError):
    """The bucket, or its owner, may not hold more: somebody has to raise the quota or to delete something."""


class UnavailableError(StoreError, ConnectionError):
    """Transient failures outlasted the budget of retries; the same call may work later.

    Attributes:
        retry_after: seconds that the store asked to be left alone for, in its last answer; 0 where it did not.
    """

    retry_after = 0.0


class DatasetError(EcsFlowsError):
    """Something is wrong with a dataset as a whole."""


class NotADatasetError(DatasetError, LookupError):
    """There is no dataset (or not one of the needed type) under this URI."""


class DatasetTimeoutError(DatasetError, TimeoutError):
    """A dataset that was waited for did not come in time."""


class FrozenDatasetError(DatasetError, StorageBrokerOSError, FileExistsError):  # type: ignore[misc]
    """A frozen dataset would have been written over."""


class DatasetDiffersError(DatasetError, ValueError):
    """Source and destination hold different content under one UUID."""


class ManifestError(DatasetError, ValueError):
    """The manifest (or another JSON document of a dataset) cannot be read."""


class CorruptItemError(DatasetError, ValueError):
    """An item's bytes do not have the hash that the manifest says."""

    def __init__(self, relpath: str, *, expected: str, actual: str, where: str) -> None:
        super().__init__(f"item {relpath!r} is corrupt in {where}: expected {expected}, found {actual}")
        self.relpath = relpath
        self.expected = expected
        self.actual = actual
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from keywords, so that the error survives a process boundary."""
        return (_corrupt, (self.relpath, self.expected, self.actual, self.where))


def _corrupt(relpath: str, expected: str, actual: str, where: str) -> CorruptItemError:
    return CorruptItemError(relpath, expected=expected, actual=actual, where=where)


class TransferError(DatasetError):
    """Some items failed; `failures` pairs each relpath with its cause.

    The dataset at the destination stays a proto dataset: the same call again does the rest.
    """

    def __init__(self, message: str, failures: Sequence[tuple[str, BaseException]] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild with its failures, so that the error survives a process boundary."""
        return (TransferError, (self.message, self.failures))
