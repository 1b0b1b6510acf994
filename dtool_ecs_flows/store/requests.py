"""How a request reaches a bucket: by which lane, within which limits, how often. `Store` says which request."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import botocore.exceptions as boto
from botocore import xform_name
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from dtool_ecs_flows.errors import StoreError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import client, failures
from dtool_ecs_flows.store.fast import FastLane, can_spell, usable
from dtool_ecs_flows.store.limits import limits_of

logger = logging.getLogger(__name__)

_FAST_FAILURES = 20  # in a row, before the fast lane is left alone
_FAST_PAUSE = 60.0  # seconds; after an outage it serves again

# KeyError: an answer without what it is for.
_FAILURES = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, OSError, KeyError)

T = TypeVar("T")


class Requests:
    """The ways to one bucket, for one user. Thread-safe; nothing is asked before the first call."""

    def __init__(self, settings: BucketSettings) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self._fast_failures = 0  # a race between threads counts one more or less, which does not matter
        self._fast_from = 0.0
        self._succeeded = False
        self._begin()
        _in_this_process.add(self)

    def _begin(self) -> None:
        """Make all that belongs to one process: locks, connections, the count of requests at once."""
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._limits = limits_of(self.settings)
        self._fast = FastLane(self.settings)

    def __repr__(self) -> str:
        """Name the bucket and where it is."""
        return f"<Store {self.bucket} at {self.settings.endpoint}>"

    def _fast_for(self, key: str) -> bool:
        return time.monotonic() >= self._fast_from and usable(self.settings) and can_spell(key)

    def _fast_served(self) -> None:
        self._succeeded, self._fast_failures = True, 0

    def _fast_failed(self, error: Exception, operation: str, key: str) -> UnavailableError | None:
        """Count a failure: what fails time and again shall not cost one request more for each item.

        A store that is busy is no fault of the lane. Its answer is returned, to be the first attempt of `_call`: the
        request is not made again before a pause.
        """
        if failures.says_busy(error):
            return failures.busy(self.settings, operation, key)
        logger.debug("a request goes through boto3 after %s of the fast lane", type(error).__name__)
        self._fast_failures += 1
        if self._fast_failures >= _FAST_FAILURES:
            self._fast_from, self._fast_failures = time.monotonic() + _FAST_PAUSE, 0
            logger.info("%r: the fast lane failed %d times, items go through boto3 for a while", self, _FAST_FAILURES)
        return None

    def _client(self, name: str, build: Callable[[BucketSettings], Any]) -> Any:
        with self._lock:
            if name not in self._clients:
                self._clients[name] = build(self.settings)
            return self._clients[name]

    def _call(
        self,
        operation: str,
        key: str,
        params: dict[str, Any],
        read: Callable[[dict[str, Any]], T],
        *,
        size: int = 0,
        failed: UnavailableError | None = None,
        once: bool = False,
    ) -> T:
        """Make one request and read its answer, again while that may help.

        Args:
            operation: as boto3 names it.
            key: named in errors.
            params: of the operation, but for the bucket.
            read: makes the result of the answer.
            size: bytes of an object that it moves, for the limits of the bucket.
            failed: what the first attempt came to, where it was made elsewhere.
            once: there is another way: do not try again.
        """
        client.check_key(params)
        s3 = self._client("signed", client.build)
        method = getattr(s3, xform_name(operation))
        attempts = failures.Attempts(succeeded_before=self._succeeded, once=once)
        for attempt in attempts:
            with attempt:
                if failed is not None:
                    error, failed = failed, None
                    raise error
                try:
                    with self._limits.request(size) as waited:
                        attempts.waited += waited
                        result = read(method(Bucket=self.bucket, **params))
                except StoreError:
                    raise
                except _FAILURES as error:
                    raise failures.translate(
                        error, self.settings, operation, key, succeeded_before=self._succeeded
                    ) from None
                self._succeeded = True
                return result
        raise AssertionError("attempts end by returning or raising")


_in_this_process: weakref.WeakSet[Requests] = weakref.WeakSet()


def _begin_in_child() -> None:
    """Let no store of a forked child write into its parent's connections, or wait for its parent's threads."""
    for each in list(_in_this_process):
        each._begin()  # noqa: SLF001  # the same room


os.register_at_fork(after_in_child=_begin_in_child)
