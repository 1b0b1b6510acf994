"""Prefect tasks, one per operation on a whole dataset: names, retries, progress and stopping, nothing else.

Each takes what its operation takes, with blocks (`buckets`) in place of `settings`, and returns the operation's report.

- Retried is only what may work a little later (`is_transient`). The operation has tried for minutes before that.
- A cancelled flow run stops the tasks that it submitted on threads; what is half there is resumed by the next run.
- No task is cached: that a run once succeeded does not prove that the dataset is still there. Each is idempotent
  but for `create_dataset`, which makes a new dataset every time. Prefect persists the result only of a task with a
  cache policy: whoever wants either says `copy_dataset.with_options(persist_result=True, cache_policy=BY_DATASET)`,
  which looks at the destination each time, or takes a policy of Prefect's, as `INPUTS - "buckets"`.
- A task that fails leaves a proto dataset, which is resumed; inside `rollback.removes_unfinished` it is removed.
- In `.map` wrap a block as `prefect.unmapped(bucket)`, since Prefect takes it for something to iterate over.
"""

from dtool_ecs_flows.tasks.audit import audit_dataset, look_at_bucket
from dtool_ecs_flows.tasks.caching import BY_DATASET
from dtool_ecs_flows.tasks.expiring import expire_dataset, list_expiring
from dtool_ecs_flows.tasks.folders import archive_folder, look_at_folders, remove_local_copy
from dtool_ecs_flows.tasks.inventory import inventory_bucket
from dtool_ecs_flows.tasks.operations import (
    copy_dataset,
    create_dataset,
    delete_dataset,
    list_datasets,
    retrieve_items,
    verify_dataset,
)
from dtool_ecs_flows.tasks.running import Buckets, is_transient, stops_with_flow
from dtool_ecs_flows.tasks.shards import copy_in_shards, copy_shard
from dtool_ecs_flows.tasks.sharing import share_dataset
from dtool_ecs_flows.tasks.waiting import wait_for_dataset

__all__ = [
    "BY_DATASET",
    "Buckets",
    "archive_folder",
    "audit_dataset",
    "copy_dataset",
    "copy_in_shards",
    "copy_shard",
    "create_dataset",
    "delete_dataset",
    "expire_dataset",
    "inventory_bucket",
    "is_transient",
    "list_datasets",
    "list_expiring",
    "look_at_bucket",
    "look_at_folders",
    "remove_local_copy",
    "retrieve_items",
    "share_dataset",
    "stops_with_flow",
    "verify_dataset",
    "wait_for_dataset",
]
