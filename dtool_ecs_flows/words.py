"""How sizes, times and names are written for people, the same way everywhere."""

from __future__ import annotations

import re
from datetime import datetime, timezone

__all__ = ["human_bytes", "human_seconds", "human_time", "one_line", "plural", "unsigned", "visible"]

MAX_LINE = 300
"""Characters of one name or message, where nothing else is said."""

_INVISIBLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u2028-\\u202f\\u2060-\\u206f\\ufeff\\ud800-\\udfff]")

_USER = re.compile(r"(https?://)[^/@\s'\"?#]*@", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s'\"<>?]*)\?[^\s'\"<>)]+", re.IGNORECASE)


def unsigned(text: str) -> str:
    """Return text with the URLs in it bare: without a password, and without a query, whose signature is a key."""
    return _QUERY.sub(r"\1?…", _USER.sub(r"\1", text))


def one_line(text: str, limit: int = MAX_LINE) -> str:
    """Return text on one line: what cannot be seen is spelled out, what is too long is cut."""
    text = visible(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(text: str) -> str:
    """Return text with what cannot be seen spelled out: no line of it ends, and no terminal takes it for a command."""
    return _INVISIBLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def human_bytes(size: float) -> str:
    """Return a size as people write it, in powers of 1000 as `ls` of dtool does."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"


def human_seconds(seconds: float) -> str:
    """Return a duration as people write it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def human_time(timestamp: float | None) -> str:
    """Return a UTC time to the second, or nothing where there is none."""
    if timestamp is None:
        return ""
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # anybody can write any number into a dataset
        return f"{timestamp:g} s"
