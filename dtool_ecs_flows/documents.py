"""The JSON documents of a dataset, as pure functions: written as dtoolcore and dtool-s3 do, read with suspicion.

Whoever can write to the bucket can write anything into these, so every reader here checks types and names what is
wrong.
"""

from __future__ import annotations

import io
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import ManifestError
from dtool_ecs_flows.models import Item

HASH_FUNCTION = "md5sum_hexdigest"
"""The manifest's `hash_function`; dtoolcore's name of the function."""

FORMAT_VERSION = "0.14.0"
"""`storage_broker_version` in structure.json: names the format (base64 handles came with dtool-s3 0.14.0), not this
package. Readers compare it with 0.14.0 to learn how a handle is written."""

_MAX_PREFIX = 1024  # bytes; no S3 key is longer
_MAX_USER_METADATA = 2000  # bytes of all names and values; stores take about 2 KB

# What dtool-s3 up to 0.14, and the dtool command with it, asks for. All of them together always fit.
_READ_FROM_USER_METADATA = frozenset(
    {"type", "uuid", "name", "creator_username", "created_at", "frozen_at", "dtoolcore_version"}
)
_MAX_VALUE = 256  # of each of them
_MAX_DEPTH = 100  # lists and mappings inside each other; reading takes more, but nobody could write or compare that
_MAX_SIZE = 2**63 - 1  # bytes; no file has more
_MAX_HASH = 256  # characters; a SHA-512 in hex has 128
_HEADER = re.compile(r"[A-Za-z0-9_-]{1,64}")

README_TXT = """README
======
This is a dtool dataset stored in an ECS (S3 compatible) bucket.

Content provided during the dataset creation process
----------------------------------------------------

Dataset registration key (at top level of bucket): dtool-$UUID

Where UUID is the unique identifier of the dataset. The registration key holds
the prefix under which the dataset is found; it is empty if the dataset is at
the top level of the bucket. It serves to list the datasets of a bucket fast.

The prefix and the UUID start all other keys of the dataset.

Dataset descriptive metadata: $UUID/README.yml
Dataset items prefixed by: $UUID/data/

The item identifiers are used to name the objects below the data prefix.

An item identifier is the sha1sum hexdigest of the relative path
used to represent the file on traditional file system disk.

Automatically generated objects
-------------------------------

This file: $UUID/README.txt
Administrative metadata describing the dataset: $UUID/dtool
Structural metadata describing the dataset: $UUID/structure.json
Structural metadata describing the data items: $UUID/manifest.json
Per item descriptive metadata prefixed by: $UUID/overlays/
Dataset key/value pairs metadata prefixed by: $UUID/annotations/
Dataset tags metadata: $UUID/tags/
"""


def dump(document: Any, *, sort_keys: bool = False) -> bytes:
    """Return a document in dtoolcore's spelling of JSON."""
    return json.dumps(document, indent=2, sort_keys=sort_keys).encode()


def parse_prefix(body: bytes, where: str) -> str:
    """Return the prefix that the body of a registration key holds, verbatim.

    Raises:
        ManifestError: it cannot be the start of a key.
    """
    try:
        prefix = body.decode("utf-8")
    except UnicodeDecodeError:
        prefix = "\0"
    if len(body) > _MAX_PREFIX or any(unicodedata.category(char) == "Cc" for char in prefix):
        raise ManifestError(f"registration key {where} holds no prefix of keys")
    if any(folder in (".", "..") for folder in prefix.split("/")[:-1]):  # some servers would look in another bucket
        raise ManifestError(f"registration key {where} holds the prefix {prefix!r}, which leads elsewhere")
    return prefix


def structure(uuid: str) -> dict[str, str]:
    """Return the content of structure.json."""
    return {
        "dataset_registration_key": layout.registration_key(uuid),
        "data_key_infix": "data",
        "fragment_key_infix": "fragments",
        "overlays_key_infix": "overlays",
        "annotations_key_infix": "annotations",
        "tags_key_infix": "tags",
        "structure_key_suffix": "structure.json",
        "dtool_readme_key_suffix": "README.txt",
        "dataset_readme_key_suffix": "README.yml",
        "manifest_key_suffix": "manifest.json",
        "admin_metadata_key_suffix": "dtool",
        "http_manifest_key": "http_manifest.json",
        "storage_broker_version": FORMAT_VERSION,
    }


def admin_as_user_metadata(admin: Mapping[str, Any]) -> dict[str, str]:
    """Return administrative metadata as user metadata, which dtool-s3 up to 0.14 reads instead of the body.

    User metadata is ASCII on one line: anything else is written as an escape. The JSON body is the authority, so what
    does not fit in here is no error: what those readers ask for is shortened, and other fields are left out.
    """
    metadata: dict[str, str] = {}
    room = _MAX_USER_METADATA
    for key in sorted(admin, key=lambda key: key not in _READ_FROM_USER_METADATA):
        value = _in_a_header(str(admin[key]))
        if key in _READ_FROM_USER_METADATA:
            value = value[:_MAX_VALUE].rstrip()
        if value and _HEADER.fullmatch(key) and len(key) + len(value) <= room:
            metadata[key] = value
            room -= len(key) + len(value)
    return metadata


def _in_a_header(text: str) -> str:
    line = " ".join(text.encode("ascii", "backslashreplace").decode("ascii").split())
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)


def parse_admin(body: bytes, user_metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return administrative metadata: from the body where it is a JSON object, else from the user metadata.

    Times are floats always. `user_metadata` has keys as `Store` gives them (lower case, underscores).

    Raises:
        ManifestError: neither can be read.
    """
    try:
        admin = json.loads(body)
    except (ValueError, RecursionError):  # no JSON before dtool-s3 0.4
        admin = None
    if not isinstance(admin, dict):
        admin = dict(user_metadata)
    elif _is_deep(admin):
        raise ManifestError(f"administrative metadata in {where} unreadable: nested too deeply")
    if not isinstance(admin.get("type"), str):
        raise ManifestError(f"administrative metadata in {where} unreadable: no JSON object with a 'type'")
    # A RADOS Gateway gives metadata keys with `-` for `_`, and a peer that freezes there writes them into the body.
    admin = {key.replace("-", "_"): value for key, value in admin.items() if "-" in key} | {
        key: value for key, value in admin.items() if "-" not in key
    }
    for key in ("name", "uuid", "creator_username"):
        value = admin.get(key)  # `dtool ls` of a whole bucket fails where one has none
        admin[key] = "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
    for key in ("created_at", "frozen_at"):
        if key in admin:
            try:
                admin[key] = _time(admin[key])
            except (TypeError, ValueError, OverflowError):
                raise ManifestError(f"administrative metadata in {where}: {key} is no number: {admin[key]!r}") from None
    return admin


def _time(value: Any) -> float:
    """Return UTC epoch seconds; JSON as Python reads it also has NaN, infinities and integers without end."""
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def parse_json(body: bytes, where: str) -> Any:
    """Return a JSON document of a dataset.

    Raises:
        ManifestError: it is no JSON, or nested so deeply that it could not be written again.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where} is no JSON: {error}") from None
    if _is_deep(document):
        raise ManifestError(f"{where} is no JSON of a dataset: nested too deeply")
    return document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(_MAX_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
        level = [each for values in inner for each in values if isinstance(each, (dict, list))]
        if not level:
            return False
    return True


# --- the manifest ---


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    items: dict[str, Item]
    """By identifier."""
    dtoolcore_version: str
    """Of the dtoolcore that froze the dataset."""
    hash_function: str = HASH_FUNCTION
    """The name of the function that made the items' hashes."""


def parse_manifest(body: bytes, where: str) -> Manifest:
    """Return a manifest, everything checked.

    Each entry becomes an `Item` as soon as it is parsed: a million of them as dictionaries would take 1 GB.

    Raises:
        ManifestError: it is no JSON, or `items_of_manifest` refuses it.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")  # as json.loads does
        del body  # the caller has let go of it too: bytes and text of a million items are 250 MB each
        document = json.loads(text, object_hook=_item_or_dict)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"manifest unreadable: {where} is no JSON: {error}") from None
    del text
    return manifest_from(document, where)


def manifest_from(document: Any, where: str, *, hashless: bool = False) -> Manifest:
    """Return what a parsed manifest says, everything checked.

    Args:
        document: the manifest.
        where: named in errors.
        hashless: items may come without a hash, as an empty text.

    Raises:
        ManifestError: it has not the form that format promises, or an identifier that is not its relpath's.
    """
    items = items_of_manifest(document, where, hashless=hashless)
    for key in ("dtoolcore_version", "hash_function"):
        if not isinstance(document.get(key, ""), str):
            raise ManifestError(f"manifest unreadable in {where}: its {key} is no text")
    return Manifest(
        items,
        dtoolcore_version=str(document.get("dtoolcore_version", "")),
        hash_function=str(document.get("hash_function", HASH_FUNCTION)),
    )


def items_of_manifest(manifest: Any, where: str, *, hashless: bool = False) -> dict[str, Item]:
    """Return the items of a parsed manifest by identifier, everything checked.

    Raises:
        ManifestError: it has not the form that format promises, or an identifier that is not its relpath's.
    """
    entries = manifest.get("items") if isinstance(manifest, dict) else None
    if not isinstance(entries, dict):
        raise ManifestError(f"manifest unreadable in {where}: it has no items")
    items = {}
    for identifier, entry in entries.items():
        try:
            item = entry if isinstance(entry, Item) else _item_of(entry)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ManifestError(f"manifest unreadable in {where}: item {identifier!r} is incomplete") from None
        # Without a hash, any bytes would pass for it.
        if not (item.hash or hashless) or len(item.hash) > _MAX_HASH or not item.hash.isascii():
            raise ManifestError(f"manifest unreadable in {where}: item {identifier!r} has no hash")
        if not 0 <= item.size <= _MAX_SIZE or item.identifier != identifier:
            raise ManifestError(
                f"manifest unreadable in {where}: item {identifier!r} does not belong to relpath {item.relpath!r}"
            )
        items[item.identifier] = item
    return items


def _item_or_dict(entry: dict[str, Any]) -> Item | dict[str, Any]:
    """Return a parsed JSON object as an item where it is a good one: told from the manifest itself by its keys."""
    if "relpath" not in entry or "items" in entry:
        return entry
    try:
        return _item_of(entry)
    except (KeyError, TypeError, ValueError, OverflowError):
        return entry  # what is wrong with it is told where its identifier is known


def _item_of(entry: Any) -> Item:
    relpath = _text(entry["relpath"])
    return Item(
        identifier=_identifier_or_empty(relpath),
        relpath=relpath,
        size=int(entry["size_in_bytes"]),
        hash=_text(entry["hash"]),
        utc_timestamp=_time(entry["utc_timestamp"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _identifier_or_empty(relpath: str) -> str:
    try:
        return layout.identifier_of(relpath)
    except UnicodeEncodeError:
        return ""


def manifest_of(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest in dtoolcore's form, for its brokers."""
    return {
        "items": {
            identifier: {
                "relpath": item.relpath,
                "size_in_bytes": item.size,
                "hash": item.hash,
                "utc_timestamp": item.utc_timestamp,
            }
            for identifier, item in manifest.items.items()
        },
        "dtoolcore_version": manifest.dtoolcore_version,
        "hash_function": manifest.hash_function,
    }


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the bytes that dtoolcore would write for `manifest_of` this.

    `json.dumps` keeps all the pieces of its text until the end, which is five times the memory.
    """
    text = io.BytesIO()
    outside = {"dtoolcore_version": manifest.dtoolcore_version, "hash_function": manifest.hash_function, "items": {}}
    text.write(dump(outside, sort_keys=True).removesuffix(b"}\n}"))
    separator, quoted = "", json.JSONEncoder().encode
    for identifier in sorted(manifest.items):
        item = manifest.items[identifier]
        entry = (
            f'{separator}\n    "{identifier}": {{\n'
            f'      "hash": {quoted(item.hash)},\n'
            f'      "relpath": {quoted(item.relpath)},\n'
            f'      "size_in_bytes": {item.size},\n'
            f'      "utc_timestamp": {item.utc_timestamp!r}\n'
            "    }"
        )
        text.write(entry.encode())
        separator = ","
    text.write(b"\n  }\n}" if manifest.items else b"}\n}")
    return text.getvalue()
