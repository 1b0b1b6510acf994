"""What a bucket holds."""

from __future__ import annotations

from dtool_ecs_flows.artifacts.drawing import MAX_ROWS, code, table_cell
from dtool_ecs_flows.datasets.inventory import Inventory, InventoryEntry
from dtool_ecs_flows.words import human_bytes, human_seconds, human_time, plural

_ORPHANS = 20  # named in a summary


def inventory_headline(inventory: Inventory) -> str:
    """Say in one sentence what a bucket holds."""
    told = [
        plural(len(inventory), "dataset"),
        f"{plural(inventory.items, 'item')}, {human_bytes(inventory.bytes)}",
        *(
            f"{len(found):,} {what}"
            for found, what in (
                (inventory.of_type("protodataset"), "unfinished"),
                (inventory.problems, "with a problem"),
                (inventory.orphans, "registered without a dataset"),
            )
            if found
        ),
    ]
    return "; ".join(told)


def inventory_summary(inventory: Inventory) -> str:
    """Say as markdown what a bucket holds, and what is wrong there."""
    text = f"**{inventory_headline(inventory)}** in {code(inventory.base_uri)}."
    text += f" {inventory.changed:,} new or changed; looked at in {human_seconds(inventory.seconds)}."
    if inventory.orphans:
        text += f"\n\nRegistered, but without a dataset: {', '.join(map(code, inventory.orphans[:_ORPHANS]))}"
        text += " …" if len(inventory.orphans) > _ORPHANS else ""
    if len(inventory) > MAX_ROWS:
        text += f"\n\nThe first {MAX_ROWS:,} are shown; the files, and the result of the flow, have all."
    return text


def inventory_rows(inventory: Inventory) -> list[dict[str, str]]:
    """Return the rows of an inventory's table artifact, problems first; columns that would be empty are left out."""
    ordered = sorted(inventory.datasets, key=lambda dataset: not dataset.problem)
    rows = [_row(dataset) for dataset in ordered[:MAX_ROWS]]
    used = [column for column in (rows[0] if rows else ()) if any(row[column] for row in rows)]
    return [{column: row[column] for column in used} for row in rows]


def _row(dataset: InventoryEntry) -> dict[str, str]:
    state = {"dataset": "frozen", "protodataset": "unfinished", "": "?"}[dataset.type]
    return {
        "Name": table_cell(dataset.name),
        "State": "problem" if dataset.problem else state,
        "Items": "" if dataset.items is None else f"{dataset.items:,}",
        "Size": "" if dataset.bytes is None else human_bytes(dataset.bytes),
        "Frozen (UTC)": human_time(dataset.frozen_at),
        "Creator": table_cell(dataset.creator_username),
        "Tags": table_cell(", ".join(dataset.tags or ())),
        "Problem": table_cell(dataset.problem),
        "UUID": table_cell(dataset.uuid),
        "Created (UTC)": human_time(dataset.created_at),
        "URI": table_cell(dataset.uri),
    }
