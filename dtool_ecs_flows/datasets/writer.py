"""What `new_dataset` hands out: a dataset that is being made, item by item."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dtoolcore

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.behind import SentBehind, bytes_source
from dtool_ecs_flows.datasets.copy import write_documents
from dtool_ecs_flows.datasets.destinations import Destination
from dtool_ecs_flows.errors import DatasetError, UnsafeNameError
from dtool_ecs_flows.items import ItemSource, file_item
from dtool_ecs_flows.models import CreateReport, Item
from dtool_ecs_flows.store import heed
from dtool_ecs_flows.transfer import SINGLE_PUT, Transfer


class DatasetWriter:
    """A dataset that is being made; comes from `new_dataset`. May be used from several threads.

    Every `put` has read its bytes when it returns, so the caller may change or remove the file afterwards. Up to
    `SINGLE_PUT` it is sent meanwhile, `behind.BEHIND` bytes at the most being on their way; a larger file is sent when
    `put` returns. What cannot be sent is an error of a later `put`, or of leaving the `with` block at the latest: it
    names the item, and nothing is frozen then.
    """

    def __init__(self, destination: Destination, admin: Mapping[str, Any], transfer: Transfer) -> None:
        self._destination = destination
        self._admin = dict(admin)
        self._transfer = transfer
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._open = True
        self._claimed: set[str] = set()
        self._being_put = 0
        self._items: dict[str, Item] = {}  # those that were sent
        self._behind = SentBehind(transfer, self._send, destination.uri)
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
            StoreError: it, or an item that was put earlier, could not be sent.
        """
        return self._put_file(path, relpath or os.path.basename(path), behind=True)

    def put_bytes(self, data: bytes, relpath: str) -> str:
        """Put some bytes into the dataset as an item; return its identifier. See `put` for what it raises."""
        item = Item(layout.identifier_of(layout.check_relpath(relpath)), relpath, len(data), "", time.time())
        with self._putting(item):
            if item.size <= SINGLE_PUT:
                self._behind.put(item, lambda: bytes(data))  # a copy where it could be changed
            else:
                self._send(item, bytes_source(data))
        return item.identifier

    def staging_path(self, relpath: str) -> Path:
        """Return a path to write an item to, its extension that of the relpath; it is put when the block is left.

        Raises:
            UnsafeNameError: the relpath cannot be stored, or was put before.
        """
        with self._lock:
            self._claim(relpath)
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

    def _put_file(
        self, path: str | os.PathLike[str], relpath: str, *, behind: bool = False, claimed: bool = False
    ) -> str:
        item, source = file_item(path, relpath)

        def read() -> bytes:
            data: bytes = source.open_reader(item)(0, item.size)
            source.unchanged()
            return data

        with self._putting(item, claimed=claimed):
            if behind and item.size <= SINGLE_PUT:
                self._behind.put(item, read)
            else:
                self._send(item, source)
                source.unchanged()
        return item.identifier

    def _send(self, item: Item, source: ItemSource) -> None:
        self._transfer.check()
        with heed(self._transfer.check):
            as_put, _ = self._destination.put(item, source, self._transfer)
        with self._lock:
            self._items[item.identifier] = as_put

    @contextmanager
    def _putting(self, item: Item, *, claimed: bool = False) -> Iterator[None]:
        """Keep the relpath for this item, and the block from being left unnoticed, while it is being put."""
        with self._lock:
            if not claimed:
                self._claim(item.relpath)
            self._being_put += 1
        try:
            self._behind.check()
            yield
        except BaseException:
            with self._lock:  # it may be put again
                self._items.pop(item.identifier, None)
                self._claimed.discard(item.identifier)
            raise
        finally:
            with self._lock:
                self._being_put -= 1

    def _claim(self, relpath: str) -> None:
        """Keep a relpath for one item; the lock is held."""
        identifier = layout.identifier_of(layout.check_relpath(relpath))
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
            under_way = self._being_put
        if under_way:  # each would come too late for the manifest, and its thread be told that all is well
            raise DatasetError(
                f"{under_way} items were still being put into {self.uri} by other threads when its `with` block was "
                "left: wait for them inside of it; nothing was frozen"
            )
        for relpath, path in self._staged.items():
            if not path.is_file():
                raise DatasetError(f"no file was written to the staging path of {relpath!r}")
            self._put_file(path, relpath, behind=True, claimed=True)
        self._behind.wait()
        overlays = {}
        for name, values in self._overlays.items():
            unknown = values.keys() - self._items.keys()
            if unknown:
                raise DatasetError(f"item metadata {name!r} is said of {len(unknown)} items that were not put")
            overlays[name] = {identifier: values.get(identifier) for identifier in self._items}
        write_documents(self._destination, self._readme, sorted(self._tags), self._annotations)
        self._destination.check(self._items)
        manifest = documents.Manifest(self._items, dtoolcore.__version__)
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
