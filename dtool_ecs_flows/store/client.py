"""Builds boto3 clients that speak the way ECS understands."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import boto3
import botocore
import botocore.httpsession
import botocore.loaders
import botocore.session
from botocore.config import Config

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import pages


def build(settings: BucketSettings) -> Any:
    """Return a boto3 S3 client for one bucket; no request is made.

    - Path-style addresses, no region, SigV4.
    - No checksum trailers and no aws-chunked bodies, which ECS refuses and boto3 sends since 1.36.
    - No retries: the caller owns them.
    """
    client = _client(
        settings,
        "s3v4",
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
    )
    # ECS wants Content-MD5 where S3 requires a checksum; today's boto3 sends a newer one instead, whatever it is told.
    for operation in ("DeleteObjects", "PutObjectAcl"):
        client.meta.events.register(f"before-call.s3.{operation}", _send_content_md5)
    client.meta.events.register("before-parse.s3.ListObjectsV2", pages.take_objects)
    if settings.namespace:
        # before-call, so that SigV4 signs it; a presigned URL does not pass here and stays usable by a browser.
        client.meta.events.register(
            "before-call.s3",
            lambda params, **_: params["headers"].__setitem__("x-emc-namespace", settings.namespace),
        )
    return client


def trusted(settings: BucketSettings) -> str:
    """Return the file with the certificates that a server's is checked against; nothing where none is checked."""
    if not settings.verify_tls:
        return ""
    return settings.ca_bundle or str(botocore.httpsession.get_cert_path(verify=True))


def build_unsigned(settings: BucketSettings) -> Any:
    """Return a client that signs nothing: it makes the plain URLs of public objects."""
    return _client(settings, botocore.UNSIGNED)


def check_key(params: Mapping[str, Any]) -> None:
    """Refuse a request for a key that is empty, as boto3 would: sent, it is one to the bucket, even to delete it.

    Raises:
        ValueError: the key is empty.
    """
    named = [params, params.get("CopySource", {}), *params.get("Delete", {}).get("Objects", ())]
    if any(each.get("Key") == "" for each in named):
        raise ValueError("an object has a key that is not empty")


def _client(settings: BucketSettings, signature: Any, **credentials: str) -> Any:
    # What the AWS command line is set up for is another store: its profile, files and switches do not count here.
    session = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    session.register_component("data_loader", _service_models())
    return boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name="us-east-1",  # ECS has no regions; SigV4 wants one
        verify=(settings.ca_bundle or True) if settings.verify_tls else False,
        config=Config(
            signature_version=signature,
            s3={"addressing_style": "path"},
            use_dualstack_endpoint=False,
            use_fips_endpoint=False,
            retries={"total_max_attempts": 1},
            parameter_validation=False,  # it refuses a memoryview, of which the rest makes no copy; see check_key
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_pool_connections=settings.concurrency + 8,
            tcp_keepalive=True,
        ),
        **credentials,
    )


@functools.cache
def _service_models() -> botocore.loaders.Loader:
    """Return what reads botocore's description of S3, for all clients: each on its own parses it for 0.1 to 0.3 s."""
    return botocore.loaders.create_loader()


def _send_content_md5(params: dict[str, Any], **_: Any) -> None:
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode("ascii")
    params["context"].pop("checksum", None)  # the one that boto3 has planned
