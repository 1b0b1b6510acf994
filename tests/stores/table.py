"""The table of docs/other-stores.md, made from the marks of the tests here: `python -m tests.stores.table`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "other-stores.md"
BEGIN, END = "<!-- made by tests/stores/table.py -->\n", "<!-- end -->\n"

COLUMNS = ("items", "overlays", "annotations", "tags", "README", "verify", "resume", "list", "publish", "signed")
ROWS = (
    ("http", "from"),
    ("s3", "from"),
    ("s3", "to"),
    ("azure", "from"),
    ("azure", "to"),
    ("smb", "from"),
    ("smb", "to"),
    ("irods", "from"),
    ("irods", "to"),
)


def shown() -> dict[tuple[str, str, str], list[str]]:
    """Return the tests that show each cell, by store, direction and column."""
    cells: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for test, stores, directions, columns in _marks(ast.parse(path.read_text("utf-8"))):
            for store in stores.split():
                for direction in directions.split():
                    for column in columns.split():
                        cells.setdefault((store, direction, column), []).append(f"{path.name}::{test}")
    return cells


def _marks(module: ast.Module) -> Iterator[tuple[str, str, str, str]]:
    for function in module.body:
        if isinstance(function, ast.FunctionDef):
            for call in function.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.shows":
                    stores, directions, columns = (ast.literal_eval(word) for word in call.args)
                    yield function.name, stores, directions, columns


def table() -> str:
    """Return the table."""
    cells = shown()
    lines = [f"| | {' | '.join(COLUMNS)} |", f"| --- |{' :-: |' * len(COLUMNS)}"]
    for store, direction in ROWS:
        ticks = ("yes" if (store, direction, column) in cells else "–" for column in COLUMNS)
        lines.append(f"| {direction} `{store}` | {' | '.join(ticks)} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """Return the page with its table made anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
