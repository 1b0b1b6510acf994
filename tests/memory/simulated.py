"""A dataset of any number of items, and a bucket of any number of datasets, that nobody stores.

What a bucket would say of them is made up as it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtool_ecs_flows.errors import NoSuchKeyError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import ObjectInfo, StoredObject

UUID = "5ac3b3a1-6e0f-4c7e-9c2b-0d7a9d1d6e42"
CONTENT = b"four"
MD5 = hashlib.md5(CONTENT).hexdigest()
ADMIN = {
    "uuid": UUID,
    "name": "many",
    "type": "dataset",
    "creator_username": "olssont",
    "created_at": 1.5e9,
    "frozen_at": 1.5e9,
    "dtoolcore_version": "3.20.0",
}


def write_files(folder: Path, count: int) -> None:
    """Write what a bucket would tell of so many items: their manifest as dtoolcore spells it, and their identifiers."""
    relpaths = (f"run-{number // 1000:04d}/measurement/file-{number:07d}.dat" for number in range(count))
    items = sorted((hashlib.sha1(relpath.encode()).hexdigest(), relpath) for relpath in relpaths)
    (folder / "identifiers").write_text("\n".join(identifier for identifier, _ in items))
    with open(folder / "manifest.json", "w") as file:
        file.write('{\n  "dtoolcore_version": "3.20.0",\n  "hash_function": "md5sum_hexdigest",\n  "items": {')
        for number, (identifier, relpath) in enumerate(items):
            entry = (
                f'{"," if number else ""}\n    "{identifier}": {{\n      "hash": "{MD5}",\n'
                f'      "relpath": "{relpath}",\n      "size_in_bytes": {len(CONTENT)},\n'
                f'      "utc_timestamp": {1.5e9 + number}\n    }}'
            )
            file.write(entry)
        file.write("\n  }\n}")


class SimulatedStore:
    """Stands for `dtool_ecs_flows.store.Store`: a bucket with the dataset, frozen, or left as a proto dataset.

    Args:
        settings: of the bucket.
        folder: with the files of `write_files`; what is written at the end goes to `copied.json`.
        frozen: whether it is the source of a copy, or what an earlier attempt left at its destination.
        there: whether the items are at the destination already.
    """

    def __init__(self, settings: BucketSettings, folder: Path, *, frozen: bool, there: bool) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self._folder = folder
        self._frozen = frozen
        self._listed = frozen or there

    def get(self, key: str, **_: Any) -> StoredObject:
        if key.endswith("/manifest.json") and self._frozen:
            body = (self._folder / "manifest.json").read_bytes()
        elif key == f"{UUID}/dtool":
            body = json.dumps({**ADMIN, "type": "dataset" if self._frozen else "protodataset"}).encode()
        elif key in (f"dtool-{UUID}", f"{UUID}/README.yml"):
            body = b""
        else:
            raise NoSuchKeyError(key)
        return StoredObject(body, ObjectInfo(key, len(body), "", 1.5e9))

    def head(self, key: str) -> ObjectInfo:
        return self.get(key).info

    def read(self, *_: Any) -> memoryview:
        return memoryview(CONTENT)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        if prefix == f"{UUID}/data/" and self._listed:
            with open(self._folder / "identifiers") as lines:
                for line in lines:
                    yield ObjectInfo(prefix + line.rstrip(), len(CONTENT), MD5[:1] + MD5[1:], 1.5e9)

    def uploads(self, _: str) -> tuple[()]:
        return ()

    def put(self, key: str, body: bytes, **_: Any) -> str:
        if key.endswith("/manifest.json"):
            (self._folder / "copied.json").write_bytes(body)
        return hashlib.md5(body).hexdigest()

    def put_item(self, _key: str, _body: Any, md5: str, _metadata: Any) -> str:
        self._listed = True
        return md5

    def delete(self, keys: Any) -> int:
        return len(list(keys))


class CrowdedStore:
    """Stands for `dtool_ecs_flows.store.Store`: a bucket with so many datasets, each of a user of its own."""

    def __init__(self, settings: BucketSettings, datasets: int) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self._uuids = (str(uuid.UUID(int=number)) for number in range(datasets))

    def list(self, _: str) -> Iterator[ObjectInfo]:
        for each in self._uuids:
            prefix = self._prefix(each)
            yield ObjectInfo(f"dtool-{each}", len(prefix), hashlib.md5(prefix).hexdigest(), 1.5e9)

    def get(self, key: str, **_: Any) -> StoredObject:
        if key.startswith("dtool-"):
            body = self._prefix(key.removeprefix("dtool-"))
        else:
            body = json.dumps({**ADMIN, "uuid": key.split("/")[-2]}).encode()
        return StoredObject(body, ObjectInfo(key, len(body), "", 1.5e9))

    @staticmethod
    def _prefix(of: str) -> bytes:
        return f"u/user-{of[-8:]}/".encode()
