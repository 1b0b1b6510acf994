"""The settings of one bucket: a frozen record that knows where each of its values came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import dtoolcore.utils
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings import checks

CALLER = "the caller"
DEFAULT = "default"

_Text: TypeAlias = Annotated[str, BeforeValidator(checks.strip)]
_Seconds: TypeAlias = Annotated[float, BeforeValidator(checks.to_number), Field(gt=0, le=86400, allow_inf_nan=False)]
_Rate: TypeAlias = Annotated[float, BeforeValidator(checks.to_number), Field(ge=0, allow_inf_nan=False)]
_Size: TypeAlias = Annotated[ByteSize, BeforeValidator(checks.to_number), Field(ge=0)]
_Expiry: TypeAlias = Annotated[int, BeforeValidator(checks.to_number), Field(ge=1, le=604800)]


class BucketSettings(BaseModel):
    """Everything needed to work with one bucket; frozen, hashable, validated once.

    Build one directly, or let `resolve` look it up. Where values came from (`settings.origin("endpoint")`)
    takes no part in equality, hash or serialisation. No text made from this object shows the secret.

    Attributes:
        bucket: Name of the bucket.
        endpoint: http or https URL of the object store, without trailing slash.
        access_key_id: Name of the key pair (ECS calls it the object user).
        secret_access_key: Secret half of the key pair.
        dataset_prefix: Where new datasets go: empty, or with exactly one trailing slash and no leading one.
        namespace: Sent as x-emc-namespace where it is not empty.
        ca_bundle: PEM file of the certificates to trust; empty means the system's.
        verify_tls: Whether the server's certificate is checked.
        concurrency: Requests in flight at once for this bucket, 1 to 256; all that this process does there together.
        max_requests_per_second: All that this process does there together; 0 sets no limit.
        max_bytes_per_second: Content of objects, both directions together, as a number or as "50 MiB"; 0 sets no limit.
        connect_timeout: Seconds.
        read_timeout: Seconds.
        cache_directory: Where fetched items are kept.
        publish_expiry: Seconds that URLs of published datasets last; None publishes without end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bucket: Annotated[_Text, AfterValidator(checks.check_bucket)]
    endpoint: Annotated[_Text, AfterValidator(checks.check_endpoint)]
    access_key_id: Annotated[_Text, AfterValidator(checks.check_key)]
    secret_access_key: Annotated[SecretStr, AfterValidator(checks.check_secret)]
    dataset_prefix: Annotated[str, AfterValidator(checks.check_prefix)] = ""
    namespace: Annotated[_Text, AfterValidator(checks.check_namespace)] = ""
    ca_bundle: Annotated[str, BeforeValidator(checks.to_path_text), AfterValidator(checks.check_ca_bundle)] = ""
    verify_tls: Annotated[bool, BeforeValidator(checks.strip)] = True
    concurrency: Annotated[int, BeforeValidator(checks.to_number), Field(ge=1, le=256)] = 16
    max_requests_per_second: _Rate = 0
    max_bytes_per_second: _Size = ByteSize(0)
    connect_timeout: _Seconds = 10.0
    read_timeout: _Seconds = 60.0
    # Asked for at call time: programs and tests patch dtoolcore's constant.
    cache_directory: Annotated[
        str, BeforeValidator(checks.to_path_text), AfterValidator(checks.check_cache_directory)
    ] = Field(default_factory=lambda: str(dtoolcore.utils.DEFAULT_CACHE_PATH))
    publish_expiry: Annotated[_Expiry | None, BeforeValidator(checks.empty_to_none)] = None

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        """Validate the fields; a SettingsError names all that is missing or wrong."""
        self._fill(values, dict.fromkeys(values, CALLER))

    @classmethod
    def from_origin(
        cls,
        origin: str | Mapping[str, str],
        values: Mapping[str, Any],
        *,
        looked_in: str = "",
        keys: Mapping[str, str] | None = None,
    ) -> BucketSettings:
        """Build settings whose values, and errors about them, say where they came from.

        Args:
            origin: One text for all values, or one for each field.
            values: The fields.
            looked_in: Where a missing value was looked for.
            keys: What a missing value is called there, by field.
        """
        settings = cls.__new__(cls)
        origins = dict.fromkeys(values, origin) if isinstance(origin, str) else origin
        settings._fill(values, origins, looked_in, keys)  # noqa: SLF001  # its own class
        return settings

    def _fill(
        self,
        values: Mapping[str, Any],
        origins: Mapping[str, str],
        looked_in: str = "",
        keys: Mapping[str, str] | None = None,
    ) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            message = _explain(error, values, origins, looked_in, keys or {})
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
        """Hash the values; where they came from does not matter."""
        return hash(tuple(value for _, value in self))


def _explain(
    error: ValidationError,
    values: Mapping[str, Any],
    origins: Mapping[str, str],
    looked_in: str,
    keys: Mapping[str, str],
) -> str:
    """Say in one line what is missing and what is wrong, each with its origin, and show no secret."""
    bucket = values.get("bucket")
    missing: list[str] = []
    problems: list[str] = []
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if detail["type"] == "missing":
            missing.append(keys.get(name, name))
        elif detail["type"] == "extra_forbidden":
            problems.append(f"there is no setting {name!r}, only {', '.join(BucketSettings.model_fields)}")
        else:
            of_bucket = "" if name == "bucket" else f" of bucket {bucket!r}"
            value = checks.describe_value(name, values.get(name))
            problem = checks.describe_problem(name, detail)
            problems.append(f"{name}{of_bucket} ({origins.get(name, DEFAULT)}){value} {problem}")
    if missing:
        verb = "is not set" if len(missing) == 1 else "are not set"
        where = f": looked in {looked_in}" if looked_in else f" for bucket {bucket!r}" if bucket else ""
        problems.insert(0, f"{', '.join(missing)} {verb}{where}")
    return "; ".join(problems)
