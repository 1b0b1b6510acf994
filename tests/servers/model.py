"""What a test knows about the server that it talks to."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
from botocore.config import Config

Capability = Literal[
    "acl",  # ACLs are kept, and "public-read" makes an object readable by anyone
    "conditional_put",  # If-None-Match: * is refused with 412 where there is an object already
    "odd_keys",  # any UTF-8 key, `a//b` included
    "policy",  # more users than one, and bucket policies that bind them
    "presign",  # a presigned URL gives the content
    "range",  # a range is answered with status 206
]

CAPABILITIES: dict[str, frozenset[Capability]] = {
    "rgw": frozenset({"acl", "conditional_put", "odd_keys", "policy", "presign", "range"}),
    # Also of note: rclone takes PutObjectAcl and PutObjectTagging for PutObject, and the object's content is gone. It
    # gives metadata keys back in title case (`Handle`), adds an `Mtime` to them and forgets all metadata when it exits.
    # ETags in listings have no quotes; after a multipart upload HEAD shows another ETag than its completion did.
    "rclone": frozenset({"presign"}),
}


@dataclass(frozen=True)
class S3Server:
    """A server that runs, and how to reach it as its first user."""

    name: str
    endpoint: str
    access_key_id: str
    secret_access_key: str
    directory: Path
    ca_bundle: str = ""  # the file with the authority of its certificate, where it speaks https with one of its own
    strict: bool = False  # refuses what ECS refuses: a proxy sees to it

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this server can do of that in which servers differ."""
        return CAPABILITIES[self.name]

    def client(self, *, endpoint: str = "", access_key_id: str = "", secret_access_key: str = "") -> Any:
        """A plain boto3 client: tests set up, and look afterwards, without the code that they test."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=access_key_id or self.access_key_id,
            aws_secret_access_key=secret_access_key or self.secret_access_key,
            region_name="us-east-1",
            verify=self.ca_bundle or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket that belongs to the first user."""
        self.client().create_bucket(Bucket=name)

    def add_user(self, uid: str, access_key_id: str, secret_access_key: str) -> None:
        """Add a user, whom a bucket policy can name as `arn:aws:iam:::user/<uid>`.

        Args:
            uid: The user's name.
            access_key_id: One that no other user has.
            secret_access_key: Any.
        """
        if "policy" not in self.capabilities:
            raise NotImplementedError(f"{self.name} has one user only")
        keys = (f"--access-key={access_key_id}", f"--secret={secret_access_key}")
        self.administer("user", "create", f"--uid={uid}", f"--display-name={uid}", *keys)

    def administer(self, *words: str) -> None:
        """Run `radosgw-admin`, on a RADOS Gateway."""
        environment = {**os.environ, "CEPH_CONF": str(self.directory / "ceph.conf")}
        subprocess.run(["radosgw-admin", *words], check=True, capture_output=True, env=environment)

    def to_json(self) -> str:
        """One line, from which `from_json` makes an equal object."""
        return json.dumps({
            "name": self.name,
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "directory": str(self.directory),
        })  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> S3Server:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "directory": Path(fields["directory"])})


@dataclass(frozen=True)
class OtherServer:
    """A server that runs and is no S3 server."""

    name: str
    port: int
    """On 127.0.0.1."""
    user: str
    secret: str
    directory: Path

    @property
    def endpoint(self) -> str:
        """Where it listens, as text."""
        return f"127.0.0.1:{self.port}"

    def to_json(self) -> str:
        """One line, from which `from_json` makes an equal object."""
        return json.dumps({**dataclasses.asdict(self), "directory": str(self.directory)})

    @classmethod
    def from_json(cls, text: str) -> OtherServer:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "directory": Path(fields["directory"])})
