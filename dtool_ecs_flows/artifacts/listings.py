"""What a verification found."""

from __future__ import annotations

from dtool_ecs_flows.artifacts.drawing import code, literal, markdown_table
from dtool_ecs_flows.models import VerifyReport
from dtool_ecs_flows.words import human_bytes, human_seconds, plural


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
