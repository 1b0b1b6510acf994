"""`doctor`: what is wrong with a configuration, and how to mend it."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from dtool_ecs_flows.cli import ends, show
from dtool_ecs_flows.cli.uris import Bucket

if TYPE_CHECKING:
    from rich.console import Console

    from dtool_ecs_flows.doctor import Step

_STYLES = MappingProxyType({"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"})
_STATE, _NAME = 8, 27  # columns


@click.command()
@click.argument("bucket", type=Bucket())
@click.option("--read-only", is_flag=True, help="Write nothing; what can only be known by writing is left out.")
@show.json_option
def doctor(bucket: str, *, read_only: bool, as_json: bool) -> None:
    """Say what is wrong with a bucket, or here.

    It tries out step by step whether datasets can be kept in BUCKET from this computer: settings and where they come
    from, plugins, connection, TLS, credentials, clock, what the policy allows, what the store can do, and how fast it
    is with 100 small objects. What is written for that is removed again. No secret is shown. The exit status is 1 where
    a step failed.
    """
    from dtool_ecs_flows.doctor import Diagnosis, examine
    from dtool_ecs_flows.words import plural

    begun = time.monotonic()
    console = show.terminal()
    steps: list[Step] = []
    with (
        ends.stopping("what was written is removed") as stop,
        closing(examine(bucket, read_only=read_only, stop=stop)) as examined,  # type: ignore[type-var]  # a generator
    ):
        # What is skipped for one reason is one row. All else is a row at once.
        for (skipped, _), group in groupby(examined, key=_row):
            names: list[str] = []
            for step in group:
                steps.append(step)
                names.append(step.name)
                if not as_json and not skipped:
                    _print(step, step.name, console)
            if not as_json and skipped:
                _print(steps[-1], ", ".join(names), console)
    failed = sum(step.state == "failed" for step in steps)
    warned = sum(step.state == "warning" for step in steps)
    if as_json:
        took = time.monotonic() - begun
        show.json(Diagnosis(bucket=bucket, ok=not failed, steps=tuple(steps), seconds=took))
    else:
        what = f"{plural(failed, 'step')} failed" if failed else f"{bucket} can be worked with from here"
        click.echo(what + (f", {plural(warned, 'warning')}" if warned else ""))
    click.get_current_context().exit(ends.WRONG if failed else ends.DONE)


def _row(step: Step) -> tuple[bool, str]:
    return (True, step.found) if step.state == "skipped" else (False, step.name)


def _print(step: Step, name: str, console: Console | None) -> None:
    lines = [step.found, *step.details, *([f"-> {step.advice}"] if step.advice else [])]
    if console is None:
        click.echo(f"{step.state:{_STATE}} {name:{_NAME}} {lines[0]}")
        for line in lines[1:]:
            click.echo(f"{'':{_STATE + _NAME + 1}} {line}")
        return
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    row.add_column(width=_STATE)
    row.add_column(width=_NAME)
    row.add_column(overflow="fold")
    row.add_row(Text(step.state, _STYLES[step.state]), Text(name), Text("\n".join(lines)))
    console.print(row)
