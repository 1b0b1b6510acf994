"""Runs over many datasets, and datasets that were published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dtool_ecs_flows.artifacts.drawing import code, literal, markdown_table, unbroken
from dtool_ecs_flows.models import CreateReport, ShareReport
from dtool_ecs_flows.outcomes import DatasetOutcome, RunReport
from dtool_ecs_flows.plugins import without_signature
from dtool_ecs_flows.words import human_bytes, human_seconds, human_time, plural


def run_headline(report: RunReport) -> str:
    """Say in one sentence what a run over many datasets did."""
    told = []
    if planned := report.having("planned"):
        told.append(f"{len(planned):,} would be copied")
    if copied := report.having("copied"):
        size = human_bytes(sum(dataset.copied_bytes for dataset in copied))
        told.append(f"{len(copied):,} copied ({size})")
    if there := report.having("already there"):
        told.append(f"{len(there):,} already there")
    if left_out := report.having("left out"):
        told.append(f"{len(left_out):,} left out")
    copies = Counter(dataset.local_copy for dataset in report.datasets)
    told += [
        f"{plural(copies[done], 'local copy').replace('copys', 'copies')} {done}"
        for done in ("removed", "kept")
        if copies[done]
    ]
    if failed := report.having("failed"):
        told.append(f"{len(failed):,} failed")
    return f"{plural(len(report.datasets), 'dataset')}: {', '.join(told) or 'nothing to do'}"


def run_markdown(title: str, report: RunReport) -> str:
    """Draw a run over many datasets: headline, failures with their reasons, then all the others."""
    parts = [
        f"# {literal(title)}",
        f"**{run_headline(report)}** in {human_seconds(report.seconds)}.",
        f"From {code(report.source)} to {code(report.destination)}.",
    ]
    if report.dry_run:
        parts.append("This was a dry run: nothing was copied.")
    if failed := report.having("failed"):
        rows = [[_name(dataset), code(dataset.source_uri), literal(dataset.message)] for dataset in failed]
        parts += [
            "## Failed",
            markdown_table(("Dataset", "Source", "Why"), rows),
            "Running again does what is missing, and nothing else.",
        ]
    others = report.having("copied", "planned", "already there", "left out")
    if others:
        head = ("Dataset", "UUID", "Outcome", "Items", "Size", "Copied", "Time", "Local copy", "Note")
        parts += ["## Datasets", markdown_table(head, [_run_row(dataset) for dataset in others])]
    return "\n\n".join(parts)


def _name(dataset: DatasetOutcome) -> str:
    return code(dataset.name or dataset.uuid or "?")


def _run_row(dataset: DatasetOutcome) -> list[str]:
    done = dataset.outcome == "copied" or dataset.seconds > 0
    known = done or dataset.items > 0
    return [
        _name(dataset),
        code(dataset.uuid),
        unbroken(dataset.outcome),
        f"{dataset.items:,}" if known else "",
        unbroken(human_bytes(dataset.bytes)) if known else "",
        unbroken(human_bytes(dataset.copied_bytes)) if done else "",
        unbroken(human_seconds(dataset.seconds)) if done else "",
        unbroken(dataset.local_copy),
        literal(dataset.message),
    ]


def published_markdown(
    report: CreateReport,
    *,
    tags: Sequence[str] = (),
    derived_from: Sequence[str] = (),
    shared: ShareReport | None = None,
    not_shared: str = "",
) -> str:
    """Draw a dataset that was made, and how it is shared; `not_shared` is why that failed."""
    facts = [
        ("URI", code(report.uri)),
        ("UUID", code(report.uuid)),
        ("Items", f"{report.items:,}"),
        ("Size", human_bytes(report.bytes)),
        ("Tags", ", ".join(map(code, tags))),
        ("Derived from", "<br>".join(code(without_signature(uri)) for uri in derived_from)),
        ("Time", human_seconds(report.seconds)),
        *_sharing(shared),
        ("Not shared", literal(not_shared)),
    ]
    table = markdown_table(("Dataset", code(report.name)), [fact for fact in facts if fact[1]])
    return f"# Published {code(report.name)}\n\n{table}"


def _sharing(shared: ShareReport | None) -> list[tuple[str, str]]:
    if shared is None:
        return []
    if shared.expires_at is None:
        return [("Readable by", "everyone"), ("URL", code(shared.url))]
    return [
        ("Readable by", f"whoever has the signed URL, until {human_time(shared.expires_at)} UTC"),
        ("Signed URL", f"in the Secret block {code(shared.secret_block)}, where nobody reads it by chance"),
    ]
