"""The dataset that goes back and forth between this package and its peers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dtoolcore

ITEMS: Mapping[str, bytes] = {
    "readings.csv": b"time,value\n0,1.5\n1,2.5\n",
    "raw data/run 1/values.bin": bytes(range(256)) * 40,
    "empty.txt": b"",
    "YWJj": b"A handle that could be base64 of another name, and is not.",
}
NON_ASCII_ITEMS: Mapping[str, bytes] = {
    "größe/μ-Messung № 1.csv": "größe,µm\n".encode(),
    "emoji 🧪.txt": b"works",
}
README = "description: first try\n"
NEW_README = "description: second try, with more care\n"
ANNOTATIONS: Mapping[str, Any] = {"instrument": {"name": "scale", "serial": [1, 2]}, "temperature": 21.5}
TAGS = ("raw", "v1")


def items(*, non_ascii: bool) -> dict[str, bytes]:
    """Return the content of the dataset by relpath."""
    return {**ITEMS, **(NON_ASCII_ITEMS if non_ascii else {})}


def item_metadata(content: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return what is said of each item before the freeze; it becomes an overlay."""
    return {relpath: {"length": len(data)} for relpath, data in content.items()}


def request(*, non_ascii: bool = False, **changes: Any) -> dict[str, Any]:
    """Return the request to `peers/write.py` that makes the whole dataset, but for some changes."""
    content = items(non_ascii=non_ascii)
    return {
        "name": "to-and-fro",
        "admin": {"creator_username": "olssont"},
        "items": {relpath: base64.b64encode(data).decode() for relpath, data in content.items()},
        "item_metadata": item_metadata(content),
        "readme": README,
        "annotations": dict(ANNOTATIONS),
        "tags": list(TAGS),
        "new_readme": NEW_README,
        "overlays": {"checked": dict.fromkeys(content, True)},
        **changes,
    }


def assert_is_whole(read: Mapping[str, Any], *, non_ascii: bool = False, readme: str = NEW_README) -> None:
    """Assert that what `peers/read.py` has read is all of the dataset."""
    content = items(non_ascii=non_ascii)
    assert read["name"] == "to-and-fro"
    assert read["admin"]["uuid"] == read["uuid"]
    assert read["readme"] == readme
    assert read["items"] == {
        relpath: {
            "identifier": hashlib.sha1(relpath.encode()).hexdigest(),
            "size": len(data),
            "hash": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for relpath, data in content.items()
    }
    assert read["overlays"] == {
        "checked": dict.fromkeys(content, True),
        "length": {relpath: len(data) for relpath, data in content.items()},
    }
    assert read["annotations"] == ANNOTATIONS
    assert read["tags"] == list(TAGS)


def files(folder: Path, *, non_ascii: bool = False) -> Path:
    """Write the items as plain files below a folder; return it."""
    for relpath, data in items(non_ascii=non_ascii).items():
        path = folder / relpath
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def on_disk(folder: Path, *, non_ascii: bool = False) -> Any:
    """Make the dataset, frozen, in a folder on disk, by dtoolcore alone; return it."""
    content = items(non_ascii=non_ascii)
    plain = files(folder / "plain", non_ascii=non_ascii)
    base = folder / "datasets"
    base.mkdir()
    proto = dtoolcore.create_proto_dataset("to-and-fro", str(base), NEW_README, creator_username="olssont")
    for relpath in content:
        proto.put_item(str(plain / relpath), relpath)
    for relpath, pairs in item_metadata(content).items():
        for key, value in pairs.items():
            proto.add_item_metadata(relpath, key, value)
    for name, value in ANNOTATIONS.items():
        proto.put_annotation(name, value)
    for tag in TAGS:
        proto.put_tag(tag)
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    dataset.put_overlay("checked", dict.fromkeys(dataset.identifiers, True))
    return dataset
