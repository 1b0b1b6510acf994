"""One item of a dataset, and how far work on items has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a dataset, as its manifest tells of it."""

    identifier: str
    """sha1 hex digest of the relpath in UTF-8."""
    relpath: str
    """Unix-like path inside the dataset, also called handle."""
    size: int
    """Bytes."""
    hash: str
    """Hex digest of the content by the manifest's hash function; empty while not known."""
    utc_timestamp: float
    """Time of last change, UTC epoch seconds."""

    def with_hash(self, digest: str) -> Item:
        """Return the item with this hash: itself where it has it, so that a million are not held twice."""
        return self if self.hash == digest else replace(self, hash=digest)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation has come. Counts include what was skipped because it was there."""

    items_done: int
    items: int
    bytes_done: int
    """Bytes of the items that are done, and of the parts that are done of large ones."""
    bytes: int
    relpath: str = ""
    """The item that was finished last."""
    seconds: float = 0.0
    """Since the first item was begun."""
    bytes_per_second: float = 0.0
    """What was moved lately; what was skipped does not count. 0 as long as nothing was."""
    seconds_left: float | None = None
    """An estimate by the pace of late; None as long as nothing was moved, 0 at the end."""

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1: bytes, and for each item as much as its requests cost."""
        whole = work_of(self.items, self.bytes)
        return work_of(self.items_done, self.bytes_done) / whole if whole else 1.0


def work_of(items: int, size: int) -> int:
    """Return what moving some items costs, in bytes: many small ones take their time too."""
    return items * _ITEM_WORK + size


_ITEM_WORK = 256 * 1024  # bytes that a connection could have moved during an item's request

ProgressCallback: TypeAlias = Callable[[Progress], None]
"""What an operation calls to tell how far it has come.

Always in the thread that called the operation, so it need not be thread-safe: after each item, and up to ten times per
second while large ones are under way. The last call tells the end, when all is done. The operation goes on meanwhile,
but should not be kept waiting. What it raises ends the operation as a failure would: the same call again does the rest.
"""
