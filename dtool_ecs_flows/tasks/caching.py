"""A cache for copies, for those who ask: `copy_dataset.with_options(persist_result=True, cache_policy=BY_DATASET)`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.utilities.hashing import hash_objects

from dtool_ecs_flows.datasets import find_dataset
from dtool_ecs_flows.datasets.finding import uuid_of
from dtool_ecs_flows.errors import EcsFlowsError
from dtool_ecs_flows.tasks.running import settings_of

__all__ = ["BY_DATASET"]


@dataclass
class ByDataset(CachePolicy):
    """Keeps the report of a copy under the dataset's UUID and the destination, whatever the URI that it comes from.

    A report does not prove that the dataset is still there: so the destination is looked at each time, with two small
    reads in a bucket. Where no frozen dataset is there, the report that was kept is made to expire, and the copy runs.
    """

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002  # part of Prefect's interface
        **_: Any,
    ) -> str | None:
        """Return the key; None, so that nothing is kept, where a side cannot be read: the copy will say why."""
        how: dict[str, Any] = {
            "settings": settings_of(inputs.get("buckets", ())),
            "config_path": inputs.get("config_path"),
        }
        base_uri = inputs["base_uri"].rstrip("/")
        try:
            uuid = uuid_of(inputs["source_uri"], **how)
            there = find_dataset(uuid, base_uri, **how)
        except (EcsFlowsError, OSError):
            return None
        key = hash_objects("dtool-ecs-flows", task_ctx.task.name, uuid, base_uri, inputs.get("update_metadata", False))
        if key and (there is None or there.type != "dataset") and task_ctx.result_store.exists(key):
            gone = datetime.now(timezone.utc) - timedelta(seconds=1)
            task_ctx.result_store.write(obj=None, key=key, expiration=gone)  # type: ignore[arg-type]  # their own name of it
        return key


BY_DATASET = ByDataset()
"""The cache policy of copies by dataset UUID, for `copy_dataset.with_options`."""
