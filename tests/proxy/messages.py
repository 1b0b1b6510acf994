"""Requests as S3 understands them, and the answers that the proxy gives itself."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

OF_OBJECTS = {
    "GET": {"uploadId": "ListParts", "acl": "GetObjectAcl", "tagging": "GetObjectTagging", "": "GetObject"},
    "HEAD": {"": "HeadObject"},
    "PUT": {"partNumber": "UploadPart", "acl": "PutObjectAcl", "tagging": "PutObjectTagging", "": "PutObject"},
    "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}
OF_BUCKETS = {
    "GET": {"uploads": "ListMultipartUploads", "list-type": "ListObjectsV2", "": "ListObjects"},
    "HEAD": {"": "HeadBucket"},
    "PUT": {"policy": "PutBucketPolicy", "versioning": "PutBucketVersioning", "": "CreateBucket"},
    "POST": {"delete": "DeleteObjects"},
    "DELETE": {"policy": "DeleteBucketPolicy", "": "DeleteBucket"},
}
COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}


@dataclass(eq=False)
class Request:
    """One request as it arrived, what S3 calls it, and what became of it."""

    method: str
    target: str  # path and query, as the client sent them
    headers: Mapping[str, str]  # names in lower case
    query: Mapping[str, str] = field(init=False)
    bucket: str = field(init=False)
    key: str = field(init=False)
    operation: str = field(init=False)  # "PutObject", "UploadPart" …; the method where it is none of those known
    status: int = 0  # of its answer; 0 as long as there is none
    passed: int = 0  # bytes of the answer's body that were passed on, with what frames them
    fault: str = ""  # what the proxy did to it, in words
    body: bytes = b""  # where the proxy keeps bodies

    def __post_init__(self) -> None:
        path, _, query = self.target.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        bucket, _, key = urlsplit(path).path.lstrip("/").partition("/") if "://" in path else path[1:].partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key)
        names = (OF_OBJECTS if self.key else OF_BUCKETS).get(self.method, {})
        found = next((name for part, name in names.items() if part in self.query), names.get("", self.method))
        self.operation = COPIES.get(found, found) if "x-amz-copy-source" in self.headers else found

    @property
    def signed_headers(self) -> list[str]:
        """Names of the headers that the signature covers."""
        if "X-Amz-SignedHeaders" in self.query:
            return self.query["X-Amz-SignedHeaders"].split(";")
        _, _, rest = self.headers.get("authorization", "").partition("SignedHeaders=")
        return rest.partition(",")[0].split(";")

    def matches(self, what: str = "*", key: str = "*") -> bool:
        """Whether it is such a request: a method in capitals, or an operation; both it and the key as patterns."""
        name = self.method if what.isupper() else self.operation
        return fnmatch.fnmatchcase(name, what) and fnmatch.fnmatchcase(self.key, key)

    def __str__(self) -> str:
        return f"{self.operation} {self.target} {self.status or 'unanswered'}" + (f" ({self.fault})" * bool(self.fault))


@dataclass(frozen=True)
class Answer:
    """An answer that the proxy gives in place of the server; with a code, an error as S3 words it."""

    status: int = 0
    code: str = ""
    body: bytes | None = None
    content_type: str = "application/xml"
    retry_after: str = ""

    @property
    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        return f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>told so</Message></Error>".encode()

    def __str__(self) -> str:
        return f"{self.status} {self.code}".rstrip()


class Head(NamedTuple):
    """The first line and the headers of a message, as they came and as they are understood."""

    raw: bytes
    words: list[str]  # method and target, or version and status, and the rest of the line
    headers: dict[str, str]  # by lower-case name

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read what ends with an empty line."""
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(raw, first.split(" ", 2), {name.strip().lower(): value.strip() for name, _, value in pairs})

    def replace(self, name: str, value: str) -> Head:
        """Give a header (lower case) another value, if it is there."""
        return self._edited(lambda told, line: f"{line[: len(told)]}: {value}" if told == name else line)

    def with_length(self, length: int) -> Head:
        """Tell the end of the body by Content-Length."""
        framing = ("content-length", "transfer-encoding")
        kept = self._edited(lambda told, line: "" if told in framing else line)
        return Head.parse(kept.raw[:-2] + f"Content-Length: {length}\r\n\r\n".encode())

    def _edited(self, edit: Callable[[str, str], str]) -> Head:
        first, *lines = self.raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        edited = [edit(line.partition(":")[0].lower(), line) for line in lines]
        return Head.parse("\r\n".join([first, *filter(None, edited), "", ""]).encode("latin-1"))

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()
