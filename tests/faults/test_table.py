"""The table of docs/reliability.md is true of the tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
SHOWN = {
    int(line.split("|")[1]): re.findall(r"`(\S+\.py)::(\w+)`", line)
    for line in (TESTS.parent / "docs" / "reliability.md").read_text("utf-8").splitlines()
    if re.match(r"\| \d+ \|", line)
}


@cache
def named_in(file: str) -> list[str]:
    """Names of the tests in a file."""
    return re.findall(r"^ *def (test_\w+)\(", (TESTS / file).read_text("utf-8"), re.MULTILINE)


def test_every_row_names_tests_that_exist() -> None:
    """All 27, in their order."""
    assert list(SHOWN) == list(range(1, 28))
    for number, names in SHOWN.items():
        assert names, number
        for file, name in names:
            assert name in named_in(file), (number, file, name)


def test_every_test_of_a_row_is_in_the_table() -> None:
    """A test that is called after a row stands in it."""
    for file in TESTS.glob("*/test_*.py"):
        path = file.relative_to(TESTS).as_posix()
        for name in named_in(path):
            found = re.match(r"test_row_(\d\d)_", name)
            assert not found or (path, name) in SHOWN[int(found[1])], name
