"""A plain folder goes to a base URI, as a dataset that is found again by its content."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets.copy import copy_from
from dtool_ecs_flows.datasets.folders.content import FolderSource, HashMemory, hash_tree
from dtool_ecs_flows.datasets.folders.look import dataset_name
from dtool_ecs_flows.datasets.folders.tree import Tree, check_marker, local_path, read_tree
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.errors import DatasetDiffersError, DatasetError
from dtool_ecs_flows.models import CopyReport, ProgressCallback
from dtool_ecs_flows.settings import BucketSettings

README = "README.yml"
"""A file of this name at the top of a folder is the README of its dataset, and one of its items too."""

_MAX_README = 1024**2  # bytes; a larger file of this name is data


def archive_folder(
    folder: str,
    base_uri: str,
    *,
    name: str = "",
    marker: str = "",
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    creator_username: str | None = None,
    memory: str | None = None,
    only_as: Mapping[str, str] | None = None,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> CopyReport:
    """Make a dataset of a plain folder at a base URI, unless it is there.

    All files are hashed first: name and content make the UUID. Where the frozen dataset is there, its manifest is
    compared and nothing is written; where a part of it is there, the rest is sent. Every file is hashed once more as it
    is sent, and one that is not what it was is an error; nothing is frozen then.

    The annotation `archived_folder` tells where it came from. Nothing else than name and content decides whether it
    is there: README, tags and annotations are written once, when the dataset is made.

    Args:
        folder: its path, or file:// and its path.
        base_uri: where to, as `ecs://bucket`.
        name: of the dataset; by default that of the folder, with a dash for what dtool does not allow.
        marker: name of a file at its top that is no content.
        readme: descriptive metadata, YAML, where the folder has no README.yml.
        tags: words that the dataset is found by.
        annotations: JSON values by name.
        creator_username: by default the user of this process.
        memory: folder in which the hashes are remembered, so that files that nobody has touched are not read every
            night; None reads all of them.
        only_as: URIs by UUID of the datasets that this folder may be: where there are any and it is none of them, it
            has changed since, and that is an error.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: files at once; by default the setting of the bucket.
        progress: called in this thread as files are sent; see `ProgressCallback`.
        stop: set it to end early with `StoppedError`.

    Raises:
        DatasetDiffersError: it is none of those that it may be.
        DatasetError: there is no such folder, it has no files, or something that is no file.
        UnsafeNameError: a path that no dataset can hold.
        TransferError: files could not be read, or changed.
        StoreError, SettingsError: the store or its settings; the same call again does the rest.
    """
    begun, root = time.monotonic(), local_path(folder)
    if not os.path.isdir(root):
        raise DatasetError(f"{root} is not a folder")
    with operation(base_uri, settings=settings, config_path=config_path, concurrency=concurrency, stop=stop) as work:
        tree = read_tree(root, leave_out=check_marker(marker))
        if not tree.files:
            raise DatasetError(f"{root} has no files to make a dataset of")
        hashes = hash_tree(tree, HashMemory(memory, root) if memory else None, work)
        source = FolderSource(
            tree,
            hashes,
            name=layout.check_name(name, "dataset name") if name else dataset_name(os.path.basename(root)),
            readme=_readme(tree, readme),
            tags=sorted(set(tags)),
            annotations={**(annotations or {}), "archived_folder": _origin(tree, marker)},
            creator_username=creator_username,
        )
        if only_as and source.admin["uuid"] not in only_as:
            raise DatasetDiffersError(
                f"{root} has changed since it was archived as {', '.join(only_as.values())}; nothing was archived. "
                "Archive it again as a further dataset, or put it right"
            )
        return copy_from(source, base_uri, config_path, work, progress, begun=begun, documents_too=False)


def _readme(tree: Tree, otherwise: str) -> str:
    state = tree.files.get(README)
    if state is None or state.size > _MAX_README:
        return otherwise
    with open(state.path, "rb") as file:
        try:
            return file.read().decode("utf-8")
        except UnicodeDecodeError:
            return otherwise


def _origin(tree: Tree, marker: str) -> dict[str, Any]:
    told = {"path": tree.root, "changed_at": tree.changed_at, "marker": marker, "links_left_out": tree.links_left_out}
    return {key: value for key, value in told.items() if value}
