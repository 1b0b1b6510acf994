"""What a single value must be like, and how a wrong one is put into words."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_URL_EXAMPLE = "write http://host:port or https://host:port"

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100

SECRET_FIELDS = frozenset({"secret_access_key"})

_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "verify_tls": "true or false",
        "concurrency": "a whole number from 1 to 256",
        "max_requests_per_second": "a number of at least 0 (0: no limit)",
        "max_bytes_per_second": "a number of bytes, also with a unit as 50 MiB (0: no limit)",
        "connect_timeout": "a number of seconds above 0, at most 86400",
        "read_timeout": "a number of seconds above 0, at most 86400",
        "publish_expiry": "a whole number of seconds from 1 to 604800 (7 days: no signed URL lasts longer)",
    }
)


def expand(path: str) -> str:
    """Replace a leading ~ by the user's home."""
    return os.path.expanduser(path)  # Path's raises where there is no such user


def is_bucket_name(name: object) -> bool:
    """Return whether an object store would take this as the name of a bucket."""
    return isinstance(name, str) and _BUCKET.fullmatch(name) is not None


def describe_problem(field: str, detail: Mapping[str, Any]) -> str:
    """Put one of pydantic's complaints into plain words."""
    if field in _EXPECTED:
        return f"must be {_EXPECTED[field]}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return "must be text"


def describe_value(field: str, value: object) -> str:
    """Return a value for a message; nothing where it is, or may hold, a secret."""
    if field in SECRET_FIELDS or (field == "endpoint" and "@" in str(value)):
        return ""
    text = _REPR.repr(value)  # however deeply it is nested
    return f": {text if len(text) <= 80 else text[:77] + '...'}"


def strip(value: object) -> object:
    """Drop white space around a text; a line end that came along from a file is never meant."""
    return value.strip() if isinstance(value, str) else value


def to_path_text(value: object) -> object:
    """Take path objects for text."""
    return os.fspath(value) if isinstance(value, os.PathLike) else strip(value)


def to_number(value: object) -> object:
    """Refuse true and false, which would quietly become 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  # pydantic collects ValueErrors only
    return strip(value)


def empty_to_none(value: object) -> object:
    """Take an empty text for no value."""
    return None if value == "" else value


def check_bucket(value: str) -> str:
    """Refuse what cannot be the name of a bucket, or would change the meaning of a URL."""
    if not is_bucket_name(value):
        raise ValueError(
            "is no bucket name; use letters, digits, dots, dashes and underscores, first a letter or digit"
        )
    return value


def check_endpoint(value: str) -> str:
    """Return an http(s) URL without trailing slash."""
    if not value:
        raise ValueError(f"is empty; {_URL_EXAMPLE}")
    if "://" not in value:
        raise ValueError(f"has no scheme; {_URL_EXAMPLE}")
    value = value.rstrip("/")
    try:
        parts = urlsplit(value)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(f"is no URL; {_URL_EXAMPLE}") from None
    if not good or re.search(r"\s", value) or _CONTROL.search(value):
        raise ValueError(f"is no URL; {_URL_EXAMPLE}")
    if parts.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if parts.username is not None:
        raise ValueError("must not hold a user name or password; the keys have settings of their own")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    return value


def check_key(value: str) -> str:
    """Refuse what cannot be half of a key pair."""
    if not value:
        raise ValueError("is empty")
    if not value.isascii() or not value.isprintable():
        raise ValueError("holds characters that no key has; only printable ASCII can be part of a signature")
    return value


def check_secret(value: SecretStr) -> SecretStr:
    """Refuse what cannot be the secret half, without showing it."""
    text: object = value.get_secret_value()
    # pydantic takes any SecretStr as it is, whatever was wrapped.
    if not isinstance(text, str):
        raise ValueError("must be text")  # noqa: TRY004  # pydantic collects ValueErrors only
    return SecretStr(check_key(text.strip()))


def check_prefix(value: str) -> str:
    """Return an empty prefix, or one with exactly one trailing slash and no leading one."""
    value = value.strip("/")
    if not value:
        return ""
    if _CONTROL.search(value):
        raise ValueError("holds a control character")
    if any(segment in ("", ".", "..") for segment in value.split("/")):
        raise ValueError("has an empty, '.' or '..' segment, which clients and servers read in different ways")
    return value + "/"


def check_namespace(value: str) -> str:
    """Refuse what cannot be sent as a header."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("cannot be sent as the header x-emc-namespace; use ASCII letters, digits and dashes")
    return value


def check_ca_bundle(value: str) -> str:
    """Return the path of a file that can be read here, or nothing."""
    if not value:
        return ""
    value = expand(value)
    # Path.is_file raises where a folder on the way may not be entered.
    if "\0" in value or not os.path.isfile(value):
        raise ValueError("is no file on this machine; name a PEM file with the certificates to trust")
    if not os.access(value, os.R_OK):
        raise ValueError("cannot be read by this user; change its permissions")
    return value


def check_cache_directory(value: str) -> str:
    """Return the path of a folder, which need not exist yet."""
    if not value or "\0" in value:
        raise ValueError("is no folder name")
    return expand(value)
