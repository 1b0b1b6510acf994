"""What the demo looks like."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from dtool_ecs_flows.models import ProgressCallback
from dtool_ecs_flows.progress import summary
from dtool_ecs_flows.words import human_seconds

ACCENT = "cyan"


class Screen:
    """Prints numbered steps, each with what it did and how long it took.

    Args:
        check: called before each step; raises where there should be no other.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._console = Console(highlight=False)
        self._numbers = count(1)

    def title(self, text: str, subtitle: str) -> None:
        """Open the show."""
        self._console.print()
        self._console.print(Panel(subtitle, title=f"[bold]{text}[/bold]", border_style=ACCENT, expand=False))

    @contextmanager
    def step(self, what: str, how: str) -> Iterator[ProgressCallback]:
        """Announce a step, show that it runs, how far it has come where it tells that, and how long it took."""
        self._check()
        number = next(self._numbers)
        self._console.print(f"\n[bold {ACCENT}]{number}  {what}[/]  [dim]{escape(how)}[/]")
        begun = time.monotonic()
        with self._console.status(f"[dim]{what} …[/]") as status:
            yield lambda progress: status.update(f"[dim]{what} … {summary(progress)}[/]")
        self._console.print(f"   [green]✓[/] [dim]{human_seconds(time.monotonic() - begun)}[/]")

    def say(self, text: str) -> None:
        """Print a line below the step."""
        self._console.print(f"   {text}", soft_wrap=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print a table; the columns in `right` hold numbers."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for position, column in enumerate(head):
            table.add_column(column, justify="right" if position in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        self._console.print(table)

    def farewell(self, seconds: float, kept: str) -> None:
        """Close the show with where to go from here."""
        self._check()
        lines = [
            f"[bold green]All of it worked[/], in {human_seconds(seconds)}. Nothing is left running.",
            "",
            "Where to look next",
            "  [bold]README.md[/]                    the twelve lines that publish a step's outputs, and all settings",
            "  [bold]flows/[/]                       two pipelines to copy: a nightly archive, an analysis",
            "  [bold]deployments/README.md[/]        schedules, a worker and the forms of the Prefect UI",
            "  [bold]make demo DATA=folder[/]        the same with files of your own",
            "  [bold]make test[/]                    the test suite",
        ]
        if kept:
            lines.append(f"  [bold]{escape(kept)}[/]   the files of this run")
        self._console.print()
        self._console.print(Panel("\n".join(lines), border_style="green", expand=False))

    def stopped(self) -> None:
        """Say that somebody stopped it."""
        self._console.print("\n[bold yellow]Stopped.[/] Nothing is left running.")

    def failed(self, message: str, *, traceback: bool = False) -> None:
        """Say what went wrong."""
        if traceback:
            self._console.print_exception()
        hint = "" if traceback else "\n\n[dim].venv/bin/python demo/run.py --verbose shows more[/]"
        self._console.print(Panel(f"[bold red]{escape(message)}[/]{hint}", border_style="red", expand=False))
