"""What Dell ECS refuses, in front of a server that is more patient; no ECS runs here.

The facts stand in the design notes of this project; each refusal is worded so that a test's failure explains itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.proxy.messages import Answer, Head, Request

LONGEST_KEY = 255  # characters; some versions take more

_OF_PARTS = re.compile(rb'(<ETag>(?:"|&quot;|&#34;)?)[0-9a-fA-F]{32}-\d+')
_TELLING = ("ListObjects", "ListObjectsV2", "CompleteMultipartUpload")

Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class StrictEcs:
    """Its rules, and its ETag of multipart objects: `00`. Users of a namespace must name it, and sign that."""

    namespace: str = ""

    def refuses(self, request: Request) -> Answer | None:
        """Return the answer to a request that ECS would not take."""
        for code, why in self._objections(request):
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>ECS: {why}</Message></Error>"
            status = {"AccessDenied": 403, "MissingContentLength": 411}.get(code, 400)
            return Answer(status, f"{code}: {why}", body.encode())
        return None

    def _objections(self, request: Request) -> list[tuple[str, str]]:
        headers, found = request.headers, []

        def object_if(wrong: bool, code: str, why: str) -> None:
            if wrong:
                found.append((code, why))

        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        object_if(host not in ("127.0.0.1", "localhost"), "InvalidRequest", f"virtual-host addressing of {host}")
        object_if(len(request.key) > LONGEST_KEY, "KeyTooLongError", f"a key of {len(request.key)} characters")
        sha = headers.get("x-amz-content-sha256", "")
        aws_chunked = "aws-chunked" in headers.get("content-encoding", "") or sha.startswith("STREAMING-")
        object_if(aws_chunked, "NotImplemented", "an aws-chunked body")
        object_if("x-amz-trailer" in headers, "NotImplemented", "trailing headers")
        for name in headers:
            unknown = name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))
            object_if(unknown, "NotImplemented", f"the header {name}")
        object_if(headers.get("x-amz-tagging") == "", "InvalidTag", "an empty x-amz-tagging header")
        object_if("x-amz-tagging-directive" in headers, "NotImplemented", "x-amz-tagging-directive")
        if request.method in ("PUT", "POST"):
            object_if("content-length" not in headers, "MissingContentLength", "a body without Content-Length")
        if request.operation == "DeleteObjects":
            object_if("content-md5" not in headers, "InvalidRequest", "DeleteObjects without Content-MD5")
        if self.namespace:
            told = headers.get("x-emc-namespace") == self.namespace and "x-emc-namespace" in request.signed_headers
            object_if(not told, "AccessDenied", f"x-emc-namespace {self.namespace} is missing, or not signed")
        return found

    def answers(self, request: Request) -> Change | None:
        """Return what changes the body of this request's answer, where that tells ETags of multipart objects."""
        return (lambda body: _OF_PARTS.sub(rb"\g<1>00", body)) if request.operation in _TELLING else None

    def head(self, head: Head) -> Head:
        """Change the ETag of a multipart object in the headers of an answer."""
        return head.replace("etag", '"00"') if "-" in head.headers.get("etag", "") else head
