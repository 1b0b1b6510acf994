"""Creating a dataset straight where it shall live: in one call, or bit by bit."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.copy import open_destination, write_documents
from dtool_ecs_flows.datasets.destinations import Destination
from dtool_ecs_flows.datasets.running import concurrency_for, each_item, settings_given
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.errors import CorruptItemError, DatasetError, UnsafeNameError
from dtool_ecs_flows.items import ItemSource, file_source
from dtool_ecs_flows.models import CreateReport, Item, ProgressCallback
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.transfer import Transfer


class DatasetWriter:
    """A dataset that is being made; comes from `new_dataset`. May be used from several threads.

    Every `put` has sent its bytes when it returns, so the caller may change or remove the file afterwards.
    """

    def __init__(self, destination: Destination, admin: Mapping[str, Any], transfer: Transfer) -> None:
        self._destination = destination
        self._admin = dict(admin)
        self._transfer = transfer
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._open = True
        self._claimed: set[str] = set()
        self._items: dict[str, Item] = {}
        self._overlays: dict[str, dict[str, Any]] = {}
        self._staging: Path | None = None
        self._staged: dict[str, Path] = {}
        self._readme = ""
        self._tags: set[str] = set()
        self._annotations: dict[str, Any] = {}
        self._report: CreateReport | None = None

    @property
    def uri(self) -> str:
        """The URI that the dataset has, and keeps."""
        return self._destination.uri

    @property
    def uuid(self) -> str:
        """The dataset's UUID."""
        return str(self._admin["uuid"])

    @property
    def name(self) -> str:
        """The dataset's name."""
        return str(self._admin["name"])

    @property
    def report(self) -> CreateReport:
        """What was made; there once the dataset is frozen.

        Raises:
            DatasetError: it is not frozen yet.
        """
        if self._report is None:
            raise DatasetError(f"{self.uri} is not frozen yet; its report is there after the `with` block")
        return self._report

    # --- content ---

    def put(self, path: str | os.PathLike[str], relpath: str = "") -> str:
        """Put a file into the dataset, under its own name or the relpath given; return the item's identifier.

        Raises:
            UnsafeNameError: the relpath cannot be stored, or was put before.
            FileNotFoundError: there is no such file.
            CorruptItemError: the file changed while it was read.
        """
        return self._put_file(path, relpath or os.path.basename(path))

    def put_bytes(self, data: bytes, relpath: str) -> str:
        """Put some bytes into the dataset as an item; return its identifier."""
        source = ItemSource(
            lambda _: lambda offset, length: data[offset : offset + length],
            hash_function=documents.HASH_FUNCTION,
            where="memory",
        )
        return self._put(relpath, len(data), time.time(), source)

    def staging_path(self, relpath: str) -> Path:
        """Return a path to write an item to, its extension that of the relpath; it is put when the block is left.

        Raises:
            UnsafeNameError: the relpath cannot be stored, or was put before.
        """
        self._claim(relpath)
        with self._lock:
            if self._staging is None:
                self._staging = Path(tempfile.mkdtemp(prefix="dtool-ecs-flows-"))
            path = self._staging / (layout.identifier_of(relpath) + layout.extension_of(relpath))
            self._staged[relpath] = path
        return path

    def add_item_metadata(self, relpath: str, key: str, value: Any) -> None:
        """Say something of one item (any JSON value); it becomes an overlay, null for the items it is not said of."""
        layout.check_name(key, "item metadata key")
        documents.dump(value)  # what is no JSON shall fail here, not at the end
        with self._lock:
            self._overlays.setdefault(key, {})[layout.identifier_of(relpath)] = value

    def readme(self, text: str) -> None:
        """Set the README, which should be YAML."""
        self._readme = text

    def tag(self, tag: str) -> None:
        """Add a tag."""
        self._tags.add(layout.check_name(tag, "tag"))

    def annotate(self, name: str, value: Any) -> None:
        """Set an annotation to any JSON value."""
        documents.dump(value)  # what is no JSON shall fail here, not at the end
        self._annotations[layout.check_name(name, "annotation")] = value

    def _put_file(self, path: str | os.PathLike[str], relpath: str, *, claimed: bool = False) -> str:
        before = os.stat(path)
        identifier = self._put(relpath, before.st_size, before.st_mtime, file_source(path), claimed=claimed)
        after = os.stat(path)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            with self._lock:  # it may be put again
                del self._items[identifier]
                self._claimed.discard(identifier)
            raise CorruptItemError(
                relpath,
                expected=f"{before.st_size} bytes of {before.st_mtime}",
                actual=f"{after.st_size} bytes of {after.st_mtime}: the file changed while it was read",
                where=str(path),
            )
        return identifier

    def _put(self, relpath: str, size: int, mtime: float, source: ItemSource, *, claimed: bool = False) -> str:
        if not claimed:
            self._claim(relpath)
        item = Item(layout.identifier_of(relpath), relpath, size, "", mtime)
        try:
            self._transfer.check()
            as_put, _ = self._destination.put(item, source, self._transfer)
        except BaseException:
            with self._lock:  # it may be put again
                self._claimed.discard(item.identifier)
            raise
        with self._lock:
            self._items[item.identifier] = as_put
        return item.identifier

    def _claim(self, relpath: str) -> None:
        identifier = layout.identifier_of(layout.check_relpath(relpath))
        with self._lock:
            if not self._open:
                raise DatasetError(f"{self.uri} takes no more items: its `with` block was left")
            if identifier in self._claimed:
                raise UnsafeNameError(f"relpath {relpath!r} was put into {self.uri} before")
            self._claimed.add(identifier)

    # --- the end ---

    def _close(self) -> None:
        with self._lock:
            self._open = False

    def _freeze(self) -> None:
        with self._lock:
            under_way = len(self._claimed) - len(self._items) - len(self._staged)
        if under_way:  # each would come too late for the manifest, and its thread be told that all is well
            raise DatasetError(
                f"{under_way} items were still being put into {self.uri} by other threads when its `with` block was "
                "left: wait for them inside of it; nothing was frozen"
            )
        for relpath, path in self._staged.items():
            if not path.is_file():
                raise DatasetError(f"no file was written to the staging path of {relpath!r}")
            self._put_file(path, relpath, claimed=True)
        overlays = {}
        for name, values in self._overlays.items():
            unknown = values.keys() - self._items.keys()
            if unknown:
                raise DatasetError(f"item metadata {name!r} is said of {len(unknown)} items that were not put")
            overlays[name] = {identifier: values.get(identifier) for identifier in self._items}
        write_documents(self._destination, self._readme, sorted(self._tags), self._annotations)
        self._destination.check(self._items)
        manifest = documents.manifest_of(self._items.values(), dtoolcore.__version__, documents.HASH_FUNCTION)
        self._destination.freeze(manifest, overlays, {**self._admin, "type": "dataset", "frozen_at": time.time()})
        self._report = CreateReport(
            uri=self.uri,
            uuid=self.uuid,
            name=self.name,
            items=len(self._items),
            bytes=sum(item.size for item in self._items.values()),
            seconds=time.monotonic() - self._begun,
        )

    def _clean_up(self) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)


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
        stop: set it to make the next `put` end with `StoppedError`.

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
        destination = open_destination(base_uri, admin, config_path)
        workers = concurrency or concurrency_for(base_uri, config_path=config_path)
        writer = DatasetWriter(destination, admin, stack.enter_context(Transfer(workers, stop)))
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
        stop: set it to end early with `StoppedError`.

    Raises:
        UnsafeNameError: a name or relpath that cannot be stored; nothing was written.
        TransferError: files could not be read, or changed.
        StoreError, SettingsError: the store or its settings.
    """
    chosen = _files(directory, files)
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

        def put(item: Item) -> str:
            return writer.put(chosen[item.relpath], item.relpath)

        for _ in each_item(writer._transfer, planned, put, progress, writer.uri):
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


def _origin(uris: Iterable[str], config_path: str | None) -> dict[str, Any]:
    """Return the annotations that tell what a dataset was derived from; the first three are dtoolcore's."""
    sources = []
    for uri in uris:
        admin = open_source(uri, config_path).admin
        sources.append({"name": admin["name"], "uri": uri, "uuid": admin["uuid"]})
    if not sources:
        return {}
    first = {f"source_dataset_{key}": value for key, value in sources[0].items()}
    return {**first, "derived_from": sources}
