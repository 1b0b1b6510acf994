"""Buckets to audit, and what an audit said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtool_ecs_flows import AuditReport, BucketSettings, audit_bucket
from dtool_ecs_flows.datasets.audit.spread import DAY, share_of
from tests.independent import Raw, bucket_dataset, edit_json, identifier, md5

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(range(256))}
TOTAL = sum(map(len, FILES.values()))
TABLE = f"data/{identifier('a.csv')}"


def audit(bucket: BucketSettings, history: Path | str, **how: Any) -> AuditReport:
    """Audit a bucket; unless something else is said, all of it is read."""
    return audit_bucket(bucket.base_uri, history=history, settings=bucket, **{"slices": 1, **how})


def uuids(number: int) -> list[str]:
    """The same every time, so that the same fall into the same slices."""
    return [f"{md5(b'%d' % n)[:8]}-0000-4000-8000-{n:012d}" for n in range(number)]


def fill(raw: Raw, number: int) -> list[str]:
    """Put some datasets into a bucket."""
    return [bucket_dataset(raw, FILES, uuid=uuid) for uuid in uuids(number)]


def found(report: AuditReport) -> dict[str, list[tuple[str, str]]]:
    """Kind and subject of all findings, by UUID."""
    return {
        each.uuid: sorted((str(f.kind), f.subject) for f in each.findings) for each in report.datasets if each.findings
    }


def read(report: AuditReport) -> list[str]:
    """The datasets of which every byte was read."""
    return [each.uuid for each in report.datasets if each.content_read]


def days_pass(history: Path, days: int) -> None:
    """Make all that was remembered this much older."""

    def age(entry: dict[str, Any]) -> None:
        for name in ("at", "begun", "last_read"):
            if entry.get(name):
                entry[name] -= days * DAY

    for file in history.rglob("*.json"):
        edit_json(file, age)


def quiet_slice(chosen: list[str]) -> int:
    """One of 99 slices that has none of these datasets."""
    return next(n for n in range(1, 100) if n not in {share_of(uuid, 99, "slice") for uuid in chosen})
