"""What an audit found."""

from __future__ import annotations

from dtool_ecs_flows.artifacts.drawing import MAX_ROWS, code, literal, markdown_table, table_cell, unbroken
from dtool_ecs_flows.models import AuditReport, DatasetAudit
from dtool_ecs_flows.words import human_bytes, human_seconds, human_time, plural


def audit_headline(report: AuditReport) -> str:
    """Say in one sentence what an audit found."""
    read = [dataset for dataset in report.due if dataset.content_read]
    told = [f"{len(read):,} read in full ({human_bytes(sum(dataset.bytes_read for dataset in read))})"]
    for word, found in (
        ("damaged", report.damaged),
        ("damaged when read last", report.still_damaged),
        ("not verified", report.having("not verified")),
        ("stale proto", report.having("stale proto dataset")),
        ("orphan registration", report.having("orphan registration")),
    ):
        told += [f"{len(found):,} {word}"] if found else []
    told += [f"{len(report.deleted):,} deleted on purpose"] if report.deleted else []
    return f"{plural(len(report.datasets), 'dataset')}: {', '.join(told)}"


def audit_markdown(report: AuditReport) -> str:
    """Draw an audit: damage first, with what to do, then what was not verified or is left over, then what was read."""
    part = f", part {report.part} of {report.parts}" if report.parts > 1 else ""
    parts = [
        f"# Audit of {code(report.base_uri)}",
        f"**{audit_headline(report)}** in {human_seconds(report.seconds)}.",
        f"Slice {report.slice_number} of {report.slices}{part}. {_audit_age(report)}",
    ]
    for title, found, advice in (
        (
            "Damaged",
            report.damaged,
            "Nothing was changed. Verify another copy, then delete the dataset here and copy it again.",
        ),
        ("Not verified", report.having("not verified"), "This is no damage: the next audits read it."),
        (
            "Left over",
            report.having("stale proto dataset", "orphan registration", "proto dataset"),
            "Finish these, or delete them.",
        ),
    ):
        rows = [
            [_audit_name(dataset), code(dataset.uri), finding.kind, code(finding.subject), literal(finding.message)]
            for dataset in found
            for finding in dataset.findings
        ]
        if rows:
            parts += [f"## {title}", markdown_table(("Dataset", "URI", "Finding", "Where", "What"), rows), advice]
    if known := report.still_damaged:
        rows = [[_audit_name(each), code(each.uri), human_time(each.last_read)] for each in known]
        advice = "What it was, the report of that day tells. Whether it still is, the next reading does."
        parts += ["## Damaged when read last", markdown_table(("Dataset", "URI", "Read (UTC)"), rows), advice]
    if read := [dataset for dataset in report.due if dataset.content_read]:
        rows = [
            [
                _audit_name(dataset),
                code(dataset.uuid),
                f"{dataset.items:,}",
                unbroken(human_bytes(dataset.bytes_read)),
                unbroken(human_seconds(dataset.seconds)),
                dataset.due,
            ]
            for dataset in read
        ]
        parts += ["## Read in full", markdown_table(("Dataset", "UUID", "Items", "Read", "Time", "Due by"), rows)]
    if report.deleted:
        rows = [
            [
                code(each.name or each.uuid),
                code(each.uuid),
                unbroken(human_time(each.at)),
                literal(each.by),
                literal(each.reason),
            ]
            for each in sorted(report.deleted, key=lambda each: -each.at)
        ]
        parts += ["## Deleted on purpose", markdown_table(("Dataset", "UUID", "At (UTC)", "By", "Why"), rows)]
    return "\n\n".join(parts)


def _audit_name(dataset: DatasetAudit) -> str:
    return code(dataset.name or dataset.uuid)


def _audit_age(report: AuditReport) -> str:
    frozen = [dataset for dataset in report.datasets if dataset.type == "dataset"]
    known = [dataset.last_read for dataset in frozen if dataset.last_read is not None]
    oldest = f"; the one longest ago was at {human_time(min(known))} UTC" if known else ""
    return f"{len(known):,} of {plural(len(frozen), 'frozen dataset')} were read in full so far{oldest}."


def audit_rows(report: AuditReport) -> list[dict[str, str]]:
    """Return the rows of an audit's table artifact, those with findings first."""
    ordered = sorted(report.datasets, key=lambda dataset: (not dataset.damage, not dataset.findings))
    return [
        {
            "Name": table_cell(dataset.name),
            "State": _audit_state(dataset),
            "Read in full (UTC)": human_time(dataset.last_read),
            "Items": f"{dataset.items:,}" if dataset.type == "dataset" else "",
            "Size": human_bytes(dataset.bytes) if dataset.type == "dataset" else "",
            "Findings": ", ".join(sorted({finding.kind for finding in dataset.findings})),
            "UUID": table_cell(dataset.uuid),
        }
        for dataset in ordered[:MAX_ROWS]
    ]


def _audit_state(dataset: DatasetAudit) -> str:
    if dataset.damage:
        return "damaged"
    if dataset.findings:
        return dataset.findings[0].kind
    return {"dataset": "good", "protodataset": "unfinished", "": "?"}[dataset.type]
