"""What audits remember: a folder of small files that are written once and never changed.

    <history>/<bucket>/begun.json                   when the first audit began
    <history>/<bucket>/datasets/<uuid>/<time>.json  one reading of one dataset, a `DatasetAudit`
    <history>/<bucket>/datasets/<uuid>/<time>.deleted.json  that it was deleted on purpose, a `Deletion`
    <history>/<bucket>/runs/<time>.json             one run, an `AuditReport`

Each file gets its name when it is whole, and no two are called the same, so any number of workers may write at once.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from pydantic import BaseModel

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import EcsFlowsError, SettingsError, UnsafeNameError
from dtool_ecs_flows.models import AuditReport, DatasetAudit, Deletion

logger = logging.getLogger(__name__)

Place = str | os.PathLike[str]
"""A folder, as a path or as `file:///path`."""


@dataclass(frozen=True)
class Past:
    """What is remembered of one dataset."""

    last_read: float | None = None
    """When all of it was read last."""
    last_read_ok: bool | None = None
    last_try: float = 0.0
    """When it was last tried to; 0 for never."""
    name: str = ""
    deleted: Deletion | None = None
    """That it was deleted on purpose, and has not been seen since."""


class History:
    """The history of one bucket. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bucket = folder.name
        self._datasets = folder / "datasets"

    def begun(self) -> float:
        """Return when the first audit began: now, where this is the first."""
        file = self._folder / "begun.json"
        if not file.exists():
            with suppress(FileExistsError):  # another worker was faster
                _write(file, json.dumps({"begun": time.time()}))
        try:
            return float(json.loads(file.read_bytes())["begun"])
        except (ValueError, TypeError, KeyError):
            raise SettingsError(f"{file} is no file of an audit's history; delete it, and a new one is made") from None

    def known(self) -> set[str]:
        """Return the UUIDs of all datasets that were ever to be read, or were deleted on purpose."""
        return {entry.name for entry in os.scandir(self._datasets) if layout.is_uuid(entry.name)}

    def of(self, uuid: str) -> Past:
        """Return what is remembered of a dataset. A file that cannot be read counts as not there, with a warning."""
        tries = 0.0
        seen = False
        deleted = None
        for file in self._newest_first(uuid):
            try:
                entry = self._entry(file, uuid)
            except (OSError, ValueError) as error:  # pydantic's error is one of the latter
                logger.warning(
                    "left out of the history, because it cannot be read: %s (%s)", file, type(error).__name__
                )
                continue
            if isinstance(entry, Deletion):
                deleted = deleted or (None if seen else entry)
                continue
            tries = tries or entry.at
            seen = seen or _was_there(entry)
            if entry.content_read:
                return Past(entry.at, not entry.damage, tries, entry.name, deleted)
        return Past(last_try=tries, deleted=deleted)

    def _entry(self, file: Path, uuid: str) -> DatasetAudit | Deletion:
        """Read a file. The record of a deletion counts for the dataset that it names, wherever somebody copied it to.

        Raises:
            OSError: it cannot be read.
            ValueError: it is none, or is of another dataset.
        """
        if not file.name.endswith(_DELETED):
            return DatasetAudit.model_validate_json(file.read_bytes())
        deletion = Deletion.model_validate_json(file.read_bytes())
        if layout.parse_uri(deletion.uri) != (self._bucket, uuid) or deletion.uuid != uuid:
            raise ValueError("it is of another dataset")
        return deletion

    def _newest_first(self, uuid: str) -> list[Path]:
        with suppress(FileNotFoundError):
            names = sorted(name for name in os.listdir(self._datasets / uuid) if name.endswith(".json"))
            return [self._datasets / uuid / name for name in reversed(names)]
        return []

    def remember(self, dataset: DatasetAudit) -> None:
        """Keep what a reading of a dataset found."""
        _write_new(self._datasets / dataset.uuid, dataset.at, dataset)

    def remember_deletion(self, deletion: Deletion) -> None:
        """Keep that a dataset was deleted on purpose: it is not missing then."""
        _write_new(self._datasets / deletion.uuid, deletion.at, deletion, suffix=_DELETED)

    def remember_run(self, report: AuditReport) -> None:
        """Keep the report of a run."""
        _write_new(self._folder / "runs", report.begun, report)


def open_history(place: Place, base_uri: str) -> History:
    """Return the history of a bucket in this place; its folder is made where its parent is there.

    Raises:
        SettingsError: it is in the bucket that is audited, or is no folder.
    """
    bucket = layout.parse_uri(base_uri)[0]
    try:
        text = layout.check_given(os.fspath(place))
    except UnsafeNameError as error:
        raise SettingsError(f"an audit needs a folder for its history: {error}") from None
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme == layout.SCHEME and layout.parse_uri(text)[0] == bucket:
            raise SettingsError(f"the history {text} is in the bucket that is audited, which an audit never writes to")
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise SettingsError(f"the history {text} is no folder of this machine; a report can be filed elsewhere")
        text = url2pathname(parts.path)
    root = Path(text).expanduser()
    if not root.parent.is_dir():  # a disk that is not mounted, or a slip of the pen
        raise SettingsError(f"there is no folder {root.parent} to keep the history {root.name!r} in")
    folder = root / bucket
    with _told(folder):
        for needed in (folder / "datasets", folder / "runs"):
            needed.mkdir(parents=True, exist_ok=True)
    return History(folder)


_DELETED = ".deleted.json"


def _was_there(entry: DatasetAudit) -> bool:
    """Whether a frozen dataset was seen then, and not in the middle of its deletion."""
    gone = entry.has("not verified", "proto dataset", "orphan registration")
    return entry.content_read or (entry.type == "dataset" and not gone)


def _write_new(folder: Path, at: float, content: BaseModel, *, suffix: str = ".json") -> None:
    with _told(folder):
        folder.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"  # sorts by time
    _write(folder / f"{stamp}-{uuid4().hex[:8]}{suffix}", content.model_dump_json(indent=1))


def _write(file: Path, text: str) -> None:
    """Write a file whole, or not at all.

    Raises:
        FileExistsError: there is one of this name.
        EcsFlowsError: the disk is full, or the folder may not be written to.
    """
    with _told(file.parent):
        handle, unfinished = tempfile.mkstemp(prefix=".", suffix=".part", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as output:
                output.write(text)
                output.flush()
                os.fsync(output.fileno())
            try:
                os.link(unfinished, file)  # unlike a renaming, it never replaces what another worker has written
            except FileExistsError:
                raise
            except OSError:  # some network file systems have no links
                os.rename(unfinished, file)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say of which folder it is that a disk is full, or that nothing may be written."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise EcsFlowsError(f"the history in {folder} cannot be written: {error.strerror}") from None
