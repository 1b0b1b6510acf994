"""An audit from its beginning to its end: look at all datasets, read those that are due, tell and remember."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.audit.history import History, Past, Place, open_history
from dtool_ecs_flows.datasets.audit.look import Looks, answers, changed_meanwhile, finding_of
from dtool_ecs_flows.datasets.audit.spread import DAY, check_share, share_of, slice_of_day
from dtool_ecs_flows.datasets.running import operation, settings_given
from dtool_ecs_flows.datasets.verify import verify_dataset
from dtool_ecs_flows.errors import EcsFlowsError, NotADatasetError, SettingsError
from dtool_ecs_flows.models import AuditReport, DatasetAudit, Deletion, Finding, ProgressCallback, VerifyReport
from dtool_ecs_flows.settings import BucketSettings, resolve
from dtool_ecs_flows.store import ObjectInfo, open_store
from dtool_ecs_flows.stored import StoredDataset, registered
from dtool_ecs_flows.transfer import Transfer

CATCH_UP = 100
STALE_AFTER_DAYS = 30


def audit_bucket(
    base_uri: str,
    *,
    slices: int,
    slice_number: int | None = None,
    history: Place,
    part: int = 1,
    parts: int = 1,
    catch_up: int = CATCH_UP,
    stale_after_days: int = STALE_AFTER_DAYS,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> AuditReport:
    """Audit a bucket: look at all datasets, and read the bytes of one of `slices` slices; nothing is written to it.

    Run once a day, everything is read every `slices` days. Each run looks at every dataset without reading bytes:
    registration, metadata and manifest can be read, all items are there with their sizes, nothing is there besides.
    That costs three requests for a dataset of up to about a thousand items. Of today's slice, every byte is read too,
    as `verify_dataset` does; what that found stays in the history.

    A dataset belongs to a slice by a hash of its UUID: a new one does at once, and nothing has to be remembered. So a
    slice is read dataset by dataset and not item by item. That is what can be said of a dataset: read in full, then,
    with this outcome; and a manifest is read into memory once for it. The price is that days differ, and that the day
    of a large dataset is long. A run that takes longer than a day does no harm: what the days that it took up missed
    is caught up. (Where one dataset alone takes most of the days to be read, slices of items would be better.)

    A dataset whose last full reading is longer ago than `slices` days, or that has been here for so long and was never
    read, is read besides, at most `catch_up` of them in a run, those first that were not tried for longest.

    What cannot be read because the store is not to be reached, or does not allow it, is "not verified", and no
    damage. One dataset that cannot be read keeps no other from being audited.

    A dataset without registration key is not seen, unless the history knows it: then it is told as missing, or as
    deleted on purpose where the history says so and its metadata is gone too.

    Args:
        base_uri: `ecs://bucket`.
        slices: in how many days everything is read.
        slice_number: which slice to read, from 1 to `slices`; by default the one of this day (UTC).
        history: a folder, as a path or `file:///path`, that keeps what was found; it may be that of several buckets.
        part: where several workers share a run, which part of the datasets this one takes, from 1 to `parts`.
        parts: how many workers share a run.
        catch_up: how many datasets are read at most that should have been read before.
        stale_after_days: from when on a proto dataset is a finding.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called as `verify_dataset` does for each dataset that is read, one after the other.
        stop: set it to end early with `StoppedError`; what was read until then is remembered.

    Raises:
        SettingsError: the history is in the bucket, or is no folder; numbers that do not fit.
        StoreError: the bucket cannot be listed.
    """
    settings = (settings,) if isinstance(settings, BucketSettings) else tuple(settings)
    looked = look_at_bucket(
        base_uri,
        slices=slices,
        slice_number=slice_number,
        history=history,
        part=part,
        parts=parts,
        catch_up=catch_up,
        stale_after_days=stale_after_days,
        settings=settings,
        config_path=config_path,
        concurrency=concurrency,
        stop=stop,
    )
    read: list[DatasetAudit] = []
    reachable = True
    for dataset in looked.due:
        if not reachable:
            read.append(unread(dataset))
            continue
        result = audit_dataset(
            dataset,
            history=history,
            settings=settings,
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=stop,
        )
        read.append(result)
        reachable = can_go_on(result, settings=settings, config_path=config_path)
    return conclude(looked, read, history=history)


def look_at_bucket(
    base_uri: str,
    *,
    slices: int,
    slice_number: int | None = None,
    history: Place,
    part: int = 1,
    parts: int = 1,
    catch_up: int = CATCH_UP,
    stale_after_days: int = STALE_AFTER_DAYS,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> AuditReport:
    """Do the first step of `audit_bucket`: look at all, and say which datasets are `due` to be read."""
    begun, clock = time.time(), time.monotonic()
    bucket, uuid = layout.parse_uri(base_uri)
    if uuid:
        raise NotADatasetError(f"{base_uri} is the URI of a dataset; an audit is of {layout.base_uri(bucket)}")
    number = slice_of_day(slices, begun) if slice_number is None and slices > 0 else slice_number or 0
    check_share(number, slices, "slice")
    check_share(part, parts, "part")
    if catch_up < 0 or stale_after_days < 0:
        raise SettingsError("catch_up and stale_after_days are no negative numbers")
    past = open_history(history, base_uri)
    with operation(
        base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop
    ) as transfer:
        store = open_store(resolve(bucket, config_path=config_path))
        mine = {uuid: key for uuid, key in registered(store) if share_of(uuid, parts, "part") == part}
        lost = [(uuid, past.of(uuid)) for uuid in past.known() - mine.keys() if share_of(uuid, parts, "part") == part]
        looks = Looks(store, transfer, stale_after_days)
        lost = [one for one in lost if one[1].last_read is not None or one[1].deleted]
        found, deleted = _look_at(mine, lost, looks, transfer)
    looked = AuditReport(
        base_uri=layout.base_uri(bucket),
        slices=slices,
        slice_number=number,
        part=part,
        parts=parts,
        begun=begun,
        datasets=tuple(sorted(found, key=lambda dataset: (dataset.name, dataset.uuid))),
        deleted=tuple(sorted(deleted, key=lambda deletion: (deletion.name, deletion.uuid))),
        seconds=time.monotonic() - clock,
    )
    return looked.model_copy(update={"datasets": _choose(looked, mine, past, catch_up)})


def _look_at(
    mine: Mapping[str, ObjectInfo], lost: list[tuple[str, Past]], looks: Looks, transfer: Transfer
) -> tuple[list[DatasetAudit], list[Deletion]]:
    found: list[DatasetAudit] = []
    deleted: list[Deletion] = []
    without: list[tuple[str, ObjectInfo]] = []

    def take(uuid: str, result: DatasetAudit | Exception) -> None:
        found.append(looks.failed(uuid, result) if isinstance(result, Exception) else result)

    for one, result in transfer.each(mine.items(), looks.at):
        if result is None:
            without.append(one)
        else:
            take(one[0], result)
    for one, result in transfer.each(without, looks.again):
        if result is not None:  # else it was deleted meanwhile
            take(one[0], result)
    for known, gone in transfer.each(lost, looks.lost):
        if isinstance(gone, Deletion):
            deleted.append(gone)
        else:
            take(known[0], gone)
    return found, deleted


def _choose(
    looked: AuditReport, mine: Mapping[str, ObjectInfo], past: History, catch_up: int
) -> tuple[DatasetAudit, ...]:
    """Add what the history knows, and mark the datasets whose bytes are to be read."""
    begun = past.begun()
    overdue: list[tuple[float, str]] = []
    chosen = {}
    for dataset in looked.datasets:
        then = past.of(dataset.uuid)
        due = False
        if dataset.type == "dataset":
            if then.deleted is not None:  # it is there again: if it is lost now, that was not on purpose
                past.remember(dataset)
            due = share_of(dataset.uuid, looked.slices, "slice") == looked.slice_number
            since = then.last_read or max(begun, mine[dataset.uuid].last_modified)
            if not due and looked.begun - since > looked.slices * DAY:
                overdue.append((then.last_try, dataset.uuid))
        known = {"last_read": then.last_read, "last_read_ok": then.last_read_ok, "due": "slice" if due else ""}
        chosen[dataset.uuid] = dataset.model_copy(update=known)
    for _, uuid in sorted(overdue)[:catch_up]:
        chosen[uuid] = chosen[uuid].model_copy(update={"due": "catch-up"})
    return tuple(chosen.values())


def audit_dataset(
    dataset: DatasetAudit,
    *,
    history: Place,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> DatasetAudit:
    """Do the second step of `audit_bucket` for one dataset that is due: read all bytes, and remember what was found."""
    at, clock = time.time(), time.monotonic()
    past = open_history(history, layout.base_uri(layout.parse_uri(dataset.uri)[0]))
    result = dataset
    try:
        report = verify_dataset(
            dataset.uri,
            settings=settings,
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=stop,
        )
        result = _as_verified(dataset, report)
        if result.damage or result.has("proto dataset", "orphan registration"):
            with settings_given(settings):
                meanwhile = changed_meanwhile(StoredDataset.at(dataset.uri, config_path))
            if meanwhile:
                result = dataset.model_copy(update={"findings": tuple(meanwhile)})
    except (EcsFlowsError, OSError) as error:
        result = result.model_copy(update={"findings": (*result.findings, finding_of(error))})
    result = result.model_copy(update={"at": at})
    if result.content_read:
        result = result.model_copy(update={"last_read": at, "last_read_ok": not result.damage})
    result = result.model_copy(update={"seconds": time.monotonic() - clock})
    past.remember(result)
    return result


def _as_verified(dataset: DatasetAudit, report: VerifyReport) -> DatasetAudit:
    left_out = {finding.kind for finding in report.findings} & {"not verified", "manifest unreadable"}
    facts = {
        "items": report.items,
        "bytes": report.bytes,
        "bytes_read": report.bytes_read,
        "content_read": report.content_read and not left_out,
        "findings": report.findings,
    }
    return dataset.model_copy(update=facts)


NOT_TRIED = "not tried: the store could not be reached any more"


def unread(dataset: DatasetAudit, message: str = NOT_TRIED) -> DatasetAudit:
    """Return what is told of a dataset that was due, and was not read."""
    finding = Finding(kind="not verified", subject="dtool", message=message)
    return dataset.model_copy(update={"findings": (*dataset.findings, finding)})


def can_go_on(
    result: DatasetAudit,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
) -> bool:
    """Whether the next dataset is worth a try: where nothing of one could be read, the store is asked."""
    if result.bytes_read or not result.has("not verified"):
        return True
    with settings_given(settings):
        return answers(open_store(resolve(layout.parse_uri(result.uri)[0], config_path=config_path)))


def conclude(looked: AuditReport, read: Iterable[DatasetAudit], *, history: Place) -> AuditReport:
    """Do the last step of `audit_bucket`: put together what was seen and what was read, and remember the run."""
    by_uuid = {dataset.uuid: dataset for dataset in read}
    report = looked.model_copy(
        update={
            "datasets": tuple(by_uuid.get(dataset.uuid, dataset) for dataset in looked.datasets),
            "seconds": max(time.time() - looked.begun, looked.seconds),
        }
    )
    open_history(history, looked.base_uri).remember_run(report)
    return report
