"""The frozen records that travel between the rooms.

`Item` is a slim dataclass because a dataset may have a million; the reports are pydantic models because people and
Prefect read them as JSON (`report.model_dump_json()`). Sizes are bytes, times are UTC epoch seconds.
"""

from dtool_ecs_flows.models.audits import AuditReport, DatasetAudit, Deletion
from dtool_ecs_flows.models.items import Item, Progress, ProgressCallback, work_of
from dtool_ecs_flows.models.reports import (
    DAMAGE,
    CopyReport,
    CreateReport,
    DatasetInfo,
    DatasetList,
    DeleteReport,
    Finding,
    FindingKind,
    ItemsReport,
    RemoveReport,
    Report,
    ShardReport,
    ShareReport,
    Verified,
    VerifyReport,
)

__all__ = [
    "DAMAGE",
    "AuditReport",
    "CopyReport",
    "CreateReport",
    "DatasetAudit",
    "DatasetInfo",
    "DatasetList",
    "DeleteReport",
    "Deletion",
    "Finding",
    "FindingKind",
    "Item",
    "ItemsReport",
    "Progress",
    "ProgressCallback",
    "RemoveReport",
    "Report",
    "ShardReport",
    "ShareReport",
    "Verified",
    "VerifyReport",
    "work_of",
]
