"""What an audit returns, and what is remembered from one to the next."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import computed_field, model_validator

from dtool_ecs_flows.models.reports import DAMAGE, Finding, FindingKind, Message, Report


class DatasetAudit(Report):
    """What an audit found of one dataset, and what is remembered of it where its bytes were to be read."""

    uri: str
    uuid: str
    name: str = ""
    type: Literal["dataset", "protodataset", ""] = ""
    """Empty where that could not be read."""
    at: float
    """When it was looked at, or its reading was begun."""
    due: Literal["", "slice", "catch-up"] = ""
    """Why all of it is read in this run; empty where it is not."""
    content_read: bool = False
    """All of its bytes that are there were read and compared in this run."""
    items: int = 0
    bytes: int = 0
    """Bytes in the dataset by its manifest."""
    bytes_read: int = 0
    last_read: float | None = None
    """When all of it was read last, this run included; None where the history knows of no such time."""
    last_read_ok: bool | None = None
    """Whether nothing was wrong then."""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that say that something is wrong with the dataset."""
        return tuple(finding for finding in self.findings if finding.kind in DAMAGE)

    def has(self, *kinds: FindingKind) -> bool:
        """Whether there is a finding of one of these kinds."""
        return any(finding.kind in kinds for finding in self.findings)


class Deletion(Report):
    """That a dataset was deleted on purpose, as the history of the audits remembers it."""

    uri: str
    uuid: str
    name: Message = ""
    prefix: str = ""
    """What stood before the UUID in its keys."""
    at: float
    """When the last of it had been deleted."""
    by: Message = ""
    """Who wanted it, as far as that was said."""
    reason: Message = ""


class AuditReport(Report):
    """What `audit_bucket` found, sorted by name and UUID: each dataset, proto dataset and orphan registration key."""

    base_uri: str
    slices: int
    slice_number: int
    part: int = 1
    parts: int = 1
    begun: float
    datasets: tuple[DatasetAudit, ...]
    deleted: tuple[Deletion, ...] = ()
    """What was deleted on purpose, by what the history says, and is not there: no finding."""
    seconds: float

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know decorated properties
    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, nothing was left over, and all that was due was read."""
        return not any(dataset.findings for dataset in self.datasets)

    @model_validator(mode="before")
    @classmethod
    def _derive_ok(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "ok"} if isinstance(data, dict) else data

    @property
    def due(self) -> tuple[DatasetAudit, ...]:
        """The datasets whose bytes were to be read in this run."""
        return tuple(dataset for dataset in self.datasets if dataset.due)

    @property
    def damaged(self) -> tuple[DatasetAudit, ...]:
        """The datasets with which something is wrong."""
        return tuple(dataset for dataset in self.datasets if dataset.damage)

    @property
    def still_damaged(self) -> tuple[DatasetAudit, ...]:
        """The datasets that were damaged when they were read last, and of which this run found no more."""
        return tuple(dataset for dataset in self.datasets if dataset.last_read_ok is False and not dataset.damage)

    def having(self, *kinds: FindingKind) -> tuple[DatasetAudit, ...]:
        """Return the datasets with a finding of one of these kinds."""
        return tuple(dataset for dataset in self.datasets if dataset.has(*kinds))
