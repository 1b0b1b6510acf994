"""Prefect tasks, one per operation on a whole dataset: names, retries, progress and stopping, nothing else.

Each takes what its operation takes, with blocks (`buckets`) in place of `settings`, and returns the operation's report.

- Retried is only what may work a little later (`is_transient`). The operation has tried for minutes before that.
- A cancelled flow run stops the tasks that it submitted on threads; what is half there is resumed by the next run.
- No task is cached: that a run once succeeded does not prove that the dataset is still there. Each is idempotent
  but for `create_dataset`, which makes a new dataset every time. Prefect persists the result only of a task with a
  cache policy: whoever wants either says `.with_options(persist_result=True, cache_policy=INPUTS - "buckets")`.
- In `.map` wrap a block as `prefect.unmapped(bucket)`, since Prefect takes it for something to iterate over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
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

from dtool_ecs_flows import datasets
from dtool_ecs_flows.artifacts import TaskProgress
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import StoppedError, TransferError, UnavailableError
from dtool_ecs_flows.models import CopyReport, CreateReport, DatasetList, DeleteReport, VerifyReport
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line

__all__ = [
    "Buckets",
    "copy_dataset",
    "create_dataset",
    "delete_dataset",
    "is_transient",
    "list_datasets",
    "stops_with_flow",
    "verify_dataset",
]

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


def _subject(uri_or_name: object) -> str:
    """Return what tells a dataset from others: the last part of its URI, or its name."""
    text = str(uri_or_name)
    try:
        path = urlsplit(text).path
    except ValueError:  # no URI: the operation says so
        path = text
    return one_line(unquote(path).rstrip("/").rpartition("/")[2] or text, 80)


def _settings(buckets: Buckets) -> list[BucketSettings]:
    return [block.settings() for block in ([buckets] if isinstance(buckets, EcsBucket) else buckets)]


_Logger: TypeAlias = "LoggingAdapter | logging.Logger"


@contextmanager
def _told(doing: str) -> Iterator[_Logger]:
    """Log the start, and a stop; the line of the end is the caller's, who has the report."""
    logger = get_run_logger()
    logger.info("%s", one_line(doing))
    try:
        yield logger
    except StoppedError:
        logger.warning("Stopped: what is there can be resumed by running again")
        raise


@contextmanager
def _shown(doing: str) -> Iterator[tuple[_Logger, TaskProgress]]:
    """Log as `_told`, and show the progress under the name of the task run."""
    with _told(doing) as logger:
        progress = TaskProgress(one_line(task_run.name or doing), logger)
        done = False
        try:
            yield logger, progress
            done = True
        finally:
            progress.finish(done=done)


# ---------------------------------------------------------------------------------------------------- tasks


def _operation(verb: str, subject: str, *, retries: int = RETRIES) -> Callable[[Callable[P, R]], Task[P, R]]:
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


@_operation("copy", "source_uri")
def copy_dataset(
    source_uri: str,
    base_uri: str,
    *,
    buckets: Buckets = (),
    config_path: str | None = None,
    update_metadata: bool = False,
    concurrency: int | None = None,
) -> CopyReport:
    """Copy a frozen dataset to another base URI; resume what is half there, skip what is there and right.

    Args:
        source_uri: URI of a frozen dataset.
        base_uri: Base URI to copy it to, for example ecs://my-bucket.
        buckets: Blocks of the buckets that it comes from and goes to.
        config_path: Path of a dtool.json in place of the default one.
        update_metadata: Change README, tags and annotations at the destination where they differ.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was copied, and what was there.
    """
    with _shown(f"Copying {source_uri} to {base_uri}") as (logger, progress):
        report = datasets.copy_dataset(
            source_uri,
            base_uri,
            settings=_settings(buckets),
            config_path=config_path,
            update_metadata=update_metadata,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    if report.already_there:
        logger.info("Already there: %s (%s)", one_line(report.name), report.uri)
    else:
        logger.info(
            "Copied %s (%s): %d items, %s sent, %d skipped, in %s",
            one_line(report.name),
            report.uri,
            report.items,
            human_bytes(report.copied_bytes),
            report.skipped,
            human_seconds(report.seconds),
        )
    if report.differences:
        logger.warning("Metadata that differs at the destination: %s", one_line(", ".join(report.differences)))
    return report


@_operation("list", "base_uri")
def list_datasets(
    base_uri: str,
    *,
    buckets: Buckets = (),
    config_path: str | None = None,
    tags: bool = False,
    concurrency: int | None = None,
) -> DatasetList:
    """List the datasets of a base URI, frozen and unfinished.

    Args:
        base_uri: Base URI, for example ecs://my-bucket.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        tags: Read each dataset's tags too.
        concurrency: Reads at once; by default as the bucket says.

    Returns:
        The datasets by name, and what could not be read.
    """
    with _told(f"Listing {base_uri}") as logger:
        listing = datasets.list_datasets(
            base_uri,
            settings=_settings(buckets),
            config_path=config_path,
            tags=tags,
            concurrency=concurrency,
            stop=StopSignal(),
        )
    logger.info("%d datasets in %s, listed in %s", len(listing), base_uri, human_seconds(listing.seconds))
    return listing


@_operation("create", "name", retries=0)
def create_dataset(
    name: str,
    base_uri: str,
    *,
    directory: str | PathLike[str] | None = None,
    files: Mapping[str, str | PathLike[str]] | None = None,
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    item_metadata: Mapping[str, Mapping[str, Any]] | None = None,
    derived_from: Sequence[str] = (),
    creator_username: str | None = None,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> CreateReport:
    """Make a frozen dataset of a folder or of files, straight in its place. Not retried: each call makes a new one.

    Args:
        name: Name of the dataset.
        base_uri: Base URI to make it in, for example ecs://my-bucket.
        directory: Folder whose files become the items.
        files: Paths of files by the relpath that each gets in the dataset.
        readme: Descriptive metadata, YAML.
        tags: Tags of the dataset.
        annotations: JSON values by name, for example of provenance().
        item_metadata: JSON values by key, by relpath.
        derived_from: URIs of the datasets that it was made from.
        creator_username: Who made it; by default as dtool is configured.
        buckets: Block of the bucket, and those of the source datasets.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was made.
    """
    with _shown(f"Creating {name} in {base_uri}") as (logger, progress):
        report = datasets.create_dataset(
            name,
            base_uri,
            directory=directory,
            files=files,
            readme=readme,
            tags=tags,
            annotations=annotations,
            item_metadata=item_metadata,
            derived_from=derived_from,
            creator_username=creator_username,
            settings=_settings(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    logger.info("Created %s (%s): %d items, %s", name, report.uri, report.items, human_bytes(report.bytes))
    return report


@_operation("verify", "uri")
def verify_dataset(
    uri: str,
    *,
    read: bool = True,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> VerifyReport:
    """Verify a dataset: structure, sizes and, reading every byte, hashes. What is wrong is in the report, no error.

    Args:
        uri: URI of the dataset.
        read: Read the content; without it only structure and sizes are looked at.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        The findings; none means that all is right.
    """
    with _shown(f"Verifying {uri}") as (logger, progress):
        report = datasets.verify_dataset(
            uri,
            read=read,
            settings=_settings(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    told = (one_line(report.name or report.uuid), report.items, human_bytes(report.bytes_read), len(report.findings))
    logger.log(logging.INFO if report.ok else logging.ERROR, "Verified %s: %d items, %s read, %d findings", *told)
    return report


@_operation("delete", "name")
def delete_dataset(uri: str, name: str, *, buckets: Buckets = (), config_path: str | None = None) -> DeleteReport:
    """Delete a dataset, content and registration, when `name` is its name.

    Args:
        uri: URI of the dataset.
        name: The dataset's name, as a confirmation.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        What was deleted, and what was left because no dtool client writes it.
    """
    with _told(f"Deleting {name} ({uri})") as logger:
        report = datasets.delete_dataset(
            uri, name, settings=_settings(buckets), config_path=config_path, stop=StopSignal()
        )
    logger.info("Deleted %s (%s): %d objects", one_line(report.name), report.uri, report.deleted)
    return report
