"""The Prefect block that holds a bucket's settings.

A block is passed by the caller (a flow's parameter, a deployment's form), never searched for by name. Inside
`with bucket.active():` dtoolcore's own calls and all operations of this package find its settings, and no `dtool.json`
or environment variable is asked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator

from dtool_ecs_flows import settings as bucket_settings
from dtool_ecs_flows.errors import SettingsError

__all__ = ["EcsBucket", "block_name_for", "block_names"]


def block_name_for(bucket: str) -> str:
    """Return the name of a bucket's block: Prefect allows lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", bucket.lower()).strip("-")


def block_names(buckets: Iterable[str]) -> dict[str, str]:
    """Return the name of each bucket's block.

    Raises:
        SettingsError: Two buckets would share one block.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for bucket in dict.fromkeys(buckets):
        name = block_name_for(bucket)
        if name in owners:
            raise SettingsError(
                f"buckets {owners[name]!r} and {bucket!r} would both become block {name!r}: import one of them, "
                "and save the other under a name of your own"
            )
        owners[name] = bucket
        names[bucket] = name
    return names


class EcsBucket(Block):
    """A bucket in Dell ECS, or in another object store that speaks S3, for dtool datasets.

    Give it to a flow as a parameter. Inside its active context every ecs URI of this bucket is read and written with
    these settings.

    Example:
        Copy a dataset into the bucket of a saved block:

        ```python
        from dtool_ecs_flows import copy_dataset
        from dtool_ecs_flows.blocks import EcsBucket

        bucket = EcsBucket.load("BLOCK_NAME")
        with bucket.active():
            copy_dataset("file:///data/my-dataset", bucket.base_uri)
        ```
    """

    _block_type_name = "ECS Bucket"
    _block_type_slug = "ecs-bucket"
    # Prefect wants http(s) here. This picture belongs to Prefect's own blocks and stays where it is by its commit.
    _logo_url = HttpUrl(
        "https://raw.githubusercontent.com/PrefectHQ/prefect/420d0d6a78bb6df1fc18bcf188fdad43c1d22ea9"
        "/assets/block-logos/filesystem.png"
    )
    _documentation_url = HttpUrl("https://dtool.readthedocs.io/")

    # Pydantic's complaint about one field would otherwise show all of them, the secret included.
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True)

    # The form of the UI follows this order. No field is Optional: that makes an ugly form.
    bucket: str = Field(title="Bucket", description="Name of the bucket.", examples=["my-bucket"])
    endpoint: str = Field(
        title="Endpoint",
        description="URL of the object store with its port, http or https.",
        examples=["https://ecs.example.org:9021"],
    )
    access_key_id: str = Field(title="Access key ID", description="Name of the key pair; ECS calls it the object user.")
    secret_access_key: SecretStr = Field(
        title="Secret access key", description="Secret half of the key pair; kept encrypted and never shown."
    )
    dataset_prefix: str = Field(
        default="",
        title="Dataset prefix",
        description="Where new datasets go in the bucket, for example u/olssont; empty puts them at its top.",
    )
    namespace: str = Field(
        default="",
        title="ECS namespace",
        description="Sent as x-emc-namespace; empty where the endpoint or the user decides it.",
    )
    ca_bundle: str = Field(
        default="",
        title="CA bundle",
        description="Path, on the machine that runs the flow, of a PEM file with the certificates to trust; "
        "empty trusts those of the system.",
    )
    verify_tls: bool = Field(
        default=True,
        title="Verify TLS",
        description="Check the server's certificate; where this is off, others can read and change the data.",
    )
    concurrency: int = Field(
        default=16, ge=1, le=256, title="Concurrency", description="Requests in flight at once, 1 to 256."
    )
    max_requests_per_second: float = Field(
        default=0,
        ge=0,
        title="Requests per second",
        description="No more than this many in all of one worker process; 0 sets no limit.",
    )
    max_bytes_per_second: str = Field(
        default="",
        coerce_numbers_to_str=True,
        title="Bytes per second",
        description="No more than this, both directions together, for example 50 MiB; empty sets no limit.",
    )
    connect_timeout: float = Field(
        default=10.0, gt=0, title="Connect timeout", description="Seconds to wait for a connection."
    )
    read_timeout: float = Field(
        default=60.0, gt=0, title="Read timeout", description="Seconds to wait for the next bytes."
    )
    cache_directory: str = Field(
        default="",
        title="Cache folder",
        description="Where fetched items are kept on the machine that runs the flow; empty for dtool's own.",
    )
    publish_expiry: int = Field(
        default=0,
        ge=0,
        le=604800,
        title="Publish expiry",
        description="Seconds that the URLs of published datasets last, at most 604800; 0 publishes without end.",
    )

    @field_validator("endpoint")
    @classmethod
    def _without_password(cls, value: str) -> str:
        """Refuse a password, which Prefect would keep and show with every run; all else is for `settings` to say."""
        if "@" in value:
            raise ValueError("must not hold a user name or password; the keys have fields of their own")
        return value

    @property
    def base_uri(self) -> str:
        """The dtool base URI of the bucket."""
        return f"ecs://{self.bucket}"

    @property
    def _origin(self) -> str:
        return f"block EcsBucket {self._block_document_name or '(not saved)'}"

    def settings(self) -> bucket_settings.BucketSettings:
        """Return the settings as the record that all operations take.

        Raises:
            SettingsError: A value is wrong, or a field does not exist; names the block.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values["publish_expiry"] = self.publish_expiry or None
        for name in ("cache_directory", "max_bytes_per_second"):
            if not values[name]:
                del values[name]
        # Prefect lets blocks hold any other field: a misspelt one must not go unnoticed.
        extra = {name: value for name, value in (self.model_extra or {}).items() if name != "block_type_slug"}
        return bucket_settings.BucketSettings.from_origin(self._origin, {**values, **extra})

    @contextmanager
    def active(self) -> Iterator[bucket_settings.BucketSettings]:
        """Make this block's settings the ones found for its bucket, inside this block of code.

        Our own threads and Prefect's task threads, started inside, see them; other threads do not. A task that runs
        in another process gets the block as a parameter and opens its own.
        """
        settings = self.settings()
        with bucket_settings.active(settings):
            yield settings

    @classmethod
    def from_dtool_json(cls, bucket: str, config_path: str | os.PathLike[str] | None = None) -> EcsBucket:
        """Build the block of a bucket from what a `dtool.json` says, whatever the environment says.

        Args:
            bucket: Name of the bucket.
            config_path: The file to read instead of dtool's own `dtool.json`.
        """
        return cls._of(bucket_settings.from_dtool_json(bucket, config_path))

    @classmethod
    def configured(cls, bucket: str, config_path: str | os.PathLike[str] | None = None) -> EcsBucket:
        """Build the block of a bucket from how dtool is configured here: the environment, then `dtool.json`.

        Args:
            bucket: Name of the bucket.
            config_path: The file to read instead of dtool's own `dtool.json`.
        """
        return cls._of(bucket_settings.resolve(bucket, config_path=config_path))

    @classmethod
    def _of(cls, found: bucket_settings.BucketSettings) -> EcsBucket:
        # What was not set stays at its default: a cache folder of this machine is no setting of a worker. None is
        # how the record says what the form says by its default.
        was_set = {name: value for name, value in found if found.origin(name) != bucket_settings.DEFAULT}
        return cls(**{name: value for name, value in was_set.items() if value is not None})
