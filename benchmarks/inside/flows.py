"""This project's own operations on whole datasets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.inside import timing
from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets


def copy(request: dict[str, Any]) -> dict[str, Any]:
    """Copy the dataset `source_uri` to `base_uri`."""
    report = copy_dataset(request["source_uri"], request["base_uri"], settings=_settings(request))
    return {"uri": report.uri, "items": report.copied_items}


def list_all(request: dict[str, Any]) -> dict[str, Any]:
    """List the datasets of `base_uri`."""
    listed = list_datasets(request["base_uri"], settings=_settings(request))
    return {"datasets": len([each for each in listed.datasets if each.name])}


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Make `count` datasets of the files in `folder`, many at once."""

    def one(number: int) -> str:
        name = f"dataset-{number:05}"
        made = create_dataset(name, request["base_uri"], directory=request["folder"], settings=_settings(request))
        return made.uri

    with ThreadPoolExecutor(8) as pool:
        return {"datasets": len(list(pool.map(one, range(request["count"]))))}


def _settings(request: dict[str, Any]) -> list[BucketSettings]:
    return [BucketSettings(**each) for each in request["settings"]]


if __name__ == "__main__":
    timing.run({"copy": copy, "list": list_all, "make": make})
