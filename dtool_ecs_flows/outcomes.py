"""What became of each dataset in a run over many: the result that the flows return and the artifacts draw."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from dtool_ecs_flows.errors import DatasetError
from dtool_ecs_flows.models import AuditReport, DatasetInfo

__all__ = [
    "AuditFailedError",
    "DatasetOutcome",
    "ExpireOutcome",
    "ExpireReport",
    "ExpiringDataset",
    "ExpiryList",
    "Outcome",
    "RunFailedError",
    "RunReport",
]

Outcome: TypeAlias = Literal["copied", "already there", "planned", "left out", "failed"]
"""`planned` is said in a dry run; `left out` of what was not chosen, is not complete yet, or came too late."""


class DatasetOutcome(BaseModel):
    """One dataset of a run: where it came from, where it is now, and how it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_uri: str
    outcome: Outcome
    name: str = ""
    uuid: str = ""
    uri: str = ""
    """Where the dataset is now; empty where it was not copied."""
    items: int = 0
    bytes: int = 0
    copied_items: int = 0
    copied_bytes: int = 0
    seconds: float = 0.0
    local_copy: Literal["", "removed", "kept", "to be removed"] = ""
    """What became of the copy at the source, where it was to be removed."""
    message: str = ""
    """Why it failed or was left out, or what else a reader should know."""


class RunReport(BaseModel):
    """What a run over many datasets did; in a dry run, what it would do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    destination: str
    dry_run: bool
    datasets: tuple[DatasetOutcome, ...]
    seconds: float

    def having(self, *outcomes: Outcome) -> tuple[DatasetOutcome, ...]:
        """Return the datasets with one of these outcomes, in the order of the run."""
        return tuple(dataset for dataset in self.datasets if dataset.outcome in outcomes)

    @property
    def ok(self) -> bool:
        """Whether no dataset failed."""
        return not self.having("failed")


class RunFailedError(DatasetError):
    """Some datasets of a run failed; `report` tells of each. Running again does the rest."""

    def __init__(self, message: str, report: RunReport) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild with its report, so that the error survives a process boundary."""
        return (RunFailedError, (self.message, self.report))


class ExpiringDataset(BaseModel):
    """A dataset whose time is over, as it is shown to who decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    info: DatasetInfo
    items: int = 0
    bytes: int = 0
    note: str = ""
    """Why its size is not known."""


class ExpiryList(BaseModel):
    """The datasets of a bucket whose time is over, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_uri: str
    datasets: tuple[ExpiringDataset, ...]
    more: int = 0
    """How many there are besides, for a later run."""


class ExpireOutcome(BaseModel):
    """What became of one dataset that was shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    uuid: str
    name: str
    outcome: Literal["deleted", "kept", "failed"]
    objects: int = 0
    """Objects that were deleted."""
    message: str = ""
    """Why it was kept, or failed."""


class ExpireReport(BaseModel):
    """What a run of `expire` did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_uri: str
    approved_by: str = ""
    """Who approved; empty where nobody did, and nothing was deleted."""
    datasets: tuple[ExpireOutcome, ...]

    def having(self, outcome: Literal["deleted", "kept", "failed"]) -> tuple[ExpireOutcome, ...]:
        """Return the datasets with this outcome."""
        return tuple(dataset for dataset in self.datasets if dataset.outcome == outcome)


class AuditFailedError(DatasetError):
    """An audit found damage, or could not read what was due; `report` tells of each dataset."""

    def __init__(self, message: str, report: AuditReport) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild with its report, so that the error survives a process boundary."""
        return (AuditFailedError, (self.message, self.report))
