"""Events and assets: what Prefect is told of datasets, so that automations can act on it and lineage can be drawn.

An event's resource is the dataset by its UUID, wherever it is: `dtool-ecs-flows.dataset.<UUID>`. Outside of a run
nothing is told: there would be no server to tell.

An asset is a dataset at one place: its key is the URI. On the open-source server assets are events only
(`prefect.asset.materialization.succeeded`), with the assets that it was made from as related resources.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext, FlowRunContext, TaskRunContext
from prefect.events import emit_event
from pydantic import ValidationError

from dtool_ecs_flows.layout import SCHEME
from dtool_ecs_flows.models import CopyReport, CreateReport, Finding
from dtool_ecs_flows.plugins import without_signature
from dtool_ecs_flows.words import one_line

__all__ = ["ARCHIVED", "CORRUPT", "PUBLISHED", "archived", "asset_made", "corrupt", "published", "resource_id", "tell"]

ARCHIVED: Literal["dtool-ecs-flows.dataset.archived"] = "dtool-ecs-flows.dataset.archived"
"""A dataset, or a plain folder as one, was copied into a bucket, and is frozen there. Not told where it was there."""

PUBLISHED: Literal["dtool-ecs-flows.dataset.published"] = "dtool-ecs-flows.dataset.published"
"""A new dataset was made of files, and is frozen."""

CORRUPT: Literal["dtool-ecs-flows.dataset.corrupt"] = "dtool-ecs-flows.dataset.corrupt"
"""Bytes of a dataset were read that are not those of its manifest."""

EventName: TypeAlias = Literal[
    "dtool-ecs-flows.dataset.archived", "dtool-ecs-flows.dataset.published", "dtool-ecs-flows.dataset.corrupt"
]

_BY = "dtool-ecs-flows"
_TOLD = 20  # items in one event, which is kept small


def resource_id(uuid: str) -> str:
    """Return the id by which events name a dataset."""
    return f"dtool-ecs-flows.dataset.{uuid}"


def tell(event: EventName, *, uuid: str, name: str, uri: str, **payload: Any) -> None:
    """Emit an event about a dataset, from within a flow or task run; elsewhere do nothing.

    Args:
        event: One of the names above.
        uuid: The dataset.
        name: Its name, which a person will read.
        uri: Where it is.
        payload: Further JSON values; `uri` and `name` are always among them.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    emit_event(
        event,
        resource={
            "prefect.resource.id": resource_id(uuid),
            "prefect.resource.name": one_line(name or uuid),
            "dtool-ecs-flows.uri": uri,
        },
        payload={"uri": uri, "name": one_line(name), **payload},
    )


def archived(report: CopyReport) -> None:
    """Tell of a copy that was made; of one into a bucket as an event, too."""
    asset_made(report.uri, report.name, derived_from=[report.source_uri])
    if report.uri.startswith(f"{SCHEME}://"):
        facts: dict[str, Any] = {"source_uri": report.source_uri, "items": report.items, "bytes": report.bytes}
        tell(ARCHIVED, uuid=report.uuid, name=report.name, uri=report.uri, **facts)


def published(report: CreateReport, *, derived_from: Iterable[str]) -> None:
    """Tell of a dataset that was made of files, and of those that it was made from."""
    sources = [without_signature(uri) for uri in derived_from]
    asset_made(report.uri, report.name, derived_from=sources)
    facts: dict[str, Any] = {"derived_from": sources, "items": report.items, "bytes": report.bytes}
    tell(PUBLISHED, uuid=report.uuid, name=report.name, uri=report.uri, **facts)


def corrupt(uuid: str, name: str, uri: str, findings: Iterable[Finding]) -> None:
    """Tell of corrupt bytes, if they are among the findings of a dataset; of the first few items by name."""
    found = [finding for finding in findings if finding.kind == "corrupt"]
    if found:
        items = [one_line(finding.subject) for finding in found[:_TOLD]]
        tell(CORRUPT, uuid=uuid, name=name, uri=uri, corrupt_items=len(found), items=items)


def asset_made(uri: str, name: str, *, derived_from: Iterable[str] = ()) -> None:
    """Say that the task run that is under way has made a dataset, and from which ones.

    Prefect tells of it when the task run ends: as made where it succeeds, as failed where it fails after all. Outside
    of a task run nothing is told; a URI that Prefect takes for no asset key (it may hold no `%`) is left out.

    Args:
        uri: Where the dataset is.
        name: Its name.
        derived_from: URIs of the datasets that it was made from.
    """
    context = AssetContext.get()
    asset = _asset(uri, one_line(name))
    if context is None or asset is None:
        return
    context.downstream_assets.add(asset)
    context.direct_asset_dependencies.update(source for each in derived_from if (source := _asset(each)))
    context.materialized_by = context.materialized_by or _BY
    context.update_tracked_assets()  # tasks that take this one's result are derived from it


def _asset(uri: str, name: str | None = None) -> Asset | None:
    try:
        return Asset(key=uri, properties=AssetProperties(name=name) if name else None)
    except ValidationError:
        return None
