"""dtoolcore's own operations, with whatever storage broker is installed here: what the `dtool` command does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dtoolcore

from benchmarks.inside import timing


def copy(request: dict[str, Any]) -> dict[str, Any]:
    """Copy the dataset `source_uri` to `base_uri`, as `dtool cp` does."""
    return {"uri": dtoolcore.copy(request["source_uri"], request["base_uri"])}


def create(request: dict[str, Any]) -> dict[str, Any]:
    """Make a dataset of the files in `folder`, file by file."""
    with dtoolcore.DataSetCreator("made", request["base_uri"]) as dataset:
        for path in sorted(Path(request["folder"]).rglob("*")):
            if path.is_file():
                dataset.put_item(str(path), str(path.relative_to(request["folder"])))
    return {"uri": dataset.uri}


def read(request: dict[str, Any]) -> dict[str, Any]:
    """Fetch each item of the dataset `uri` in its order, as a script does that reads it."""
    dataset = dtoolcore.DataSet.from_uri(request["uri"])
    sizes = [Path(dataset.item_content_abspath(identifier)).stat().st_size for identifier in dataset.identifiers]
    return {"items": len(sizes), "bytes": sum(sizes)}


def list_all(request: dict[str, Any]) -> dict[str, Any]:
    """List the datasets of `base_uri`, with their names, as `dtool ls` does."""
    return {"datasets": len([each.name for each in dtoolcore.iter_datasets_in_base_uri(request["base_uri"])])}


if __name__ == "__main__":
    timing.run({"copy": copy, "create": create, "list": list_all, "read": read})
