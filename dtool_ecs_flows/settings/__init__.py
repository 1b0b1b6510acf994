"""Where a bucket's settings come from, and in which order.

One order for every value of a bucket: settings made active by the caller (they win whole) > environment >
`dtool.json`. Within one place the right key beats the misspelt `DTOOL_ECS_ACCESS_KEY_<bucket>`; a misspelt
key in the environment still beats a right one in the file, because the environment comes first.

An empty value counts as not set, but for prefix, namespace and CA bundle, where it says "none" (and switches
off what a later place says). Nothing is cached, and a ContextVar is all that is kept: two buckets share no
state.

Rooms: `record` (the settings themselves), `checks` (what a value must be like), `sources` (the places).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings.record import DEFAULT, BucketSettings
from dtool_ecs_flows.settings.sources import bucket_names, dtool_json_path, read_dtool_json, search, warn_user

__all__ = ["DEFAULT", "BucketSettings", "active", "configured_buckets", "dtool_json_path", "from_dtool_json", "resolve"]

_ACTIVE: ContextVar[Mapping[str, BucketSettings]] = ContextVar("dtool_ecs_flows_active_settings")


@contextmanager
def active(*settings: BucketSettings) -> Iterator[None]:
    """Make settings the ones that `resolve` finds, inside this block of code and in contexts copied from it.

    They win whole: nothing from the environment or a file is mixed in. Nested ones add to, or override, the
    outer ones; on leaving, however that happens, the outer ones are back. A thread sees them if it runs in a
    copied context.
    """
    passed: dict[str, BucketSettings] = {}
    for one in settings:
        if passed.setdefault(one.bucket, one) != one:
            raise SettingsError(
                f"two different settings were passed for bucket {one.bucket!r}: a URI cannot tell them apart"
            )
    token = _ACTIVE.set(MappingProxyType({**_ACTIVE.get({}), **passed}))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def resolve(bucket: str, *, config_path: str | os.PathLike[str] | None = None) -> BucketSettings:
    """Return the settings of a bucket: the active ones, else from the environment, else from `dtool.json`.

    Args:
        bucket: Name of the bucket.
        config_path: The file to read instead of dtool's own `dtool.json`.

    Raises:
        SettingsError: Something is missing (all of it is named) or wrong, or the file cannot be read.
    """
    settings = _ACTIVE.get({}).get(bucket)
    if settings is None:
        settings = search(bucket, config_path)
    if not settings.verify_tls and settings.endpoint.startswith("https:"):
        warn_user(
            f"the certificate of {settings.endpoint} is not checked ({settings.origin('verify_tls')}): "
            "whoever sits between can read and change the data; name a CA bundle instead"
        )
    return settings


def from_dtool_json(bucket: str, config_path: str | os.PathLike[str] | None = None) -> BucketSettings:
    """Return the settings that a `dtool.json` alone gives for a bucket, whatever the environment says."""
    return search(bucket, config_path, environment=False)


def configured_buckets(config_path: str | os.PathLike[str] | None = None, *, environment: bool = True) -> list[str]:
    """Return the names of all buckets that have an endpoint or a key, sorted.

    Args:
        config_path: The file to read instead of dtool's own `dtool.json`.
        environment: False looks at the file alone.
    """
    names = set(bucket_names(read_dtool_json(dtool_json_path(config_path))))
    return sorted(names.union(bucket_names(os.environ)) if environment else names)
