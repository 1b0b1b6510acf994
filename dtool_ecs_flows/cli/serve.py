"""`serve`: the deployments of a small site, in one process."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import server, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dtool_ecs_flows.serving import Declared


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--only", multiple=True, metavar="NAME", help="Only this deployment; may be given several times.")
@click.option("--at-once", type=click.IntRange(min=1), help="Flow runs at the same time; by default 5.")
@click.option("--server", "own_server", is_flag=True, help="Run a Prefect server, too, on this machine and for it.")
@click.option("--port", default=4200, show_default=True, type=click.IntRange(1, 65535), help="Of that server.")
@click.option("--dry-run", is_flag=True, help="Say what would be served; no server is asked.")
@show.json_option
def serve(
    file: str | None,
    *,
    only: tuple[str, ...],
    at_once: int | None,
    own_server: bool,
    port: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Serve the flows of a small site in one process.

    FILE is a prefect.yaml: its deployments, with their parameters and schedules, are registered at the Prefect server
    that PREFECT_API_URL names, and run here when they are due or somebody asks for them. Without FILE, all flows of
    this package, without schedules. No work pool and no worker is needed; a site that grows deploys the same file.

    Ctrl-C or SIGTERM ends it with status 0: schedules pause, and runs under way are cancelled; the next ones go on
    where they ended.
    """
    from dtool_ecs_flows.errors import SettingsError
    from dtool_ecs_flows.serving import all_flows, declared

    chosen = declared(file) if file else all_flows()
    if only:
        if unknown := sorted({*only} - {each.name for each in chosen}):
            names = ", ".join(each.name for each in chosen)
            raise SettingsError(f"there is no deployment {', '.join(unknown)} among {names}")
        chosen = [each for each in chosen if each.name in only]
    if dry_run:
        _print(chosen, as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json is for --dry-run")
    if own_server and os.environ.get("PREFECT_API_URL"):
        raise click.UsageError(f"PREFECT_API_URL is {os.environ['PREFECT_API_URL']}: leave out --server, or unset it")
    with server.own(port) if own_server else nullcontext():
        _serve(chosen, at_once)


def _serve(chosen: Sequence[Declared], at_once: int | None) -> None:
    from prefect.settings import PREFECT_API_URL

    from dtool_ecs_flows.errors import SettingsError
    from dtool_ecs_flows.serving import serve as serve_all

    if not PREFECT_API_URL.value():
        raise SettingsError(
            "PREFECT_API_URL is not set: set it to http://host:4200/api of your Prefect server, or let --server run one"
        )

    def ready() -> None:
        click.echo(f"serving {', '.join(each.full_name for each in chosen)} for {server.address()}; Ctrl-C ends it")

    with server.errors_told():
        serve_all(chosen, ready, at_once=at_once)


def _print(chosen: Sequence[Declared], *, as_json: bool) -> None:
    if as_json:
        show.json({"deployments": [each.model_dump(exclude_none=True) for each in chosen]})
        return
    rows = [[each.full_name, "; ".join(map(str, each.when)) or "when asked for", each.entrypoint] for each in chosen]
    show.table(["deployment", "when", "flow"], rows, whole=["deployment"])
