"""The flow `audit`: is what is in a bucket still what was put there?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, TypeAlias

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows.artifacts import artifact_key, audit_headline, audit_markdown, audit_rows
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.audit import CATCH_UP, STALE_AFTER_DAYS, can_go_on, conclude, unread
from dtool_ecs_flows.errors import EcsFlowsError, SettingsError
from dtool_ecs_flows.flows.options import MAX_AT_ONCE
from dtool_ecs_flows.flows.steps import CONCERNS_ALL, pool, why
from dtool_ecs_flows.models import AuditReport, DatasetAudit
from dtool_ecs_flows.outcomes import AuditFailedError
from dtool_ecs_flows.provenance import provenance
from dtool_ecs_flows.tasks import audit_dataset, create_dataset, look_at_bucket, stops_with_flow
from dtool_ecs_flows.words import one_line

__all__ = ["AuditOptions", "audit"]

DESCRIPTION = """\
Checks that what is in a bucket is what was put there. Run it once a day.

- Every day it **looks** at all datasets: is everything there, with the right size, and nothing besides?
- Every day it **reads** one slice of them, every byte, and compares hashes. After as many days as there are slices,
  everything was read. What a missed day left out is caught up.
- Nothing is written to the bucket. What was found is kept in the history folder.
- The run **fails** if a dataset is damaged, or could not be read now, and says which of the two.
"""


class AuditOptions(BaseModel):
    """How to audit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    report_base_uri: str = Field(
        default="",
        title="File the report at",
        description="Base URI that each report goes to as a dataset, for example file:///data/reports. It must not be "
        "the bucket that is audited. Empty files none.",
        json_schema_extra={"position": 0},
    )
    slice_number: int = Field(
        default=0,
        ge=0,
        title="Slice to read",
        description="Which slice is read, counted from 1. 0 takes the one whose turn it is today.",
        json_schema_extra={"position": 1},
    )
    catch_up: int = Field(
        default=CATCH_UP,
        ge=0,
        title="Datasets to catch up",
        description="At most this many datasets that should have been read on earlier days are read besides.",
        json_schema_extra={"position": 2},
    )
    stale_after_days: int = Field(
        default=STALE_AFTER_DAYS,
        ge=0,
        title="Days until an unfinished dataset is told of",
        description="A dataset that was begun so many days ago and is not frozen yet is listed as stale.",
        json_schema_extra={"position": 3},
    )
    part: int = Field(
        default=1,
        ge=1,
        title="Part",
        description="Where several workers share the work, which part this one does.",
        json_schema_extra={"position": 4},
    )
    parts: int = Field(
        default=1,
        ge=1,
        title="Parts",
        description="How many workers share the work, each with a run of its own.",
        json_schema_extra={"position": 5},
    )
    at_once: int = Field(
        default=2,
        ge=1,
        le=MAX_AT_ONCE,
        title="Datasets at once",
        description="How many datasets are read at the same time.",
        json_schema_extra={"position": 6},
    )


DEFAULTS = AuditOptions()

_Readings: TypeAlias = dict[PrefectFuture[DatasetAudit], DatasetAudit]


@flow(name="audit", description=DESCRIPTION, task_runner=pool())
def audit(
    bucket: EcsBucket,
    history: str,
    slices: Annotated[int, Field(ge=1, le=3660)] = 30,
    options: AuditOptions = DEFAULTS,
) -> AuditReport:
    """Audit a bucket: look at all datasets, read the bytes of today's slice, remember what was found.

    Args:
        bucket: The bucket to audit. Nothing is written to it.
        history: Folder that the worker can write, as /data/audits, with what earlier audits found. Several workers
            and buckets may share one.
        slices: In how many days everything is read, one slice a day.
        options: How to audit.

    Returns:
        What was found of each dataset.

    Raises:
        AuditFailedError: Something is damaged, or could not be read now; the artifacts are there all the same.
    """
    if options.report_base_uri.rstrip("/") == bucket.base_uri:
        raise SettingsError(f"the report cannot be filed in {bucket.base_uri}: an audit never writes to its bucket")
    looked = look_at_bucket(
        bucket.base_uri,
        slices=slices,
        slice_number=options.slice_number or None,
        history=history,
        part=options.part,
        parts=options.parts,
        catch_up=options.catch_up,
        stale_after_days=options.stale_after_days,
        buckets=bucket,
    )
    report = conclude(looked, _read(looked, history, bucket, options.at_once), history=history)
    _show(report, bucket)
    not_filed: EcsFlowsError | None = None
    if options.report_base_uri:
        try:
            _file(report, bucket, options.report_base_uri)
        except EcsFlowsError as error:
            get_run_logger().error("The report could not be filed: %s", one_line(str(error)))
            not_filed = error
    _fail_if_needed(report)
    if not_filed:
        raise not_filed
    return report


def _read(looked: AuditReport, history: str, bucket: EcsBucket, at_once: int) -> list[DatasetAudit]:
    """Read the datasets that are due, each in a task run of its own; where the store is gone, no more are begun."""
    results: list[DatasetAudit] = []
    running: _Readings = {}
    hopeless = ""
    with stops_with_flow():
        for dataset in looked.due:
            if len(running) >= at_once:
                hopeless = _take_one(running, results, bucket) or hopeless
            if hopeless:
                results.append(unread(dataset, f"not tried, because of: {hopeless}"))
                continue
            name = f"audit {one_line(dataset.name or dataset.uri, 80)} {dataset.uuid}"
            reading = audit_dataset.with_options(task_run_name=name.replace("{", "{{").replace("}", "}}"))
            running[reading.submit(dataset, history=history, buckets=bucket)] = dataset
        while running:
            _take_one(running, results, bucket)
    return results


def _take_one(running: _Readings, results: list[DatasetAudit], bucket: EcsBucket) -> str:
    """Wait for one of the readings and note what it found; return why there is no use in another, if there is none."""
    future = next(as_completed(list(running)))
    dataset = running.pop(future)
    result = future.result(raise_on_failure=False)
    if isinstance(result, DatasetAudit):
        results.append(result)
        return "" if can_go_on(result, settings=bucket.settings()) else result.findings[-1].message
    results.append(unread(dataset, why(result)))
    return why(result) if isinstance(result, CONCERNS_ALL) else ""


def _show(report: AuditReport, bucket: EcsBucket) -> None:
    share = ("part", str(report.part), "of", str(report.parts)) if report.parts > 1 else ()
    headline = audit_headline(report)
    create_markdown_artifact(
        audit_markdown(report), key=artifact_key("audit", bucket.bucket, *share), description=headline
    )
    create_table_artifact(
        audit_rows(report), key=artifact_key("audit-datasets", bucket.bucket, *share), description=headline
    )
    get_run_logger().info("%s", headline)


def _file(report: AuditReport, bucket: EcsBucket, base_uri: str) -> None:
    """Make a dataset of the report."""
    day = time.strftime("%Y-%m-%d", time.gmtime(report.begun))
    with tempfile.TemporaryDirectory(prefix="dtool-ecs-audit-") as folder:
        files = {"report.json": report.model_dump_json(indent=1), "report.md": audit_markdown(report)}
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        create_dataset(
            f"audit-{bucket.bucket[:50]}-{day}",
            base_uri,
            directory=folder,
            readme=f"---\ndescription: Audit of {bucket.base_uri} on {day}\n",
            tags=["audit"],
            annotations=provenance(),
        )


def _fail_if_needed(report: AuditReport) -> None:
    """Raise for what somebody has to do something about; what is left over is in the artifact."""
    told = []
    if damaged := report.damaged:
        told.append(
            f"{len(damaged)} of {len(report.datasets)} datasets are damaged, the first {_tell(damaged[0])}. "
            "Nothing was changed: verify another copy, then delete the dataset here and copy it again"
        )
    if unverified := report.having("not verified"):
        told.append(
            f"{len(unverified)} of {len(report.datasets)} datasets could not be verified now, the first "
            f"{_tell(unverified[0])}. That is no damage: the next runs read what is due"
        )
    if told:
        raise AuditFailedError("; besides, ".join(told), report)


def _tell(dataset: DatasetAudit) -> str:
    finding = (dataset.damage or dataset.findings)[0]
    return f"{one_line(dataset.name or dataset.uuid)} ({finding.kind}): {one_line(finding.message)}"
