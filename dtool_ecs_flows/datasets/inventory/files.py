"""An inventory as a file: JSON, CSV, Parquet, or one page for a browser. The suffix of its name says which."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

from pydantic import ValidationError

from dtool_ecs_flows.datasets.inventory.page import page
from dtool_ecs_flows.datasets.inventory.report import Inventory, InventoryEntry
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.words import visible

Place = str | os.PathLike[str]
"""The path of a file."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one

COLUMNS = (
    "name",
    "uuid",
    "uri",
    "type",
    "creator_username",
    "created_at",
    "frozen_at",
    "items",
    "bytes",
    "tags",
    "problem",
)
"""The columns of the CSV and Parquet files. Later versions add further ones at the end."""


def check_format(path: Place) -> str:
    """Return the suffix of a file that an inventory can be written to, before anything is asked of a bucket.

    Raises:
        SettingsError: there is no such format, or what it needs is not installed; or no folder to put the file in.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise SettingsError(f"{os.fspath(path)}: the name of an inventory's file ends with {', '.join(FORMATS)}")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise SettingsError(
            "a Parquet file needs pyarrow, which is not installed: pip install 'dtool-ecs-flows[parquet]'"
        )
    if not Path(path).absolute().parent.is_dir():
        raise SettingsError(f"there is no folder {Path(path).absolute().parent} for {Path(path).name}")
    return suffix


def write_inventory(inventory: Inventory, path: Place) -> None:
    """Write an inventory to a file: `.json`, `.csv`, `.parquet` or `.html`. The file is there whole, or as it was.

    The JSON file is the memory of the next inventory, and has all as it stands in the bucket. In the CSV file what
    cannot be seen is spelled out, and a text that a spreadsheet would take for a formula has an apostrophe before it.
    CSV, Parquet and page have a row for each orphan, too. Times are UTC.

    Raises:
        SettingsError: as `check_format`.
        OSError: the file cannot be written.
    """
    content = FORMATS[check_format(path)](inventory)
    target = Path(path).absolute()
    unfinished = target.with_name(f".{uuid4().hex}.part")
    try:
        with open(unfinished, "xb") as output:
            output.write(content)
        os.replace(unfinished, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def load_inventory(path: Place) -> Inventory | None:
    """Return the inventory in a JSON file; None where there is no such file.

    Raises:
        SettingsError: the file holds no inventory.
    """
    try:
        return Inventory.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"{os.fspath(path)} holds no inventory of this version: {visible(fault['msg'])}") from None


def _json(inventory: Inventory) -> bytes:
    return inventory.model_dump_json(indent=1).encode()


def _csv(inventory: Inventory) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for entry in inventory.rows():
        values = _values(entry)
        times = {name: _iso(values[name]) for name in ("created_at", "frozen_at")}
        rows.writerow([_cell(value) for value in {**values, **times, "tags": " ".join(entry.tags or ())}.values()])
    return text.getvalue().encode()


def _values(entry: InventoryEntry) -> dict[str, object]:
    """Return what a row has, by column."""
    return {
        **{name: getattr(entry, name) for name in COLUMNS},
        "created_at": _time(entry.created_at),
        "frozen_at": _time(entry.frozen_at),
    }


def _time(seconds: float | None) -> datetime | None:
    """Return a UTC time; anybody can write any number into a dataset, and what is no time is None."""
    with suppress(ValueError, OverflowError, OSError):
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return None


def _iso(time: object) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(time, datetime) else ""


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _parquet(inventory: Inventory) -> bytes:
    import pyarrow as pa  # noqa: PLC0415  # an extra
    from pyarrow import parquet  # noqa: PLC0415

    types = {
        **dict.fromkeys(COLUMNS, pa.string()),
        **dict.fromkeys(("created_at", "frozen_at"), pa.timestamp("us", tz="UTC")),
        **dict.fromkeys(("items", "bytes"), pa.int64()),
        "tags": pa.list_(pa.string()),
    }
    rows = [{**_values(entry), "tags": list(entry.tags or ())} for entry in inventory.rows()]
    about = {"base_uri": inventory.base_uri, "at": str(inventory.at)}
    table = pa.Table.from_pylist(rows, pa.schema(list(types.items()), metadata=about))
    output = io.BytesIO()
    parquet.write_table(table, output, compression="zstd")
    return output.getvalue()


def _html(inventory: Inventory) -> bytes:
    return page(inventory).encode()


FORMATS: Mapping[str, Callable[[Inventory], bytes]] = MappingProxyType(
    {".json": _json, ".csv": _csv, ".parquet": _parquet, ".html": _html}
)
"""What writes an inventory, by suffix."""
