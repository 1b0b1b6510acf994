"""What became of each dataset in a run over many: the result that the flows return and the artifacts draw."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from dtool_ecs_flows.errors import DatasetError
from dtool_ecs_flows.models import AuditReport

__all__ = ["AuditFailedError", "DatasetOutcome", "Outcome", "RunFailedError", "RunReport"]

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


class AuditFailedError(DatasetError):
    """An audit found damage, or could not read what was due; `report` tells of each dataset."""

    def __init__(self, message: str, report: AuditReport) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild with its report, so that the error survives a process boundary."""
        return (AuditFailedError, (self.message, self.report))
