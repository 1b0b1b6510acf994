"""`ls`: the datasets of a base URI, as a table."""

from __future__ import annotations

from types import MappingProxyType

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Uri

_STATES = MappingProxyType({"dataset": "frozen", "protodataset": "proto", "": "unreadable"})


@click.command()
@click.argument("base_uri", type=Uri(base=True))
@click.option("--tags", is_flag=True, help="List the tags of each dataset, too: one request more for each.")
@show.json_option
def ls(base_uri: str, *, tags: bool, as_json: bool) -> None:
    """List all datasets, frozen or not.

    BASE_URI is ecs://bucket, a folder, or any base URI of dtool. A dataset that cannot be read is listed with its
    problem. Last come the orphans: UUIDs that are registered in the bucket without a dataset.
    """
    from dtool_ecs_flows.datasets import list_datasets
    from dtool_ecs_flows.words import human_time, plural

    with ends.stopping("nothing was changed") as stop:
        found = list_datasets(base_uri, tags=tags, stop=stop)
    if as_json:
        show.json(found)
        return
    head = ["name", "UUID", "state", "creator", "frozen at (UTC)"]
    rows = [
        [info.name, info.uuid, _STATES[info.type], info.creator_username, human_time(info.frozen_at)]
        for info in found.datasets
    ]
    if tags:
        head.append("tags")
        for row, info in zip(rows, found.datasets, strict=True):
            row.append(" ".join(info.tags or ()))
    if any(info.problem for info in found.datasets):
        head.append("problem")
        for row, info in zip(rows, found.datasets, strict=True):
            row.append(info.problem)
    if rows:
        show.table(head, rows, whole=["UUID", "state", "frozen at (UTC)"])
    click.echo(f"{plural(len(found), 'dataset')} in {found.base_uri}")
    for uuid in found.orphans:
        click.echo(f"orphan: {uuid} is registered, and there is no dataset")
