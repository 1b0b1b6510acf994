"""How far a task has come."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging.loggers import LoggingAdapter

from dtool_ecs_flows.artifacts.drawing import artifact_key, code
from dtool_ecs_flows.models import Progress
from dtool_ecs_flows.progress import summary
from dtool_ecs_flows.words import one_line

PROGRESS_PAUSE = 5.0
"""Seconds at least between two updates of a progress artifact, but for the last."""


class TaskProgress:
    """A progress artifact of the task run that builds it: a handful of updates, however many items there are.

    It is made with the first item, unless that was all there was to do; updated with each tenth, but not more often
    than every `pause` seconds; and once more at the end. A thread of its own sends it, so that the operation does not
    wait. It is shown to people only: where the API cannot be reached, that is logged once and the work goes on.

    Args:
        label: what is done to which dataset.
        logger: of the task run.
        pause: seconds.
    """

    def __init__(self, label: str, logger: logging.Logger | LoggingAdapter, *, pause: float = PROGRESS_PAUSE) -> None:
        self._label = label
        self._logger = logger
        self._pause = pause
        self._last: Progress | None = None
        self._tenth = -1
        self._next_time = 0.0
        self._artifact: UUID | None = None
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "dtool-ecs-progress")
        self._sending: Future[None] | None = None

    def __call__(self, progress: Progress) -> None:
        """Note how far the operation has come."""
        self._last = progress
        tenth = int(progress.fraction * 10)
        if tenth == 10 or tenth <= self._tenth or time.monotonic() < self._next_time:  # the end is told by `finish`
            return
        if self._sending is None or self._sending.done():
            self._tenth = tenth
            self._next_time = time.monotonic() + self._pause
            self._send(progress, summary(progress))

    def finish(self, *, done: bool) -> None:
        """Show the end, if anything was shown before; `done` says whether it is a good one."""
        if self._sending is not None and self._last is not None:
            last = self._last
            if not done:
                last = replace(last, bytes_per_second=0.0, seconds_left=None)
            self._send(last, summary(last) if done else f"ended after {summary(last)}")
        self._thread.shutdown()

    def _send(self, progress: Progress, told: str) -> None:
        # The thread has to know the task run, which is in the context.
        percent = int(1000 * progress.fraction) / 10
        self._sending = self._thread.submit(copy_context().run, self._show, percent, f"{code(self._label)}: {told}")

    def _show(self, percent: float, description: str) -> None:
        if self._failed:
            return
        try:
            if self._artifact is None:
                key = artifact_key("progress", self._label)
                self._artifact = create_progress_artifact(percent, key, description, _sync=True)  # type: ignore[call-arg, assignment]  # async_dispatch
            else:
                update_progress_artifact(self._artifact, percent, description, _sync=True)  # type: ignore[call-arg]
        except Exception as error:  # noqa: BLE001  # a display that fails must not fail the copy that it shows
            self._failed = True
            self._logger.warning("The progress is not shown: %s", one_line(f"{type(error).__name__}: {error}"))
