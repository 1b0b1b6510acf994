"""Tasks on datasets whose time is over: list them, and delete one that a person has approved of."""

from __future__ import annotations

from dtool_ecs_flows import datasets
from dtool_ecs_flows.datasets.audit import Place
from dtool_ecs_flows.datasets.choosing import Filter
from dtool_ecs_flows.models import DatasetInfo, DeleteReport
from dtool_ecs_flows.outcomes import ExpiryList
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, told
from dtool_ecs_flows.words import one_line


@operation("list what expires in", "base_uri")
def list_expiring(
    base_uri: str, chosen: Filter, *, at_most: int, buckets: Buckets = (), config_path: str | None = None
) -> ExpiryList:
    """List the frozen datasets of a bucket that have some tags and an age.

    Args:
        base_uri: Base URI of the bucket, for example ecs://my-bucket.
        chosen: Which tags, and which age.
        at_most: How many are listed.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        The datasets, the oldest first.
    """
    with told(f"Listing what expires in {base_uri}") as logger:
        found = datasets.list_expiring(
            base_uri,
            chosen,
            at_most=at_most,
            settings=settings_of(buckets),
            config_path=config_path,
            stop=StopSignal(),
        )
    logger.info("%d datasets expire in %s, and %d more later", len(found.datasets), base_uri, found.more)
    return found


@operation("expire", "shown")
def expire_dataset(
    shown: DatasetInfo,
    chosen: Filter,
    *,
    history: Place | None = None,
    by: str = "",
    reason: str = "",
    buckets: Buckets = (),
    config_path: str | None = None,
) -> DeleteReport:
    """Delete a dataset that a person has approved of, if it is still what was shown.

    Args:
        shown: The dataset as it was shown.
        chosen: Which tags, and which age.
        history: Folder with what audits of the bucket found, which is told of the deletion.
        by: Who approved, for the history.
        reason: Why, for the history.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        What was deleted.
    """
    with told(f"Deleting {shown.name} ({shown.uri})") as logger:
        report = datasets.expire_dataset(
            shown,
            chosen,
            history=history,
            by=by,
            reason=reason,
            settings=settings_of(buckets),
            config_path=config_path,
            stop=StopSignal(),
        )
    logger.info("Deleted %s (%s): %d objects", one_line(report.name), report.uri, report.deleted)
    return report
