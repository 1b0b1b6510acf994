"""Datasets whose time is over: which they are, and the deletion of one that is still what was shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from dtool_ecs_flows.datasets.audit import Place
from dtool_ecs_flows.datasets.choosing import Filter
from dtool_ecs_flows.datasets.delete import delete_dataset
from dtool_ecs_flows.datasets.listing import list_datasets
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    DatasetDiffersError,
    DatasetError,
    NoSuchKeyError,
    NotADatasetError,
    SettingsError,
)
from dtool_ecs_flows.layout import parse_uri
from dtool_ecs_flows.models import DatasetInfo, DeleteReport
from dtool_ecs_flows.outcomes import ExpiringDataset, ExpiryList
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.stored import StoredDataset


def list_expiring(
    base_uri: str,
    chosen: Filter,
    *,
    at_most: int,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> ExpiryList:
    """Return the frozen datasets of a bucket that have these tags and this age, the oldest first, with their sizes.

    Args:
        base_uri: `ecs://bucket`.
        chosen: which; it has to name a tag and an age, so that a slip does not list everything.
        at_most: how many; more are only counted.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        stop: set it to end early with `StoppedError`.

    Raises:
        SettingsError: no tag, or no age.
        StoreError, SettingsError: the store or its settings.
    """
    if not chosen.tags or not chosen.older_than_days:
        raise SettingsError("which datasets expire? Name a tag that they have, and from which age on")
    parse_uri(base_uri)
    how = {"settings": settings, "config_path": config_path, "concurrency": concurrency, "stop": stop}
    now = time.time()
    listing = list_datasets(base_uri, tags=True, **how)  # type: ignore[arg-type]  # mypy takes the values for one type
    found = [
        info
        for info in listing.datasets
        if info.type == "dataset" and not info.problem and not chosen.why_not(info, now)
    ]
    found.sort(key=lambda info: (info.frozen_at or 0.0, info.uuid))
    with operation(
        base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop
    ) as transfer:
        sized = [result for _, result in transfer.each(found[:at_most], lambda info: _sized(info, config_path))]
    if failed := [result for result in sized if isinstance(result, Exception)]:
        raise failed[0]
    datasets = [result for result in sized if isinstance(result, ExpiringDataset)]
    return ExpiryList(
        base_uri=listing.base_uri,
        datasets=tuple(sorted(datasets, key=lambda each: (each.info.frozen_at or 0.0, each.info.uuid))),
        more=max(0, len(found) - at_most),
    )


def _sized(info: DatasetInfo, config_path: str | None) -> ExpiringDataset:
    try:
        items = open_source(info.uri, config_path).items
    except (DatasetError, AccessDeniedError) as error:  # it is still for a person to decide
        return ExpiringDataset(info=info, note=f"its size is not known: {error}")
    return ExpiringDataset(info=info, items=len(items), bytes=sum(item.size for item in items.values()))


def expire_dataset(
    shown: DatasetInfo,
    chosen: Filter,
    *,
    history: Place | None = None,
    by: str = "",
    reason: str = "",
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    stop: threading.Event | None = None,
) -> DeleteReport:
    """Delete a dataset that a person has seen in a list, if it is still what was shown.

    It is looked at again: name, creator, times and tags have to be those of the list, and it has to have the tags and
    the age still. Whoever wants to keep it takes the tag off. Where an earlier call was cut short in the middle of the
    deletion, it goes on.

    Args:
        shown: the dataset as the list had it.
        chosen: the tags and the age.
        history: of the audits of the bucket, which is told of the deletion.
        by: who approved.
        reason: why.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        stop: set it to end early with `StoppedError`; a part of the objects may be gone then.

    Raises:
        DatasetDiffersError: it has changed since it was shown; nothing was deleted.
        NotADatasetError: it is gone.
        StoreError, SettingsError: the store or its settings.
    """
    with operation(shown.uri, settings=settings, config_path=config_path, concurrency=1, stop=stop):
        dataset = StoredDataset.at(shown.uri, config_path)
        try:
            admin = dataset.admin()
        except NoSuchKeyError:
            raise NotADatasetError(f"{shown.uri} is gone already") from None
        half = admin["type"] != "dataset"  # a frozen dataset becomes one again by being deleted, and by nothing else
        now = DatasetInfo(
            uri=shown.uri,
            uuid=shown.uuid,
            name=str(admin.get("name", "")),
            type="dataset",
            creator_username=str(admin.get("creator_username", "")),
            created_at=admin.get("created_at"),
            frozen_at=shown.frozen_at if half else admin.get("frozen_at"),
            tags=shown.tags if half else tuple(dataset.names(dataset.keys.tags)),
        )
    if changed := [name for name in type(now).model_fields if getattr(now, name) != getattr(shown, name)]:
        raise DatasetDiffersError(
            f"{shown.uri} is kept: it has changed since it was shown ({', '.join(changed)}); nothing was deleted"
        )
    if why_not := chosen.why_not(now):
        raise DatasetDiffersError(f"{shown.uri} is kept: {why_not}; nothing was deleted")
    return delete_dataset(
        shown.uri,
        shown.name,
        settings=settings,
        config_path=config_path,
        history=history,
        by=by,
        reason=reason,
        stop=stop,
    )
