"""Datasets whose time is over, as a person is to see them, and what became of them."""

from __future__ import annotations

from dtool_ecs_flows.artifacts.drawing import MAX_ROWS, code, literal, markdown_table, table_cell, unbroken
from dtool_ecs_flows.outcomes import ExpireReport, ExpiryList
from dtool_ecs_flows.words import human_bytes, human_time, plural


def expiring_summary(found: ExpiryList) -> str:
    """Say as markdown how many datasets there are to decide about."""
    size = human_bytes(sum(each.bytes for each in found.datasets))
    text = f"**{plural(len(found.datasets), 'dataset')}** ({size}) in {code(found.base_uri)} would be deleted"
    return text + (f"; {found.more:,} more are left for a later run." if found.more else ".")


def expiring_rows(found: ExpiryList) -> list[dict[str, str]]:
    """Return the rows of the table that a person decides by."""
    return [
        {
            "Name": table_cell(each.info.name),
            "Frozen (UTC)": human_time(each.info.frozen_at),
            "Items": "?" if each.note else f"{each.items:,}",
            "Size": "?" if each.note else human_bytes(each.bytes),
            "Tags": table_cell(", ".join(each.info.tags or ())),
            "Creator": table_cell(each.info.creator_username),
            "UUID": table_cell(each.info.uuid),
        }
        for each in found.datasets[:MAX_ROWS]
    ]


def expire_headline(report: ExpireReport) -> str:
    """Say in one sentence what became of the datasets."""
    counts = {outcome: len(report.having(outcome)) for outcome in ("deleted", "kept", "failed")}
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count)
    return f"{plural(len(report.datasets), 'dataset')}: {told or 'nothing to do'}"


def expire_markdown(report: ExpireReport) -> str:
    """Draw what became of the datasets that were shown, and who approved."""
    who = f"Approved by {literal(report.approved_by)}." if report.approved_by else "Nothing was approved, or deleted."
    parts = [f"# Expire {code(report.base_uri)}", f"**{expire_headline(report)}**. {who}"]
    if report.datasets:
        rows = [
            [
                code(each.name or each.uuid),
                code(each.uuid),
                unbroken(each.outcome),
                f"{each.objects:,}" if each.objects else "",
                literal(each.message),
            ]
            for outcome in ("failed", "deleted", "kept")
            for each in report.having(outcome)
        ]
        parts.append(markdown_table(("Dataset", "UUID", "Outcome", "Objects", "Note"), rows))
    return "\n\n".join(parts)
