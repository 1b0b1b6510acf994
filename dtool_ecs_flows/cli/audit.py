"""`audit`: everything in a bucket, a slice a day."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Uri

if TYPE_CHECKING:
    from dtool_ecs_flows.models import AuditReport, DatasetAudit


@click.command()
@click.argument("base_uri", metavar="BASE_URI", type=Uri(base=True, bucket=True))
@click.option(
    "--history",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    help="What audits remember; outside the bucket, the same one every day.",
)
@click.option(
    "--slices", default=30, show_default=True, type=click.IntRange(min=1), help="In how many days everything is read."
)
@click.option("--slice", "slice_number", type=click.IntRange(min=1), help="Read this slice; by default today's.")
@click.option(
    "--part", default=1, type=click.IntRange(min=1), help="Of several that share the work, which one this is."
)
@click.option("--parts", default=1, type=click.IntRange(min=1), help="How many share the work.")
@click.option(
    "--catch-up", type=click.IntRange(min=0), help="Datasets at most that earlier days left out; by default 100."
)
@click.option(
    "--stale-after", metavar="DAYS", type=click.IntRange(min=0), help="When to tell of a proto dataset; by default 30."
)
@show.json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def audit(
    base_uri: str,
    *,
    history: str,
    slices: int,
    slice_number: int | None,
    part: int,
    parts: int,
    catch_up: int | None,
    stale_after: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check that all is there, and read a slice of it.

    BASE_URI is ecs://bucket, to which nothing is written. Run once a day: each run looks at every dataset, and reads
    every byte of those whose day it is. The exit status is 1 where something is damaged, and 3 where something could
    only not be read now, which the next runs catch up. What is left over (a proto dataset of long ago, a registration
    without a dataset) is printed, and is neither.
    """
    from dtool_ecs_flows.datasets.audit import CATCH_UP, STALE_AFTER_DAYS, conclude, look_at_bucket

    with ends.stopping("what was read until then is remembered") as stop:
        looked = look_at_bucket(
            base_uri,
            slices=slices,
            slice_number=slice_number,
            history=history,
            part=part,
            parts=parts,
            catch_up=CATCH_UP if catch_up is None else catch_up,
            stale_after_days=STALE_AFTER_DAYS if stale_after is None else stale_after,
            stop=stop,
        )
        report = conclude(looked, _read(looked, history, stop, quiet=quiet), history=history)
    if as_json:
        show.json(report)
    else:
        _print(report)
    click.get_current_context().exit(_status(report))


def _read(looked: AuditReport, history: str, stop: threading.Event, *, quiet: bool) -> list[DatasetAudit]:
    """Read the datasets that are due, each with a bar; where the store is gone, no more are begun."""
    from dtool_ecs_flows.datasets.audit import audit_dataset, can_go_on, unread
    from dtool_ecs_flows.progress import progress_bar

    results: list[DatasetAudit] = []
    reachable = True
    for number, dataset in enumerate(looked.due, start=1):
        if not reachable:
            results.append(unread(dataset))
            continue
        label = f"{number} of {len(looked.due)}: {dataset.name or dataset.uuid}"
        with nullcontext() if quiet else progress_bar(label) as progress:
            result = audit_dataset(dataset, history=history, progress=progress, stop=stop)
        results.append(result)
        reachable = can_go_on(result)
    return results


def _status(report: AuditReport) -> int:
    if report.damaged:
        return ends.WRONG
    return ends.STORE if report.having("not verified") else ends.DONE


def _print(report: AuditReport) -> None:
    from dtool_ecs_flows.words import human_bytes, human_time, plural

    found = [(dataset, finding) for dataset in report.datasets for finding in dataset.findings]
    if found:
        rows = [[each.name, each.uuid, finding.kind, finding.subject, finding.message] for each, finding in found]
        show.table(["name", "UUID", "finding", "of", "what"], rows, whole=["UUID", "finding"])
    read = [dataset for dataset in report.due if dataset.content_read]
    size = human_bytes(sum(dataset.bytes_read for dataset in read))
    click.echo(
        f"{report.base_uri}: {plural(len(report.datasets), 'dataset')} looked at, {len(read):,} read in full ({size}), "
        + ("no finding" if not found else plural(len(found), "finding"))
        + (f", {len(report.deleted):,} deleted on purpose" if report.deleted else "")
    )
    for each in report.still_damaged:
        click.echo(f"{each.uri} was damaged when it was read last, at {human_time(each.last_read)} UTC")
