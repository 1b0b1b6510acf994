"""Where a bucket's settings come from, and in which order.

One order for every value of a bucket: settings made active by the caller (which win whole) > environment > `dtool.json`.
Within one of the last two the right key beats the misspelt `DTOOL_ECS_ACCESS_KEY_<bucket>`; a misspelt key in the
environment still beats a right one in the file, because the environment comes first.

An empty value counts as not set, but for prefix, namespace and CA bundle, where it says "none" (and so switches off
what a later place says). Nothing is cached and nothing is kept outside of a ContextVar: two buckets share no state.
"""

from __future__ import annotations

import json
import os
import re
import stat
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import dtoolcore.utils  # type: ignore[import-untyped]  # it has no py.typed
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dtool_ecs_flows.errors import SettingsError

__all__ = [
    "BucketSettings",
    "active",
    "configured_buckets",
    "default_config_path",
    "from_dtool_json",
    "resolve",
]

CALLER = "passed by the caller"
DEFAULT = "default"

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
        "connect_timeout": "DTOOL_ECS_CONNECT_TIMEOUT_{}",
        "read_timeout": "DTOOL_ECS_READ_TIMEOUT_{}",
        "cache_directory": "DTOOL_CACHE_DIRECTORY",
        "publish_expiry": "DTOOL_ECS_PUBLISH_EXPIRY",
    }
)
_MISSPELT = "DTOOL_ECS_ACCESS_KEY_{}"
_EMPTY_SAYS_NONE = frozenset({"dataset_prefix", "namespace", "ca_bundle"})
_SECRET = frozenset({"secret_access_key"})
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "verify_tls": "true or false",
        "concurrency": "a whole number from 1 to 256",
        "connect_timeout": "a number of seconds above 0, at most 86400",
        "read_timeout": "a number of seconds above 0, at most 86400",
        "publish_expiry": "a whole number of seconds from 1 to 604800 (7 days, the most that a signed URL can last)",
    }
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _check_bucket(value: str) -> str:
    if not _BUCKET.fullmatch(value):
        raise ValueError(
            "is no bucket name; it has letters, digits, dots, dashes and underscores, and starts with a letter or digit"
        )
    return value


def _check_endpoint(value: str) -> str:
    value = value.rstrip("/")
    if not value:
        raise ValueError("is empty; write http://host:port or https://host:port")
    if "://" not in value:
        raise ValueError("has no scheme; write http://host:port or https://host:port")
    try:
        parts = urlsplit(value)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("is no URL; write http://host:port or https://host:port") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if parts.username is not None:
        raise ValueError("must not hold a user name or password; the keys have settings of their own")
    if not parts.hostname or not port_is_good or re.search(r"\s", value) or _CONTROL.search(value):
        raise ValueError("is no URL; write http://host:port or https://host:port")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    return value


def _check_key(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    if not value.isascii() or not value.isprintable():
        raise ValueError("holds characters that no key has (only printable ASCII goes into a signature)")
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    return SecretStr(_check_key(value.get_secret_value().strip()))


def _check_prefix(value: str) -> str:
    value = value.strip("/")
    if not value:
        return ""
    if _CONTROL.search(value):
        raise ValueError("holds a control character")
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError(
            "has an empty, '.' or '..' segment, which clients and servers read in different ways"
        )
    return value + "/"


def _check_namespace(value: str) -> str:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("cannot be sent as the header x-emc-namespace; use ASCII letters, digits and dashes")
    return value


def _check_ca_bundle(value: str) -> str:
    if not value:
        return ""
    value = os.path.expanduser(value)
    if not os.path.isfile(value):
        raise ValueError("is no file here; name a PEM file with the certificates to trust")
    if not os.access(value, os.R_OK):
        raise ValueError("cannot be read by this user")
    return value


def _check_cache_directory(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("is no folder name")
    return os.path.expanduser(value)


def _not_a_bool(value: object) -> object:
    # JSON's true would quietly become 1.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  # pydantic collects ValueErrors only
    return _strip(value)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


Seconds: TypeAlias = Annotated[
    float, BeforeValidator(_not_a_bool), Field(gt=0, le=86400, allow_inf_nan=False)
]


class BucketSettings(BaseModel):
    """Everything needed to work with one bucket; frozen, hashable, validated once.

    Build one directly, or let `resolve` look it up. Origins (`settings.origin("endpoint")`) take no part in equality,
    hash or serialisation, and no text made from this object shows the secret.

    Attributes:
        bucket: Name of the bucket.
        endpoint: http or https URL of the object store, without trailing slash.
        access_key_id: Name of the key pair (ECS calls it the object user).
        secret_access_key: Secret half of the key pair.
        dataset_prefix: Where new datasets go: empty, or with exactly one trailing slash and no leading one.
        namespace: Sent as x-emc-namespace where it is not empty.
        ca_bundle: PEM file of the certificates to trust; empty means the system's.
        verify_tls: Whether the server's certificate is checked.
        concurrency: Requests in flight at once for this bucket, 1 to 256.
        connect_timeout: Seconds.
        read_timeout: Seconds.
        cache_directory: Where fetched items are kept.
        publish_expiry: Seconds that URLs of published datasets last; None publishes without end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)

    bucket: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_bucket)]
    endpoint: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_endpoint)]
    access_key_id: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_key)]
    secret_access_key: Annotated[SecretStr, AfterValidator(_check_secret)]
    dataset_prefix: Annotated[str, AfterValidator(_check_prefix)] = ""
    namespace: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_namespace)] = ""
    ca_bundle: Annotated[str, BeforeValidator(_strip), AfterValidator(_check_ca_bundle)] = ""
    verify_tls: Annotated[bool, BeforeValidator(_strip)] = True
    concurrency: Annotated[int, BeforeValidator(_not_a_bool), Field(ge=1, le=256)] = 16
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 60.0
    # Read at call time: programs and tests patch dtoolcore's constant.
    cache_directory: Annotated[str, AfterValidator(_check_cache_directory)] = Field(
        default_factory=lambda: dtoolcore.utils.DEFAULT_CACHE_PATH
    )
    publish_expiry: Annotated[
        Annotated[int, BeforeValidator(_not_a_bool), Field(ge=1, le=604800)] | None,
        BeforeValidator(_empty_is_none),
    ] = None

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        """Validate the fields; a SettingsError names what is wrong."""
        self._fill(values, dict.fromkeys(values, CALLER))

    @classmethod
    def from_origin(cls, origin: str | Mapping[str, str], **values: Any) -> BucketSettings:
        """Build settings whose values, and errors about them, name where they came from.

        Args:
            origin: One text for all values, or one for each field.
            **values: The fields.
        """
        settings = cls.__new__(cls)
        settings._fill(values, dict.fromkeys(values, origin) if isinstance(origin, str) else origin)
        return settings

    def _fill(self, values: Mapping[str, Any], origins: Mapping[str, str], looked_in: str = "") -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            message = _explain(error, values, origins, looked_in)
        else:
            self._origins = {name: origin for name, origin in origins.items() if name in values}
            return
        # Raised out here, so that the error of pydantic, which holds the values, is not chained to it.
        raise SettingsError(message)

    def origin(self, field: str) -> str:
        """Return where the value of a field came from, for messages."""
        if field not in type(self).model_fields:
            raise KeyError(field)
        return self._origins.get(field, DEFAULT)

    @property
    def base_uri(self) -> str:
        """The dtool base URI of the bucket."""
        return f"ecs://{self.bucket}"

    def __eq__(self, other: object) -> bool:
        """Compare values; where they came from does not matter."""
        if not isinstance(other, BucketSettings):
            return NotImplemented
        return dict(self) == dict(other)

    def __hash__(self) -> int:
        """Hash of the values; where they came from does not matter."""
        return hash(tuple(value for _, value in self))


def _explain(
    error: ValidationError, values: Mapping[str, Any], origins: Mapping[str, str], looked_in: str
) -> str:
    """Say in one line what is wrong with which setting, and show no secret."""
    bucket = values.get("bucket")
    missing: list[str] = []
    problems: list[str] = []
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if detail["type"] == "missing":
            key = _KEYS.get(name)
            missing.append(key.format(bucket) if key and looked_in else name)
            continue
        if detail["type"] == "extra_forbidden":
            problems.append(
                f"there is no setting {name!r}; there are {', '.join(BucketSettings.model_fields)}"
            )
            continue
        of_bucket = "" if name == "bucket" else f" of bucket {bucket!r}"
        problems.append(
            f"{name}{of_bucket} ({origins.get(name, DEFAULT)}){_shown(name, values.get(name))} {_problem(name, detail)}"
        )
    if missing:
        verb = "is not set" if len(missing) == 1 else "are not set"
        where = f": looked in {looked_in}" if looked_in else f" for bucket {bucket!r}" if bucket else ""
        problems.insert(0, f"{', '.join(missing)} {verb}{where}")
    return "; ".join(problems)


def _problem(name: str, detail: Mapping[str, Any]) -> str:
    if name in _EXPECTED:
        return f"must be {_EXPECTED[name]}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return "must be text"


def _shown(name: str, value: object) -> str:
    if name in _SECRET or (name == "endpoint" and "@" in str(value)):
        return ""
    text = repr(value)
    return f": {text if len(text) <= 80 else text[:77] + '...'}"


def default_config_path() -> str:
    """Return the path of `dtool.json`, as dtoolcore has it at this moment (programs and tests patch it)."""
    return str(dtoolcore.utils.DEFAULT_CONFIG_PATH)


def _warn(message: str) -> None:
    # The same place in the code for all callers: Python's own filter then shows each text once.
    warnings.warn(message, UserWarning, stacklevel=1)


def _read_dtool_json(path: str) -> dict[str, Any]:
    """Return what the file holds; nothing where there is no file.

    A folder on the way that this user may not enter counts as no file: with settings in the environment, a container
    may run as a user who cannot look into HOME.
    """
    if not os.path.exists(path):
        return {}
    problem = ""
    held: object = None
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            held = json.load(file)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    else:
        if not isinstance(held, dict):
            problem = (
                "must hold one JSON object, as in {"
                + f'"{_KEYS["endpoint"].format("my-bucket")}": "https://..."'
                + "}"
            )
    if problem or not isinstance(held, dict):
        # Raised out here: the error of json holds the whole text of the file, secrets included.
        raise SettingsError(f"{path} {problem}")
    secret = _KEYS["secret_access_key"].format("")
    if (
        os.name == "posix"
        and stat.S_IMODE(mode) & 0o077
        and any(key.startswith(secret) and value for key, value in held.items())
    ):
        _warn(f"{path} holds a secret and can be read by others: chmod 600 {path}")
    return held


def _keys_of(field: str, bucket: str) -> tuple[str, ...]:
    """Return the keys of a field, best first.

    DTOOL_ECS_ACCESS_KEY_ID_x is the right key of bucket "x", never the misspelt one of a bucket "ID_x": a credential
    is not guessed.
    """
    key = _KEYS[field].format(bucket)
    if field == "access_key_id" and bucket != "ID" and not bucket.startswith("ID_"):
        return (key, _MISSPELT.format(bucket))
    return (key,)


class _BucketSource(PydanticBaseSettingsSource):
    """One place that may hold keys of a bucket.

    Which bucket, and which file, it finds in the state that the source before it left: what the caller passed.
    """

    @abstractmethod
    def read(self) -> Mapping[str, Any]:
        """Return all keys and values of this place."""

    @abstractmethod
    def origin(self, key: str) -> str:
        """Return how to name this key in this place."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value (None: not set) and the key that it was found under."""
        keys = _keys_of(field_name, self.current_state["bucket"])
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
            right = _keys_of(name, self.current_state["bucket"])[0]
            if key != right:
                _warn(f"{self.origin(key)} is misspelt; call it {right}")
            # Wrapped here already, because pydantic-settings logs what its sources return when it is debugged.
            values[name] = SecretStr(value) if name in _SECRET else value
            origins[name] = self.origin(key)
        # The state of the sources is merged with the earlier one winning, and so are these origins.
        return {"values": values, "origins": origins}


class _Environment(_BucketSource):
    """Environment variables; their names are case sensitive, as buckets are."""

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
        self._held = _read_dtool_json(self.current_state["config_path"])
        return super().__call__()

    def read(self) -> Mapping[str, Any]:
        return self._held

    def origin(self, key: str) -> str:
        return f"{self.current_state['config_path']}: {key}"


class _Search(BaseSettings):
    """What the environment and `dtool.json` say about one bucket, each value with its origin, not yet validated."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    bucket: str
    config_path: str
    values: dict[str, Any] = Field(default_factory=dict)
    origins: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings passes these by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the places in order, what was passed first."""
        return (init_settings, _Environment(settings_cls), _DtoolJson(settings_cls))


class _FileSearch(_Search):
    """What `dtool.json` alone says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings passes these by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the environment out."""
        return (init_settings, _DtoolJson(settings_cls))


def _search(places: type[_Search], bucket: str, config_path: str | os.PathLike[str] | None) -> BucketSettings:
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise SettingsError(f"{bucket!r} is no bucket name")
    path = default_config_path() if config_path is None else os.path.expanduser(os.fspath(config_path))
    found = places(bucket=bucket, config_path=path)
    looked_in = path if os.path.exists(path) else f"{path} (there is no such file)"
    if places is not _FileSearch:
        looked_in = f"the environment and in {looked_in}"
    settings = BucketSettings.__new__(BucketSettings)
    settings._fill({"bucket": bucket, **found.values}, {"bucket": CALLER, **found.origins}, looked_in)
    return settings


_ACTIVE: ContextVar[Mapping[str, BucketSettings]] = ContextVar("dtool_ecs_flows_active_settings")


@contextmanager
def active(*settings: BucketSettings) -> Iterator[None]:
    """Make settings the ones that `resolve` finds, inside this block of code and in contexts copied from it.

    They win whole: nothing of the environment or a file is mixed in. Nested ones add to, or override, the outer ones;
    on leaving, however that happens, the outer ones are back. A thread sees them when it runs in a copied context.
    """
    merged = dict(_ACTIVE.get({}))
    passed: dict[str, BucketSettings] = {}
    for one in settings:
        if passed.setdefault(one.bucket, one) != one:
            raise SettingsError(
                f"two different settings were passed for bucket {one.bucket!r}; a URI cannot tell them apart"
            )
    token = _ACTIVE.set(MappingProxyType(merged | passed))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def resolve(bucket: str, *, config_path: str | os.PathLike[str] | None = None) -> BucketSettings:
    """Return the settings of a bucket: active ones, else from the environment, else from `dtool.json`.

    Args:
        bucket: Name of the bucket.
        config_path: The file to read instead of dtool's own `dtool.json`.

    Raises:
        SettingsError: Something is missing (all of it is named) or wrong, or the file cannot be read.
    """
    settings = _ACTIVE.get({}).get(bucket)
    if settings is None:
        settings = _search(_Search, bucket, config_path)
    if not settings.verify_tls and settings.endpoint.startswith("https:"):
        _warn(
            f"the certificate of {settings.endpoint} is not checked ({settings.origin('verify_tls')}): anyone on the way "
            "can read and change what is sent; set a CA bundle instead"
        )
    return settings


def from_dtool_json(bucket: str, config_path: str | os.PathLike[str] | None = None) -> BucketSettings:
    """Return the settings that a `dtool.json` alone gives for a bucket, whatever the environment says."""
    return _search(_FileSearch, bucket, config_path)


def configured_buckets(
    config_path: str | os.PathLike[str] | None = None, *, environment: bool = True
) -> list[str]:
    """Return the names of all buckets that have an endpoint or a key, sorted.

    Args:
        config_path: The file to read instead of dtool's own `dtool.json`.
        environment: False looks at the file alone.
    """
    path = default_config_path() if config_path is None else os.path.expanduser(os.fspath(config_path))
    held = _read_dtool_json(path)
    if environment:
        held = {**held, **os.environ}
    names = {_bucket_of(key) for key, value in held.items() if value not in ("", None)}
    return sorted(name for name in names if _BUCKET.fullmatch(name))


def _bucket_of(key: str) -> str:
    """Return the bucket that a key of an endpoint or credential speaks of; the longest matching key decides."""
    for template in (_KEYS["endpoint"], _KEYS["secret_access_key"], _KEYS["access_key_id"], _MISSPELT):
        start = template.format("")
        if key.startswith(start):
            name = key[len(start) :]
            return "" if template == _MISSPELT and name == "ID" else name
    return ""
