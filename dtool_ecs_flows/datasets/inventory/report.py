"""What an inventory is: the report that people read, and the memory of the next one."""

from __future__ import annotations

from pydantic import Field

from dtool_ecs_flows.models import DatasetInfo, Report

__all__ = ["Inventory", "InventoryEntry"]

ORPHAN = "it is registered, and there is no dataset"


class InventoryEntry(DatasetInfo):
    """One dataset of an inventory. Where `problem` is set, what could not be read is empty or None."""

    items: int | None = None
    """By the manifest; of a proto dataset, the items that are in the bucket. None where that could not be told."""
    bytes: int | None = None
    """Of the items, likewise."""
    prefix: str = ""
    """Where in the bucket its objects are."""
    seen: dict[str, str] = Field(default_factory=dict)
    """ETags of the documents that this was read from: as long as they stay the same, they are not read again."""


class Inventory(Report):
    """What `inventory_bucket` found, sorted by name and UUID. Its JSON is the memory of the next one."""

    base_uri: str
    at: float
    """When it was begun."""
    datasets: tuple[InventoryEntry, ...]
    orphans: tuple[str, ...] = ()
    """UUIDs that are registered but have no administrative metadata."""
    changed: int
    """How many of them are new, other than in the previous inventory, or have a problem; of the others nothing was
    read but a listing page."""
    seconds: float

    def __len__(self) -> int:
        """Return the number of datasets."""
        return len(self.datasets)

    @property
    def items(self) -> int:
        """Items in all datasets, as far as that is known."""
        return sum(dataset.items or 0 for dataset in self.datasets)

    @property
    def bytes(self) -> int:
        """Bytes in all datasets, as far as that is known."""
        return sum(dataset.bytes or 0 for dataset in self.datasets)

    def of_type(self, kind: str) -> tuple[InventoryEntry, ...]:
        """Return the datasets of this type, `dataset` or `protodataset`."""
        return tuple(dataset for dataset in self.datasets if dataset.type == kind)

    @property
    def problems(self) -> tuple[InventoryEntry, ...]:
        """The datasets with a problem."""
        return tuple(dataset for dataset in self.datasets if dataset.problem)

    def rows(self) -> tuple[InventoryEntry, ...]:
        """Return what a table of the bucket has: the datasets, then the orphans, whose problem that is."""
        orphans = (InventoryEntry(uri=f"{self.base_uri}/{uuid}", uuid=uuid, problem=ORPHAN) for uuid in self.orphans)
        return (*self.datasets, *orphans)
