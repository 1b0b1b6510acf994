"""Files through obstore in threads, with their MD5 and nothing else: what this machine and this server allow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.store import S3Store

from benchmarks.inside import timing

T = TypeVar("T")

PART = 32 * 2**20
"""Up to here a file is one request."""


def up(request: dict[str, Any]) -> dict[str, Any]:
    """Put all files below `folder`, each hashed as it is read."""
    store, folder = _store(request), Path(request["folder"])

    def put(path: Path) -> None:
        key = str(path.relative_to(folder))
        if path.stat().st_size > PART:
            obstore.put(store, key, _hashed_blocks(path), chunk_size=PART, max_concurrency=6)
        else:
            body = path.read_bytes()
            hashlib.md5(body)
            obstore.put(store, key, body, use_multipart=False)

    return _each(request, put, [path for path in folder.rglob("*") if path.is_file()])


def down(request: dict[str, Any]) -> dict[str, Any]:
    """Get all objects into `folder`, each part hashed as it comes."""
    store, folder = _store(request), Path(request["folder"])

    def get(part: tuple[str, int, int, int]) -> None:
        key, size, offset, length = part
        if length == size:
            body = memoryview(obstore.get(store, key).bytes())
        else:
            body = memoryview(obstore.get_range(store, key, start=offset, length=length))
        hashlib.md5(body)
        file = os.open(folder / key, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, body, offset)
        finally:
            os.close(file)

    objects = [(each["path"], each["size"]) for page in obstore.list(store) for each in page]
    for parent in {(folder / key).parent for key, _ in objects}:
        parent.mkdir(parents=True, exist_ok=True)
    parts = [(key, size, start, min(PART, size - start)) for key, size in objects for start in range(0, size, PART)]
    return _each(request, get, parts)


def _hashed_blocks(path: Path) -> Iterator[bytes]:
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            yield block


def _each(request: dict[str, Any], work: Callable[[T], None], over: Iterable[T]) -> dict[str, Any]:
    with ThreadPoolExecutor(request["concurrency"]) as pool:
        return {"requests": len(list(pool.map(work, over)))}


def _store(request: dict[str, Any]) -> S3Store:
    return S3Store(
        request["bucket"],
        endpoint=request["endpoint"],
        access_key_id=request["access_key_id"],
        secret_access_key=request["secret_access_key"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": timedelta(hours=1)},
    )


if __name__ == "__main__":
    timing.run({"up": up, "down": down})
