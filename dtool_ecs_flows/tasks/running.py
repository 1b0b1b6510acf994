"""What all tasks share: names, retries, stopping, logging and progress."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging.loggers import LoggingAdapter
from prefect.runtime import task_run
from prefect.tasks import Task

from dtool_ecs_flows.artifacts import TaskProgress
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import StoppedError, TransferError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.words import one_line, unsigned

Buckets = EcsBucket | Sequence[EcsBucket]
"""Blocks of the buckets that a task touches; one that is not named is looked up in the environment and dtool.json."""

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAY_SECONDS = 15.0
"""Prefect sleeps this long in the task's thread, deaf to a cancel, which kills after 30 s: so it stays well below."""


# ---------------------------------------------------------------------------------------------------- retries


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may work a little later."""
    if isinstance(error, TransferError):
        return bool(error.failures) and all(is_transient(cause) for _, cause in error.failures)
    return isinstance(error, UnavailableError)


def _may_be_retried(_task: Task[Any, Any], _task_run: TaskRun, state: State[Any]) -> bool:
    error = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error) and not StopSignal().is_set()


# ---------------------------------------------------------------------------------------------------- stopping

_stopped: ContextVar[threading.Event | None] = ContextVar("dtool_ecs_flows_stopped", default=None)


@contextmanager
def stops_with_flow() -> Iterator[None]:
    """Stop the tasks submitted within, on whatever runner of threads, when this flow is cancelled or terminated.

    Tasks on the flow's own ThreadPoolTaskRunner stop without it.
    """
    event = threading.Event()
    token = _stopped.set(event)
    try:
        yield
    except (TerminationSignal, KeyboardInterrupt):
        event.set()
        if FlowRunContext.get() is not None:
            get_run_logger().warning("Asked to stop: no new request is made, those under way end")
        raise
    finally:
        _stopped.reset(token)


class StopSignal(threading.Event):
    """The event that an operation polls: set by `stops_with_flow`, or by the flow's task runner when it shuts down.

    Prefect interrupts the main thread only. Its runner of threads keeps an event per task that it sets on the way out
    and that no public name leads to; where a version has none, only the first way is left.
    """

    def __init__(self) -> None:
        super().__init__()
        runner = getattr(FlowRunContext.get(), "task_runner", None)
        events = {str(key): event for key, event in dict(getattr(runner, "_cancel_events", {})).items()}
        self._others = [event for event in (_stopped.get(), events.get(str(task_run.id))) if event is not None]

    def is_set(self) -> bool:
        """Return whether the work should stop."""
        return super().is_set() or any(event.is_set() for event in self._others)


# ---------------------------------------------------------------------------------------------------- names and logs


def _subject(subject: object) -> str:
    """Return what tells a dataset from others: the last part of its URI, or its name."""
    text = str(getattr(subject, "uri", subject))
    try:
        path = urlsplit(text).path
    except ValueError:  # no URI: the operation says so
        path = text
    return one_line(unquote(path).rstrip("/").rpartition("/")[2] or text, 80)


def settings_of(buckets: Buckets) -> list[BucketSettings]:
    """Return the settings that blocks hold."""
    return [block.settings() for block in ([buckets] if isinstance(buckets, EcsBucket) else buckets)]


_Logger: TypeAlias = "LoggingAdapter | logging.Logger"


@contextmanager
def told(doing: str) -> Iterator[_Logger]:
    """Log the start, and a stop; the line of the end is the caller's, who has the report."""
    logger = get_run_logger()
    logger.info("%s", one_line(unsigned(doing)))
    try:
        yield logger
    except StoppedError:
        logger.warning("Stopped: what is there can be resumed by running again")
        raise


@contextmanager
def shown(doing: str) -> Iterator[tuple[_Logger, TaskProgress]]:
    """Log as `told`, and show the progress under the name of the task run."""
    with told(doing) as logger:
        progress = TaskProgress(one_line(unsigned(task_run.name or doing)), logger)
        done = False
        try:
            yield logger, progress
            done = True
        finally:
            progress.finish(done=done)


# ---------------------------------------------------------------------------------------------------- tasks


def operation(verb: str, subject: str, *, retries: int = RETRIES) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function; its runs are named after the verb and the parameter that tells its subject."""

    def run_name(parameters: dict[str, Any]) -> str:
        return f"{verb} {_subject(parameters[subject])}"

    return task(
        task_run_name=run_name,  # type: ignore[arg-type]  # a protocol that no plain function fits
        retries=retries,
        retry_delay_seconds=RETRY_DELAY_SECONDS,
        retry_jitter_factor=0.5,
        retry_condition_fn=_may_be_retried,
        cache_policy=NO_CACHE,
    )
