"""dtool datasets in ECS: a storage broker, operations on whole datasets, and Prefect flows around them."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtool_ecs_flows.datasets import (
        DatasetWriter,
        Inventory,
        InventoryEntry,
        archive_folder,
        audit_bucket,
        copy_dataset,
        copy_shard,
        create_dataset,
        delete_dataset,
        find_dataset,
        inventory_bucket,
        iter_datasets,
        list_datasets,
        load_inventory,
        look_at_folders,
        new_dataset,
        remove_local_copy,
        retrieve_items,
        share_dataset,
        verify_dataset,
        write_inventory,
    )
    from dtool_ecs_flows.errors import EcsFlowsError
    from dtool_ecs_flows.models import (
        AuditReport,
        CopyReport,
        CreateReport,
        DatasetAudit,
        DatasetInfo,
        DatasetList,
        DeleteReport,
        Deletion,
        Finding,
        ItemsReport,
        Progress,
        RemoveReport,
        ShardReport,
        ShareReport,
        VerifyReport,
    )
    from dtool_ecs_flows.progress import dtool_progressbar, progress_bar
    from dtool_ecs_flows.settings import BucketSettings

__version__: str

__all__ = [
    "AuditReport",
    "BucketSettings",
    "CopyReport",
    "CreateReport",
    "DatasetAudit",
    "DatasetInfo",
    "DatasetList",
    "DatasetWriter",
    "DeleteReport",
    "Deletion",
    "EcsFlowsError",
    "Finding",
    "Inventory",
    "InventoryEntry",
    "ItemsReport",
    "Progress",
    "RemoveReport",
    "ShardReport",
    "ShareReport",
    "VerifyReport",
    "archive_folder",
    "audit_bucket",
    "copy_dataset",
    "copy_shard",
    "create_dataset",
    "delete_dataset",
    "dtool_progressbar",
    "find_dataset",
    "inventory_bucket",
    "iter_datasets",
    "list_datasets",
    "load_inventory",
    "look_at_folders",
    "new_dataset",
    "progress_bar",
    "remove_local_copy",
    "retrieve_items",
    "share_dataset",
    "verify_dataset",
    "write_inventory",
]

_ROOMS = ("datasets", "models", "errors", "settings", "progress")


def __getattr__(name: str) -> Any:
    """Import what is asked for: every `dtool` command imports this package, and most need none of it."""
    if name == "__version__":
        return version("dtool-ecs-flows")
    if name in __all__:
        for room in _ROOMS:
            module = import_module(f"{__name__}.{room}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names, also of what is not imported yet: for whoever completes them, and for the reference."""
    return sorted({*globals(), *__all__})
