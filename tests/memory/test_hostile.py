"""Memory is bounded whoever wrote what is in a bucket: measured in processes of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.memory.simulated import ADMIN, UUID
from tests.memory.sink import sink
from tests.memory.test_memory import MB, peak_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GIB = 1024**3
IDENTIFIER = hashlib.sha1(b"a").hexdigest()


def dataset(size: int = 5) -> dict[str, bytes | int]:
    """A frozen dataset of one item of five bytes; `size` is what its manifest says of it."""
    entry = {"relpath": "a", "size_in_bytes": size, "hash": hashlib.md5(b"12345").hexdigest(), "utc_timestamp": 1.5e9}
    manifest = {"items": {IDENTIFIER: entry}, "dtoolcore_version": "3.20.0", "hash_function": "md5sum_hexdigest"}
    return {
        f"dtool-{UUID}": b"",
        f"{UUID}/dtool": json.dumps(ADMIN).encode(),
        f"{UUID}/README.yml": b"---\n",
        f"{UUID}/manifest.json": json.dumps(manifest).encode(),
        f"{UUID}/data/{IDENTIFIER}": b"12345",
    }


@pytest.mark.parametrize("name", ["dtool", "manifest.json", "README.yml"])
def test_a_document_too_large_to_be_one_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    """Two gigabytes in the place of a document: nobody has the memory taken that they would need."""
    with sink(dataset() | {f"{UUID}/{name}": 2 * GIB}) as source, sink({}) as target:
        assert peak_of("meet_hostile", source.endpoint, target.endpoint, tmp_path) < 100 * MB


def test_a_registration_key_too_large_to_be_one_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The same of the first thing that anybody reads of a dataset."""
    with sink(dataset() | {f"dtool-{UUID}": 2 * GIB}) as source, sink({}) as target:
        assert peak_of("meet_hostile", source.endpoint, target.endpoint, tmp_path) < 100 * MB


@pytest.mark.parametrize("size", [40 * 1024 * GIB, 10**17, 2**63 - 1, 10**30])
def test_a_size_that_is_not_true_takes_no_memory(tmp_path: Path, size: int) -> None:
    """A manifest may say that five bytes are forty terabytes: no room is made for them before it is known better."""
    with sink(dataset(size)) as source, sink({}) as target:
        assert peak_of("meet_hostile", source.endpoint, target.endpoint, tmp_path) < 100 * MB
