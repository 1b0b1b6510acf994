"""A request that was changed on its way, signed anew."""

from __future__ import annotations

import re
from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.proxy.messages import Head

_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


class _Signature(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs a body by the hash that the client told: the body is still on its way."""

    def __init__(self, access_key_id: str, secret: str, sha256: str) -> None:
        super().__init__(Credentials(access_key_id, secret), "s3", "us-east-1")
        self._sha256 = sha256

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002  # botocore's signature
        return self._sha256


def without(header: str, head: Head, secrets: Mapping[str, str]) -> Head:
    """Take a header (lower case) out of the head of a signed request; `secrets` are by access key."""
    headers = {name: value for name, value in head.headers.items() if name != header}
    found = _CREDENTIAL.search(headers.pop("authorization"))
    assert found, "only signatures in the header Authorization can be made anew"
    method, target, version = head.words
    request = AWSRequest(method, f"http://{headers['host']}{target}", headers=headers)
    _Signature(found[1], secrets[found[1]], headers["x-amz-content-sha256"]).add_auth(request)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    return Head.parse("\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode("latin-1"))
