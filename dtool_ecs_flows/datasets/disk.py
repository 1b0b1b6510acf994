"""A dataset that is written to a disk: each item under its final name only when whole and checked."""

from __future__ import annotations

import errno
import itertools
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dtoolcore.storagebroker import DiskStorageBroker
from dtoolcore.utils import generous_parse_uri

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets import names
from dtool_ecs_flows.errors import (
    CorruptItemError,
    DatasetError,
    FrozenDatasetError,
    StoreError,
    TransferError,
    UnsafeNameError,
)
from dtool_ecs_flows.hashing import hash_parts
from dtool_ecs_flows.items import ItemSource, receive
from dtool_ecs_flows.models import Item, Verified
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


class DiskDestination:
    """A dataset in a folder of a disk. Nothing is written through a symbolic link, or outside the folder."""

    notes: Sequence[str] = ()

    def __init__(self, base_uri: str, name: str, uuid: str) -> None:
        parent = Path(generous_parse_uri(base_uri).path)
        if not os.path.isdir(parent):  # Path's raises where the name is too long for a disk
            raise DatasetError(f"{parent} is not a folder; make it first, or correct the base URI {base_uri}")
        self.uri = str(DiskStorageBroker.generate_uri(layout.check_name(name, "dataset name"), uuid, base_uri))
        self.verified: Verified = "content"
        self._broker = DiskStorageBroker(self.uri)
        self._root = Path(self._broker._abspath)
        self._data = Path(self._broker._data_abspath)
        # Where dtoolcore keeps metadata of items until the freeze: on the same disk, and never part of the data.
        self._scratch = Path(self._broker._metadata_fragments_abspath)
        self._new = False  # nothing can be there yet
        self._folders: set[str] = set()  # that are there, and not by way of a symbolic link
        self._prefix = f"part-{secrets.token_hex(8)}-"  # of temporary files
        self._number = itertools.count()

    def existing(self) -> dict[str, Any] | None:
        """Return the administrative metadata of what is there; None where nothing is."""
        if not os.path.lexists(self._root) or self._is_unborn():
            return None
        if self._root.is_symlink() or not self._broker.has_admin_metadata():
            raise DatasetError(f"{self._root} exists and is not a dataset; move it away, or choose another base URI")
        body = Path(self._broker.get_admin_metadata_key()).read_bytes()
        return documents.parse_admin(body, {}, str(self._root))

    def begin(self, admin: Mapping[str, Any], items: Mapping[str, Item]) -> None:
        """Check that this disk can hold the items, and make it a proto dataset."""
        there = self.existing()
        if there is not None and there["type"] == "dataset":
            raise FrozenDatasetError(f"{self.uri} is frozen and is never written over")
        if there is not None and there.get("uuid") != admin["uuid"]:
            raise DatasetError(
                f"{self._root} is another dataset, not frozen yet (UUID {there.get('uuid')}); "
                "freeze or remove it, or choose another name"
            )
        folder = self._root.parent if there is None else self._root
        with self._telling_when_full():
            names.check_relpaths(items.values(), lambda: names.folding_in(folder))
        needed = sum(item.size for item in items.values())
        free = shutil.disk_usage(self._root.parent).free
        if there is None and needed > free:
            raise StoreError(f"{self._root.parent} has {free} bytes free; the dataset needs {needed}")
        if self._root.exists():
            self._refuse_links()
        self._new = there is None
        with self._telling_when_full():
            if there is None:
                for folder in self._broker._essential_subdirectories:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                self._broker._document_structure()
            self._scratch.mkdir(exist_ok=True)
            if there is None:
                self._put_admin({**_without_frozen(admin), "type": "protodataset"})

    def _is_unborn(self) -> bool:
        """Whether this is what an attempt leaves that died before it said what it is: folders and their description."""
        if self._root.is_symlink() or not self._root.is_dir():
            return False
        ours = {self._scratch, *map(Path, self._broker._essential_subdirectories)}
        ours |= {Path(self._broker.get_structure_key()), Path(self._broker.get_dtool_readme_key())}
        return all(path in ours or path.parent == self._scratch for path in self._root.rglob("*"))

    def _refuse_links(self) -> None:
        """Refuse symbolic links in what is taken up; one could lead the writes anywhere."""
        for folder, folders, files in os.walk(self._root):
            for name in folders + files:
                if (path := Path(folder, name)).is_symlink():
                    raise UnsafeNameError(f"{path} is a symbolic link, and nothing is written through one; remove it")

    def _put_admin(self, admin: Mapping[str, Any]) -> None:
        """Write the administrative metadata whole or not at all: without it, the rest could not be taken up again."""
        with self._written_whole(self._broker.get_admin_metadata_key()) as file:
            file.write(json.dumps(dict(admin)).encode())

    def put(self, item: Item, source: ItemSource, transfer: Transfer) -> tuple[Item, bool]:
        """Write one item unless the file is there with this size and hash."""
        # Names of items are text: a `Path` for each is a tenth of what it takes to fetch a small one.
        path = f"{self._data}/{layout.check_relpath(item.relpath)}"
        md5 = "" if self._new else self._hash_of_file(path, item, source)
        if md5:
            return item.with_hash(md5), False
        try:
            return item.with_hash(self._write(path, item, source, transfer)), True
        except OSError as error:
            raise self._told_when_full(error, f"item {item.relpath!r} alone has {item.size}; ") from None

    @contextmanager
    def _telling_when_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._told_when_full(error) from None

    def _told_when_full(self, error: OSError, needed: str = "") -> Exception:
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
        with self._written_whole(path) as file:
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
    def _written_whole(self, path: str) -> Iterator[_NewFile]:
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

    def put_readme(self, text: str) -> None:
        """Write the README."""
        with self._telling_when_full():
            # dtoolcore's way depends on the locale, and reading with it changes line ends
            Path(self._broker.get_readme_key()).write_bytes(text.encode())

    def put_tag(self, tag: str) -> None:
        """Add a tag."""
        with self._telling_when_full():
            self._broker.put_tag(layout.check_name(tag, "tag"))

    def put_annotation(self, name: str, value: Any) -> None:
        """Write an annotation."""
        with self._telling_when_full():
            self._broker.put_annotation(layout.check_name(name, "annotation"), value)

    def check(self, items: Mapping[str, Item]) -> None:
        """Compare the files that are there with what was written; the bytes were hashed on their way."""
        missing = {item.relpath: item.size for item in items.values()}
        differing: list[tuple[str, int | None, int | None]] = []
        for relpath in self._broker.iter_item_handles():
            expected, actual = missing.pop(relpath, None), os.lstat(f"{self._data}/{relpath}").st_size
            if expected != actual:
                differing.append((relpath, expected, actual))
        differing += [(relpath, expected, None) for relpath, expected in missing.items()]
        if differing:
            wrong = [
                (relpath, CorruptItemError(relpath, expected=_size(one), actual=_size(other), where=self.uri))
                for relpath, one, other in sorted(differing, key=lambda each: each[0])
            ]
            raise TransferError(f"{self.uri} does not hold what was written: {wrong[0][1]}", wrong)

    def freeze(self, manifest: documents.Manifest, overlays: Mapping[str, Any], admin: Mapping[str, Any]) -> None:
        """Write manifest and overlays, then the administrative metadata of a frozen dataset."""
        with self._telling_when_full():
            Path(self._broker.get_manifest_key()).write_bytes(documents.dump_manifest(manifest))
            for name, overlay in overlays.items():
                self._broker.put_overlay(layout.check_name(name, "overlay"), overlay)
            self._put_admin(admin)
        self._broker.post_freeze_hook()


def _size(size: int | None) -> str:
    return "none" if size is None else f"{size} bytes"


def _without_frozen(admin: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in admin.items() if key != "frozen_at"}
