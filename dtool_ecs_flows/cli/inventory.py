"""`inventory`: what a bucket holds, as a table at the terminal or as files."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Uri

if TYPE_CHECKING:
    from dtool_ecs_flows.datasets import Inventory

_STATES = MappingProxyType({"dataset": "frozen", "protodataset": "proto", "": "unreadable"})


@click.command()
@click.argument("base_uri", metavar="BASE_URI", type=Uri(base=True, bucket=True))
@click.option(
    "--output",
    "-o",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Write it to a file: .html, .csv, .parquet or .json. May be given several times.",
)
@click.option(
    "--previous",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="An earlier inventory, .json; by default the one that -o is about to replace.",
)
@click.option("--anew", is_flag=True, help="Read everything, whatever an earlier inventory knows.")
@show.json_option
def inventory(base_uri: str, *, outputs: tuple[str, ...], previous: str | None, anew: bool, as_json: bool) -> None:
    """Tell what is in a bucket: names, sizes, creators.

    BASE_URI is ecs://bucket. Of each dataset: items, bytes, creator, times, tags, and what is wrong where it cannot be
    read. An .html file is a page with search, sort and plots that needs nothing else. With a .json file, of this or an
    earlier one, what has not changed since is not read again.
    """
    from dtool_ecs_flows.datasets import inventory_bucket, write_inventory
    from dtool_ecs_flows.datasets.inventory import check_format
    from dtool_ecs_flows.words import human_bytes, plural

    if anew and previous:
        raise click.UsageError("--anew reads everything, and --previous what has changed: take one of them")
    suffixes = [check_format(path) for path in outputs]
    if previous is None and not anew:
        previous = next((path for path, suffix in zip(outputs, suffixes, strict=True) if suffix == ".json"), None)
    with ends.stopping("nothing was written") as stop:
        found = inventory_bucket(base_uri, previous=previous, stop=stop)
    for path in outputs:
        try:
            write_inventory(found, path)
        except OSError as error:
            raise ends.Failure(f"{path} could not be written: {ends.said(error)}", ends.WRONG) from None
    if as_json:
        show.json(found)
        return
    if not outputs:
        _print(found)
    facts = [plural(len(found), "dataset"), plural(found.items, "item"), human_bytes(found.bytes)]
    if previous is not None:
        facts.append(f"{found.changed:,} new or changed")
    click.echo(f"{found.base_uri}: {', '.join(facts)}")
    for path in outputs:
        click.echo(f"written: {path}")


def _print(found: Inventory) -> None:
    from dtool_ecs_flows.words import human_bytes, human_time

    head = ["name", "UUID", "state", "items", "size", "creator", "frozen at (UTC)", "tags"]
    rows = [
        [
            entry.name,
            entry.uuid,
            _STATES[entry.type],
            "" if entry.items is None else f"{entry.items:,}",
            "" if entry.bytes is None else human_bytes(entry.bytes),
            entry.creator_username,
            human_time(entry.frozen_at),
            " ".join(entry.tags or ()),
        ]
        for entry in found.rows()
    ]
    if found.problems or found.orphans:
        head.append("problem")
        for row, entry in zip(rows, found.rows(), strict=True):
            row.append(entry.problem)
    if rows:
        show.table(head, rows, whole=["UUID", "state", "size", "frozen at (UTC)"])
