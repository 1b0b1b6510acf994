"""The flow `inventory`: what a bucket holds, as a table, and as files that people and programs read."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Literal, TypeAlias

import dtoolcore
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows import layout
from dtool_ecs_flows.artifacts import artifact_key, code, inventory_headline, inventory_rows, inventory_summary
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets.inventory import Inventory, check_format, load_inventory, write_inventory
from dtool_ecs_flows.errors import EcsFlowsError, SettingsError
from dtool_ecs_flows.provenance import provenance
from dtool_ecs_flows.tasks import create_dataset, inventory_bucket, list_datasets
from dtool_ecs_flows.words import one_line

__all__ = ["InventoryOptions", "inventory"]

DESCRIPTION = """\
Tells what is in a bucket: every dataset with its items, bytes, creator, times, tags and problems.

- The result is a table here, and **files** where you want them: a page for a browser with search and plots, CSV,
  Parquet, JSON.
- A run knows from the files of the last one what has not changed since, and does not read it again.
- Nothing is written to the bucket, and no item is read.
"""

Format: TypeAlias = Literal["html", "csv", "json", "parquet"]

_MEMORY = "json"  # the format that the next run reads


class InventoryOptions(BaseModel):
    """What becomes of an inventory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: list[Format] = Field(
        default=["html", "csv"],
        title="Formats",
        description="Which files are written: html is a page for a browser, parquet needs pyarrow on the worker. json "
        "is always written, since the next run reads it.",
        json_schema_extra={"position": 0},
    )
    report_base_uri: str = Field(
        default="",
        title="File it at",
        description="Base URI that each inventory goes to as a dataset of its own, for example file:///data/reports. "
        "It must not be the bucket itself. Empty files none.",
        json_schema_extra={"position": 1},
    )
    read_all: bool = Field(
        default=False,
        title="Read everything anew",
        description="Read the metadata of all datasets, whatever the last inventory knows of them.",
        json_schema_extra={"position": 2},
    )


DEFAULTS = InventoryOptions()


@flow(name="inventory", description=DESCRIPTION)
def inventory(bucket: EcsBucket, folder: str = "", options: InventoryOptions = DEFAULTS) -> Inventory:
    """Take the inventory of a bucket, draw it as a table, and write it to files.

    Args:
        bucket: The bucket to look into. Nothing is written to it.
        folder: Folder that the worker can write, as /data/inventories; it is made where its parent is there. The files
            go there under the name of the bucket, in place of those of the last run. Empty writes none.
        options: Which files, and where else they go.

    Returns:
        The datasets by name, and what could not be read.

    Raises:
        SettingsError: Files that cannot be written; said before the bucket is looked into.
    """
    if options.report_base_uri.rstrip("/") == bucket.base_uri:
        raise SettingsError(f"the inventory cannot be filed in {bucket.base_uri}, which is not written to")
    suffixes = sorted({*options.formats, _MEMORY})
    place = Path(folder).expanduser()
    if folder and place.parent.is_dir():  # else a disk is not mounted, or it is a slip of the pen: said below
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise SettingsError(f"the folder {place} cannot be made: {error.strerror}") from None
    files = [place / f"{bucket.bucket}.{suffix}" for suffix in suffixes] if folder else []
    for file in files or [Path(tempfile.gettempdir()) / f"inventory.{suffix}" for suffix in suffixes]:
        check_format(file)
    previous = None if options.read_all else _previous(files, bucket, options.report_base_uri)
    found = inventory_bucket(bucket.base_uri, previous=previous, buckets=bucket)
    failed = _written(found, files)
    _show(found, bucket, [] if failed else files)
    if options.report_base_uri:
        _file(found, bucket, options.report_base_uri, suffixes)
    if failed:
        raise failed
    return found


def _previous(files: list[Path], bucket: EcsBucket, report_base_uri: str) -> Inventory | None:
    """Return what the last run left: in the folder or, where there is none, filed as a dataset.

    Where that cannot be read, all is read anew: it takes longer, and nothing else.
    """
    try:
        for file in files:
            if file.suffix == f".{_MEMORY}":
                return load_inventory(file)
        return _last_filed(bucket, report_base_uri) if report_base_uri else None
    except (EcsFlowsError, OSError, ValueError) as error:
        get_run_logger().warning("Everything is read anew: %s", one_line(str(error)))
    return None


def _last_filed(bucket: EcsBucket, report_base_uri: str) -> Inventory | None:
    filed = [
        info
        for info in list_datasets(report_base_uri).datasets
        if info.type == "dataset" and info.name.startswith(f"{_name(bucket)}-")
    ]
    if not filed:
        return None
    last = dtoolcore.DataSet.from_uri(max(filed, key=lambda info: info.name).uri)
    return load_inventory(last.item_content_abspath(layout.identifier_of(f"inventory.{_MEMORY}")))


def _written(found: Inventory, files: list[Path]) -> OSError | None:
    """Write the files; return what went wrong, so that the table is shown all the same."""
    try:
        for file in files:
            write_inventory(found, file)
    except OSError as error:
        get_run_logger().error("The files could not be written: %s", one_line(str(error)))
        return error
    return None


def _show(found: Inventory, bucket: EcsBucket, files: list[Path]) -> None:
    where = f"\n\nFiles: {', '.join(code(os.fspath(file)) for file in files)}" if files else ""
    create_table_artifact(
        inventory_rows(found),
        key=artifact_key("inventory", bucket.bucket),
        description=inventory_summary(found) + where,
    )
    get_run_logger().info("%s", inventory_headline(found))


def _name(bucket: EcsBucket) -> str:
    return f"inventory-{bucket.bucket[:50]}"


def _file(found: Inventory, bucket: EcsBucket, base_uri: str, suffixes: list[str]) -> None:
    """Make a dataset of the inventory; names sort by time."""
    with tempfile.TemporaryDirectory(prefix="dtool-ecs-inventory-") as folder:
        for suffix in suffixes:
            write_inventory(found, Path(folder) / f"inventory.{suffix}")
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(found.at))
        create_dataset(
            f"{_name(bucket)}-{stamp}",
            base_uri,
            directory=folder,
            readme=f"---\ndescription: Inventory of {bucket.base_uri}, {stamp}\n",
            tags=["inventory"],
            annotations=provenance(),
        )
