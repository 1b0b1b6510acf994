"""What a bucket holds, and what a verification found."""

from __future__ import annotations

from dtool_ecs_flows.artifacts.drawing import MAX_ROWS, code, literal, markdown_table, table_cell
from dtool_ecs_flows.models import DatasetInfo, DatasetList, VerifyReport
from dtool_ecs_flows.words import human_bytes, human_seconds, human_time, plural


def dataset_list_summary(listing: DatasetList) -> str:
    """Say as markdown what a listing holds, the problems first."""
    frozen = sum(dataset.type == "dataset" for dataset in listing.datasets)
    unfinished = sum(dataset.type == "protodataset" for dataset in listing.datasets)
    problems = [dataset for dataset in listing.datasets if dataset.problem]
    text = f"**{plural(len(listing), 'dataset')}** in {code(listing.base_uri)}: {frozen:,} frozen"
    text += f", {unfinished:,} unfinished" if unfinished else ""
    text += f", {len(problems):,} with a problem" if problems else ""
    text += f". Listed in {human_seconds(listing.seconds)}."
    if listing.orphans:
        text += f"\n\nRegistered, but without a dataset: {', '.join(map(code, listing.orphans[:20]))}"
        text += " …" if len(listing.orphans) > 20 else ""
    if len(listing) > MAX_ROWS:
        text += f"\n\nThe first {MAX_ROWS:,} are shown; the result of the flow has all."
    return text


def dataset_list_rows(listing: DatasetList) -> list[dict[str, str]]:
    """Return the rows of a listing's table artifact; columns that would be empty in every row are left out."""
    rows = [_dataset_row(dataset) for dataset in listing.datasets[:MAX_ROWS]]
    used = [column for column in (rows[0] if rows else ()) if any(row[column] for row in rows)]
    return [{column: row[column] for column in used} for row in rows]


def _dataset_row(dataset: DatasetInfo) -> dict[str, str]:
    state = {"dataset": "frozen", "protodataset": "unfinished", "": "?"}[dataset.type]
    return {
        "Name": table_cell(dataset.name),
        "State": "problem" if dataset.problem else state,
        "Frozen (UTC)": human_time(dataset.frozen_at),
        "Creator": table_cell(dataset.creator_username),
        "Tags": table_cell(", ".join(dataset.tags or ())),
        "Problem": table_cell(dataset.problem),
        "UUID": table_cell(dataset.uuid),
        "Created (UTC)": human_time(dataset.created_at),
        "URI": table_cell(dataset.uri),
    }


def verify_markdown(report: VerifyReport) -> str:
    """Draw what a verification found."""
    how = (
        f"{human_bytes(report.bytes_read)} read and hashed"
        if report.content_read
        else "sizes and structure looked at, content not read"
    )
    verdict = "is right" if report.ok else f"has {plural(len(report.findings), 'finding')}"
    parts = [
        f"# {code(report.name or report.uuid)} {verdict}",
        f"{plural(report.items, 'item')}, {human_bytes(report.bytes)}; {how} in {human_seconds(report.seconds)}.",
        code(report.uri),
    ]
    if report.findings:
        rows = [
            [found.kind, code(found.subject), literal(found.message), code(found.expected), code(found.actual)]
            for found in report.findings
        ]
        parts.append(markdown_table(("Finding", "Item or key", "What", "Expected", "Found"), rows))
    return "\n\n".join(parts)
