"""How anything is drawn: escaped text, tables, keys.

Names in a dataset come from strangers. Whatever is drawn is escaped, so that a name can neither break a table nor
become a link, an image or markup in somebody's browser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dtool_ecs_flows.words import MAX_LINE, one_line

MAX_ROWS = 1000
"""Rows drawn in one artifact; the API and the browser have to carry them. The flow's result is complete."""

_MARKUP = re.compile(r"[\\`*_\[\]|~]")


def literal(text: str, limit: int = MAX_LINE) -> str:
    """Return text as markdown that shows exactly this text, whatever it contains."""
    text = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda match: "\\" + match.group(), text)


def code(text: str, limit: int = MAX_LINE) -> str:
    """Return a name, URI or UUID as markdown in the code font, where nothing in it means anything."""
    text = one_line(text, limit)
    if not text.strip() or any(mark in text for mark in "`|\\<"):
        return literal(text, limit)  # the first three cannot be written as code in a table, < is for old renderers
    return f"`{text}`"


def artifact_key(*parts: str) -> str:
    """Return an artifact key (lower case, digits, dashes) made of these parts."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") or "report"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table; the cells must be escaped already. Columns that are empty in every row are left out."""
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [_table_line([head[column] for column in used]), "|" + " --- |" * len(used)]
    lines += [_table_line([row[column] for column in used]) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines += ["", f"… and {len(rows) - MAX_ROWS:,} more, in the result of the flow."]
    return "\n".join(lines)


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def unbroken(text: str) -> str:
    """Return text that a narrow column does not break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def table_cell(text: str) -> str:
    """Return a cell of a table artifact, which the UI shows as plain text but for links in markdown form."""
    return one_line(text).replace("](", "] (")
