"""Looks step by step whether a bucket can be worked with from here, and says how to mend what is wrong.

Rooms: `here` (settings, plugins), `network` (connection, certificate), `reading` (what can be asked of a bucket),
`writing` (what has to be tried), `report` (what was found).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dtool_ecs_flows import layout
from dtool_ecs_flows.doctor import here, network, reading
from dtool_ecs_flows.doctor.report import Diagnosis, State, Step, skip
from dtool_ecs_flows.doctor.writing import Trial
from dtool_ecs_flows.errors import AccessDeniedError, StoppedError, StoreError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, heed, open_store

__all__ = ["Diagnosis", "State", "Step", "examine"]

PATIENCE = 30.0
"""Seconds that a step may take while the store does not do what it is asked."""

T = TypeVar("T")

_NETWORK = ("endpoint", "TLS")
_BUCKET = ("namespace", *reading.FIRST, *reading.REST)


def examine(bucket: str, *, read_only: bool = False, stop: threading.Event | None = None) -> Iterator[Step]:
    """Yield the steps as they are taken; what cannot be tried after a failure is skipped.

    The registration key of a dataset that nobody has, and some hundred objects below the prefix, are written and
    removed again, also where the iteration is left early: then close it.

    Args:
        bucket: its name; the settings are looked up as for any operation.
        read_only: write nothing.
        stop: set it to end early with `StoppedError`, after what was written is removed.
    """
    stop = stop or threading.Event()
    settings, steps = here.look_up(bucket)
    yield from steps
    yield here.look_at_plugins()
    if settings is None:
        yield from skip((*_NETWORK, *_BUCKET, "writing"), "there are no complete settings")
        return
    reached = network.reach(settings)
    yield reached
    if reached.state == "failed":
        yield from skip((_NETWORK[1], *_BUCKET, "writing"), "there is no connection")
        return
    tls = network.look_at_tls(settings)
    yield tls
    if tls.state == "failed":
        yield from skip((*_BUCKET, "writing"), "there is no TLS")
        return
    yield reading.look_at_namespace(settings)
    yield from _in_bucket(open_store(settings), read_only, stop)


def _in_bucket(store: Store, read_only: bool, stop: threading.Event) -> Iterator[Step]:
    first = _taken(stop, lambda: reading.ask(store))
    yield from first
    if any(step.state == "failed" for step in first):
        yield from skip((*reading.REST, "writing"), "the bucket cannot be looked into")
        return
    for look in (reading.look_at_versioning, reading.look_for_uploads):
        yield from _taken(stop, lambda look=look: look(store))  # type: ignore[misc]  # a default binds it
    if read_only:
        yield from skip(["writing"], "--read-only writes nothing")
        return
    trial = Trial(store, stop)
    try:
        yield from _try(trial, store.settings, stop)
    except StoppedError:
        step = _taken(threading.Event(), trial.clean)
        yield step
        if step.state == "failed":
            raise StoreError(f"stopped, and {step.found}; {step.advice}") from None
        raise
    except BaseException:
        _taken(threading.Event(), trial.clean)
        raise
    yield _taken(threading.Event(), trial.clean)


def _try(trial: Trial, settings: BucketSettings, stop: threading.Event) -> Iterator[Step]:
    writable = True
    for names, take in trial.parts:
        if not writable:
            yield from skip(names, "nothing can be written below the prefix")
            continue
        try:
            yield from _taken(stop, take)
        except StoreError as error:
            yield Step(name=names[0], state="failed", found=str(error), advice=_advice(error, names[0], settings))
            yield from skip(names[1:], "not known")
            writable = names[0] != "prefix"


def _advice(error: StoreError, name: str, settings: BucketSettings) -> str:
    if not isinstance(error, AccessDeniedError):
        return ""
    if name == "registration keys":
        return f"have the policy allow s3:PutObject on {layout.REGISTRATION_PREFIX}*: docs/access-policy.md"
    prefix = settings.dataset_prefix
    tell = f"set DTOOL_ECS_DATASET_PREFIX_{settings.bucket} to the prefix that is yours"
    return (f"have the policy allow {prefix}*, or {tell}" if prefix else tell) + ": docs/access-policy.md"


def _taken(stop: threading.Event, take: Callable[[], T]) -> T:
    """Take a step, which is tried again for `PATIENCE` at most: who asks the doctor waits for the answer."""
    end = time.monotonic() + PATIENCE

    def check() -> None:
        if stop.is_set():
            raise StoppedError("stopped")
        if time.monotonic() > end:
            raise UnavailableError(f"tried for {PATIENCE:.0f} s, again and again: the store is down, or busy")

    if stop.is_set():
        check()
    with heed(check):
        return take()
