"""Removing the local copy of a dataset that is archived: the last step, after both were read and found equal."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.copy import differing_documents
from dtool_ecs_flows.datasets.folders.tree import FileState, check_marker, leftover_name, leftover_uuid, local_path
from dtool_ecs_flows.datasets.running import each_item, operation
from dtool_ecs_flows.datasets.sources import Source, open_source
from dtool_ecs_flows.datasets.verify import verify_dataset
from dtool_ecs_flows.errors import DatasetDiffersError, DatasetError, ManifestError, StoreError, TransferError
from dtool_ecs_flows.items import ItemSource, read_file, receive
from dtool_ecs_flows.models import Item, ProgressCallback, RemoveReport
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.transfer import Reader, Transfer
from dtool_ecs_flows.words import plural

logger = logging.getLogger(__name__)

_ADMIN = ".dtool/dtool"  # what makes a folder a dataset
_OF_DTOOL = re.compile(
    r"README\.yml|\.dtool/(dtool|manifest\.json|structure\.json|README\.txt"
    r"|tags/[^/]+|(annotations|overlays|tmp_fragments)/[^/]+\.json)"
)


def remove_local_copy(
    local: str,
    uri: str,
    *,
    marker: str = "",
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> RemoveReport:
    """Remove a folder of this machine that is archived as a dataset, once every byte of both was read.

    1. Names, sizes and metadata are compared, and then the archived dataset is verified: every byte is read.
    2. The folder gets a name that begins with a dot, so that whoever works with it does not find it any more.
    3. Every file in it is read and compared with the archived manifest; of a dtool dataset its UUID, name, README,
       tags, annotations and overlays are compared too. Then the bucket is asked once more for the dataset.
    4. Where all of it is archived, each file is removed, unless it changed since it was read; then the empty folders.

    Where anything in the folder is not archived as it is (a file that is new or differs, a symbolic link), nothing is
    removed, the folder gets its name back, and the report says what it was. A removal that was cut short leaves the
    folder under the other name; the same call with its path goes on.

    Args:
        local: path, or file:// and path, of the folder: a dtool dataset, or a plain folder that `archive_folder` took.
        uri: the dataset that it is archived as, which must not be on this machine's disk.
        marker: name of a file at the top of a plain folder that is no content.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        progress: called in this thread while the archived dataset is read.
        stop: set it to end early with `StoppedError`; before the first file is removed, nothing has happened then.

    Raises:
        UnsafeNameError: `local` is no folder of this machine, or `marker` no name of a file.
        DatasetError: the archived dataset is damaged or could not be read in full; nothing was removed.
        StoreError, SettingsError: the store or its settings; nothing was removed.
    """
    begun, path = time.monotonic(), local_path(local)
    how: dict[str, Any] = {"settings": settings, "config_path": config_path, "concurrency": concurrency, "stop": stop}
    if not uri.startswith(layout.SCHEME + "://"):
        raise DatasetError(f"{path} is kept: only what is archived in a bucket is removed here, not {uri}")
    if not os.path.isdir(path) or os.path.islink(path):
        raise DatasetError(f"{path} is not a folder")
    with operation(uri, **how) as transfer:
        copy = _LocalCopy(path, open_source(uri, config_path), check_marker(marker), transfer, config_path)
        if kept := copy.why_kept():
            return copy.report(begun, _Removed(), kept)
    verified = verify_dataset(uri, progress=progress, **how)
    if not verified.ok or not verified.content_read:
        what = verified.findings[0].message if verified.findings else "its bytes were not read"
        raise DatasetError(f"{path} is kept: {uri}, which it is archived as, is not right: {what}")
    with operation(uri, **how) as transfer:
        copy = _LocalCopy(path, open_source(uri, config_path), marker, transfer, config_path)
        return copy.remove(begun)


@dataclass
class _Removed:
    files: int = 0
    bytes: int = 0


class _LocalCopy:
    def __init__(self, path: str, archived: Source, marker: str, transfer: Transfer, config_path: str | None) -> None:
        self._config_path = config_path
        self._path = path
        self._archived = archived
        self._marker = marker
        self._transfer = transfer
        name, parent = os.path.basename(path), os.path.dirname(path)
        self._resumed = bool(leftover_uuid(name))
        self._hidden = path if self._resumed else os.path.join(parent, leftover_name(archived.admin["uuid"], name))
        if self._resumed and leftover_uuid(name) != archived.admin["uuid"]:
            raise DatasetDiffersError(f"{path} is what is left of another dataset than {archived.uri}")

    def remove(self, begun: float) -> RemoveReport:
        """Compare, and remove where all is archived."""
        self._transfer.check()
        if not self._resumed:
            if os.path.lexists(self._hidden):
                raise DatasetError(f"{self._path} is kept: {self._hidden} is there, left by another removal")
            os.rename(self._path, self._hidden)
        removed = _Removed()
        kept = ""
        try:
            files = self._checked()
            self._check_archive()
        except StoreError:  # which is an OSError too, and says nothing of the folder
            self._put_back()
            raise
        except (TransferError, DatasetError, OSError) as error:
            kept = str(error) + self._put_back()
        except BaseException:
            self._put_back()
            raise
        else:
            kept = self._unlink(files, removed)
        logger.info("removed %d files of %s, archived as %s", removed.files, self._path, self._archived.uri)
        return self.report(begun, removed, kept)

    def report(self, begun: float, removed: _Removed, kept: str) -> RemoveReport:
        """Return what was removed, and why the rest was not."""
        return RemoveReport(
            source=self._path,
            uri=self._archived.uri,
            removed_files=removed.files,
            removed_bytes=removed.bytes,
            kept=kept,
            seconds=time.monotonic() - begun,
        )

    def why_kept(self) -> str:
        """Say why it is kept, where that shows without reading it: else a bucket is read every night, for nothing."""
        try:
            self._looked(self._path)
        except StoreError:
            raise
        except ManifestError:  # of the archived dataset perhaps, whose verification tells what is wrong with it
            return ""
        except (DatasetError, OSError) as error:
            return str(error)
        return ""

    def _put_back(self) -> str:
        """Give the folder its name back; return where it is if it cannot have it."""
        if self._resumed:
            return ""
        try:
            if os.path.lexists(self._path):  # of an empty folder, a rename would make away with it
                raise FileExistsError(f"another {self._path} was made meanwhile")
            os.rename(self._hidden, self._path)
        except OSError as error:
            logger.error("%s is in %s now: %s", self._path, self._hidden, error)
            return f"; it is in {self._hidden} now: {error}"
        return ""

    def _check_archive(self) -> None:
        """Look once more whether the archived dataset is still there: to read all of both may have taken hours.

        Raises:
            DatasetError: it is not, or is another one.
        """
        if open_source(self._archived.uri, self._config_path).admin != self._archived.admin:
            raise DatasetDiffersError(f"{self._archived.uri} has changed since it was read")

    def _checked(self) -> dict[str, FileState]:
        """Return all files, each compared with what is archived, as they were before they were read.

        Raises:
            DatasetError: something is not archived as it is.
        """
        files, items = self._looked(self._hidden)
        self._compare(items, files)
        return files

    def _looked(self, root: str) -> tuple[dict[str, FileState], dict[str, Item]]:
        """Return all files, and those of them that are items, when names, sizes and metadata are those archived.

        Raises:
            DatasetError: something is not archived as it is.
        """
        files = dict(_files_below(root))
        is_dataset = _is_dataset(files)
        if _ADMIN in files:
            local = open_source(root)
            differing = [key for key in ("uuid", "name") if local.admin.get(key) != self._archived.admin.get(key)]
            if differing := differing + differing_documents(local, self._archived):
                raise DatasetDiffersError(f"not archived as it is here: {', '.join(differing)}")
        elif is_dataset and not self._resumed:  # its README and tags could not be compared
            raise DatasetDiffersError(f"it has a folder .dtool without a file {_ADMIN}: it is a damaged dataset")
        start = "data/" if is_dataset else ""
        items = {start + item.relpath: item for item in self._archived.items.values()}
        others = [
            relpath
            for relpath in files
            if relpath not in items and not (_OF_DTOOL.fullmatch(relpath) if is_dataset else relpath == self._marker)
        ]
        if others:
            raise DatasetDiffersError(f"{plural(len(others), 'file')} not archived: {', '.join(others[:3])}")
        if not self._resumed and (missing := [relpath for relpath in items if relpath not in files]):
            raise DatasetDiffersError(f"it is not the same dataset: {missing[0]} is not here")
        here = {relpath: item for relpath, item in items.items() if relpath in files}
        if others := [relpath for relpath, item in here.items() if item.size != files[relpath].size]:
            raise DatasetDiffersError(f"{plural(len(others), 'file')} not as archived: {', '.join(others[:3])}")
        return files, here

    def _compare(self, items: dict[str, Item], files: dict[str, FileState]) -> None:
        paths = {item.identifier: files[relpath].path for relpath, item in items.items()}

        def reader(item: Item) -> Reader:
            return read_file(paths[item.identifier], item.relpath)

        source = ItemSource(reader, hash_function=self._archived.hash_function, where=self._path)

        def compare(item: Item) -> None:
            size = os.stat(paths[item.identifier]).st_size
            if size != item.size or not item.hash:
                raise OSError(f"{item.relpath} is not what is archived")
            receive(item, source, self._transfer, None)

        for _ in each_item(self._transfer, items.values(), compare, None, self._path):
            pass

    def _unlink(self, files: dict[str, FileState], removed: _Removed) -> str:
        """Remove the files, what makes it a dataset first; return why something is left."""

        def turn(relpath: str) -> int:  # what tells what kind of folder it was goes last
            return 0 if relpath == _ADMIN else 2 if relpath == self._marker or relpath.startswith(".dtool/") else 1

        links = _hard_links(files)
        for relpath in sorted(files, key=turn):
            state = files[relpath]
            try:
                if FileState.of(state.path) != state:
                    raise DatasetDiffersError(f"{relpath} changed in the last moment")
                os.unlink(state.path)
                for other in links.get(state.inode, ()):
                    if os.path.lexists(files[other].path):
                        files[other] = _still_as(state, files[other])
            except (DatasetError, OSError) as error:
                return f"{error}; what is left is in {self._hidden}"
            removed.files += 1
            removed.bytes += state.size
        for folder, _, _ in os.walk(self._hidden, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return f"new files turned up in the last moment in {self._hidden}" if os.path.lexists(self._hidden) else ""


def _hard_links(files: dict[str, FileState]) -> dict[int, list[str]]:
    """Return the relpaths of files that have several names here, by inode."""
    names: dict[int, list[str]] = {}
    for relpath, state in files.items():
        names.setdefault(state.inode, []).append(relpath)
    return {inode: relpaths for inode, relpaths in names.items() if len(relpaths) > 1}


def _still_as(state: FileState, before: FileState) -> FileState:
    """Return a file as it is now that another name of it was removed, which the kernel notes as a change of it."""
    now = FileState.of(before.path)
    return now if replace(now, ctime_ns=state.ctime_ns) == before else before


def _is_dataset(files: dict[str, FileState]) -> bool:
    return any(relpath.startswith(".dtool/") for relpath in files)


def _files_below(root: str) -> Iterator[tuple[str, FileState]]:
    """Yield every file by its relpath.

    Raises:
        DatasetError: something is no regular file: a symbolic link for example, whose target nobody has looked at.
    """

    def unreadable(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(root, onerror=unreadable):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            path = os.path.join(folder, name)
            yield os.path.relpath(path, root), FileState.of(path)
