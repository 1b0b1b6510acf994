"""The tasks of an audit: a look at all datasets, and the reading of each that is due."""

from __future__ import annotations

import logging

from dtool_ecs_flows import events
from dtool_ecs_flows.datasets import audit
from dtool_ecs_flows.models import AuditReport, DatasetAudit
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, shown, told
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line, plural


@operation("look at", "base_uri")
def look_at_bucket(
    base_uri: str,
    *,
    slices: int,
    slice_number: int | None = None,
    history: audit.Place,
    part: int = 1,
    parts: int = 1,
    catch_up: int = audit.CATCH_UP,
    stale_after_days: int = audit.STALE_AFTER_DAYS,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> AuditReport:
    """Look at all datasets of a bucket without reading bytes, and say which are due to be read.

    Args:
        base_uri: Base URI of the bucket, for example ecs://my-bucket.
        slices: In how many days everything is read.
        slice_number: Which slice to read; by default that of today.
        history: Folder with what earlier audits found.
        part: Which part of the datasets this worker takes.
        parts: How many workers share the run.
        catch_up: How many datasets are read at most that should have been read before.
        stale_after_days: From when on a proto dataset is a finding.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Requests at once; by default as the bucket says.

    Returns:
        The report of an audit that has not read anything yet.
    """
    with told(f"Looking at {base_uri}") as logger:
        looked = audit.look_at_bucket(
            base_uri,
            slices=slices,
            slice_number=slice_number,
            history=history,
            part=part,
            parts=parts,
            catch_up=catch_up,
            stale_after_days=stale_after_days,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            stop=StopSignal(),
        )
    logger.info(
        "%s looked at in %s; %d are due to be read",
        plural(len(looked.datasets), "dataset"),
        human_seconds(looked.seconds),
        len(looked.due),
    )
    return looked


@operation("audit", "dataset", retries=0)
def audit_dataset(
    dataset: DatasetAudit,
    *,
    history: audit.Place,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> DatasetAudit:
    """Read all bytes of a dataset and compare; remember what was found. Not retried: the next run catches it up.

    Args:
        dataset: What the look told of it.
        history: Folder with what earlier audits found.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was found.
    """
    with shown(f"Auditing {dataset.uri}") as (logger, progress):
        result = audit.audit_dataset(
            dataset,
            history=history,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    facts = (one_line(result.name or result.uuid), result.items, human_bytes(result.bytes_read), len(result.findings))
    logger.log(logging.ERROR if result.damage else logging.INFO, "Audited %s: %d items, %s read, %d findings", *facts)
    events.corrupt(result.uuid, result.name, result.uri, result.findings)
    return result
