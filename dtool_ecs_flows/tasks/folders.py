"""Tasks on folders of the worker's machine: look at plain ones, archive them, remove what is archived."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dtool_ecs_flows import datasets, events
from dtool_ecs_flows.datasets.folders import Completeness, FolderList
from dtool_ecs_flows.models import CopyReport, RemoveReport
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, shown, told
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line


@operation("look at", "base")
def look_at_folders(base: str, complete: Completeness | None = None, *, memory: str | None = None) -> FolderList:
    """Look at each sub-folder of a folder: is it complete, and how much is it?

    Args:
        base: The folder, as a path or file:// and a path.
        complete: How it is told that a sub-folder is complete.
        memory: Folder with the hashes of earlier runs.

    Returns:
        The sub-folders by name.
    """
    with told(f"Looking at the folders in {base}") as logger:
        found = datasets.look_at_folders(base, complete, memory=memory)
    ready = sum(not (folder.why_not or folder.problem) for folder in found.folders)
    logger.info("%d folders in %s, %d of them complete", len(found.folders), found.path, ready)
    return found


@operation("archive", "folder")
def archive_folder(
    folder: str,
    base_uri: str,
    *,
    marker: str = "",
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    creator_username: str | None = None,
    memory: str | None = None,
    only_as: Mapping[str, str] | None = None,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> CopyReport:
    """Make a dataset of a plain folder; resume what is half there, skip what is there by its content.

    Args:
        folder: Path of the folder.
        base_uri: Base URI to make it in, for example ecs://my-bucket.
        marker: Name of a file at its top that is no content.
        readme: Descriptive metadata, YAML, where the folder has no README.yml.
        tags: Tags of the dataset.
        annotations: JSON values by name, for example of provenance().
        creator_username: Who made it; by default as dtool is configured.
        memory: Folder in which hashes are remembered; without it all files are read.
        only_as: URIs by UUID of the datasets that it may be; where there are any, and it is none, it fails.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Files at once; by default as the bucket says.

    Returns:
        What was sent, and what was there.
    """
    with shown(f"Archiving the folder {folder} to {base_uri}") as (logger, progress):
        report = datasets.archive_folder(
            folder,
            base_uri,
            marker=marker,
            readme=readme,
            tags=tags,
            annotations=annotations,
            creator_username=creator_username,
            memory=memory,
            only_as=only_as,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    if report.already_there:
        logger.info("Already there: %s (%s)", one_line(folder), report.uri)
    else:
        facts = (one_line(folder), report.uri, report.items, human_bytes(report.copied_bytes))
        logger.info("Archived %s (%s): %d files, %s sent, in %s", *facts, human_seconds(report.seconds))
        events.archived(report)
    return report


@operation("remove", "local")
def remove_local_copy(
    local: str,
    uri: str,
    *,
    marker: str = "",
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> RemoveReport:
    """Remove a folder of this machine that is archived, once every byte of both was read and compared.

    Args:
        local: Path of the folder, or its URI.
        uri: The dataset in a bucket that it is archived as.
        marker: Name of a file at its top that is no content.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Requests at once; by default as the bucket says.

    Returns:
        What was removed, or why it was kept.
    """
    with shown(f"Reading {uri} back, to remove {local}") as (logger, progress):
        report = datasets.remove_local_copy(
            local,
            uri,
            marker=marker,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    if report.kept:
        logger.warning("Kept %s: %s", one_line(report.source), one_line(report.kept))
    if report.removed_files:
        facts = (one_line(report.source), report.removed_files, human_bytes(report.removed_bytes))
        logger.info("Removed %s: %d files, %s", *facts)
    return report
