"""The files that a plain folder has now, looked at without reading them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from dtoolcore.utils import generous_parse_uri

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import DatasetError, UnsafeNameError

_LEFTOVER = re.compile(r"\.dtool-ecs-removing-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-.+", re.IGNORECASE)


def leftover_name(uuid: str, name: str) -> str:
    """Return what a folder is called while it is being removed: nobody takes it for a dataset, or for a new folder."""
    return os.fsdecode(os.fsencode(f".dtool-ecs-removing-{uuid}-{name}")[:255])  # bytes; no name on a disk has more


def leftover_uuid(name: str) -> str:
    """Return the UUID of the dataset whose local copy was being removed; empty where the folder is no such one."""
    match = _LEFTOVER.fullmatch(name)
    return match[1] if match else ""


def leftovers(base: str) -> dict[str, str]:
    """Return the UUIDs of datasets whose local copies in this folder were being removed, by the path of each."""
    with os.scandir(base) as entries:
        return {entry.path: uuid for entry in entries if (uuid := leftover_uuid(entry.name))}


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it is now. While nothing of this changes, neither does its content.

    The time of the inode's last change is set by the kernel at every write, and no program can set it back, as it can
    the time of last change that people see.
    """

    path: str
    """Where it is; of a symbolic link, where that leads."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """Look at a regular file.

        Raises:
            DatasetError: it is something else.
        """
        seen = os.lstat(path)
        if not stat.S_ISREG(seen.st_mode):
            raise DatasetError(f"{path} is not a regular file")
        return cls(path, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


@dataclass
class Tree:
    """All files of a folder."""

    root: str
    files: dict[str, FileState] = field(default_factory=dict)
    """By relpath, in order."""
    changed_at: float = 0.0
    """When a file or folder below was changed, made, renamed or removed last, UTC epoch seconds."""
    links_left_out: list[str] = field(default_factory=list)
    """Relpaths of symbolic links that lead to a folder, out of this one, or nowhere."""

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(state.size for state in self.files.values())


def local_path(uri: str) -> str:
    """Return the path of a folder on this machine.

    Raises:
        UnsafeNameError: it is not one.
    """
    layout.check_given(uri)
    try:
        parsed = generous_parse_uri(uri)
    except ValueError as error:
        raise UnsafeNameError(f"{uri!r} is no folder: {error}") from None
    if parsed.scheme != "file":
        raise UnsafeNameError(f"{uri} is not a folder of this machine; give its path, or file:// and its path")
    return os.path.abspath(str(parsed.path))


def check_marker(marker: str) -> str:
    """Return the name of a marker file where it is one. A path would leave something out that is deeper in a folder.

    Raises:
        UnsafeNameError: it is not one.
    """
    if os.sep in marker or marker in (".", ".."):
        raise UnsafeNameError(f"the marker {marker!r} is no name of a file")
    return marker


def read_tree(root: str, *, leave_out: str = "") -> Tree:
    """Look at all files of a folder; `leave_out` is the name of a file at its top that is no content.

    A symbolic link to a file in the folder is taken for the file. Others are left out: what they lead to is there
    under its own name, or is no content of this folder, and perhaps not for everybody to read.

    Raises:
        DatasetError: something in it is neither a file nor a folder.
        UnsafeNameError: a path that no dataset can hold.
        OSError: it cannot be looked at.
    """
    tree = Tree(root)
    inside = os.path.realpath(root) + os.sep
    found: list[tuple[str, FileState]] = []
    for entry in _walk(root, tree):
        relpath = os.path.relpath(entry.path, root).replace(os.sep, "/")
        path = entry.path
        if entry.is_symlink():
            path = os.path.realpath(path)
            if not path.startswith(inside) or not os.path.isfile(path):
                tree.links_left_out.append(relpath)
                continue
        if relpath != leave_out:
            found.append((layout.check_relpath(relpath), FileState.of(path)))
    tree.files = dict(sorted(found))
    tree.links_left_out.sort()
    return tree


def _walk(folder: str, tree: Tree) -> Iterator[os.DirEntry[str]]:
    """Yield what is not a folder, anywhere below, and note the newest change of it all."""
    _note(tree, os.lstat(folder))
    with os.scandir(folder) as entries:
        below = list(entries)
    for entry in below:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, tree)
        else:
            _note(tree, entry.stat(follow_symlinks=False))
            yield entry


def _note(tree: Tree, seen: os.stat_result) -> None:
    # Not the time of last change that `ls` shows, which programs set: rsync to the past, a wrong clock to the future.
    tree.changed_at = max(tree.changed_at, seen.st_ctime)
