"""The flow `archive`: the datasets, or the plain folders, of one place go into a bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Literal

from prefect import flow
from prefect.futures import PrefectFuture
from pydantic import Field

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.folders import Completeness, PlainFolder, default_memory, local_path
from dtool_ecs_flows.datasets.folders.look import QUIET_MINUTES
from dtool_ecs_flows.datasets.folders.tree import leftover_uuid, leftovers
from dtool_ecs_flows.errors import SettingsError, UnsafeNameError
from dtool_ecs_flows.flows.copying import choose, copy_steps, frozen_at
from dtool_ecs_flows.flows.options import CopyOptions, Options
from dtool_ecs_flows.flows.steps import Step, named, pool, run
from dtool_ecs_flows.models import CopyReport, DatasetInfo
from dtool_ecs_flows.outcomes import DatasetOutcome, RunReport
from dtool_ecs_flows.provenance import provenance
from dtool_ecs_flows.tasks import archive_folder, list_datasets, look_at_folders, remove_local_copy

__all__ = ["ArchiveOptions", "FolderOptions", "archive"]

DESCRIPTION = """\
Puts datasets into a bucket: those of a source, or one for each sub-folder of a plain folder.

- What is in the bucket already is **compared and skipped**, so running again does only what is missing. A dataset is
  found by its UUID, a plain folder by its content.
- What is half there is **resumed**. A dataset counts as archived once every byte was hashed and found right.
- A dataset that fails does not stop the others; the run then fails with a table of what failed and why.
- A **dry run** shows the plan, also what is left out and why, and copies nothing.
- Local copies are kept, or **removed** once the bucket was read back and found equal.
"""

REMOVE: Literal["remove the local copy"] = "remove the local copy"


class ArchiveOptions(CopyOptions):
    """What to archive, and how."""

    source_holds: Literal["dtool datasets", "plain folders"] = Field(
        default="dtool datasets",
        title="The source holds",
        description="Datasets as dtool makes them, or a folder whose sub-folders become datasets when they are "
        "complete.",
        json_schema_extra={"position": 0},
    )
    datasets: list[str] = Field(
        default=[],
        title="Only these datasets",
        description="Names, UUIDs or URIs. With none given, all of the source are archived, as far as they fit below.",
        json_schema_extra={"position": 1},
    )
    metadata_that_differs: Literal["report", "update"] = Field(
        default="report",
        title="README, tags and annotations that differ in the bucket",
        description="Report them, or make them in the bucket what they are at the source.",
        json_schema_extra={"position": 20},
    )
    afterwards: Literal["keep the local copy", "remove the local copy"] = Field(
        default="keep the local copy",
        title="Afterwards",
        description="Removing reads every byte of the bucket's copy and of the local one first. What changed "
        "meanwhile, or is not archived as it is, stays.",
        json_schema_extra={"position": 21},
    )


class FolderOptions(Options):
    """How plain folders become datasets. Of no use where the source holds dtool datasets."""

    marker: str = Field(
        default="",
        title="Marker file",
        description="A sub-folder is complete once it has a file of this name, for example _DONE, which is not "
        "archived. Empty goes by the time.",
        json_schema_extra={"position": 0},
    )
    quiet_minutes: float = Field(
        default=QUIET_MINUTES,
        ge=0,
        title="Minutes without a change",
        description="Without a marker file a sub-folder is complete when nothing in it has changed for so long.",
        json_schema_extra={"position": 1},
    )
    changed: Literal["archive again", "fail"] = Field(
        default="archive again",
        title="A folder that was archived and has changed",
        description="Archive it as a further dataset of the same name, or fail so that somebody looks.",
        json_schema_extra={"position": 2},
    )
    readme: str = Field(
        default="",
        title="README",
        description="Descriptive metadata, as YAML, for folders that have no README.yml of their own.",
        json_schema_extra={"position": 3},
    )
    tags: list[str] = Field(
        default=[],
        title="Tags",
        description="Short words to find the datasets by.",
        json_schema_extra={"position": 4},
    )
    creator: str = Field(
        default="",
        title="Creator",
        description="User name of who made the data. Empty takes the one that dtool is configured with on the worker.",
        json_schema_extra={"position": 5},
    )
    memory_folder: str = Field(
        default="",
        title="Folder for hashes",
        description="Where the worker remembers hashes, so that it does not read every file every night. Empty is a "
        "folder in its user's cache. It may be lost at any time.",
        json_schema_extra={"position": 6},
    )


DEFAULTS = ArchiveOptions()
FOLDERS = FolderOptions()


@flow(name="archive", description=DESCRIPTION, task_runner=pool())
def archive(
    source_base_uri: str,
    bucket: EcsBucket,
    options: ArchiveOptions = DEFAULTS,
    folders: FolderOptions = FOLDERS,
) -> RunReport:
    """Put datasets, or plain folders, into a bucket; running again does only what is missing.

    Args:
        source_base_uri: Where the datasets are: a folder that the worker can read, as file:///data/datasets, or
            another dtool base URI.
        bucket: The bucket that they go into.
        options: What to archive, and how.
        folders: How plain folders become datasets.

    Returns:
        What became of each dataset.

    Raises:
        RunFailedError: Some datasets failed; the others are archived.
    """
    plain = options.source_holds == "plain folders"
    removing = options.afterwards == REMOVE
    base = local_path(source_base_uri) if plain or removing else source_base_uri
    if plain and (options.tags or options.datasets):
        raise SettingsError("plain folders have no tags or UUIDs to be chosen by; choose them by patterns of names")
    steps = _folder_steps(base, bucket, options, folders) if plain else _dataset_steps(source_base_uri, bucket, options)
    cut_short = _unfinished(base, bucket, folders.marker) if removing else _hidden(source_base_uri)
    return run(
        "Archive",
        [*cut_short, *steps],
        source=source_base_uri,
        destination=bucket.base_uri,
        key=bucket.bucket,
        options=options,
    )


def _dataset_steps(source: str, bucket: EcsBucket, options: ArchiveOptions) -> list[Step]:
    buckets = [bucket, *options.other_buckets]
    listing = list_datasets(source, buckets=buckets, tags=bool(options.tags))

    def remove(info: DatasetInfo, report: CopyReport) -> PrefectFuture[Any]:
        return _remove(info.uri, report.uri, report.name, bucket, marker="")

    chosen = choose(listing, options.datasets)
    return copy_steps(
        [info for info in chosen if not leftover_uuid(PurePath(info.uri).name)],
        bucket.base_uri,
        buckets,
        chosen=options.filter,
        # Otherwise each is compared, which shows metadata that differs.
        there=frozen_at(bucket.base_uri, bucket) if options.dry_run else {},
        update_metadata=options.metadata_that_differs == "update",
        afterwards=remove if options.afterwards == REMOVE else None,
    )


def _folder_steps(base: str, bucket: EcsBucket, options: ArchiveOptions, folders: FolderOptions) -> list[Step]:
    memory = folders.memory_folder or default_memory()
    complete = Completeness(marker=folders.marker, quiet_minutes=folders.quiet_minutes)
    found = look_at_folders(base, complete, memory=memory).folders
    there: dict[str, DatasetInfo] = {}
    if options.dry_run or folders.changed == "fail":
        listed = list_datasets(bucket.base_uri, buckets=bucket).datasets
        there = {info.uuid: info for info in listed if info.type == "dataset"}
    begin = _archiving(bucket, options, folders, memory)

    def step(folder: PlainFolder) -> Step:
        outcome = _folder_outcome(folder, options, there)
        of_name = {uuid: info.uri for uuid, info in there.items() if info.name == folder.name}

        def remove(report: CopyReport) -> PrefectFuture[Any]:
            return _remove(folder.path, report.uri, report.name, bucket, marker=folders.marker)

        return Step(outcome, lambda: begin(folder, of_name), remove if options.afterwards == REMOVE else None)

    return [step(folder) for folder in found if not folder.left_by_removal]


def _archiving(
    bucket: EcsBucket, options: ArchiveOptions, folders: FolderOptions, memory: str
) -> Callable[[PlainFolder, dict[str, str]], PrefectFuture[Any]]:
    told = {} if options.dry_run else provenance()

    def begin(folder: PlainFolder, of_name: dict[str, str]) -> PrefectFuture[Any]:
        return named(archive_folder, "archive", folder.name).submit(
            folder.path,
            bucket.base_uri,
            marker=folders.marker,
            readme=folders.readme,
            tags=folders.tags,
            annotations=told,
            creator_username=folders.creator or None,
            memory=memory,
            only_as=of_name if folders.changed == "fail" else None,
            buckets=bucket,
        )

    return begin


def _folder_outcome(folder: PlainFolder, options: ArchiveOptions, there: dict[str, DatasetInfo]) -> DatasetOutcome:
    known: dict[str, Any] = {
        "source_uri": folder.path,
        "name": folder.name,
        "uuid": folder.uuid,
        "items": folder.files,
        "bytes": folder.bytes,
    }
    if folder.problem:
        return DatasetOutcome(**known, outcome="failed", message=folder.problem)
    chosen = options.filter
    why_not = chosen.why_name_not(folder.name) or folder.why_not or chosen.why_age_not(folder.changed_at)
    if why_not:
        return DatasetOutcome(**known, outcome="left out", message=why_not)
    if options.dry_run and folder.uuid in there:
        return DatasetOutcome(**known, outcome="already there", uri=there[folder.uuid].uri, message=folder.note)
    earlier = [info.uri for info in there.values() if info.name == folder.name and info.uuid != folder.uuid]
    told = [folder.note, f"archived with this name before: {', '.join(earlier[:3])}" if earlier else ""]
    return DatasetOutcome(**known, outcome="planned", message="; ".join(filter(None, told)))


def _remove(local: str, uri: str, name: str, bucket: EcsBucket, *, marker: str) -> PrefectFuture[Any]:
    return named(remove_local_copy, "remove local", name).submit(local, uri, marker=marker, buckets=bucket)


def _unfinished(base: str, bucket: EcsBucket, marker: str) -> list[Step]:
    """Return the steps that finish removals that were cut short."""

    def step(path: str, uuid: str) -> Step:
        outcome = DatasetOutcome(
            source_uri=path, uuid=uuid, outcome="planned", message="its removal was cut short, and is finished"
        )
        uri = f"{bucket.base_uri}/{uuid}"
        return Step(outcome, lambda: _remove(path, uri, uuid, bucket, marker=marker))

    return [step(path, uuid) for path, uuid in leftovers(base).items()]


def _hidden(source: str) -> list[Step]:
    """Tell of removals that were cut short in a run that removes nothing: nobody sees those folders otherwise."""
    try:
        left = leftovers(local_path(source))
    except (UnsafeNameError, OSError):  # not a folder of this machine, or one that cannot be looked into
        return []
    message = "its removal was cut short; a run that removes local copies finishes it"
    return [
        Step(DatasetOutcome(source_uri=path, uuid=uuid, outcome="left out", message=message))
        for path, uuid in left.items()
    ]
