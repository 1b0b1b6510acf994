"""`verify`: datasets against their manifests, byte by byte."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Uri

if TYPE_CHECKING:
    from dtool_ecs_flows.models import VerifyReport


@click.command()
@click.argument("uris", metavar="URI...", type=Uri(base=False), nargs=-1, required=True)
@click.option("--no-read", is_flag=True, help="Compare names and sizes only; no byte is read.")
@show.json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def verify(uris: tuple[str, ...], *, no_read: bool, as_json: bool, quiet: bool) -> None:
    """Compare every byte with the manifest.

    What is wrong is printed, each kind apart, and the exit status is 1. What could only not be read now is no damage:
    then it is 3. With --json, one line for each dataset.
    """
    from dtool_ecs_flows.errors import EcsFlowsError, StoppedError

    statuses: list[int] = []
    with ends.stopping("nothing was changed") as stop:
        for uri in uris:
            try:
                report = _verify(uri, stop, read=not no_read, quiet=quiet)
            except StoppedError:
                raise
            except EcsFlowsError as error:  # of one dataset; the others are looked at
                statuses.append(ends.status_of(error))
                if as_json:
                    show.json({"uri": uri, "ok": False, "error": ends.said(error)})
                click.echo(f"Error: {ends.said(error)}", err=True)
                continue
            statuses.append(_status(report))
            if as_json:
                show.json(report)
            else:
                _print(report)
    # Damage is the worst that there is to tell.
    worst = (status for status in (ends.WRONG, ends.STORE, ends.USAGE) if status in statuses)
    click.get_current_context().exit(next(worst, ends.DONE))


def _verify(uri: str, stop: threading.Event, *, read: bool, quiet: bool) -> VerifyReport:
    from dtool_ecs_flows.datasets import verify_dataset
    from dtool_ecs_flows.progress import progress_bar

    bar = nullcontext() if quiet or not read else progress_bar(f"verify {uri}")
    with bar as progress:
        return verify_dataset(uri, read=read, progress=progress, stop=stop)


def _status(report: VerifyReport) -> int:
    if report.ok:
        return ends.DONE
    return ends.STORE if {finding.kind for finding in report.findings} == {"not verified"} else ends.WRONG


def _print(report: VerifyReport) -> None:
    from dtool_ecs_flows.words import human_bytes, plural

    how = (
        f"{human_bytes(report.bytes_read)} read and hashed" if report.content_read else "names and sizes only, not read"
    )
    found = "no finding" if report.ok else plural(len(report.findings), "finding")
    click.echo(f"{report.uri}: {plural(report.items, 'item')}, {how}, {found}")
    if report.findings:
        rows = [[finding.kind, finding.subject, finding.message] for finding in report.findings]
        show.table(["finding", "of", "what"], rows, whole=["finding"])
