"""Items that are written to a folder of a disk: each under its final name only when whole and checked."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import CorruptItemError, StoreError, UnsafeNameError
from dtool_ecs_flows.hashing import hash_parts
from dtool_ecs_flows.items import ItemSource, receive
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.transfer import Transfer

_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ = 1024**2  # bytes at a time when a file that is there is hashed


class _NewFile:
    """A file that was not there before, written as it is told: Python's own files ask the disk three times more.

    A write on a disk that gets full may take a part of the bytes and say nothing; here all are written, or it raises.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def write(self, data: Any) -> None:
        """Write bytes after those that are there."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]

    def close(self) -> None:
        """End it; this too may find that the disk is full."""
        os.close(self._file)


def refuse_links(root: Path) -> None:
    """Refuse symbolic links in a folder that is there already; one could lead the writes anywhere."""
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            if (path := Path(folder, name)).is_symlink():
                raise UnsafeNameError(f"{path} is a symbolic link, and nothing is written through one; remove it")


class DiskFiles:
    """The files of items below a folder. Nothing is written through a symbolic link, or outside of it.

    Args:
        root: what errors call the place, on the disk that the files are on.
        data: folder that the files are in.
        scratch: folder on the same disk, for what is not whole yet; there when the first file is written.
    """

    def __init__(self, root: Path, data: Path, scratch: Path) -> None:
        self._root = root
        self._data = data
        self._scratch = scratch
        self._folders: set[str] = set()  # that are there, and not by way of a symbolic link
        self._prefix = f"part-{secrets.token_hex(8)}-"  # of temporary files
        self._number = itertools.count()

    def put(
        self, item: Item, source: ItemSource, transfer: Transfer, *, new: bool = False, replace: bool = True
    ) -> tuple[Item, bool]:
        """Write one item unless the file is there with this size and hash; return whether it was written.

        Args:
            item: the item.
            source: where its bytes come from.
            transfer: that it is a part of.
            new: no file can be there.
            replace: take another file for one that an earlier attempt left, and write in its place.

        Raises:
            FileExistsError: another file is there and shall not be replaced.
        """
        # Names of items are text: a `Path` for each is a tenth of what it takes to fetch a small one.
        path = f"{self._data}/{layout.check_relpath(item.relpath)}"
        md5 = "" if new else self._hash_of_file(path, item, source)
        if md5:
            return item.with_hash(md5), False
        if not replace and os.path.lexists(path):
            raise FileExistsError(f"{path} is there and is another file; move it away, or choose another folder")
        try:
            return item.with_hash(self._write(path, item, source, transfer)), True
        except OSError as error:
            raise self.told_when_full(error, f"item {item.relpath!r} alone has {item.size}; ") from None

    @contextmanager
    def telling_when_full(self) -> Iterator[None]:
        """Say how much is free where the disk is full."""
        try:
            yield
        except OSError as error:
            raise self.told_when_full(error) from None

    def told_when_full(self, error: OSError, needed: str = "") -> Exception:
        """Return an error that says how much is free where the disk is full, else the error itself."""
        if error.errno not in _FULL:
            return error
        free = shutil.disk_usage(self._root.parent).free
        return StoreError(
            f"the disk of {self._root} is full: {free} bytes free; {needed}"
            "the same call again goes on when there is room"
        )

    def _write(self, path: str, item: Item, source: ItemSource, transfer: Transfer) -> str:
        folder = path[: path.rindex("/")]
        if folder not in self._folders:
            self._make_folder(Path(folder), item.relpath)
            self._folders.add(folder)
        with self.written_whole(path) as file:
            md5 = receive(item, source, transfer, file)
            if item.utc_timestamp > 0:
                with suppress(OverflowError):  # a time that no file can have stays in the manifest
                    os.utime(file.name, (item.utc_timestamp, item.utc_timestamp))
        return md5

    def _hash_of_file(self, path: str, item: Item, source: ItemSource) -> str:
        """Return the MD5 of the file that is there where it is the item, else nothing."""
        try:
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode) or status.st_size != item.size or not item.hash:
                return ""
            with open(path, "rb") as file:
                total = hash_parts(source.hash_function, iter(lambda: file.read(_READ), b""))
            return total.check(item, path)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except CorruptItemError:
            return ""  # left by an attempt that went wrong: fetched again

    def _make_folder(self, folder: Path, relpath: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        root = os.path.realpath(self._data)
        if os.path.realpath(folder) != os.path.join(root, os.path.relpath(folder, self._data)).rstrip("/."):
            raise UnsafeNameError(f"relpath {relpath!r} would be written through a symbolic link in {self._data}")

    @contextmanager
    def written_whole(self, path: str) -> Iterator[_NewFile]:
        """Open a new file for writing, which gets this name once it is whole, and is gone if it does not get there."""
        file = _NewFile(f"{self._scratch}/{self._prefix}{next(self._number)}")
        try:
            try:
                yield file
            finally:
                file.close()
            os.replace(file.name, path)  # takes the place of a symbolic link, never follows it
        except BaseException:
            with suppress(OSError):
                os.unlink(file.name)
            raise
