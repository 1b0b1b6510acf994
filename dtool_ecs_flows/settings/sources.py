"""The places that may hold settings of a bucket, as sources of pydantic-settings."""

from __future__ import annotations

import json
import os
import stat
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dtoolcore.utils
from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings.checks import SECRET_FIELDS, expand, is_bucket_name
from dtool_ecs_flows.settings.record import CALLER, BucketSettings

_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "endpoint": "DTOOL_ECS_ENDPOINT_{}",
        "access_key_id": "DTOOL_ECS_ACCESS_KEY_ID_{}",
        "secret_access_key": "DTOOL_ECS_SECRET_ACCESS_KEY_{}",
        "dataset_prefix": "DTOOL_ECS_DATASET_PREFIX_{}",
        "namespace": "DTOOL_ECS_NAMESPACE_{}",
        "ca_bundle": "DTOOL_ECS_CA_BUNDLE_{}",
        "verify_tls": "DTOOL_ECS_VERIFY_TLS_{}",
        "concurrency": "DTOOL_ECS_CONCURRENCY_{}",
        "max_requests_per_second": "DTOOL_ECS_MAX_REQUESTS_PER_SECOND_{}",
        "max_bytes_per_second": "DTOOL_ECS_MAX_BYTES_PER_SECOND_{}",
        "connect_timeout": "DTOOL_ECS_CONNECT_TIMEOUT_{}",
        "read_timeout": "DTOOL_ECS_READ_TIMEOUT_{}",
        "cache_directory": "DTOOL_CACHE_DIRECTORY",
        "publish_expiry": "DTOOL_ECS_PUBLISH_EXPIRY",
    }
)
_MISSPELT = "DTOOL_ECS_ACCESS_KEY_{}"
_EMPTY_SAYS_NONE = frozenset({"dataset_prefix", "namespace", "ca_bundle"})


def warn_user(message: str) -> None:
    """Warn from this one line, whoever calls: Python's own filter then shows each text once."""
    warnings.warn(message, UserWarning, stacklevel=1)


def dtool_json_path(config_path: str | os.PathLike[str] | None) -> str:
    """Return the path given, or dtoolcore's own as it is at this moment (programs and tests patch it)."""
    path = dtoolcore.utils.DEFAULT_CONFIG_PATH if config_path is None else config_path
    return expand(os.fspath(path))


def is_there(path: str) -> bool:
    """Return whether this user can see a file; never raises."""
    return os.path.exists(path)  # Path's raises where a folder may not be entered


def keys_of(field: str, bucket: str) -> tuple[str, ...]:
    """Return the keys that may hold a field of a bucket, the right one first.

    DTOOL_ECS_ACCESS_KEY_ID_x is the right key of bucket "x" and never the misspelt one of a bucket "ID_x": no
    credential goes anywhere on a guess.
    """
    right = _KEYS[field].format(bucket)
    if field == "access_key_id" and bucket != "ID" and not bucket.startswith("ID_"):
        return (right, _MISSPELT.format(bucket))
    return (right,)


def read_dtool_json(path: str) -> dict[str, Any]:
    """Return what the file holds; nothing where there is no file.

    A folder on the way that this user may not enter counts as no file: a container with its settings in the
    environment may run as a user who cannot look into HOME.
    """
    if not is_there(path):
        return {}
    held: object = None
    mode = 0
    try:
        with Path(path).open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            held = json.load(file)
        problem = "" if isinstance(held, dict) else 'must hold one JSON object: {"key": "value", ...}'
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        problem = "is not JSON that can be read"
    if problem or not isinstance(held, dict):
        # Raised out here: the error of json holds the whole text of the file, secrets included.
        raise SettingsError(f"{path} {problem}")
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077 and _holds_secret(held):
        warn_user(f"{path} holds a secret and is open to others: chmod 600 {path}")
    return held


def _holds_secret(held: Mapping[str, Any]) -> bool:
    starts = tuple(_KEYS[field].format("") for field in SECRET_FIELDS)
    return any(key.startswith(starts) and value for key, value in held.items())


def bucket_names(keys_and_values: Mapping[str, Any]) -> Iterable[str]:
    """Yield the bucket of every key that holds an endpoint or a credential."""
    for key, value in keys_and_values.items():
        name = _bucket_of(key)
        if value not in ("", None) and is_bucket_name(name):
            yield name


def _bucket_of(key: str) -> str:
    # The misspelt key starts all right ones of this field, so it comes last.
    for template in (_KEYS["endpoint"], _KEYS["secret_access_key"], _KEYS["access_key_id"], _MISSPELT):
        start = template.format("")
        if key.startswith(start):
            name = key[len(start) :]
            return "" if template == _MISSPELT and name == "ID" else name
    return ""


class _BucketSource(PydanticBaseSettingsSource):
    """One place that may hold the keys of a bucket.

    Which bucket, and which file, stands in the state that the source before it left: what the caller passed.
    """

    @abstractmethod
    def read(self) -> Mapping[str, Any]:
        """Return all keys and values of this place."""

    @abstractmethod
    def origin(self, key: str) -> str:
        """Return how messages name this key in this place."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return the value (None: not set) and the key that holds it."""
        keys = keys_of(field_name, self.current_state["bucket"])
        held = self.read()
        for key in keys:
            value = held.get(key)
            if value is not None and (value != "" or field_name in _EMPTY_SAYS_NONE):
                return value, key, False
        return None, keys[0], False

    def __call__(self) -> dict[str, Any]:
        """Return the values that are set here, and where each was found."""
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name in _KEYS:
            value, key, _ = self.get_field_value(BucketSettings.model_fields[name], name)
            if value is None:
                continue
            right = keys_of(name, self.current_state["bucket"])[0]
            if key != right:
                warn_user(f"{self.origin(key)} is misspelt: call it {right}")
            # Wrapped as early as here: pydantic-settings logs what its sources return when it is debugged.
            values[name] = SecretStr(value) if name in SECRET_FIELDS else value
            origins[name] = self.origin(key)
        # pydantic-settings merges these dictionaries key by key, the earlier source winning: a value and its
        # origin always come from the same place.
        return {"values": values, "origins": origins}


class _Environment(_BucketSource):
    """Environment variables; their names are case sensitive, as those of buckets are."""

    def read(self) -> Mapping[str, Any]:
        return os.environ

    def origin(self, key: str) -> str:
        return f"environment variable {key}"


class _DtoolJson(_BucketSource):
    """The configuration file of dtool."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self._held: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        self._held = read_dtool_json(self.current_state["config_path"])
        return super().__call__()

    def read(self) -> Mapping[str, Any]:
        return self._held

    def origin(self, key: str) -> str:
        return f"{self.current_state['config_path']}: {key}"


class _FileSearch(BaseSettings):
    """What `dtool.json` says about one bucket, each value with its origin, not yet validated."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    bucket: str
    config_path: str
    values: dict[str, Any] = Field(default_factory=dict)
    origins: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def places(cls) -> tuple[type[_BucketSource], ...]:
        """Return the places in the order in which they win."""
        return (_DtoolJson,)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings passes these by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ask our places only, after what the caller passed."""
        return (init_settings, *(place(settings_cls) for place in cls.places()))


class _Search(_FileSearch):
    """What the environment and `dtool.json` say about one bucket."""

    @classmethod
    def places(cls) -> tuple[type[_BucketSource], ...]:
        """Return the places in the order in which they win."""
        return (_Environment, _DtoolJson)


def search(
    bucket: str, config_path: str | os.PathLike[str] | None = None, *, environment: bool = True
) -> BucketSettings:
    """Look a bucket up in the environment (if wanted) and in `dtool.json`."""
    if not is_bucket_name(bucket):
        raise SettingsError(f"{bucket!r} is no bucket name, so no settings were looked for")
    path = dtool_json_path(config_path)
    found = (_Search if environment else _FileSearch)(bucket=bucket, config_path=path)
    file = path if is_there(path) else f"{path} (there is no such file)"
    return BucketSettings.from_origin(
        {"bucket": CALLER, **found.origins},
        {"bucket": bucket, **found.values},
        looked_in=f"the environment and in {file}" if environment else file,
        keys={field: keys_of(field, bucket)[0] for field in _KEYS},
    )
