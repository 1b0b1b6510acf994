"""The pages, and what is in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for name in ("docs", "deployments") for page in ROOT.glob(f"{name}/**/*.md"))]
)

SHELLS = ("sh", "bash", "console")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    line: int
    """The number of its first line of content."""
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in some languages, or all of them."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^( *)```(\S*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    found = [Block(each[2], text.count("\n", 0, each.start()) + 2, textwrap.dedent(each[3])) for each in fences]
    return [block for block in found if not languages or block.language in languages]


def lines(block: Block) -> list[str]:
    """Return the lines of a shell block, or those that are typed in a console, each with what it is continued by."""
    text = block.text.replace("\\\n", "")
    return (
        [line[2:] for line in text.splitlines() if line[:2] == "$ "]
        if block.language == "console"
        else text.splitlines()
    )


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a shell block, each as its words, without variables that are set before it."""
    found = []
    for line in lines(block):
        inner = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line)
        for part in re.split(r" \| | && | \|\| ", inner):
            words = shlex.split(part, comments=True)
            words = words[next((n for n, word in enumerate(words) if not re.match(r"\w+=", word)), len(words)) :]
            found += [words] if words else []
    return found


def tables(page: Path) -> list[list[list[str]]]:
    """Return the tables of a page: rows of cells, the head first."""
    rows = re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines() if "---" not in row]
        for table in rows
    ]
