"""What archive and retrieve share: choose datasets, copy each in a task of its own, tell what became of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from prefect.artifacts import create_markdown_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows.artifacts import artifact_key, run_headline, run_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import (
    CredentialsError,
    EcsFlowsError,
    NoSuchBucketError,
    NotADatasetError,
    QuotaExceededError,
    SettingsError,
    TransferError,
)
from dtool_ecs_flows.models import CopyReport, DatasetInfo, DatasetList
from dtool_ecs_flows.outcomes import DatasetOutcome, RunFailedError, RunReport
from dtool_ecs_flows.tasks import copy_dataset, list_datasets, stops_with_flow
from dtool_ecs_flows.words import one_line

__all__ = ["MAX_AT_ONCE", "CopyOptions", "choose", "copy_all", "pool"]

MAX_AT_ONCE = 32
"""Datasets that can be copied at once in one flow run: the size of its pool of threads."""

CONCERNS_ALL = (SettingsError, CredentialsError, NoSuchBucketError, QuotaExceededError)
"""Errors that the next dataset would meet too: what is not begun yet is not tried."""


class CopyOptions(BaseModel):
    """What can be chosen wherever datasets are copied; in a form each flow's own comes before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Show what would be copied, and copy nothing.",
        json_schema_extra={"position": 10},
    )
    at_once: int = Field(
        default=4,
        ge=1,
        le=MAX_AT_ONCE,
        title="Datasets at once",
        description="How many datasets are copied at the same time, each with the bucket's number of connections.",
        json_schema_extra={"position": 11},
    )


_Copies: TypeAlias = dict[PrefectFuture[CopyReport], DatasetInfo]


def pool() -> TaskRunner[Any]:
    """Return the task runner of a flow that copies datasets: bounded, as Prefect's own is not."""
    return ThreadPoolTaskRunner(max_workers=MAX_AT_ONCE)


def choose(listing: DatasetList, wanted: Sequence[str]) -> tuple[DatasetInfo, ...]:
    """Return the datasets that are wanted by name, UUID or URI; all of the listing where nothing is said.

    A URI that is not in the listing is taken as it stands: it may be of another place.

    Raises:
        NotADatasetError: A name or UUID is not in the listing.
    """
    if not wanted:
        return listing.datasets
    chosen: dict[str, DatasetInfo] = {}
    unknown = []
    for text in (wish.strip() for wish in wanted):
        found = [info for info in listing.datasets if text in (info.name, info.uuid, info.uri.rstrip("/"), info.uri)]
        if not found and "://" in text:
            found = [DatasetInfo(uri=text, uuid="", type="dataset")]
        if not found:
            unknown.append(text)
        chosen |= {info.uri: info for info in found}
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise NotADatasetError(f"no dataset with this name, UUID or URI in {listing.base_uri}: {names}")
    return tuple(chosen.values())


def copy_all(
    title: str,
    datasets: Sequence[DatasetInfo],
    *,
    source: str,
    destination: str,
    bucket: EcsBucket,
    update_metadata: bool,
    at_once: int,
    dry_run: bool,
) -> RunReport:
    """Copy datasets, a failure of one not stopping the others, and leave an artifact that tells of each.

    Raises:
        RunFailedError: Some could not be copied; the artifact is there all the same.
    """
    start = time.monotonic()
    if dry_run:
        outcomes = _plan(datasets, destination, bucket)
    else:
        outcomes = _copy(datasets, destination, bucket, update_metadata=update_metadata, at_once=at_once)
    report = RunReport(
        source=source,
        destination=destination,
        dry_run=dry_run,
        datasets=tuple(outcomes),
        seconds=time.monotonic() - start,
    )
    create_markdown_artifact(
        run_markdown(f"{title}, dry run" if dry_run else title, report),
        key=artifact_key(title, bucket.bucket),
        description=run_headline(report),
    )
    get_run_logger().info("%s", run_headline(report))
    failed = report.having("failed")
    if failed and not dry_run:
        first = failed[0]
        raise RunFailedError(
            f"{len(failed)} of {len(report.datasets)} datasets failed, the first "
            f"{one_line(first.name or first.source_uri)}: {first.message}",
            report,
        )
    return report


def _plan(datasets: Sequence[DatasetInfo], destination: str, bucket: EcsBucket) -> list[DatasetOutcome]:
    """Return what a run would do, by UUID."""
    frozen = {
        info.uuid: info.uri for info in list_datasets(destination, buckets=bucket).datasets if info.type == "dataset"
    }
    outcomes = []
    for info in datasets:
        outcome = _not_copyable(info)
        if outcome is None and info.uuid in frozen:
            outcome = _outcome(info, uri=frozen[info.uuid], outcome="already there")
        outcomes.append(outcome or _outcome(info, outcome="planned"))
    return outcomes


def _copy(
    datasets: Sequence[DatasetInfo], destination: str, bucket: EcsBucket, *, update_metadata: bool, at_once: int
) -> list[DatasetOutcome]:
    outcomes: dict[str, DatasetOutcome] = {}
    running: _Copies = {}
    hopeless = ""
    with stops_with_flow():
        for info in datasets:
            if outcome := _not_copyable(info):
                outcomes[info.uri] = outcome
                continue
            if len(running) >= at_once:
                hopeless = _take_one(running, outcomes) or hopeless
            if hopeless:
                outcomes[info.uri] = _outcome(info, outcome="failed", message=f"not tried, because of: {hopeless}")
                continue
            name = f"copy {one_line(info.name or info.uri, 80)} {info.uuid}".rstrip()
            copy = copy_dataset.with_options(task_run_name=name.replace("{", "{{").replace("}", "}}"))
            future = copy.submit(info.uri, destination, buckets=bucket, update_metadata=update_metadata)
            running[future] = info
        while running:
            _take_one(running, outcomes)
    return [outcomes[info.uri] for info in datasets]


def _take_one(running: _Copies, outcomes: dict[str, DatasetOutcome]) -> str:
    """Wait for one of the copies that run and note what became of it; return why it is the same for all, if it is."""
    future = next(as_completed(list(running)))
    info = running.pop(future)
    result = future.result(raise_on_failure=False)
    if isinstance(result, CopyReport):
        outcomes[info.uri] = _outcome(
            info,
            name=result.name,
            uuid=result.uuid,
            uri=result.uri,
            outcome="already there" if result.already_there else "copied",
            items=result.items,
            bytes=result.bytes,
            copied_items=result.copied_items,
            copied_bytes=result.copied_bytes,
            seconds=result.seconds,
            message=_note(result),
        )
        return ""
    outcomes[info.uri] = _outcome(info, outcome="failed", message=why(result))
    return why(result) if isinstance(result, CONCERNS_ALL) else ""


def _outcome(info: DatasetInfo, **fields: object) -> DatasetOutcome:
    known = {"source_uri": info.uri, "name": info.name, "uuid": info.uuid}
    return DatasetOutcome.model_validate({**known, **fields})


def _not_copyable(info: DatasetInfo) -> DatasetOutcome | None:
    if info.problem:
        return _outcome(info, outcome="failed", message=info.problem)
    if info.type == "protodataset":
        return _outcome(info, outcome="left out", message="not frozen yet")
    return None


def _note(report: CopyReport) -> str:
    told = []
    if kept := [path for path in report.differences if path not in report.updated]:
        told.append(f"differs at the destination: {', '.join(kept)}")
    if report.updated:
        told.append(f"updated at the destination: {', '.join(report.updated)}")
    if report.skipped and not report.already_there:
        told.append(f"{report.skipped} items were there")
    return "; ".join(told)


def why(error: object) -> str:
    """Say in one line why a copy failed; the first few items are named where items failed."""
    if not isinstance(error, BaseException):
        return "ended without a result"
    text = str(error) if isinstance(error, EcsFlowsError) else f"{type(error).__name__}: {error}"
    if isinstance(error, TransferError):
        named = [f"{relpath}: {cause}" for relpath, cause in error.failures[:3] if str(cause) not in text]
        more = [f"and {len(error.failures) - 3} more"] if len(error.failures) > 3 else []
        text = "; ".join([text, *named, *more])
    return one_line(text, 1000)
