"""Datasets made and looked at without the code that is tested: by dtoolcore's own disk broker and by plain boto3."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import dtoolcore
from botocore.config import Config

from dtool_ecs_flows.settings import BucketSettings

MIB = 1024**2

CONTENTS = {
    "table.csv": b"a,b\n1,2\n",
    "empty": b"",
    "deep/er/and/deeper.bin": bytes(range(256)),
    "Größe 20 µm/Messung Übung.txt": "Fläche in m²\n".encode(),
    "日本語/ファイル.txt": b"utf-8",
    "emoji 🐧.bin": b"\xf0\x9f\x90\xa7",
    "NFC \u00e9": b"one code point",
    "NFD e\u0301": b"two code points",
    "line\nbreak": b"\n",
    " leading space/.hidden": b"dot",
    "a+b%20c&d=e?f#g;h": b"what URLs are made of",
    "x" * 255: b"as long as a file name can be",
}
"""Items with names of every kind that a disk of this system can hold."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that are no pattern, the same each time."""
    return random.Random(seed).randbytes(size)


def identifier(relpath: str) -> str:
    """The item identifier, as the format has it."""
    return hashlib.sha1(relpath.encode()).hexdigest()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


# --- on a disk ---


def disk_dataset(
    parent: Path,
    contents: Mapping[str, bytes],
    *,
    name: str = "penguins",
    readme: str = "---\ndescription: of Größe\n",
    tags: Iterable[str] = ("raw", "v1.2"),
    annotations: Mapping[str, Any] | None = None,
    overlays: Mapping[str, Any] | None = None,
    freeze: bool = True,
) -> str:
    """Make a dataset on a disk with dtoolcore alone, and return its URI."""
    parent.mkdir(parents=True, exist_ok=True)
    proto = dtoolcore.create_proto_dataset(name, f"file://{parent}", readme, "Jörg")
    staged = parent / "staged"
    for relpath, data in contents.items():
        staged.write_bytes(data)
        proto.put_item(str(staged), relpath)
    staged.unlink(missing_ok=True)
    for tag in tags:
        proto.put_tag(tag)
    for key, value in {"grant": {"n": 1, "ö": [None, 2.5]}, "v1.2": "dotted", **(annotations or {})}.items():
        proto.put_annotation(key, value)
    if freeze:
        proto.freeze()
        dataset = dtoolcore.DataSet.from_uri(proto.uri)
        for key, values in (overlays or {}).items():
            dataset.put_overlay(key, {identifier(relpath): values.get(relpath) for relpath in contents})
    return str(proto.uri)


def disk_path(uri: str) -> Path:
    """The folder of a dataset on a disk."""
    return Path(dtoolcore.storagebroker.DiskStorageBroker(uri)._abspath)


def everything(uri: str) -> dict[str, Any]:
    """All that a dataset on a disk holds, read with dtoolcore alone; equal for equal datasets."""
    dataset = dtoolcore.DataSet.from_uri(uri)
    found: dict[str, Any] = {
        "admin": {key: value for key, value in dataset._admin_metadata.items() if key != "dtoolcore_version"},
        "items": dataset._manifest["items"],
        "hash_function": dataset._manifest["hash_function"],
        "bytes": {i: Path(dataset.item_content_abspath(i)).read_bytes() for i in dataset.identifiers},
        "readme": dataset.get_readme_content(),
        "tags": sorted(dataset.list_tags()),
        "annotations": {name: dataset.get_annotation(name) for name in dataset.list_annotation_names()},
        "overlays": {name: dataset.get_overlay(name) for name in dataset.list_overlay_names()},
    }
    return found


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edit_json(path: Path, change: Any) -> None:
    """Change a JSON file: `change` is called with the document."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


# --- in a bucket ---


def bucket_dataset(
    raw: Raw,
    contents: Mapping[str, bytes] | None = None,
    *,
    name: str = "penguins",
    prefix: str = "",
    uuid: str = "",
    tags: Iterable[str] = (),
    admin: Mapping[str, Any] | None = None,
    entries: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Write a frozen dataset as the format has it, with boto3 alone, and return its UUID.

    `admin` are other values of the administrative metadata; `entries`, by relpath, other values in the manifest.
    """
    uuid = uuid or str(uuid4())
    root = f"{prefix}{uuid}/"
    document = {
        "uuid": uuid,
        "dtoolcore_version": "3.19.0",
        "name": name,
        "type": "dataset",
        "creator_username": "olssont",
        "created_at": 1700000000.5,
        "frozen_at": 1700000001.25,
        **(admin or {}),
    }
    items = {}
    for relpath, data in (contents or {}).items():
        entry = {"relpath": relpath, "size_in_bytes": len(data), "hash": md5(data), "utc_timestamp": 1.5e9}
        items[identifier(relpath)] = {**entry, **(entries or {}).get(relpath, {})}
        handle = base64.b64encode(relpath.encode()).decode()
        raw.put(f"{root}data/{identifier(relpath)}", data, {"handle": handle, "checksum": md5(data)})
    manifest = {"items": items, "dtoolcore_version": "3.19.0", "hash_function": "md5sum_hexdigest"}
    raw.put(f"dtool-{uuid}", prefix.encode())
    raw.put(f"{root}structure.json", json.dumps({"storage_broker_version": "0.14.1"}).encode())
    raw.put(f"{root}README.yml", b"---\ndescription: by hand\n")
    raw.put(f"{root}manifest.json", json.dumps(manifest).encode())
    for tag in tags:
        raw.put(f"{root}tags/{tag}", b"")
    raw.put(f"{root}dtool", json.dumps(document).encode())
    return uuid


class Raw:
    """A bucket through boto3 alone."""

    def __init__(self, settings: BucketSettings) -> None:
        self.bucket = settings.bucket
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key.get_secret_value(),
            region_name="us-east-1",
            verify=settings.ca_bundle or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def listed(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def metadata(self, key: str) -> dict[str, str]:
        """User metadata; a RADOS Gateway writes `-` for `_` in its keys, rclone writes them in title case."""
        response = self.client.head_object(Bucket=self.bucket, Key=key)
        return {name.lower().replace("-", "_"): value for name, value in response["Metadata"].items()}

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=dict(metadata or {}))

    def replace(self, key: str, body: bytes) -> None:
        """Put other bytes under a key, and keep its metadata: what damage at rest, or a clumsy hand, does."""
        metadata = self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"]
        self.put(key, body, {name: value for name, value in metadata.items() if name.lower() != "mtime"})

    def edit_json(self, key: str, change: Any) -> None:
        document = self.json(key)
        change(document)
        self.replace(key, json.dumps(document).encode())

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def uploads(self) -> list[str]:
        """Keys of unfinished multipart uploads."""
        try:
            found = self.client.list_multipart_uploads(Bucket=self.bucket)
        except self.client.exceptions.NoSuchUpload:  # what rclone says where there never was one
            return []
        return [entry["Key"] for entry in found.get("Uploads", ())]

    def state(self) -> dict[str, tuple[str, Any]]:
        """ETag and time of each object: whatever is written changes it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {e["Key"]: (e["ETag"], e["LastModified"]) for page in pages for e in page.get("Contents", ())}

    def is_frozen(self, uuid: str, prefix: str = "") -> bool:
        return bool(self.json(f"{prefix}{uuid}/dtool")["type"] == "dataset")
