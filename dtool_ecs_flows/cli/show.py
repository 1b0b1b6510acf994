"""What a command prints: a table for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dtool_ecs_flows.words import visible

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

_FOLDED = 12
"""A column that may be folded has this width at least, or that of its longest text: what is narrower, nobody reads."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""The option of each command that reports something."""


def terminal() -> Console | None:
    """Return the terminal that standard output is; None where it is none, and lines are not cut to a width."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    console = Console(highlight=False)
    return None if console.is_dumb_terminal else console


def json(report: BaseModel | dict[str, Any]) -> None:
    """Print a report as one line of JSON."""
    if isinstance(report, dict):
        import json

        click.echo(json.dumps(report))
    else:
        click.echo(report.model_dump_json())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Sequence[str] = ()) -> None:
    """Print a table; names in it come from strangers.

    Where a terminal is too narrow for it, each row has its first column on a line of its own and the others below.

    Args:
        head: the names of its columns.
        rows: texts, one for each column.
        whole: columns that are never folded, however narrow the terminal is.
    """
    cells = [[visible(text) for text in row] for row in rows]
    console = terminal()
    if console is None:
        for line in _aligned([[name.upper() for name in head], *cells]):
            click.echo(line)
        return
    widths = _widths([head, *cells])
    least = [width if name in whole else min(width, _FOLDED) for name, width in zip(head, widths, strict=True)]
    if sum(least) + 3 * len(least) > console.width:
        for row, line in zip([head, *cells], _aligned([row[1:] for row in [head, *cells]]), strict=True):
            click.echo(f"{row[0]}\n  {line}")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, width in zip(head, least, strict=True):
        drawn.add_column(name, no_wrap=name in whole, overflow="fold", min_width=width)
    for row in cells:
        drawn.add_row(*(Text(text) for text in row))
    console.print(drawn)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its columns below each other."""
    from rich.cells import cell_len

    widths = _widths(rows)
    return [
        "  ".join(text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the widths of the columns of a table, as a terminal counts them: some letters are two wide."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
