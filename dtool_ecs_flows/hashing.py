"""Hashes of item content, by the names that dtool manifests give them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from dtool_ecs_flows.errors import CorruptItemError, ManifestError
from dtool_ecs_flows.models import Item

_ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "md5sum_hexdigest": "md5",
        "sha1sum_hexdigest": "sha1",
        "shasum": "sha1",
        "sha256sum_hexdigest": "sha256",
    }
)
"""dtoolcore.filehasher's functions by the name that stands in a manifest."""

_HEX = re.compile(r"[0-9a-fA-F]+")
_SIZES = (16, 20, 32)  # bytes of an MD5, SHA-1, SHA-256


def in_hex(told: object) -> str:
    """Return a hash as hex digits: another store may tell it in base64, and with the function's name before it.

    What is no text, or no hash in either form, comes back as it is told, and an absent one as an empty text.
    """
    if told is None:
        return ""
    text = str(told)
    value = text.rpartition(":")[2]  # sha2:…, as iRODS has it
    if _HEX.fullmatch(value) and len(value) // 2 in _SIZES:
        return value
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return text
    return digest.hex() if len(digest) in _SIZES else text


class ItemHash:
    """Hashes the bytes of one item as they pass: its MD5, and what its manifest has.

    Args:
        hash_function: the manifest's `hash_function`.

    Raises:
        ManifestError: the function is not known, so the bytes could not be checked.
    """

    def __init__(self, hash_function: str) -> None:
        try:
            algorithm = _ALGORITHMS[hash_function]
        except KeyError:
            raise ManifestError(f"the manifest's hash function {hash_function!r} is not known") from None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._other = None if algorithm == "md5" else hashlib.new(algorithm, usedforsecurity=False)

    def update(self, data: Any) -> None:
        """Take the next bytes."""
        self._md5.update(data)
        if self._other is not None:
            self._other.update(data)

    @property
    def md5(self) -> str:
        """The MD5 of all bytes so far, in hex."""
        return self._md5.hexdigest()

    def check(self, item: Item, where: str) -> str:
        """Return the MD5, after comparing with the item's hash where it has one.

        Raises:
            CorruptItemError: the bytes are not what the manifest says.
        """
        actual = self.md5 if self._other is None else self._other.hexdigest()
        if item.hash and item.hash.lower() != actual:
            raise CorruptItemError(item.relpath, expected=item.hash, actual=actual, where=where)
        return self.md5


def hash_parts(hash_function: str, parts: Iterable[Any]) -> ItemHash:
    """Return the hash of some consecutive bytes."""
    total = ItemHash(hash_function)
    for part in parts:
        total.update(part)
    return total
