"""Options that several flows share, as parts of their forms: titles, descriptions and order are what a person sees."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.choosing import Filter

__all__ = ["MAX_AT_ONCE", "ChoiceOptions", "CopyOptions", "Options"]

MAX_AT_ONCE = 32
"""Datasets that can be copied at once in one flow run: the size of its pool of threads."""


class Options(BaseModel):
    """Base of all options: frozen, and a misspelt one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChoiceOptions(Options):
    """Which datasets."""

    name_patterns: list[str] = Field(
        default=[],
        title="Only names that fit",
        description="Patterns as in a shell, for example run-2026*. One of them has to fit; with none, all names do.",
        json_schema_extra={"position": 10},
    )
    tags: list[str] = Field(
        default=[],
        title="Only with these tags",
        description="Tags that a dataset must have, all of them.",
        json_schema_extra={"position": 11},
    )
    older_than_days: float = Field(
        default=0,
        ge=0,
        title="Only older than so many days",
        description="Days since the dataset was frozen, or since a plain folder changed last. 0 sets no limit.",
        json_schema_extra={"position": 12},
    )
    newer_than_days: float = Field(
        default=0,
        ge=0,
        title="Only newer than so many days",
        description="Days since the dataset was frozen, or since a plain folder changed last. 0 sets no limit.",
        json_schema_extra={"position": 13},
    )

    @property
    def filter(self) -> Filter:
        """These options as what a dataset must be like."""
        return Filter(
            name_patterns=tuple(self.name_patterns),
            tags=tuple(self.tags),
            older_than_days=self.older_than_days,
            newer_than_days=self.newer_than_days,
        )


class CopyOptions(ChoiceOptions):
    """Which datasets are copied, and how many of them."""

    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Show what would be copied, and copy nothing.",
        json_schema_extra={"position": 30},
    )
    at_once: int = Field(
        default=4,
        ge=1,
        le=MAX_AT_ONCE,
        title="Datasets at once",
        description="How many datasets are copied at the same time, each with the bucket's number of connections.",
        json_schema_extra={"position": 31},
    )
    at_most: int = Field(
        default=0,
        ge=0,
        title="Datasets at most",
        description="Copy no more than this many in one run; those that are there already do not count. 0 copies all.",
        json_schema_extra={"position": 32},
    )
    begin_for_hours: float = Field(
        default=0,
        ge=0,
        title="Hours in which copies are begun",
        description="After so many hours no other dataset is begun; what is under way goes on. 0 sets no limit.",
        json_schema_extra={"position": 33},
    )
    other_buckets: list[EcsBucket] = Field(
        default=[],
        title="Other buckets",
        description="Blocks of further buckets that are named in URIs here.",
        json_schema_extra={"position": 34},
    )
