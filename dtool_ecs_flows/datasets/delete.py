"""Deleting a dataset, whole and on purpose."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from dtool_ecs_flows.datasets.audit.history import History, Place, open_history
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DatasetDiffersError,
    DatasetError,
    EcsFlowsError,
    FrozenDatasetError,
    NoSuchKeyError,
    NotADatasetError,
)
from dtool_ecs_flows.models import DeleteReport, Deletion
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Transfer
from dtool_ecs_flows.words import one_line

logger = logging.getLogger(__name__)


def delete_dataset(
    uri: str,
    name: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    unfinished_only: bool = False,
    history: Place | None = None,
    by: str = "",
    reason: str = "",
    stop: threading.Event | None = None,
) -> DeleteReport:
    """Delete a dataset (or proto dataset) from its bucket: all of its objects, and its registration key last.

    It is a proto dataset from the first step on, so no reader ever sees a frozen dataset with a hole; the same call
    again finishes what was interrupted. Only keys that a dtool client writes are deleted; what else lies below the
    dataset's prefix is left, and reported.

    Args:
        uri: `ecs://bucket/uuid`.
        name: the dataset's name, to confirm that it is this one that is meant. A registration key without a dataset
            is deleted under the name "".
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        unfinished_only: delete it only if it is a proto dataset.
        history: the folder where the audits of the bucket keep what they found, as a path or `file:///path`: it is
            told there, so that no audit takes the dataset for one that was lost.
        by: who wanted it, for the history.
        reason: why, for the history.
        stop: set it to end early with `StoppedError`; a part of the objects may be gone then.

    Raises:
        NotADatasetError: there is nothing at this URI.
        DatasetDiffersError: the dataset has another name; nothing was deleted.
        FrozenDatasetError: only an unfinished one was to be deleted, and it is frozen; nothing was deleted.
        DatasetError: another process wrote it anew at the same time; or it is deleted, and the history cannot be told.
        StoreError, SettingsError: the store or its settings; a history that is no folder, before anything was deleted.
    """
    begun = time.monotonic()
    told = open_history(history, uri) if history is not None else None
    with operation(uri, settings=settings, config_path=config_path, concurrency=1, stop=stop) as transfer:
        dataset = StoredDataset.at(uri, config_path)
        if not dataset.uuid or not dataset.is_registered():
            raise NotADatasetError(f"there is no dataset at {uri}")
        keys, store = dataset.keys, dataset.store
        try:
            admin = dataset.admin()
        except NoSuchKeyError:
            admin = {}
        actual = str(admin.get("name", ""))
        _refuse(dataset, admin, name, unfinished_only=unfinished_only)
        transfer.check()
        logger.info("delete %s (%s)", uri, one_line(actual))
        if admin.get("type") == "dataset":
            dataset.put_admin({**{k: v for k, v in admin.items() if k != "frozen_at"}, "type": "protodataset"})
        with suppress(AccessDeniedError):  # a policy need not allow to look for them
            for key, upload in store.uploads(keys.root):
                transfer.check()
                if keys.is_known(key):
                    store.abort_upload(key, upload, raising=True)
        left: list[str] = []
        known: list[str] = []
        for info in store.list(keys.root):
            transfer.check()
            if info.key != keys.admin_metadata:
                (known if keys.is_known(info.key) else left).append(info.key)
        deleted = store.delete(_unless_stopped(known, transfer))
        if admin:
            deleted += store.delete([keys.admin_metadata])
        deleted += store.delete([keys.registration])
        with suppress(NoSuchKeyError):
            dataset.admin(expected=False)
            with suppress(AlreadyExistsError):  # who writes it has registered it
                store.put(keys.registration, keys.prefix.encode("utf-8"), if_absent=True)
            raise DatasetError(f"{uri} was written anew by another process meanwhile, and stays; delete it again")
        if told is not None:
            what = {"uri": dataset.uri, "uuid": dataset.uuid, "name": actual, "prefix": keys.prefix}
            _tell(told, Deletion(**what, at=time.time(), by=by, reason=reason))
    return DeleteReport(
        uri=dataset.uri,
        uuid=dataset.uuid,
        name=actual,
        deleted=deleted,
        left=tuple(left),
        seconds=time.monotonic() - begun,
    )


def _tell(history: History, deletion: Deletion) -> None:
    try:
        history.remember_deletion(deletion)
    except (EcsFlowsError, OSError) as error:
        raise DatasetError(
            f"{deletion.uri} is deleted, but that could not be told to the history of the audits ({error}): the next "
            f"audit reports it as missing, until the folder of {deletion.uuid} in the history is removed"
        ) from error


def _refuse(dataset: StoredDataset, admin: Mapping[str, Any], name: str, *, unfinished_only: bool) -> None:
    """Raise where the dataset is not the one that is meant."""
    actual = str(admin.get("name", ""))
    # Where the registration key alone is left, an earlier call was interrupted at its last step: finish it.
    if name != actual and (admin or any(True for _ in dataset.store.list(dataset.keys.root))):
        raise DatasetDiffersError(
            f"{dataset.uri} is named {actual!r}, not {name!r}; nothing was deleted. Give its name to confirm"
        )
    if unfinished_only and admin.get("type") == "dataset":
        raise FrozenDatasetError(f"{dataset.uri} is frozen; only an unfinished dataset was to be deleted")


def _unless_stopped(keys: Iterable[str], transfer: Transfer) -> Iterator[str]:
    for key in keys:
        transfer.check()
        yield key
