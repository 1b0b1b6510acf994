"""What a dtool dataset looks like in a bucket, as pure functions: names, keys, handles. No I/O.

The contract is shared with dtool-s3 (0.4 to 0.15) and dtool-ecs (0.5): what is written here opens there, and the other
way round. For a dataset with UUID `U` and prefix `P`, `I` being the sha1 of an item's relpath:

    dtool-U                registration key at the top of the bucket; its body is P, verbatim
    PU/dtool               administrative metadata: JSON body, and the same values as user metadata
    PU/README.yml          descriptive metadata; PU/README.yml-<seconds> keeps what an update replaced
    PU/README.txt          explains the layout to a person who finds the bucket
    PU/structure.json      the key names, and the version of the format
    PU/manifest.json       the items
    PU/data/I              one item; user metadata: handle (base64 of the relpath), checksum (MD5)
    PU/fragments/I.K.json  metadata K of one item, until the freeze turns it into an overlay
    PU/overlays/N.json     one value per item
    PU/annotations/N.json  one JSON value
    PU/tags/T              empty
    PU/http_manifest.json  URLs of everything, written by publishing
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass

from dtool_ecs_flows.errors import UnsafeNameError

SCHEME = "ecs"
MAX_HANDLE_BYTES = 1500
"""Longest relpath in UTF-8 bytes: its base64 form and the checksum share about 2 KB of user metadata."""

_MAX_EXTENSION = 100  # bytes; with the identifier before it, it is a file name on every disk
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_URI = re.compile(rf"(?i:{SCHEME})://([^/?#]*)([^?#]*)")
_NO_PATH = re.compile(r"(?i:file):(//[^/]*)?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,80}")

# --- names -----------------------------------------------------------------------------------------------------------


def parse_uri(uri: str) -> tuple[str, str]:
    """Return `(bucket, uuid)` of an `ecs://` URI; the UUID is empty for a base URI.

    Raises:
        UnsafeNameError: the URI is not `ecs://bucket` or `ecs://bucket/uuid`.
    """
    match = _URI.fullmatch(uri)  # not urlsplit, which drops line ends and tabs in silence
    bucket, path = (match[1], match[2].strip("/")) if match else ("", "")
    if not _BUCKET.fullmatch(bucket):
        raise UnsafeNameError(f"{uri!r} is not of the form ecs://bucket or ecs://bucket/uuid")
    if path and not is_uuid(path):
        raise UnsafeNameError(
            f"{uri!r} has a path that is no dataset UUID: a base URI is just {SCHEME}://{bucket}; "
            f"to keep datasets under a prefix, set DTOOL_ECS_DATASET_PREFIX_{bucket}"
        )
    return bucket, path


def check_given(uri: str) -> str:
    """Return a URI where one is given: an empty text, as a variable that is not set, would be the current folder.

    So would `file://` with no path after it, where such a variable stood, or `file://data`, which is a host.

    Raises:
        UnsafeNameError: it is empty, or has no path.
    """
    if not uri.strip():
        raise UnsafeNameError("an empty text names no place; the current folder is .")
    if _NO_PATH.fullmatch(uri):
        raise UnsafeNameError(f"{uri} names no folder, which would follow as in file:///data; the current folder is .")
    return uri


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form of 36 characters."""
    return _UUID.fullmatch(text) is not None


def base_uri(bucket: str) -> str:
    """Return the base URI of a bucket."""
    return f"{SCHEME}://{bucket}"


def dataset_uri(bucket: str, uuid: str) -> str:
    """Return the URI of a dataset."""
    return f"{SCHEME}://{bucket}/{uuid}"


def check_name(name: str, what: str) -> str:
    """Return the name of a dataset, tag, annotation or overlay where dtool allows it.

    Raises:
        UnsafeNameError: it is empty, longer than 80, or has other characters than `0-9 a-z A-Z - _ .`; or it is `.`
            or `..`, which names another folder on a disk.
    """
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise UnsafeNameError(
            f"{what} {name!r} is not valid: 1 to 80 of the characters 0-9 a-z A-Z - _ . are allowed, but not . or .."
        )
    return name


def check_relpath(relpath: str) -> str:
    """Return the relpath where it can be stored, come back, and never leave a dataset's folder.

    Raises:
        UnsafeNameError: naming the relpath and what is wrong with it.
    """
    problem = ""
    if not relpath:
        problem = "is empty"
    elif "\0" in relpath:
        problem = "holds a NUL character"
    elif relpath.startswith("/"):
        problem = "is absolute"
    elif ".." in relpath and ".." in re.split(r"[/\\]", relpath):
        problem = "leaves the dataset ('..')"
    else:
        try:
            size = len(relpath.encode("utf-8"))
        except UnicodeEncodeError:
            problem = "cannot be written in UTF-8"
        else:
            if size > MAX_HANDLE_BYTES:
                problem = f"is {size} bytes long; a bucket holds at most {MAX_HANDLE_BYTES}"
    if problem:
        raise UnsafeNameError(f"relpath {relpath!r} {problem}")
    return relpath


def identifier_of(relpath: str) -> str:
    """Return the item identifier: sha1 hex digest of the relpath in UTF-8."""
    return hashlib.sha1(relpath.encode("utf-8"), usedforsecurity=False).hexdigest()


def extension_of(relpath: str) -> str:
    """Return the extension of a relpath with its dot, for programs that go by it; none that no file should have."""
    extension = posixpath.splitext(relpath)[1]
    good = extension.isprintable() and "\\" not in extension and len(extension.encode("utf-8")) <= _MAX_EXTENSION
    return extension if good else ""


# --- keys ------------------------------------------------------------------------------------------------------------


REGISTRATION_PREFIX = "dtool-"
"""What registration keys start with; other keys may start so as well."""


def registration_key(uuid: str) -> str:
    """Return the key at the top of the bucket that registers a dataset."""
    return REGISTRATION_PREFIX + uuid


def registered_uuid(key: str) -> str | None:
    """Return the UUID that a key registers; None where it is no registration key."""
    uuid = key.removeprefix(REGISTRATION_PREFIX)
    return uuid if uuid != key and is_uuid(uuid) else None


@dataclass(frozen=True, slots=True)
class DatasetKeys:
    """Every key of one dataset. The prefix is taken as it stands: `P` is glued to the UUID."""

    prefix: str
    uuid: str

    @property
    def root(self) -> str:
        """What all keys of the dataset but the registration key start with."""
        return f"{self.prefix}{self.uuid}/"

    @property
    def registration(self) -> str:
        """The registration key."""
        return registration_key(self.uuid)

    @property
    def admin_metadata(self) -> str:
        """The administrative metadata; its `type` is the commit point."""
        return self.root + "dtool"

    @property
    def readme(self) -> str:
        """The descriptive metadata."""
        return self.root + "README.yml"

    @property
    def dtool_readme(self) -> str:
        """The explanation of the layout."""
        return self.root + "README.txt"

    @property
    def structure(self) -> str:
        """The key names and the format's version."""
        return self.root + "structure.json"

    @property
    def manifest(self) -> str:
        """The manifest."""
        return self.root + "manifest.json"

    @property
    def http_manifest(self) -> str:
        """The URLs that publishing writes."""
        return self.root + "http_manifest.json"

    @property
    def data(self) -> str:
        """What the items' keys start with."""
        return self.root + "data/"

    @property
    def fragments(self) -> str:
        """What the keys of metadata per item start with."""
        return self.root + "fragments/"

    @property
    def overlays(self) -> str:
        """What the overlays' keys start with."""
        return self.root + "overlays/"

    @property
    def annotations(self) -> str:
        """What the annotations' keys start with."""
        return self.root + "annotations/"

    @property
    def tags(self) -> str:
        """What the tags' keys start with."""
        return self.root + "tags/"

    def item(self, identifier: str) -> str:
        """Return the key of an item."""
        return self.data + identifier

    def fragment(self, identifier: str, name: str) -> str:
        """Return the key of one piece of metadata of one item."""
        return f"{self.fragments}{identifier}.{name}.json"

    def overlay(self, name: str) -> str:
        """Return the key of an overlay."""
        return f"{self.overlays}{name}.json"

    def annotation(self, name: str) -> str:
        """Return the key of an annotation."""
        return f"{self.annotations}{name}.json"

    def tag(self, tag: str) -> str:
        """Return the key of a tag."""
        return self.tags + tag

    def readme_backup(self, seconds: float) -> str:
        """Return the key under which an update keeps the old README; UTC epoch seconds."""
        return f"{self.readme}-{seconds}"

    def is_known(self, key: str) -> bool:
        """Whether a dtool client writes such a key into this dataset."""
        if not key.startswith(self.root):
            return False
        name = key[len(self.root) :]
        if name in _FILES:
            return True
        # Nothing is deeper: what is may be another dataset, whose prefix happens to lie inside of this one.
        start = next((start for start in _FOLDERS if name.startswith(start)), None)
        return start is not None and "/" not in name[len(start) :]


_FILES = frozenset({"dtool", "README.yml", "README.txt", "structure.json", "manifest.json", "http_manifest.json"})


_FOLDERS = ("data/", "fragments/", "overlays/", "annotations/", "tags/", "README.yml-")


def name_from_key(key: str, start: str, suffix: str = "") -> str | None:
    """Return what stands between a known start and one known suffix of a key; None where it does not fit."""
    if not key.startswith(start) or not key.endswith(suffix):
        return None
    name = key[len(start) : len(key) - len(suffix)]
    return name if name and "/" not in name else None


def fragment_from_key(key: str, start: str) -> tuple[str, str] | None:
    """Return `(identifier, name)` of a fragment's key; a name may hold dots."""
    middle = name_from_key(key, start, ".json")
    identifier, dot, name = (middle or "").partition(".")
    return (identifier, name) if dot and name else None


# --- handles and metadata --------------------------------------------------------------------------------------------


def item_metadata(relpath: str, md5: str) -> dict[str, str]:
    """Return an item's user metadata: the handle in base64, and the MD5 of its content in hex."""
    return {"handle": base64.b64encode(relpath.encode("utf-8")).decode("ascii"), "checksum": md5}


def relpath_from_handle(handle: str, identifier: str) -> str | None:
    """Return the relpath that a stored handle stands for; None where it fits the identifier in no reading.

    Handles are plain before dtool-s3 0.14 and base64 since; the right reading is the one whose sha1 is the identifier,
    whatever structure.json says.
    """
    try:
        decoded = base64.b64decode(handle, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    for relpath in (decoded, handle):
        with suppress(UnicodeEncodeError):  # a text that has no bytes has no identifier
            if relpath and identifier_of(relpath) == identifier:
                return relpath
    return None
