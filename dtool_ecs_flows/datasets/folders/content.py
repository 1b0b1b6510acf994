"""What a plain folder holds, by hash: the items that it becomes, and the UUID that they have together."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.folders.tree import FileState, Tree
from dtool_ecs_flows.datasets.running import each_item
from dtool_ecs_flows.errors import CorruptItemError
from dtool_ecs_flows.items import ItemSource, read_file, receive
from dtool_ecs_flows.models import Item
from dtool_ecs_flows.transfer import Reader, Transfer

logger = logging.getLogger(__name__)

_NAMESPACE = uuid.UUID("0b7b7a3e-55c1-5a0e-9d4c-6a1b8f5d2c90")  # of datasets made of folders; never to be changed
_SETTLED = 2_000_000_000  # ns; file systems tell times in steps, of 2 s at the coarsest


def default_memory() -> str:
    """Return the folder in which hashes are remembered where no other is named."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "dtool-ecs-flows", "folders")


class HashMemory:
    """The MD5 of the files of one folder, as they were read some other day; saves reading them every night.

    A hash is taken from here only while size, times and inode of the file are the same, the time among them that no
    program can set. Where the memory is lost, unreadable or cannot be written, the files are read.

    Args:
        place: folder for all memories, made when it is needed.
        root: the folder that this one is of.
    """

    def __init__(self, place: str, root: str) -> None:
        self._path = os.path.join(place, hashlib.sha1(root.encode("utf-8", "surrogateescape")).hexdigest() + ".json")
        self._known: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError, RecursionError), open(self._path, encoding="utf-8") as file:
            read = json.load(file)
            self._known = read if isinstance(read, dict) else {}

    def md5(self, relpath: str, state: FileState) -> str:
        """Return the hash of a file; empty where it is not known."""
        *signature, md5 = self._known.get(relpath) or [""]
        return md5 if signature == _signature(state) and isinstance(md5, str) else ""

    def keep(self, tree: Tree, hashes: Mapping[str, str], hashed_at: float) -> None:
        """Remember these hashes, and no others: of files that were left alone for a while before they were read."""
        latest = int(hashed_at * 1e9) - _SETTLED
        known = {
            relpath: [*_signature(state), hashes[relpath]]
            for relpath, state in tree.files.items()
            if relpath in hashes and state.ctime_ns < latest
        }
        if known == self._known:
            return
        try:
            folder = os.path.dirname(self._path)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", delete=False) as file:
                json.dump(known, file)
            os.replace(file.name, self._path)
        except OSError as error:
            logger.warning("hashes are not remembered, so the files are read again next time: %s", error)


def _signature(state: FileState) -> list[Any]:
    return [state.size, state.mtime_ns, state.ctime_ns, state.inode]


def remembered(tree: Tree, memory: HashMemory) -> dict[str, str] | None:
    """Return the hashes of all files where the memory has them all."""
    hashes = {relpath: memory.md5(relpath, state) for relpath, state in tree.files.items()}
    return hashes if all(hashes.values()) else None


def hash_tree(tree: Tree, memory: HashMemory | None, transfer: Transfer) -> dict[str, str]:
    """Return the MD5 of all files by relpath, from the memory where there is one that knows it.

    Raises:
        TransferError: files could not be read, or changed while they were read.
    """
    hashes = {r: md5 for r, state in tree.files.items() if memory is not None and (md5 := memory.md5(r, state))}
    begun = time.time()
    source = tree_source(tree)

    def read(item: Item) -> str:
        md5 = receive(item, source, transfer, None)
        before = tree.files[item.relpath]
        if FileState.of(before.path) != before:
            raise CorruptItemError(
                item.relpath, expected="a file that is complete", actual="one that changes", where=before.path
            )
        return md5

    todo = [_item(relpath, state, "") for relpath, state in tree.files.items() if relpath not in hashes]
    for item, md5 in each_item(transfer, todo, read, None, tree.root):
        hashes[item.relpath] = md5
    if memory is not None:
        memory.keep(tree, hashes, begun)
    return hashes


def tree_source(tree: Tree) -> ItemSource:
    """Return what reads the files of a folder as items."""

    def read(item: Item) -> Reader:
        return read_file(tree.files[item.relpath].path, item.relpath)

    return ItemSource(read, where=tree.root)


def _item(relpath: str, state: FileState, md5: str) -> Item:
    return Item(layout.identifier_of(relpath), relpath, state.size, md5, state.mtime_ns / 1e9)


def uuid_of(name: str, tree: Tree, hashes: Mapping[str, str]) -> str:
    """Return the UUID of the dataset that a folder becomes: the same for the same name and content."""
    content = [[relpath, state.size, hashes[relpath]] for relpath, state in sorted(tree.files.items())]
    digest = hashlib.sha256(json.dumps([name, content]).encode()).hexdigest()
    return str(uuid.uuid5(_NAMESPACE, digest))


class FolderSource:
    """A plain folder as the dataset that it becomes: a `Source` to copy from."""

    notes: Sequence[str] = ()

    def __init__(
        self,
        tree: Tree,
        hashes: Mapping[str, str],
        *,
        name: str,
        readme: str,
        tags: list[str],
        annotations: Mapping[str, Any],
        creator_username: str | None,
    ) -> None:
        self.uri = tree.root
        self.hash_function = documents.HASH_FUNCTION
        made = [_item(relpath, state, hashes[relpath]) for relpath, state in tree.files.items()]
        self.items = {item.identifier: item for item in made}
        self._tree = tree
        self._admin = {
            **dtoolcore.generate_admin_metadata(name, creator_username),
            "uuid": uuid_of(name, tree, hashes),
            "type": "dataset",
        }
        self._readme, self._tags, self._annotations = readme, tags, dict(annotations)

    @property
    def admin(self) -> dict[str, Any]:
        """The administrative metadata; frozen is what is frozen now."""
        return {**self._admin, "frozen_at": time.time()}

    def item_source(self) -> ItemSource:
        """Return what reads the files."""
        return tree_source(self._tree)

    def present(self) -> dict[str, int]:
        """Return size in bytes by identifier."""
        return {identifier: item.size for identifier, item in self.items.items()}

    def readme(self) -> str:
        """Return the README."""
        return self._readme

    def tags(self) -> list[str]:
        """Return the tags."""
        return self._tags

    def annotations(self) -> dict[str, Any]:
        """Return the annotations by name."""
        return self._annotations

    def overlays(self) -> dict[str, Any]:
        """Return none: nobody says anything of single files."""
        return {}
