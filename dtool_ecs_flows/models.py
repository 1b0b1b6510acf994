"""The frozen records that travel between the rooms.

`Item` is a slim dataclass because a dataset may have a million; the reports are pydantic models because people and
Prefect read them as JSON (`report.model_dump_json()`). Sizes are bytes, times are UTC epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, computed_field, model_validator

from dtool_ecs_flows.words import visible

__all__ = [
    "AuditReport",
    "CopyReport",
    "CreateReport",
    "DatasetAudit",
    "DatasetInfo",
    "DatasetList",
    "DeleteReport",
    "Finding",
    "FindingKind",
    "Item",
    "ItemsReport",
    "Progress",
    "ProgressCallback",
    "RemoveReport",
    "ShardReport",
    "ShareReport",
    "Verified",
    "VerifyReport",
]


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

Verified: TypeAlias = Literal["content", "not read"]
"""How the copy is known to be right.

`content`: this client hashed every byte that it moved now, and what it skipped was compared by size and checksum.
`not read`: the store copied between its own buckets; sizes and checksums agree, no byte passed this client.
"""


_Message: TypeAlias = Annotated[str, AfterValidator(visible)]
"""A text for people, who may print it as it stands; names in it come from strangers."""


class Report(BaseModel):
    """Base of the reports: frozen, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CopyReport(Report):
    """What `copy_dataset` did."""

    source_uri: str
    uri: str
    uuid: str
    name: str
    items: int
    """Items in the dataset."""
    bytes: int
    """Bytes in the dataset."""
    copied_items: int
    copied_bytes: int
    skipped: int
    """Items that were at the destination already, with the right size and checksum."""
    already_there: bool
    """The frozen dataset was at the destination before; nothing was copied."""
    verified: Verified
    differences: tuple[str, ...] = ()
    """README, tags, annotations and overlays that differ at the destination (`README.yml`, `tags/raw`, ...).

    With `hash function: ...`, the two manifests have hashes of different kinds: sizes agree, and no hash was compared.
    """
    updated: tuple[str, ...] = ()
    """Those of the differences that were changed at the destination because that was asked for."""
    notes: tuple[_Message, ...] = ()
    """What the plugin of another store does not tell, or cannot hold as it was; see docs/other-stores.md."""
    seconds: float


class ItemsReport(CopyReport):
    """What `retrieve_items` did: `uri` is the folder; `items` and `bytes` are those that were chosen."""

    of_items: int
    """Items in the dataset."""


class ShardReport(Report):
    """What `copy_shard` did."""

    source_uri: str
    uri: str
    uuid: str
    name: str
    shard: int
    shards: int
    items: int
    """Items in the shard."""
    bytes: int
    """Bytes in the shard."""
    copied_items: int
    """The others were there already."""
    copied_bytes: int
    seconds: float


class CreateReport(Report):
    """What `create_dataset` (or leaving `new_dataset`) made."""

    uri: str
    uuid: str
    name: str
    items: int
    bytes: int
    seconds: float


class DatasetInfo(Report):
    """One line of a listing. Where `problem` is set, the fields that could not be read are empty."""

    uri: str
    uuid: str
    name: str = ""
    type: Literal["dataset", "protodataset", ""] = ""
    creator_username: str = ""
    created_at: float | None = None
    frozen_at: float | None = None
    tags: tuple[str, ...] | None = None
    """None where tags were not asked for."""
    problem: _Message = ""


class DatasetList(Report):
    """What `list_datasets` found, sorted by name and UUID.

    Iterate over `datasets`: a model of its own iteration breaks Prefect, which looks into results by `dict(model)`.
    """

    base_uri: str
    datasets: tuple[DatasetInfo, ...]
    orphans: tuple[str, ...] = ()
    """UUIDs that are registered but have no administrative metadata."""
    seconds: float

    def __len__(self) -> int:
        """Return the number of datasets."""
        return len(self.datasets)


FindingKind: TypeAlias = Literal[
    "missing",
    "extra",
    "corrupt",
    "size",
    "manifest unreadable",
    "structure unreadable",
    "metadata unreadable",
    "orphan registration",
    "proto dataset",
    "stale proto dataset",
    "not verified",
]
"""`corrupt` is said of bytes that were read; `not verified` means that they could not be read now.

`orphan registration` and `proto dataset` are what is there in the place of a frozen dataset; nothing else is told then.
An audit says `stale proto dataset` of one that has been there for long, and nothing of a younger one.
"""

DAMAGE: frozenset[FindingKind] = frozenset(
    {"missing", "extra", "corrupt", "size", "manifest unreadable", "structure unreadable", "metadata unreadable"}
)
"""What is wrong with a frozen dataset. The other kinds say that something was not verified, or never finished."""


class Finding(Report):
    """One thing that is wrong, or could not be checked."""

    kind: FindingKind
    subject: str
    """The relpath where one is known, else the key."""
    message: _Message
    expected: str = ""
    actual: str = ""


class VerifyReport(Report):
    """What `verify_dataset` found."""

    uri: str
    uuid: str
    name: str
    items: int
    bytes: int
    """Bytes in the dataset by its manifest."""
    bytes_read: int
    """Bytes that were read and hashed."""
    content_read: bool
    """False: only structure, presence and sizes were looked at."""
    findings: tuple[Finding, ...]
    seconds: float

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know decorated properties
    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and nothing was left unchecked that should have been checked."""
        return not self.findings

    @model_validator(mode="before")
    @classmethod
    def _derive_ok(cls, data: Any) -> Any:
        """Read a report back, `ok` included, which follows from the findings and is not taken from what was written."""
        return {key: value for key, value in data.items() if key != "ok"} if isinstance(data, dict) else data


class DeleteReport(Report):
    """What `delete_dataset` removed."""

    uri: str
    uuid: str
    name: str
    deleted: int
    """Objects deleted, the registration key included."""
    left: tuple[str, ...] = ()
    """Keys below the dataset's prefix that no dtool client writes; they were left alone."""
    seconds: float


class RemoveReport(Report):
    """What `remove_local_copy` did."""

    source: str
    """Path of the local copy."""
    uri: str
    """The dataset that it is a copy of, every byte of which was read and found right."""
    removed_files: int = 0
    removed_bytes: int = 0
    kept: _Message = ""
    """Why it, or what is left of it, was kept; empty where all of it is gone."""
    seconds: float


class ShareReport(Report):
    """What `share_dataset` did. No part of it, and no text made of it, tells a signed URL."""

    uri: str
    uuid: str
    name: str
    url: str = ""
    """Where everyone can read it now; empty where its URLs are signed."""
    expires_at: float | None = None
    """Until when the signed URLs work, UTC epoch seconds; None where it is public."""
    secret_block: str = ""
    """The name of the Prefect block of type Secret that has the signed URL, where a flow has put it into one."""


class DatasetAudit(Report):
    """What an audit found of one dataset, and what is remembered of it where its bytes were to be read."""

    uri: str
    uuid: str
    name: str = ""
    type: Literal["dataset", "protodataset", ""] = ""
    """Empty where that could not be read."""
    at: float
    """When it was looked at, or its reading was begun."""
    due: Literal["", "slice", "catch-up"] = ""
    """Why all of it is read in this run; empty where it is not."""
    content_read: bool = False
    """All of its bytes that are there were read and compared in this run."""
    items: int = 0
    bytes: int = 0
    """Bytes in the dataset by its manifest."""
    bytes_read: int = 0
    last_read: float | None = None
    """When all of it was read last, this run included; None where the history knows of no such time."""
    last_read_ok: bool | None = None
    """Whether nothing was wrong then."""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def damage(self) -> tuple[Finding, ...]:
        """The findings that say that something is wrong with the dataset."""
        return tuple(finding for finding in self.findings if finding.kind in DAMAGE)

    def has(self, *kinds: FindingKind) -> bool:
        """Whether there is a finding of one of these kinds."""
        return any(finding.kind in kinds for finding in self.findings)


class AuditReport(Report):
    """What `audit_bucket` found, sorted by name and UUID: each dataset, proto dataset and orphan registration key."""

    base_uri: str
    slices: int
    slice_number: int
    part: int = 1
    parts: int = 1
    begun: float
    datasets: tuple[DatasetAudit, ...]
    seconds: float

    @computed_field  # type: ignore[prop-decorator]  # mypy does not know decorated properties
    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, nothing was left over, and all that was due was read."""
        return not any(dataset.findings for dataset in self.datasets)

    @model_validator(mode="before")
    @classmethod
    def _derive_ok(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "ok"} if isinstance(data, dict) else data

    @property
    def due(self) -> tuple[DatasetAudit, ...]:
        """The datasets whose bytes were to be read in this run."""
        return tuple(dataset for dataset in self.datasets if dataset.due)

    @property
    def damaged(self) -> tuple[DatasetAudit, ...]:
        """The datasets with which something is wrong."""
        return tuple(dataset for dataset in self.datasets if dataset.damage)

    @property
    def still_damaged(self) -> tuple[DatasetAudit, ...]:
        """The datasets that were damaged when they were read last, and of which this run found no more."""
        return tuple(dataset for dataset in self.datasets if dataset.last_read_ok is False and not dataset.damage)

    def having(self, *kinds: FindingKind) -> tuple[DatasetAudit, ...]:
        """Return the datasets with a finding of one of these kinds."""
        return tuple(dataset for dataset in self.datasets if dataset.has(*kinds))
