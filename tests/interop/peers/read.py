"""Read a whole dataset back with whatever dtoolcore and storage broker are installed here.

Runs inside a peer's environment, by its interpreter: `python read.py URI > answer.json`. Nothing but the peer's own
packages and the standard library is imported.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import dtoolcore


def read_dataset(uri: str) -> dict[str, Any]:
    """Return all that dtoolcore shows of a dataset (of the items' content the SHA-256), and which it lists there."""
    dataset = dtoolcore.DataSet.from_uri(uri)
    properties = {identifier: dataset.item_properties(identifier) for identifier in dataset.identifiers}
    relpaths = {identifier: item["relpath"] for identifier, item in properties.items()}
    return {
        "uri": dataset.uri,
        "uuid": dataset.uuid,
        "name": dataset.name,
        "admin": dict(dataset._admin_metadata),
        "readme": dataset.get_readme_content(),
        "items": {
            item["relpath"]: {
                "identifier": identifier,
                "size": item["size_in_bytes"],
                "hash": item["hash"],
                "sha256": hashlib.sha256(Path(dataset.item_content_abspath(identifier)).read_bytes()).hexdigest(),
            }
            for identifier, item in properties.items()
        },
        "overlays": {
            name: {relpaths[identifier]: value for identifier, value in dataset.get_overlay(name).items()}
            for name in dataset.list_overlay_names()
        },
        "annotations": {name: dataset.get_annotation(name) for name in dataset.list_annotation_names()},
        "tags": sorted(dataset.list_tags()),
        "listed": list_datasets(dataset.base_uri),
    }


def list_datasets(base_uri: str) -> list[str]:
    """Return the URIs that the broker lists."""
    broker = dtoolcore._get_storage_broker(base_uri, None)
    return sorted(broker.list_dataset_uris(base_uri, None))


if __name__ == "__main__":
    json.dump(read_dataset(sys.argv[1]), sys.stdout)
