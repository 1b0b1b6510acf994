"""`copy`: one dataset, whole, with a bar."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Uri

if TYPE_CHECKING:
    from dtool_ecs_flows.models import CopyReport


@click.command()
@click.argument("source", type=Uri(base=False))
@click.argument("base_uri", type=Uri(base=True))
@click.option("--update-metadata", is_flag=True, help="Write README, tags, annotations and overlays that differ, too.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Requests at once; by default the bucket's setting.")
@show.json_option
@click.option("--quiet", "-q", is_flag=True, help="Print the URI of the copy and nothing else.")
def copy(
    source: str, base_uri: str, *, update_metadata: bool, concurrency: int | None, as_json: bool, quiet: bool
) -> None:
    """Copy one dataset, whole, and freeze it there.

    SOURCE is the URI of a frozen dataset, BASE_URI where it goes: ecs://bucket, a folder, or any base URI of dtool.
    Every byte is compared with its hash. The same command again sends what is missing, and compares where the dataset
    is there already.
    """
    from dtool_ecs_flows.datasets import copy_dataset
    from dtool_ecs_flows.progress import progress_bar

    with ends.stopping("the same command goes on where this one ended") as stop:
        bar = nullcontext() if quiet else progress_bar(f"copy to {base_uri}")
        with bar as progress:
            report = copy_dataset(
                source,
                base_uri,
                update_metadata=update_metadata,
                concurrency=concurrency,
                progress=progress,
                stop=stop,
            )
    if as_json:
        show.json(report)
    elif quiet:
        click.echo(report.uri)
    else:
        for line in _told(report):
            click.echo(line)


def _told(report: CopyReport) -> list[str]:
    from dtool_ecs_flows.words import human_bytes, plural, visible

    lines = [f"{visible(report.name)} is {report.uri}"]
    if report.already_there:
        lines.append(f"it was there: {plural(report.items, 'item')} compared by size and hash, nothing copied")
    else:
        how = (
            "each byte hashed" if report.verified == "content" else "by the server: sizes and checksums agree, not read"
        )
        skipped = f"; {report.skipped:,} {'was' if report.skipped == 1 else 'were'} there" if report.skipped else ""
        lines.append(
            f"{plural(report.copied_items, 'item')} copied, {human_bytes(report.copied_bytes)}, {how}{skipped}"
        )
    lines += report.notes
    left = [name for name in report.differences if name not in report.updated]
    if report.updated:
        lines.append(f"updated there: {', '.join(report.updated)}")
    if left:
        lines.append(f"differs there: {', '.join(left)}; what the source has goes there with --update-metadata")
    return lines
