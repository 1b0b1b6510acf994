"""Hashes by the names that manifests give them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from dtoolcore import filehasher
from hypothesis import given
from hypothesis import strategies as st

from dtool_ecs_flows.errors import CorruptItemError, ManifestError
from dtool_ecs_flows.hashing import ItemHash, hash_parts, in_hex
from dtool_ecs_flows.models import Item
from tests.independent import md5


def item(checksum: str) -> Item:
    return Item("0" * 40, "a/b.txt", 3, checksum, 0.0)


@pytest.mark.parametrize(
    "function", [filehasher.md5sum_hexdigest, filehasher.sha1sum_hexdigest, filehasher.sha256sum_hexdigest]
)
@pytest.mark.parametrize("data", [b"", b"abc", bytes(100_000)])
def test_the_hash_functions_of_dtoolcore_are_known(function: Callable[[str], str], data: bytes, tmp_path: Path) -> None:
    """What dtoolcore computes of a file under a name, this computes of its bytes under the same name."""
    file = tmp_path / "file"
    file.write_bytes(data)
    name = filehasher.FileHasher(function).name
    assert hash_parts(name, [data]).check(item(function(str(file))), "here")


def test_every_hash_function_that_dtoolcore_offers_is_known() -> None:
    """A manifest of any dtool client can be checked, a new function of dtoolcore shows here."""
    offered = {name for name in dir(filehasher) if name.endswith("sum_hexdigest")} - {
        "hashsum_hexdigest"
    }  # their helper
    assert offered
    for name in offered:
        ItemHash(name)


@pytest.mark.parametrize("name", ["", "crc32", "md5", "MD5SUM_HEXDIGEST"])
def test_an_unknown_function_is_an_error_at_once(name: str) -> None:
    """Bytes that cannot be checked are not taken for good ones."""
    with pytest.raises(ManifestError, match="not known"):
        ItemHash(name)


@given(st.lists(st.binary(max_size=50)))
def test_parts_make_the_hash_of_the_whole(parts: list[bytes]) -> None:
    """In however many parts an item travels, its hash is that of its bytes; the MD5 is always known as well."""
    whole = b"".join(parts)
    total = hash_parts("sha256sum_hexdigest", map(memoryview, parts))
    assert total.md5 == hashlib.md5(whole).hexdigest()
    assert total.check(item(hashlib.sha256(whole).hexdigest()), "here") == total.md5


def test_an_upper_case_hash_is_the_same_hash() -> None:
    """Hexadecimal has two spellings."""
    total = hash_parts("md5sum_hexdigest", [b"abc"])
    assert total.check(item(total.md5.upper()), "here") == total.md5


def test_no_hash_to_compare_with_is_no_error() -> None:
    """A new file has none yet: what it is now is what counts."""
    assert hash_parts("md5sum_hexdigest", [b"abc"]).check(item(""), "here") == hashlib.md5(b"abc").hexdigest()


@pytest.mark.parametrize("function", ["md5sum_hexdigest", "shasum"])
def test_a_wrong_hash_names_item_place_and_both_hashes(function: str) -> None:
    """The message is enough to find the damage, and the hash compared is the manifest's own."""
    total = hash_parts(function, [b"abc"])
    with pytest.raises(CorruptItemError) as caught:
        total.check(item("f" * 32), "ecs://bucket/uuid")
    error = caught.value
    actual = {"md5sum_hexdigest": hashlib.md5, "shasum": hashlib.sha1}[function](b"abc").hexdigest()
    assert (error.relpath, error.expected, error.actual) == ("a/b.txt", "f" * 32, actual)
    assert all(text in str(error) for text in ("a/b.txt", "ecs://bucket/uuid", "f" * 32, actual))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (md5(b"1"), md5(b"1")),
        (md5(b"1").upper(), md5(b"1").upper()),
        (base64.b64encode(bytes.fromhex(md5(b"1"))).decode(), md5(b"1")),
        ("sha2:" + base64.b64encode(hashlib.sha256(b"1").digest()).decode(), hashlib.sha256(b"1").hexdigest()),
        ("md5:" + md5(b"1"), md5(b"1")),
        (None, ""),
        ("no hash", "no hash"),
        (17, "17"),
    ],
)
def test_a_hash_in_another_form_comes_as_hex(told: object, expected: str) -> None:
    """Azure and iRODS tell hashes in base64; what is none stays what it is, so that it fits nothing."""
    assert in_hex(told) == expected
