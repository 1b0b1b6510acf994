"""How a command ends: its exit status, its last line, and what Ctrl-C does."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, cast

import click

DONE, WRONG, USAGE, STORE, STOPPED = 0, 1, 2, 3, 130

STATUSES: Mapping[int, str] = MappingProxyType(
    {
        DONE: "done, and nothing is wrong",
        WRONG: "something is wrong with the data, or failed: a finding, an item, a step of doctor",
        USAGE: "the command line or a setting is wrong; no bucket was asked",
        STORE: "the object store could not be reached, or refused",
        STOPPED: "stopped by Ctrl-C (143 by SIGTERM)",
    }
)
"""The exit statuses of all commands: the same one always means the same."""


class Failure(click.ClickException):
    """A last line and an exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # how click means it: it is read from the instance


def said(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def status_of(error: BaseException) -> int:
    """Return the exit status that an error stands for."""
    from dtool_ecs_flows.errors import SettingsError, StoreError

    if isinstance(error, StoreError):
        return STORE
    return USAGE if isinstance(error, SettingsError) else WRONG


class Command(click.Group):
    """The whole command: shows errors and warnings of ours as one line on stderr, and ends with a status of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises becomes a line and a status."""
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except click.ClickException as error:
                failure = _failure(error)
            except KeyboardInterrupt:
                failure = Failure("stopped", STOPPED)
        # Raised out here: no traceback, and nothing chained to it.
        raise failure

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the exit statuses at the end of the help."""
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), meaning) for status, meaning in STATUSES.items()])


def _failure(error: click.ClickException) -> click.ClickException:
    from dtool_ecs_flows.errors import EcsFlowsError  # not needed for help

    return Failure(said(error), status_of(error)) if isinstance(error, EcsFlowsError) else error


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"Warning: {' '.join(str(message).split())}", err=True)


@contextmanager
def stopping(then: str) -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM set the event, which an operation takes as its `stop`, so that it ends in good order.

    A second Ctrl-C, or one after SIGTERM, does not wait for that: the process is gone, as if it had been killed.

    Args:
        then: what holds after a stop, for the last line.
    """
    from dtool_ecs_flows.errors import StoppedError

    stop = threading.Event()
    caught: list[int] = []

    def hear(number: int) -> None:
        if not caught:
            caught.append(number)
            stop.set()
            _say(b"stopping; Ctrl-C once more, and the requests under way are not waited for\n")
        elif number == signal.SIGINT:  # not SIGTERM: timeout(1) sends it to a process and to its group, for one stop
            _say(b"\x1b[?25h\n" if os.isatty(2) else b"")  # a progress bar hides the cursor
            os._exit(128 + number)

    status = STOPPED
    with _heard(hear):
        try:
            yield stop
            return
        except StoppedError:
            status = 128 + (caught or [signal.SIGINT])[0]
    raise Failure(f"stopped; {then}", status)


def _say(line: bytes) -> None:
    """Write to stderr, but not by way of sys.stderr, into which the main thread may be writing at this moment."""
    if sys.__stderr__ is not None:  # else it was closed from the start, and its number may be that of another file
        with suppress(OSError):  # nobody reads it any more
            os.write(2, line)


@contextmanager
def _heard(hear: Callable[[int], None]) -> Iterator[None]:
    """Call this with each SIGINT and SIGTERM, at once and in a thread of its own.

    A handler would run in the main thread, which is deaf while it waits for an answer through obstore: for a minute,
    where the store hangs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    read, write = socket.socketpair()
    write.setblocking(False)

    def listen() -> None:
        while number := read.recv(1):
            if number[0] in numbers:  # whatever has a handler comes here
                hear(number[0])

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, cast("Any", handler))
        write.close()
        listener.join()
        read.close()
