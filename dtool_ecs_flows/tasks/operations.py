"""A task for each operation on one dataset, or on a base URI."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from dtool_ecs_flows import datasets, events
from dtool_ecs_flows.datasets.audit import Place
from dtool_ecs_flows.datasets.finding import uuid_of
from dtool_ecs_flows.models import CopyReport, CreateReport, DatasetList, DeleteReport, ItemsReport, VerifyReport
from dtool_ecs_flows.rollback import may_leave_unfinished
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, shown, told
from dtool_ecs_flows.words import human_bytes, human_seconds, one_line


@operation("copy", "source_uri")
def copy_dataset(
    source_uri: str,
    base_uri: str,
    *,
    buckets: Buckets = (),
    config_path: str | None = None,
    update_metadata: bool = False,
    concurrency: int | None = None,
) -> CopyReport:
    """Copy a frozen dataset to another base URI; resume what is half there, skip what is there and right.

    Args:
        source_uri: URI of a frozen dataset.
        base_uri: Base URI to copy it to, for example ecs://my-bucket.
        buckets: Blocks of the buckets that it comes from and goes to.
        config_path: Path of a dtool.json in place of the default one.
        update_metadata: Change README, tags and annotations at the destination where they differ.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was copied, and what was there.
    """
    settings = settings_of(buckets)
    with (
        shown(f"Copying {source_uri} to {base_uri}") as (logger, progress),
        may_leave_unfinished(settings, config_path) as begun,
    ):
        begun(lambda: f"{base_uri.rstrip('/')}/{uuid_of(source_uri, settings=settings, config_path=config_path)}")
        report = datasets.copy_dataset(
            source_uri,
            base_uri,
            settings=settings,
            config_path=config_path,
            update_metadata=update_metadata,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    if report.already_there:
        logger.info("Already there: %s (%s)", one_line(report.name), report.uri)
    else:
        logger.info(
            "Copied %s (%s): %d items, %s sent, %d skipped, in %s",
            one_line(report.name),
            report.uri,
            report.items,
            human_bytes(report.copied_bytes),
            report.skipped,
            human_seconds(report.seconds),
        )
        events.archived(report)
    if report.differences:
        logger.warning("Metadata that differs at the destination: %s", one_line(", ".join(report.differences)))
    return report


@operation("list", "base_uri")
def list_datasets(
    base_uri: str,
    *,
    buckets: Buckets = (),
    config_path: str | None = None,
    tags: bool = False,
    concurrency: int | None = None,
) -> DatasetList:
    """List the datasets of a base URI, frozen and unfinished.

    Args:
        base_uri: Base URI, for example ecs://my-bucket.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        tags: Read each dataset's tags too.
        concurrency: Reads at once; by default as the bucket says.

    Returns:
        The datasets by name, and what could not be read.
    """
    with told(f"Listing {base_uri}") as logger:
        listing = datasets.list_datasets(
            base_uri,
            settings=settings_of(buckets),
            config_path=config_path,
            tags=tags,
            concurrency=concurrency,
            stop=StopSignal(),
        )
    logger.info("%d datasets in %s, listed in %s", len(listing), base_uri, human_seconds(listing.seconds))
    return listing


@operation("create", "name", retries=0)
def create_dataset(
    name: str,
    base_uri: str,
    *,
    directory: str | PathLike[str] | None = None,
    files: Mapping[str, str | PathLike[str]] | None = None,
    readme: str = "",
    tags: Iterable[str] = (),
    annotations: Mapping[str, Any] | None = None,
    item_metadata: Mapping[str, Mapping[str, Any]] | None = None,
    derived_from: Sequence[str] = (),
    creator_username: str | None = None,
    follow_out: bool = True,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> CreateReport:
    """Make a frozen dataset of a folder or of files, straight in its place. Not retried: each call makes a new one.

    Args:
        name: Name of the dataset.
        base_uri: Base URI to make it in, for example ecs://my-bucket.
        directory: Folder whose files become the items.
        files: Paths of files by the relpath that each gets in the dataset.
        readme: Descriptive metadata, YAML.
        tags: Tags of the dataset.
        annotations: JSON values by name, for example of provenance().
        item_metadata: JSON values by key, by relpath.
        derived_from: URIs of the datasets that it was made from.
        creator_username: Who made it; by default as dtool is configured.
        follow_out: False refuses a symbolic link that leads out of the directory.
        buckets: Block of the bucket, and those of the source datasets.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was made.
    """
    settings = settings_of(buckets)
    with (
        shown(f"Creating {name} in {base_uri}") as (logger, progress),
        may_leave_unfinished(settings, config_path) as begun,
    ):
        report = datasets.create_dataset(
            name,
            base_uri,
            directory=directory,
            files=files,
            readme=readme,
            tags=tags,
            annotations=annotations,
            item_metadata=item_metadata,
            derived_from=derived_from,
            creator_username=creator_username,
            settings=settings,
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            begun=begun,
            follow_out=follow_out,
            stop=StopSignal(),
        )
    logger.info("Created %s (%s): %d items, %s", name, report.uri, report.items, human_bytes(report.bytes))
    events.published(report, derived_from=derived_from)
    return report


@operation("verify", "uri")
def verify_dataset(
    uri: str,
    *,
    read: bool = True,
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> VerifyReport:
    """Verify a dataset: structure, sizes and, reading every byte, hashes. What is wrong is in the report, no error.

    Args:
        uri: URI of the dataset.
        read: Read the content; without it only structure and sizes are looked at.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        The findings; none means that all is right.
    """
    with shown(f"Verifying {uri}") as (logger, progress):
        report = datasets.verify_dataset(
            uri,
            read=read,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    facts = (one_line(report.name or report.uuid), report.items, human_bytes(report.bytes_read), len(report.findings))
    logger.log(logging.INFO if report.ok else logging.ERROR, "Verified %s: %d items, %s read, %d findings", *facts)
    events.corrupt(report.uuid, report.name, report.uri, report.findings)
    return report


@operation("delete", "name")
def delete_dataset(
    uri: str,
    name: str,
    *,
    history: Place | None = None,
    by: str = "",
    reason: str = "",
    buckets: Buckets = (),
    config_path: str | None = None,
) -> DeleteReport:
    """Delete a dataset, content and registration, when `name` is its name.

    Args:
        uri: URI of the dataset.
        name: The dataset's name, as a confirmation.
        history: Folder with what audits of the bucket found, which is told of the deletion.
        by: Who wanted it, for the history.
        reason: Why, for the history.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        What was deleted, and what was left because no dtool client writes it.
    """
    with told(f"Deleting {name} ({uri})") as logger:
        report = datasets.delete_dataset(
            uri,
            name,
            settings=settings_of(buckets),
            config_path=config_path,
            history=history,
            by=by,
            reason=reason,
            stop=StopSignal(),
        )
    logger.info("Deleted %s (%s): %d objects", one_line(report.name), report.uri, report.deleted)
    return report


@operation("retrieve items of", "uri")
def retrieve_items(
    uri: str,
    folder: str,
    *,
    patterns: Sequence[str] = (),
    overlay: str = "",
    values: Sequence[str] = (),
    buckets: Buckets = (),
    config_path: str | None = None,
    concurrency: int | None = None,
) -> ItemsReport:
    """Fetch some items of a dataset into a folder, as plain files with what describes them beside.

    Args:
        uri: URI of a frozen dataset.
        folder: Path of a folder that is there.
        patterns: Patterns of relpaths, of which one has to fit.
        overlay: Name of an overlay that chooses too.
        values: Patterns of its values; without any, items fit that have a value.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.
        concurrency: Items at once; by default as the bucket says.

    Returns:
        What was fetched, and what was there.
    """
    with shown(f"Retrieving items of {uri}") as (logger, progress):
        report = datasets.retrieve_items(
            uri,
            folder,
            patterns=patterns,
            overlay=overlay,
            values=values,
            settings=settings_of(buckets),
            config_path=config_path,
            concurrency=concurrency,
            progress=progress,
            stop=StopSignal(),
        )
    facts = (report.items, report.of_items, one_line(report.name), human_bytes(report.copied_bytes))
    logger.info("%d of %d items of %s fit, %s fetched", *facts)
    return report
