"""Operations on whole datasets. None of them needs Prefect; each returns a report that serialises to JSON."""

from dtool_ecs_flows.datasets.audit import audit_bucket
from dtool_ecs_flows.datasets.copy import copy_dataset
from dtool_ecs_flows.datasets.create import create_dataset, new_dataset
from dtool_ecs_flows.datasets.delete import delete_dataset
from dtool_ecs_flows.datasets.expiring import expire_dataset, list_expiring
from dtool_ecs_flows.datasets.finding import find_dataset
from dtool_ecs_flows.datasets.folders import archive_folder, look_at_folders
from dtool_ecs_flows.datasets.inventory import (
    Inventory,
    InventoryEntry,
    inventory_bucket,
    load_inventory,
    write_inventory,
)
from dtool_ecs_flows.datasets.listing import iter_datasets, list_datasets
from dtool_ecs_flows.datasets.removing import remove_local_copy
from dtool_ecs_flows.datasets.selecting import retrieve_items
from dtool_ecs_flows.datasets.shards import copy_shard
from dtool_ecs_flows.datasets.sharing import share_dataset
from dtool_ecs_flows.datasets.verify import verify_dataset
from dtool_ecs_flows.datasets.writer import DatasetWriter

__all__ = [
    "DatasetWriter",
    "Inventory",
    "InventoryEntry",
    "archive_folder",
    "audit_bucket",
    "copy_dataset",
    "copy_shard",
    "create_dataset",
    "delete_dataset",
    "expire_dataset",
    "find_dataset",
    "inventory_bucket",
    "iter_datasets",
    "list_datasets",
    "list_expiring",
    "load_inventory",
    "look_at_folders",
    "new_dataset",
    "remove_local_copy",
    "retrieve_items",
    "share_dataset",
    "verify_dataset",
    "write_inventory",
]
