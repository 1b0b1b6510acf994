"""Reports drawn for the Prefect UI: pure functions from a report to text or rows, and the progress of a task.

Names in a dataset come from strangers. Whatever is drawn is escaped, so that a name can neither break a table nor
become a link, an image or markup in somebody's browser.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging.loggers import LoggingAdapter

from dtool_ecs_flows.models import (
    AuditReport,
    CreateReport,
    DatasetAudit,
    DatasetInfo,
    DatasetList,
    Progress,
    VerifyReport,
)
from dtool_ecs_flows.outcomes import DatasetOutcome, RunReport
from dtool_ecs_flows.progress import summary
from dtool_ecs_flows.words import MAX_LINE, human_bytes, human_seconds, human_time, one_line, plural

__all__ = [
    "TaskProgress",
    "artifact_key",
    "audit_headline",
    "audit_markdown",
    "audit_rows",
    "code",
    "dataset_list_rows",
    "dataset_list_summary",
    "literal",
    "published_markdown",
    "run_headline",
    "run_markdown",
    "verify_markdown",
]

MAX_ROWS = 1000
"""Rows drawn in one artifact; the API and the browser have to carry them. The flow's result is complete."""

PROGRESS_PAUSE = 5.0
"""Seconds at least between two updates of a progress artifact, but for the last."""

_MARKUP = re.compile(r"[\\`*_\[\]|~]")


def literal(text: str, limit: int = MAX_LINE) -> str:
    """Return text as markdown that shows exactly this text, whatever it contains."""
    text = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda match: "\\" + match.group(), text)


def code(text: str, limit: int = MAX_LINE) -> str:
    """Return a name, URI or UUID as markdown in the code font, where nothing in it means anything."""
    text = one_line(text, limit)
    if not text.strip() or any(mark in text for mark in "`|\\<"):
        return literal(text, limit)  # the first three cannot be written as code in a table, < is for old renderers
    return f"`{text}`"


def artifact_key(*parts: str) -> str:
    """Return an artifact key (lower case, digits, dashes) made of these parts."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") or "report"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table; the cells must be escaped already. Columns that are empty in every row are left out."""
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [_table_line([head[column] for column in used]), "|" + " --- |" * len(used)]
    lines += [_table_line([row[column] for column in used]) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines += ["", f"… and {len(rows) - MAX_ROWS:,} more, in the result of the flow."]
    return "\n".join(lines)


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _unbroken(text: str) -> str:
    """Return text that a narrow column does not break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def run_headline(report: RunReport) -> str:
    """Say in one sentence what a run over many datasets did."""
    told = []
    if planned := report.having("planned"):
        told.append(f"{len(planned):,} would be copied")
    if copied := report.having("copied"):
        size = human_bytes(sum(dataset.copied_bytes for dataset in copied))
        told.append(f"{len(copied):,} copied ({size})")
    if there := report.having("already there"):
        told.append(f"{len(there):,} already there")
    if left_out := report.having("left out"):
        told.append(f"{len(left_out):,} left out")
    if failed := report.having("failed"):
        told.append(f"{len(failed):,} failed")
    return f"{plural(len(report.datasets), 'dataset')}: {', '.join(told) or 'nothing to do'}"


def run_markdown(title: str, report: RunReport) -> str:
    """Draw a run over many datasets: headline, failures with their reasons, then all the others."""
    parts = [
        f"# {literal(title)}",
        f"**{run_headline(report)}** in {human_seconds(report.seconds)}.",
        f"From {code(report.source)} to {code(report.destination)}.",
    ]
    if report.dry_run:
        parts.append("This was a dry run: nothing was copied.")
    if failed := report.having("failed"):
        rows = [[_name(dataset), code(dataset.source_uri), literal(dataset.message)] for dataset in failed]
        parts += [
            "## Failed",
            markdown_table(("Dataset", "Source", "Why"), rows),
            "Running again does what is missing, and nothing else.",
        ]
    others = report.having("copied", "planned", "already there", "left out")
    if others:
        head = ("Dataset", "UUID", "Outcome", "Items", "Size", "Copied", "Time", "Note")
        parts += ["## Datasets", markdown_table(head, [_run_row(dataset) for dataset in others])]
    return "\n\n".join(parts)


def _name(dataset: DatasetOutcome) -> str:
    return code(dataset.name or dataset.uuid or "?")


def _run_row(dataset: DatasetOutcome) -> list[str]:
    done = dataset.outcome in ("copied", "already there")
    return [
        _name(dataset),
        code(dataset.uuid),
        _unbroken(dataset.outcome),
        f"{dataset.items:,}" if done else "",
        _unbroken(human_bytes(dataset.bytes)) if done else "",
        _unbroken(human_bytes(dataset.copied_bytes)) if done else "",
        _unbroken(human_seconds(dataset.seconds)) if done else "",
        literal(dataset.message),
    ]


def dataset_list_summary(listing: DatasetList) -> str:
    """Say as markdown what a listing holds, the problems first."""
    frozen = sum(dataset.type == "dataset" for dataset in listing.datasets)
    unfinished = sum(dataset.type == "protodataset" for dataset in listing.datasets)
    problems = [dataset for dataset in listing.datasets if dataset.problem]
    text = f"**{plural(len(listing), 'dataset')}** in {code(listing.base_uri)}: {frozen:,} frozen"
    text += f", {unfinished:,} unfinished" if unfinished else ""
    text += f", {len(problems):,} with a problem" if problems else ""
    text += f". Listed in {human_seconds(listing.seconds)}."
    if listing.orphans:
        text += f"\n\nRegistered, but without a dataset: {', '.join(map(code, listing.orphans[:20]))}"
        text += " …" if len(listing.orphans) > 20 else ""
    if len(listing) > MAX_ROWS:
        text += f"\n\nThe first {MAX_ROWS:,} are shown; the result of the flow has all."
    return text


def dataset_list_rows(listing: DatasetList) -> list[dict[str, str]]:
    """Return the rows of a listing's table artifact; columns that would be empty in every row are left out."""
    rows = [_dataset_row(dataset) for dataset in listing.datasets[:MAX_ROWS]]
    used = [column for column in (rows[0] if rows else ()) if any(row[column] for row in rows)]
    return [{column: row[column] for column in used} for row in rows]


def _dataset_row(dataset: DatasetInfo) -> dict[str, str]:
    state = {"dataset": "frozen", "protodataset": "unfinished", "": "?"}[dataset.type]
    return {
        "Name": table_cell(dataset.name),
        "State": "problem" if dataset.problem else state,
        "Frozen (UTC)": human_time(dataset.frozen_at),
        "Creator": table_cell(dataset.creator_username),
        "Tags": table_cell(", ".join(dataset.tags or ())),
        "Problem": table_cell(dataset.problem),
        "UUID": table_cell(dataset.uuid),
        "Created (UTC)": human_time(dataset.created_at),
        "URI": table_cell(dataset.uri),
    }


def table_cell(text: str) -> str:
    """Return a cell of a table artifact, which the UI shows as plain text but for links in markdown form."""
    return one_line(text).replace("](", "] (")


def verify_markdown(report: VerifyReport) -> str:
    """Draw what a verification found."""
    how = (
        f"{human_bytes(report.bytes_read)} read and hashed"
        if report.content_read
        else "sizes and structure looked at, content not read"
    )
    verdict = "is right" if report.ok else f"has {plural(len(report.findings), 'finding')}"
    parts = [
        f"# {code(report.name or report.uuid)} {verdict}",
        f"{plural(report.items, 'item')}, {human_bytes(report.bytes)}; {how} in {human_seconds(report.seconds)}.",
        code(report.uri),
    ]
    if report.findings:
        rows = [
            [found.kind, code(found.subject), literal(found.message), code(found.expected), code(found.actual)]
            for found in report.findings
        ]
        parts.append(markdown_table(("Finding", "Item or key", "What", "Expected", "Found"), rows))
    return "\n\n".join(parts)


def audit_headline(report: AuditReport) -> str:
    """Say in one sentence what an audit found."""
    read = [dataset for dataset in report.due if dataset.content_read]
    told = [f"{len(read):,} read in full ({human_bytes(sum(dataset.bytes_read for dataset in read))})"]
    for word, found in (
        ("damaged", report.damaged),
        ("not verified", report.having("not verified")),
        ("stale proto", report.having("stale proto dataset")),
        ("orphan registration", report.having("orphan registration")),
    ):
        told += [f"{len(found):,} {word}"] if found else []
    return f"{plural(len(report.datasets), 'dataset')}: {', '.join(told)}"


def audit_markdown(report: AuditReport) -> str:
    """Draw an audit: damage first, with what to do, then what was not verified or is left over, then what was read."""
    part = f", part {report.part} of {report.parts}" if report.parts > 1 else ""
    parts = [
        f"# Audit of {code(report.base_uri)}",
        f"**{audit_headline(report)}** in {human_seconds(report.seconds)}.",
        f"Slice {report.slice_number} of {report.slices}{part}. {_audit_age(report)}",
    ]
    for title, found, advice in (
        (
            "Damaged",
            report.damaged,
            "Nothing was changed. Verify another copy, then delete the dataset here and copy it again.",
        ),
        ("Not verified", report.having("not verified"), "This is no damage: the next audits read it."),
        (
            "Left over",
            report.having("stale proto dataset", "orphan registration", "proto dataset"),
            "Finish these, or delete them.",
        ),
    ):
        rows = [
            [_audit_name(dataset), code(dataset.uri), finding.kind, code(finding.subject), literal(finding.message)]
            for dataset in found
            for finding in dataset.findings
        ]
        if rows:
            parts += [f"## {title}", markdown_table(("Dataset", "URI", "Finding", "Where", "What"), rows), advice]
    if read := [dataset for dataset in report.due if dataset.content_read]:
        rows = [
            [
                _audit_name(dataset),
                code(dataset.uuid),
                f"{dataset.items:,}",
                _unbroken(human_bytes(dataset.bytes_read)),
                _unbroken(human_seconds(dataset.seconds)),
                dataset.due,
            ]
            for dataset in read
        ]
        parts += ["## Read in full", markdown_table(("Dataset", "UUID", "Items", "Read", "Time", "Due by"), rows)]
    return "\n\n".join(parts)


def _audit_name(dataset: DatasetAudit) -> str:
    return code(dataset.name or dataset.uuid)


def _audit_age(report: AuditReport) -> str:
    frozen = [dataset for dataset in report.datasets if dataset.type == "dataset"]
    known = [dataset.last_read for dataset in frozen if dataset.last_read is not None]
    oldest = f"; the one longest ago was at {human_time(min(known))} UTC" if known else ""
    return f"{len(known):,} of {plural(len(frozen), 'frozen dataset')} were read in full so far{oldest}."


def audit_rows(report: AuditReport) -> list[dict[str, str]]:
    """Return the rows of an audit's table artifact, those with findings first."""
    ordered = sorted(report.datasets, key=lambda dataset: (not dataset.damage, not dataset.findings))
    return [
        {
            "Name": table_cell(dataset.name),
            "State": _audit_state(dataset),
            "Read in full (UTC)": human_time(dataset.last_read),
            "Items": f"{dataset.items:,}" if dataset.type == "dataset" else "",
            "Size": human_bytes(dataset.bytes) if dataset.type == "dataset" else "",
            "Findings": ", ".join(sorted({finding.kind for finding in dataset.findings})),
            "UUID": table_cell(dataset.uuid),
        }
        for dataset in ordered[:MAX_ROWS]
    ]


def _audit_state(dataset: DatasetAudit) -> str:
    if dataset.damage:
        return "damaged"
    if dataset.findings:
        return dataset.findings[0].kind
    return {"dataset": "good", "protodataset": "unfinished", "": "?"}[dataset.type]


def published_markdown(report: CreateReport, *, tags: Sequence[str] = (), derived_from: Sequence[str] = ()) -> str:
    """Draw a dataset that was made."""
    facts = [
        ("URI", code(report.uri)),
        ("UUID", code(report.uuid)),
        ("Items", f"{report.items:,}"),
        ("Size", human_bytes(report.bytes)),
        ("Tags", ", ".join(map(code, tags))),
        ("Derived from", "<br>".join(map(code, derived_from))),
        ("Time", human_seconds(report.seconds)),
    ]
    table = markdown_table(("Dataset", code(report.name)), [fact for fact in facts if fact[1]])
    return f"# Published {code(report.name)}\n\n{table}"


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
