"""Datasets as steps: which of them are copied, and which are left out and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefect.futures import PrefectFuture

from dtool_ecs_flows.datasets.choosing import Filter
from dtool_ecs_flows.errors import NotADatasetError
from dtool_ecs_flows.flows.steps import Step, named
from dtool_ecs_flows.models import CopyReport, DatasetInfo, DatasetList
from dtool_ecs_flows.outcomes import DatasetOutcome
from dtool_ecs_flows.plugins import without_signature
from dtool_ecs_flows.tasks import Buckets, copy_dataset, list_datasets

__all__ = ["choose", "copy_steps", "frozen_at", "outcome_of"]


def choose(listing: DatasetList, wanted: Sequence[str]) -> tuple[DatasetInfo, ...]:
    """Return the datasets that are wanted by name, UUID or URI; all of the listing where nothing is said.

    A URI that is not in the listing is taken as it stands: it may be of another place.

    Raises:
        NotADatasetError: A name or UUID is not in the listing.
    """
    if not wanted:
        return listing.datasets
    chosen: dict[str, DatasetInfo] = {}
    unknown = []
    for text in (wish.strip() for wish in wanted):
        found = [info for info in listing.datasets if text in (info.name, info.uuid, info.uri.rstrip("/"), info.uri)]
        if not found and "://" in text:
            found = [DatasetInfo(uri=text, uuid="", type="dataset")]
        if not found:
            unknown.append(text)
        chosen |= {info.uri: info for info in found}
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise NotADatasetError(f"no dataset with this name, UUID or URI in {listing.base_uri}: {names}")
    return tuple(chosen.values())


def frozen_at(base_uri: str, buckets: Buckets) -> dict[str, str]:
    """Return the URIs of the frozen datasets at a base URI by their UUIDs."""
    return {info.uuid: info.uri for info in list_datasets(base_uri, buckets=buckets).datasets if info.type == "dataset"}


def copy_steps(
    datasets: Sequence[DatasetInfo],
    destination: str,
    buckets: Buckets,
    *,
    chosen: Filter,
    there: dict[str, str],
    begin: Callable[[DatasetInfo], PrefectFuture[Any]] | None = None,
    update_metadata: bool = False,
    afterwards: Callable[[DatasetInfo, CopyReport], PrefectFuture[Any]] | None = None,
) -> list[Step]:
    """Return a step for each dataset; those that are `there`, by UUID, are not asked for again.

    `begin` is what submits it, where that is something else than a copy.
    """

    def step(info: DatasetInfo) -> Step:
        outcome = _not_copyable(info, chosen)
        if outcome is not None:
            return Step(outcome)
        then = (lambda report: afterwards(info, report)) if afterwards else None
        if info.uuid in there:
            return Step(outcome_of(info, uri=there[info.uuid], outcome="already there"), None, then)
        copy = named(copy_dataset, "copy", info.name or without_signature(info.uri), info.uuid)
        return Step(
            outcome_of(info, outcome="planned"),
            (lambda: begin(info))
            if begin
            else (lambda: copy.submit(info.uri, destination, buckets=buckets, update_metadata=update_metadata)),
            then,
        )

    return [step(info) for info in datasets]


def outcome_of(info: DatasetInfo, **fields: object) -> DatasetOutcome:
    """Return the outcome of a dataset that a listing tells of."""
    known = {"source_uri": without_signature(info.uri), "name": info.name, "uuid": info.uuid}
    return DatasetOutcome.model_validate({**known, **fields})


def _not_copyable(info: DatasetInfo, chosen: Filter) -> DatasetOutcome | None:
    if info.problem:
        return outcome_of(info, outcome="failed", message=info.problem)
    if why_not := chosen.why_not(info):
        return outcome_of(info, outcome="left out", message=why_not)
    if info.type == "protodataset":
        return outcome_of(info, outcome="left out", message="not frozen yet")
    return None
