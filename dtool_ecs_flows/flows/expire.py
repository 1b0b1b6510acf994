"""The flow `expire`: datasets whose time is over are listed, and deleted only after a person has approved."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.futures import PrefectFuture
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import Field

from dtool_ecs_flows.artifacts import artifact_key, expire_headline, expire_markdown, expiring_rows, expiring_summary
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.audit import open_history
from dtool_ecs_flows.datasets.choosing import Filter
from dtool_ecs_flows.errors import DatasetDiffersError, DatasetError, NotADatasetError
from dtool_ecs_flows.flows.options import Options
from dtool_ecs_flows.flows.steps import CONCERNS_ALL, named, pool, why
from dtool_ecs_flows.models import DeleteReport
from dtool_ecs_flows.outcomes import ExpireOutcome, ExpireReport, ExpiringDataset, ExpiryList
from dtool_ecs_flows.tasks import expire_dataset, list_expiring, stops_with_flow
from dtool_ecs_flows.words import human_bytes, human_time, one_line

__all__ = ["Approval", "ExpireOptions", "expire"]

DESCRIPTION = """\
Lists the datasets of a bucket that have a tag and an age, and **deletes them only after somebody has approved**.

- The list is a table under Artifacts. The run then waits, as Paused: choose **Resume** in its menu, and answer.
- Deleted is what was in the list, was left in the form, and is still what was shown. What is new waits for another run.
- Nobody answers in time, or the answer is no: nothing is deleted.
- Whoever wants to keep a dataset takes the tag off it, also while the run waits.
"""


class ExpireOptions(Options):
    """Which datasets besides, and how long to wait."""

    name_patterns: list[str] = Field(
        default=[],
        title="Only names that fit",
        description="Patterns as in a shell, for example scratch-*. One of them has to fit; with none, all names do.",
        json_schema_extra={"position": 0},
    )
    at_most: int = Field(
        default=100,
        ge=1,
        le=1000,
        title="Datasets at most",
        description="How many one person has to look through in one run, the oldest first.",
        json_schema_extra={"position": 1},
    )
    wait_hours: float = Field(
        default=24,
        gt=0,
        le=14 * 24,
        title="Hours to wait for an answer",
        description="Without one nothing is deleted, and the run fails. It keeps its place on the worker while it "
        "waits.",
        json_schema_extra={"position": 2},
    )


class Approval(RunInput):
    """What the person who looked at the list answers."""

    delete: bool = Field(
        default=False,
        title="Delete these datasets for good",
        description="I have looked at the list. Nobody can bring them back.",
        json_schema_extra={"position": 0},
    )
    approved_by: str = Field(
        default="",
        title="Your name",
        description="It stands in the report. Without it nothing is deleted.",
        json_schema_extra={"position": 1},
    )
    datasets: list[str] = Field(
        default=[],
        title="The datasets",
        description="Remove the lines of those that shall stay.",
        json_schema_extra={"position": 2},
    )


DEFAULTS = ExpireOptions()


@flow(name="expire", description=DESCRIPTION, task_runner=pool())
def expire(
    bucket: EcsBucket,
    tags: list[str],
    older_than_days: Annotated[float, Field(gt=0)],
    history: str = "",
    options: ExpireOptions = DEFAULTS,
) -> ExpireReport:
    """List the datasets that have a tag and an age, and delete them once a person has approved.

    Args:
        bucket: The bucket to clean up.
        tags: Tags that a dataset must have to be deleted, all of them. At least one.
        older_than_days: Days since it was frozen, at least.
        history: Folder with what audits of this bucket found, as /data/audits. What is deleted is noted there, so that
            no audit reports it as missing. Empty notes nothing.
        options: Which datasets besides, and how long to wait.

    Returns:
        What became of each dataset that was shown.

    Raises:
        FlowPauseTimeout: Nobody answered in time; nothing was deleted.
        DatasetError: Some could not be deleted.
    """
    chosen = Filter(
        tags=tuple(filter(None, (tag.strip() for tag in tags))),
        older_than_days=older_than_days,
        name_patterns=tuple(options.name_patterns),
    )
    if history:
        open_history(history, bucket.base_uri)  # a slip is told before anybody is asked
    found = list_expiring(bucket.base_uri, chosen, at_most=options.at_most, buckets=bucket)
    create_table_artifact(
        expiring_rows(found), key=artifact_key("expiring", bucket.bucket), description=expiring_summary(found)
    )
    if not found.datasets:
        return _tell(ExpireReport(base_uri=bucket.base_uri, datasets=()), bucket)
    try:
        answer = _ask(found, options.wait_hours)
    except FlowPauseTimeout:
        _tell(_kept(found, "nobody approved in time"), bucket)
        raise
    approved_by = one_line(answer.approved_by.strip())
    if not answer.delete or not approved_by:
        return _tell(_kept(found, "not approved" if not answer.delete else "nobody gave a name"), bucket)
    wanted = {line.split()[0] for line in answer.datasets if line.split()}
    outcomes = _delete(found, wanted, chosen, bucket, history=history or None, by=approved_by, reason=_reason(chosen))
    report = _tell(ExpireReport(base_uri=bucket.base_uri, approved_by=approved_by, datasets=tuple(outcomes)), bucket)
    if failed := report.having("failed"):
        raise DatasetError(
            f"{len(failed)} of {len(outcomes)} datasets could not be deleted, the first {failed[0].uri}: "
            f"{failed[0].message}"
        )
    return report


def _ask(found: ExpiryList, hours: float) -> Approval:
    """Wait for a person. What comes back without an answer, as from a bare resume, deletes nothing."""
    lines = [_line(each) for each in found.datasets]
    field = Approval.model_fields["datasets"]
    form = Approval.with_initial_data(
        description=f"{expiring_summary(found)} The table is under Artifacts. After these {hours:g} hours nothing is "
        "deleted.",
        datasets=Field(
            default=lines, title=field.title, description=field.description, json_schema_extra={"position": 2}
        ),
    )
    return pause_flow_run(wait_for_input=form, timeout=max(1, int(hours * 3600)), poll_interval=5)


def _line(each: ExpiringDataset) -> str:
    size = "" if each.note else f", {human_bytes(each.bytes)}"
    return f"{each.info.uuid} {one_line(each.info.name, 80)}, {human_time(each.info.frozen_at)[:10]}{size}"


def _reason(chosen: Filter) -> str:
    """Say why a dataset was deleted, for the history: what it was chosen by, and which run asked."""
    names = f", name like {' or '.join(chosen.name_patterns)}" if chosen.name_patterns else ""
    said = f"tags {', '.join(chosen.tags)}, older than {chosen.older_than_days:g} days{names}"
    return f"flow expire, run {flow_run.name} ({flow_run.id}): {said}"


def _delete(
    found: ExpiryList, wanted: Collection[str], chosen: Filter, bucket: EcsBucket, **told: str | None
) -> list[ExpireOutcome]:
    """Delete what was shown and is wanted; one that fails does not stop the others."""
    outcomes: dict[str, ExpireOutcome] = {}
    running: dict[str, PrefectFuture[Any]] = {}
    with stops_with_flow():
        for each in found.datasets:
            info = each.info
            if info.uuid not in wanted:
                outcomes[info.uuid] = _outcome(each, "kept", message="not approved")
                continue
            task = named(expire_dataset, "expire", info.name or info.uuid, info.uuid)
            running[info.uuid] = task.submit(info, chosen, buckets=bucket, **told)
        for each in found.datasets:
            if each.info.uuid in running:
                result = running[each.info.uuid].result(raise_on_failure=False)
                outcomes[each.info.uuid] = _became(each, result)
    return [outcomes[each.info.uuid] for each in found.datasets]


def _became(each: ExpiringDataset, result: object) -> ExpireOutcome:
    if isinstance(result, DeleteReport):
        return _outcome(each, "deleted", objects=result.deleted)
    if isinstance(result, (DatasetDiffersError, NotADatasetError)) and not isinstance(result, CONCERNS_ALL):
        return _outcome(each, "kept", message=why(result))
    return _outcome(each, "failed", message=why(result))


def _outcome(each: ExpiringDataset, outcome: str, **fields: object) -> ExpireOutcome:
    info = each.info
    known = {"uri": info.uri, "uuid": info.uuid, "name": info.name, "outcome": outcome}
    return ExpireOutcome.model_validate({**known, **fields})


def _kept(found: ExpiryList, reason: str) -> ExpireReport:
    kept = tuple(_outcome(each, "kept", message=reason) for each in found.datasets)
    return ExpireReport(base_uri=found.base_uri, datasets=kept)


def _tell(report: ExpireReport, bucket: EcsBucket) -> ExpireReport:
    headline = expire_headline(report)
    create_markdown_artifact(expire_markdown(report), key=artifact_key("expire", bucket.bucket), description=headline)
    get_run_logger().info("%s", headline)
    return report
