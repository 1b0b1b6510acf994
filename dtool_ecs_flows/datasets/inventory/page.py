"""An inventory as one page for a browser: table with search and sort, and plots, that asks nobody for anything.

What comes from the bucket is data to the page, never markup: it travels as JSON in which no character can end the
element that it stands in, and the script only ever puts it into text nodes. The page's own policy lets a browser run
this script and no other, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from importlib.resources import files
from string import Template

from dtool_ecs_flows.datasets.inventory.report import Inventory, InventoryEntry
from dtool_ecs_flows.words import human_bytes, human_time, one_line

_FURTHEST = 8.64e12  # seconds before and after 1970 that a browser has dates for


def page(inventory: Inventory) -> str:
    """Return the page."""
    style, script = _part("page.css"), _part("page.js")
    return Template(_part("page.html")).substitute(
        base_uri=html.escape(one_line(inventory.base_uri)),
        at=human_time(inventory.at),
        facts="".join(f"<li><b>{number}</b> {what}</li>" for number, what in _facts(inventory)),
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
        "form-action 'none'",
        style=style,
        script=script,
        data=_data(inventory),
    )


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(inventory: Inventory) -> list[tuple[str, str]]:
    """Return the numbers at the top, for those without a script as well."""
    unfinished, wrong = len(inventory.of_type("protodataset")), len(inventory.problems) + len(inventory.orphans)
    facts = [
        (f"{len(inventory):,}", "dataset" if len(inventory) == 1 else "datasets"),
        (f"{inventory.items:,}", "item" if inventory.items == 1 else "items"),
        (human_bytes(inventory.bytes), "in all"),
    ]
    rare = ((unfinished, "unfinished"), (wrong, "with a problem"))
    return facts + [(f"{count:,}", what) for count, what in rare if count]


def _data(inventory: Inventory) -> str:
    rows = [_row(entry) for entry in inventory.rows()]
    text = json.dumps({"rows": rows}, separators=(",", ":"), allow_nan=False)  # ASCII: no odd line end, no bidi mark
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _row(entry: InventoryEntry) -> list[object]:
    """Return what the script wants of a dataset, in its order."""
    return [
        one_line(entry.name),
        entry.type,
        entry.items,
        entry.bytes,
        one_line(entry.creator_username),
        _time(entry.created_at),
        _time(entry.frozen_at),
        [one_line(tag) for tag in entry.tags or ()],
        one_line(entry.problem),
        entry.uri,
    ]


def _time(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) and abs(seconds) <= _FURTHEST else None
