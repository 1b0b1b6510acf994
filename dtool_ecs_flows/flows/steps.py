"""What flows over many datasets share: each is a step of its own, a failure does not stop the others, all are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from dtool_ecs_flows.artifacts import artifact_key, run_headline, run_markdown
from dtool_ecs_flows.errors import (
    CredentialsError,
    EcsFlowsError,
    NoSuchBucketError,
    QuotaExceededError,
    SettingsError,
    TransferError,
)
from dtool_ecs_flows.flows.options import MAX_AT_ONCE, CopyOptions
from dtool_ecs_flows.models import CopyReport, ItemsReport, RemoveReport
from dtool_ecs_flows.outcomes import DatasetOutcome, RunFailedError, RunReport
from dtool_ecs_flows.tasks import stops_with_flow
from dtool_ecs_flows.words import one_line, unsigned

__all__ = ["CONCERNS_ALL", "Step", "named", "pool", "run", "why"]

CONCERNS_ALL = (SettingsError, CredentialsError, NoSuchBucketError, QuotaExceededError)
"""Errors that the next dataset would meet too: what is not begun yet is not tried."""


@dataclass(frozen=True)
class Step:
    """One dataset of a run.

    Attributes:
        outcome: What is known beforehand: `planned`, or how it ended before it was begun.
        begin: Submits what does it; asked only where it is planned.
        afterwards: Submits what is done once it is there, if anything is.
    """

    outcome: DatasetOutcome
    begin: Callable[[], PrefectFuture[Any]] | None = None
    afterwards: Callable[[CopyReport], PrefectFuture[Any]] | None = None


def pool() -> TaskRunner[Any]:
    """Return the task runner of a flow over many datasets: bounded, as Prefect's own is not."""
    return ThreadPoolTaskRunner(max_workers=MAX_AT_ONCE)


def named(task: Task[Any, Any], verb: str, *parts: str) -> Task[Any, Any]:
    """Return a task whose run has a name that tells the dataset, whatever the dataset is called."""
    name = " ".join([verb, *(one_line(unsigned(part), 80) for part in parts if part)])
    return task.with_options(task_run_name=name.replace("{", "{{").replace("}", "}}"))


def run(
    title: str,
    steps: Sequence[Step],
    *,
    source: str,
    destination: str,
    key: str,
    options: CopyOptions,
) -> RunReport:
    """Do the steps, some at once, and leave an artifact that tells of each; in a dry run tell of them only.

    Args:
        title: What the artifact is called.
        steps: What to do.
        source: Where from, for the report.
        destination: Where to, for the report.
        key: What the artifact's key ends with, as the name of a bucket.
        options: How many at once and at most, and whether to do it at all.

    Raises:
        RunFailedError: Some failed; the artifact is there all the same.
    """
    start = time.monotonic()
    outcomes = [_plan(step) for step in steps] if options.dry_run else _Run(options).do(steps)
    report = RunReport(
        source=source,
        destination=destination,
        dry_run=options.dry_run,
        datasets=tuple(outcomes),
        seconds=time.monotonic() - start,
    )
    create_markdown_artifact(
        run_markdown(f"{title}, dry run" if report.dry_run else title, report),
        key=artifact_key(title, key),
        description=run_headline(report),
    )
    get_run_logger().info("%s", run_headline(report))
    failed = report.having("failed")
    if failed and not report.dry_run:
        first = failed[0]
        raise RunFailedError(
            f"{len(failed)} of {len(report.datasets)} datasets failed, the first "
            f"{one_line(first.name or first.source_uri)}: {first.message}",
            report,
        )
    return report


def _plan(step: Step) -> DatasetOutcome:
    goes = step.afterwards is not None and step.outcome.outcome in ("planned", "already there")
    return step.outcome.model_copy(update={"local_copy": "to be removed"}) if goes else step.outcome


class _Run:
    """The steps that are under way, and what became of the others."""

    def __init__(self, options: CopyOptions) -> None:
        self._options = options
        self._until = time.monotonic() + options.begin_for_hours * 3600 if options.begin_for_hours else None
        self._outcomes: dict[int, DatasetOutcome] = {}
        self._running: dict[PrefectFuture[Any], tuple[int, Step]] = {}
        self._copied = 0
        self._hopeless = ""

    def do(self, steps: Sequence[Step]) -> list[DatasetOutcome]:
        """Do them, and return what became of each, in their order."""
        with stops_with_flow():
            for number, step in enumerate(steps):
                self._outcomes[number] = step.outcome
                if step.begin is None or step.outcome.outcome != "planned":
                    continue
                while len(self._running) >= self._options.at_once or (self._running and self._is_enough()):
                    self._take_one()
                if self._hopeless:
                    self._note(number, outcome="failed", message=f"not tried, because of: {self._hopeless}")
                elif too_late := self._too_late():
                    self._note(number, outcome="left out", message=too_late)
                else:
                    self._running[step.begin()] = number, step
            while self._running:
                self._take_one()
        return [self._outcomes[number] for number in range(len(steps))]

    def _is_enough(self) -> bool:
        """Whether as many are copied, or may be when those under way end, as shall be copied at most."""
        return 0 < self._options.at_most <= self._copied + len(self._running)

    def _too_late(self) -> str:
        if self._is_enough():
            return f"left for the next run: this one copies {self._options.at_most} at most"
        if self._until is not None and time.monotonic() > self._until:
            return f"left for the next run: this one begins none after {self._options.begin_for_hours:g} hours"
        return ""

    def _note(self, number: int, **what: object) -> None:
        self._outcomes[number] = DatasetOutcome.model_validate({**dict(self._outcomes[number]), **what})

    def _take_one(self) -> None:
        """Wait for one of those under way, note what became of it, and begin what comes after it."""
        future = next(as_completed(list(self._running)))
        number, step = self._running.pop(future)
        result = future.result(raise_on_failure=False)
        if isinstance(result, CopyReport):
            self._copied += not result.already_there
            self._note(number, **_copied(result, self._outcomes[number]))
            if step.afterwards is not None:
                self._running[step.afterwards(result)] = number, step
        elif isinstance(result, RemoveReport):
            self._note(number, **_removed(result, self._outcomes[number]))
        else:
            self._note(number, outcome="failed", message=why(result))
            if isinstance(result, CONCERNS_ALL):
                self._hopeless = why(result)


def _copied(report: CopyReport, before: DatasetOutcome) -> dict[str, object]:
    part = isinstance(report, ItemsReport)
    return {
        "name": report.name,
        "uuid": report.uuid,
        "uri": report.uri,
        "outcome": "already there" if report.already_there else "copied" if report.items or not part else "left out",
        "items": report.items,
        "bytes": report.bytes,
        "copied_items": report.copied_items,
        "copied_bytes": report.copied_bytes,
        "seconds": report.seconds,
        "message": "; ".join(filter(None, (before.message, _note_of(report)))),
    }


def _note_of(report: CopyReport) -> str:
    told = [f"{report.items:,} of {report.of_items:,} items fit"] if isinstance(report, ItemsReport) else []
    if kept := [path for path in report.differences if path not in report.updated]:
        told.append(f"differs at the destination: {', '.join(kept)}")
    if report.updated:
        told.append(f"updated at the destination: {', '.join(report.updated)}")
    if report.skipped and not report.already_there:
        told.append(f"{report.skipped} items were there")
    return "; ".join(told)


def _removed(report: RemoveReport, before: DatasetOutcome) -> dict[str, object]:
    kept = f"local copy kept: {one_line(report.kept)}" if report.kept else ""
    return {
        "uri": report.uri,
        "outcome": before.outcome if before.outcome != "planned" else "already there",
        "local_copy": "kept" if report.kept else "removed",
        "seconds": before.seconds + report.seconds,
        "message": "; ".join(filter(None, (before.message, kept))),
    }


def why(error: object) -> str:
    """Say in one line why something failed; the first few items are named where items failed."""
    if not isinstance(error, BaseException):
        return "ended without a result"
    text = str(error) if isinstance(error, EcsFlowsError) else f"{type(error).__name__}: {error}"
    if isinstance(error, TransferError):
        told = [f"{relpath}: {cause}" for relpath, cause in error.failures[:3] if str(cause) not in text]
        more = [f"and {len(error.failures) - 3} more"] if len(error.failures) > 3 else []
        text = "; ".join([text, *told, *more])
    return one_line(text, 1000)
