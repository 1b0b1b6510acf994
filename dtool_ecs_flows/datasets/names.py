"""Whether relpaths can be files of a folder, each one of its own."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import UnsafeNameError
from dtool_ecs_flows.models import Item


@dataclass(frozen=True)
class Folding:
    """What a folder does not tell apart in the names of its files; it may differ from one folder to the next."""

    case: bool
    """`A.txt` and `a.txt` are one file, as on most disks of Windows and macOS, and of servers that stand for such."""
    form: bool
    """A letter with its accent is the same as the letter and then the accent, as on the disks of macOS."""

    def fold(self, relpath: str) -> str:
        """Return the same for all relpaths that are one file: rather for two too many than for two too few."""
        folded = relpath.casefold() if self.case else relpath
        return unicodedata.normalize("NFC", folded) if self.form else folded


_ANY = Folding(case=True, form=True)


def folding_in(folder: Path) -> Folding:
    """Try it out, with two files in a temporary folder in this one."""
    with tempfile.TemporaryDirectory(prefix=".dtool-ecs-flows-", dir=folder) as trial:
        Path(trial, "name").touch()
        case = os.path.lexists(f"{trial}/NAME")
        form = False
        with suppress(OSError):  # no name with an accent can be there, so none is taken for another
            Path(trial, "\u00e9").touch()
            form = os.path.lexists(f"{trial}/e\u0301")
    return Folding(case, form)


def check_relpaths(items: Collection[Item], folding: Callable[[], Folding]) -> None:
    """Check that every relpath can be a file of its own on a disk, before the first byte is written.

    Args:
        items: the items.
        folding: says what the disk does not tell apart; asked only where the relpaths leave it open.

    Raises:
        UnsafeNameError: a relpath leaves the folder, or two are one file, or lie in one folder by two names, or one is
            a file where another needs a folder.
    """
    for item in items:
        parts = layout.check_relpath(item.relpath).split("/")
        if any(part in ("", ".") for part in parts) or any(len(part.encode()) > 255 for part in parts):
            raise UnsafeNameError(f"relpath {item.relpath!r} cannot be a file on a disk")
    if _clash(items, _ANY) and (found := _clash(items, folding())):
        raise UnsafeNameError(found)


def _clash(items: Collection[Item], folding: Folding) -> str:
    """Return which two relpaths are in the way of each other, and how; nothing where there are none."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for item in items:
        relpath, same = item.relpath, folding.fold(item.relpath)
        if same in files:
            return f"relpaths {files[same]!r} and {relpath!r} would be one file on this disk"
        files[same] = relpath
        spelt = relpath
        while "/" in same:
            same, spelt = same[: same.rindex("/")], spelt[: spelt.rindex("/")]
            if same in folders:
                if not folders[same].startswith(f"{spelt}/"):
                    return f"relpaths {folders[same]!r} and {relpath!r} would lie in one folder on this disk"
                break  # and so are those above
            folders[same] = relpath
    for folder, relpath in folders.items():
        if folder in files:
            return f"relpaths {files[folder]!r} and {relpath!r} cannot both be on a disk"
    return ""
