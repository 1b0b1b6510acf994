"""What the operations return: pydantic models, which people and Prefect read as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, computed_field, model_validator

from dtool_ecs_flows.words import visible

Verified: TypeAlias = Literal["content", "not read"]
"""How the copy is known to be right.

`content`: this client hashed every byte that it moved now, and what it skipped was compared by size and checksum.
`not read`: the store copied between its own buckets; sizes and checksums agree, no byte passed this client.
"""


Message: TypeAlias = Annotated[str, AfterValidator(visible)]
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
    notes: tuple[Message, ...] = ()
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
    problem: Message = ""


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
    message: Message
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
    """Bytes of the items that were read and hashed, right or not; each once, also where it was read again."""
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
    kept: Message = ""
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
