"""Which sub-folders of a folder are complete, and so may become datasets."""

from __future__ import annotations

import hashlib
import os
import re
import time

from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.folders.content import HashMemory, remembered, uuid_of
from dtool_ecs_flows.datasets.folders.tree import Tree, check_marker, leftover_uuid, local_path, read_tree
from dtool_ecs_flows.errors import EcsFlowsError, NotADatasetError
from dtool_ecs_flows.words import human_seconds, plural

QUIET_MINUTES = 60.0
"""Minutes for which nothing may have changed in a folder that has no marker, where nothing else is said."""


class Completeness(BaseModel):
    """How it is told that nobody works on a sub-folder any more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    marker: str = ""
    """Name of a file at the top of a sub-folder that says so; it is no content itself. Empty goes by the time."""
    quiet_minutes: float = Field(default=QUIET_MINUTES, ge=0)
    """Minutes for which nothing below may have changed, where there is no marker."""

    def why_not(self, tree: Tree, now: float) -> str:
        """Say why a folder is not complete; nothing where it is."""
        if self.marker:
            there = os.path.isfile(os.path.join(tree.root, self.marker))
            return "" if there else f"not complete: it has no {self.marker}"
        age = now - tree.changed_at
        if age >= 60 * self.quiet_minutes:
            return ""
        when = f"{human_seconds(max(age, 0))} ago" if age > -60 else "in the future, by the clock of its disk"
        return f"not complete: it changed {when}"


class PlainFolder(BaseModel):
    """A sub-folder, looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    name: str = ""
    """The name that its dataset has."""
    files: int = 0
    bytes: int = 0
    changed_at: float | None = None
    """When something in it changed last, UTC epoch seconds."""
    uuid: str = ""
    """The UUID of its dataset, where that is known without reading the files."""
    why_not: str = ""
    """Why it cannot be archived yet, or is none of those that can."""
    note: str = ""
    """What of it is no part of the dataset."""
    problem: str = ""
    """Why it cannot be archived at all."""
    left_by_removal: str = ""
    """The UUID of the dataset whose local copy this is, where its removal was interrupted."""


class FolderList(BaseModel):
    """The sub-folders of a folder, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    folders: tuple[PlainFolder, ...]


def dataset_name(folder: str) -> str:
    """Return the name of the dataset that a folder of this name becomes: what dtool does not allow becomes a dash."""
    name = re.sub(r"[^0-9a-zA-Z_.-]+", "-", folder)
    digest = hashlib.sha1(folder.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    if len(name) > 80:
        name = f"{name[:71]}-{digest}"
    if not name.strip("-."):
        name = f"folder-{digest}"
    return layout.check_name(name, "dataset name")


def look_at_folders(
    base: str, complete: Completeness | None = None, *, memory: str | None = None, now: float | None = None
) -> FolderList:
    """Look at each sub-folder of a folder; no file is read.

    Those whose name begins with a dot are passed over, but for what an interrupted removal left.

    Args:
        base: the folder: its path, or file:// and its path.
        complete: how it is told that a sub-folder is complete.
        memory: where hashes are remembered; see `archive_folder`.
        now: UTC epoch seconds.

    Raises:
        NotADatasetError: there is no such folder.
        UnsafeNameError: it is not one of this machine, or the marker is no name of a file.
    """
    path, rules = local_path(base), complete or Completeness()
    check_marker(rules.marker)
    try:
        with os.scandir(path) as entries:
            below = sorted((entry for entry in entries if _concerns(entry)), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        raise NotADatasetError(f"there is no folder {path}") from None
    at = time.time() if now is None else now
    return FolderList(path=path, folders=tuple(_look(entry, rules, memory, at) for entry in below))


def _concerns(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    return not entry.name.startswith(".") or bool(leftover_uuid(entry.name))


def _look(entry: os.DirEntry[str], rules: Completeness, memory: str | None, now: float) -> PlainFolder:
    if uuid := leftover_uuid(entry.name):
        return PlainFolder(path=entry.path, left_by_removal=uuid)
    name = dataset_name(entry.name)
    if os.path.isdir(os.path.join(entry.path, ".dtool")):
        why_not = "it is a dtool dataset, and no plain folder"
        return PlainFolder(path=entry.path, name=name, why_not=why_not)
    try:
        tree = read_tree(entry.path, leave_out=rules.marker)
    except (EcsFlowsError, OSError) as error:
        return PlainFolder(path=entry.path, name=name, problem=str(error))
    why_not = rules.why_not(tree, now) or ("" if tree.files else "it has no files")
    uuid = ""
    if memory is not None and not why_not and (hashes := remembered(tree, HashMemory(memory, entry.path))):
        uuid = uuid_of(name, tree, hashes)
    return PlainFolder(
        path=entry.path,
        name=name,
        files=len(tree.files),
        bytes=tree.bytes,
        changed_at=tree.changed_at,
        uuid=uuid,
        why_not=why_not,
        note=_links_note(tree),
    )


def _links_note(tree: Tree) -> str:
    """Say which symbolic links are no part of the dataset."""
    left = tree.links_left_out
    if not left:
        return ""
    return f"{plural(len(left), 'symbolic link')} to folders, elsewhere or nowhere left out: {', '.join(left[:3])}"
