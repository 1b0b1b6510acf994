"""Somebody who follows a page from top to bottom: types its commands at a terminal, saves its files, runs its Python.

A command that a page has marked `# in a terminal of its own` is left running until the page is done. What a page shows
of a command's output must come: `...` stands for anything, and times and UUIDs may be others.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtool_ecs_flows import BucketSettings
from tests.docs.pages import SHELLS, Block, blocks, commands, lines

OWN_TERMINAL = "# in a terminal of its own"

NOT_TYPED = {
    "make": "the whole of the tests; CI runs it",
    "pip": "tests/interop/test_installed.py installs",
    "python3": "makes an environment to install into",
    ".": "goes into that environment",
    "sudo": "an administrator's; tests/unit/test_deployment_files.py compares with the files",
    "docker": "is not here",
    ".venv/bin/python": "CONTRIBUTING: what `make` has made",
    ".venv/bin/pytest": "likewise",
}
"""Programs that are not run, with the reason. All others are."""

ELSEWHERE = {
    r"^dask ": "tests/flows/test_dask.py runs the script on a cluster",
    r"^decs serve": "tests/flows/test_serve.py starts it, and ends it",
    r"\b(smb|azure)://": "tests/stores copies from and to them",
}
"""Blocks in which this stands are run by other tests, which have what they need."""


def programs(block: Block) -> set[str]:
    """Return what is run in a shell block, without what is not typed."""
    return {words[0] for words in commands(block)} - NOT_TYPED.keys()


def is_run_elsewhere(block: Block) -> bool:
    """Whether another test runs what stands in a block."""
    return any(re.search(pattern, block.text, re.MULTILINE) for pattern in ELSEWHERE)


def is_typed(line: str) -> bool:
    """Whether a line of a page is typed by a reader here."""
    return bool(programs(Block("sh", 0, line)))


@dataclass
class Terminal:
    """A shell whose folder and variables last from one block to the next."""

    folder: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def type(self, text: str) -> str:
        """Run some lines and return what they printed, without errors and progress; none of them may fail."""
        own = [line.partition(OWN_TERMINAL)[0] for line in text.splitlines() if OWN_TERMINAL in line]
        rest = [line for line in text.splitlines() if OWN_TERMINAL not in line]
        done = subprocess.run(
            ["bash", "-c", f"{self._before}\n" + "\n".join(rest) + f"\n{self._after}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        for command in own:
            self._keep_running(command)
        return done.stdout

    def close(self) -> None:
        """End what was left running."""
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def _before(self) -> str:
        state = self.folder / ".terminal"
        return f"[ ! -e {state} ] || . {state}\nset -aeu -o pipefail\n"

    @property
    def _after(self) -> str:
        return f"{{ export -p; echo \"cd '$PWD'\"; }} > {self.folder / '.terminal'}"

    def _keep_running(self, command: str) -> None:
        with (self.folder / ".terminal.log").open("ab") as log:
            script = f"{self._before}exec {command}"
            self.running.append(
                subprocess.Popen(
                    ["bash", "-c", script],
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        for host, port in re.findall(r"--addr ([\d.]+):(\d+)", command):
            wait_until(lambda: listens(host, int(port)), f"{command} does not listen")  # noqa: B023  # called here only


def listens(host: str, port: int) -> bool:
    """Whether somebody can be connected to."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    """Wait for up to a minute."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, failure
        time.sleep(0.05)


@dataclass(frozen=True)
class Reader:
    """Somebody who follows a page, with a bucket and the files that it speaks of."""

    bucket: BucketSettings
    folder: Path
    own: dict[str, str]
    """What stands in a page, and the reader has another word for: names, addresses, folders."""
    terminal: Terminal

    def adapt(self, text: str) -> str:
        """Put the reader's own names in the place of the page's."""
        for of_page, own in self.own.items():
            text = text.replace(of_page, own)
        return text

    def follow(self, page: Path, wanted: Callable[[Block], bool] = lambda _: True) -> dict[str, Any]:
        """Do what a page says, block by block; return the names of its Python."""
        names: dict[str, Any] = {"__name__": "page"}
        for block in filter(wanted, blocks(page)):
            if block.language == "python":
                self._python(page, block, names)
            elif block.language == "console":
                self._console(block)
            elif block.language in SHELLS:
                self.terminal.type(self.adapt("\n".join(line for line in lines(block) if is_typed(line))))
        return names

    def _python(self, page: Path, block: Block, names: dict[str, Any]) -> None:
        text = self.adapt(block.text)
        if saved := re.match(r"# (\w+\.py)\n", text):
            self.terminal.type(f"cat > {saved[1]} <<'END OF FILE'\n{text}END OF FILE")
            return
        # In a file with the same line numbers, so that a failure shows where in the page it is.
        file = self.folder / f"{page.stem}-{block.line}.py"
        file.write_text("\n" * (block.line - 1) + text, encoding="utf-8")
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)

    def _console(self, block: Block) -> None:
        """Type each command and compare what comes with what is shown below it."""
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            if is_typed(command):
                came = comparable(self.terminal.type(self.adapt(command)))
                assert re.fullmatch(as_pattern(self.adapt(shown)), came), f"{command}\n{shown}\ncame:\n{came}"


def as_pattern(shown: str) -> str:
    """Return the pattern of what a page shows: `...` is anything, alone on a line any number of lines."""
    pattern = re.escape(comparable(shown))
    return pattern.replace(r"\.\.\." + "\\\n", r"(?:.*\n)*?").replace(r"\.\.\.", ".*")


def comparable(text: str) -> str:
    """Return a text without what differs each time: UUIDs, times, and the widths of columns with them."""
    text = re.sub(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    return "".join(f"{re.sub(' +', ' ', line).strip()}\n" for line in text.splitlines())


def terminal(folder: Path, programs_of: Path, **variables: str) -> Terminal:
    """Return a terminal that finds the programs of an environment first."""
    path = f"{programs_of}:{os.environ['PATH']}"
    return Terminal(folder, {**os.environ, "PATH": path, **variables})
