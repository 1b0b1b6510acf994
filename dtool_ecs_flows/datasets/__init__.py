"""Operations on whole datasets. None of them needs Prefect; each returns a report that serialises to JSON."""

from dtool_ecs_flows.datasets.audit import audit_bucket
from dtool_ecs_flows.datasets.copy import copy_dataset
from dtool_ecs_flows.datasets.create import create_dataset, new_dataset
from dtool_ecs_flows.datasets.delete import delete_dataset
from dtool_ecs_flows.datasets.finding import find_dataset
from dtool_ecs_flows.datasets.listing import iter_datasets, list_datasets
from dtool_ecs_flows.datasets.shards import copy_shard
from dtool_ecs_flows.datasets.verify import verify_dataset
from dtool_ecs_flows.datasets.writer import DatasetWriter

__all__ = [
    "DatasetWriter",
    "audit_bucket",
    "copy_dataset",
    "copy_shard",
    "create_dataset",
    "delete_dataset",
    "find_dataset",
    "iter_datasets",
    "list_datasets",
    "new_dataset",
    "verify_dataset",
]
