"""Creating a dataset straight where it shall live: in one call, or bit by bit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.copy import open_destination
from dtool_ecs_flows.datasets.running import concurrency_for, each_item, settings_given
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.datasets.writer import DatasetWriter
from dtool_ecs_flows.errors import DatasetError, UnsafeNameError
from dtool_ecs_flows.models import CreateReport, Item, ProgressCallback
from dtool_ecs_flows.plugins import without_signature
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import heed
from dtool_ecs_flows.transfer import Transfer

_THEN = "but nothing is frozen: delete_dataset removes what is there, and the same call makes another dataset"


@contextmanager
def new_dataset(
    name: str,
    base_uri: str,
    *,
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    derived_from: Iterable[str] = (),
    creator_username: str | None = None,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[DatasetWriter]:
    """Make a dataset bit by bit: a context manager that gives a `DatasetWriter` and freezes on leaving.

    Where the block is left by an exception, nothing is frozen: a proto dataset stays behind, which `delete_dataset`
    removes.

    Args:
        name: 1 to 80 of the characters `0-9 a-z A-Z - _ .`.
        base_uri: where to, as `ecs://bucket` or a folder or any base URI that a dtool plugin serves.
        readme: descriptive metadata, which should be YAML.
        tags: words that the dataset is found by.
        annotations: JSON values by name.
        derived_from: URIs of the datasets that this one was made from; the first is named in dtool's own annotations
            (`source_dataset_name`, `..._uri`, `..._uuid`), all of them in the annotation `derived_from`.
        creator_username: by default the user of this process.
        settings: of the buckets that take part; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once; by default the setting of the bucket.
        stop: set it to make the next `put`, or the freeze, end with `StoppedError`.

    Raises:
        UnsafeNameError: a name that dtool does not allow.
        NotADatasetError: a dataset of `derived_from` is not there.
        StoreError, SettingsError: the store or its settings.
    """
    layout.check_name(name, "dataset name")
    for parameter, value in (("tags", tags), ("derived_from", derived_from)):
        if isinstance(value, str):  # else each of its letters would be one
            raise UnsafeNameError(f"{parameter} is one text, {value!r}; give a list")
    with ExitStack() as stack:
        stack.enter_context(settings_given(settings))
        admin = dtoolcore.generate_admin_metadata(name, creator_username)
        workers = concurrency or concurrency_for(base_uri, config_path=config_path)
        transfer = stack.enter_context(Transfer(workers, stop))
        with heed(transfer.check):  # not around the block, which is the caller's
            transfer.check()
            destination = open_destination(base_uri, admin, config_path)
            writer = DatasetWriter(destination, admin, transfer)
            stack.callback(writer._clean_up)
            writer.readme(readme)
            for tag in tags:
                writer.tag(tag)
            for key, value in {**_origin(derived_from, config_path), **(annotations or {})}.items():
                writer.annotate(key, value)
            destination.begin(admin, {})
        try:
            yield writer
        finally:
            writer._close()  # a late thread must not write into what is frozen
        with heed(transfer.check):
            writer._freeze()


def create_dataset(
    name: str,
    base_uri: str,
    *,
    directory: str | os.PathLike[str] | None = None,
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    item_metadata: Mapping[str, Mapping[str, Any]] | None = None,
    derived_from: Iterable[str] = (),
    creator_username: str | None = None,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    concurrency: int | None = None,
    progress: ProgressCallback | None = None,
    begun: Callable[[str], None] | None = None,
    follow_out: bool = True,
    stop: threading.Event | None = None,
) -> CreateReport:
    """Make a dataset from files, straight at its base URI, and freeze it.

    Each file is read once, hashed as it is sent; one above 8 MiB is read twice, because its MD5 has to go ahead of its
    bytes. A file that changes meanwhile is an error, and nothing is frozen.

    Args:
        name: 1 to 80 of the characters `0-9 a-z A-Z - _ .`.
        base_uri: where to, as `ecs://bucket` or a folder or any base URI that a dtool plugin serves.
        directory: a folder, all of whose files become items. Symbolic links to files are followed, those to folders
            are not.
        files: further files by relpath.
        readme: see `new_dataset`, as for `tags`, `annotations`, `derived_from`, `creator_username`, `settings`,
            `config_path`, `concurrency` and `stop`.
        tags: words that the dataset is found by.
        annotations: JSON values by name.
        item_metadata: for each relpath, JSON values by key; each key becomes an overlay.
        derived_from: URIs of the datasets that this one was made from.
        creator_username: by default the user of this process.
        settings: of the buckets that take part.
        config_path: another file than `~/.config/dtool/dtool.json`.
        concurrency: requests at once.
        progress: called in this thread as items, and parts of large ones, are done; see `ProgressCallback`.
        begun: called with the dataset's URI once it is there as a proto dataset.
        follow_out: False refuses a symbolic link in `directory` that leads out of it. Where the folder is somebody
            else's, it could lead to a file that only the user of this process may read.
        stop: set it to end early with `StoppedError`.

    Raises:
        UnsafeNameError: a name or relpath that cannot be stored, or a link that leads out; nothing was written.
        TransferError: files could not be read, or changed.
        StoreError, SettingsError: the store or its settings.
    """
    chosen = _files(directory, files)
    if directory is not None and not follow_out:
        _refuse_links_out(os.fspath(directory), chosen.values())
    planned = [Item(layout.identifier_of(path), path, os.stat(file).st_size, "", 0.0) for path, file in chosen.items()]
    for relpath, values in (item_metadata or {}).items():
        if relpath not in chosen:
            raise DatasetError(f"item_metadata names {relpath!r}, which is not among the files")
        for key, value in values.items():
            layout.check_name(key, "item metadata key")
            documents.dump(value)
    with new_dataset(
        name,
        base_uri,
        readme=readme,
        tags=tags,
        annotations=annotations,
        derived_from=derived_from,
        creator_username=creator_username,
        settings=settings,
        config_path=config_path,
        concurrency=concurrency,
        stop=stop,
    ) as writer:
        if begun is not None:
            begun(writer.uri)

        def put(item: Item) -> str:
            return writer._put_file(chosen[item.relpath], item.relpath)

        for _ in each_item(writer._transfer, planned, put, progress, writer.uri, then=_THEN):
            pass
        for relpath, values in (item_metadata or {}).items():
            for key, value in values.items():
                writer.add_item_metadata(relpath, key, value)
    return writer.report


def _files(
    directory: str | os.PathLike[str] | None, files: Mapping[str, str | os.PathLike[str]] | None
) -> dict[str, str]:
    """Return the path of every file by its relpath, all relpaths checked."""
    chosen: dict[str, str] = {}
    if directory is not None:
        root = os.fspath(directory)
        if not os.path.isdir(root):
            raise DatasetError(f"{root} is not a folder")

        def unreadable(error: OSError) -> None:
            raise error

        for folder, _, names in os.walk(root, onerror=unreadable):
            for name in names:
                path = os.path.join(folder, name)
                chosen[os.path.relpath(path, root).replace(os.sep, "/")] = path
    for relpath, file in (files or {}).items():
        if relpath in chosen:
            raise UnsafeNameError(f"relpath {relpath!r} is in {directory} and in files")
        chosen[relpath] = os.fspath(file)
    for relpath, path in chosen.items():
        layout.check_relpath(relpath)
        if not os.path.isfile(path):
            raise DatasetError(f"{path} is not a regular file")
    return dict(sorted(chosen.items()))


def _refuse_links_out(root: str, paths: Iterable[str]) -> None:
    inside = os.path.realpath(root) + os.sep
    for path in paths:
        if os.path.islink(path) and not os.path.realpath(path).startswith(inside):
            raise UnsafeNameError(
                f"{path} is a symbolic link that leads out of {root}, to {os.path.realpath(path)}, and such "
                "links are not to be followed; put the file itself there"
            )


def _origin(uris: Iterable[str], config_path: str | None) -> dict[str, Any]:
    """Return the annotations that tell what a dataset was derived from; the first three are dtoolcore's."""
    sources = []
    for uri in uris:
        admin = open_source(uri, config_path).admin
        sources.append({"name": admin["name"], "uri": without_signature(uri), "uuid": admin["uuid"]})
    if not sources:
        return {}
    first = {f"source_dataset_{key}": value for key, value in sources[0].items()}
    return {**first, "derived_from": sources}
