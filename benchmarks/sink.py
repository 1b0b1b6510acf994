"""An S3 server that does next to nothing, so that clients are as fast as they can be: `python -m benchmarks.sink`.

It keeps objects in memory, knows as much of S3 as bare files and datasets of small items need, checks no signature,
and hashes what it is given, since clients compare the ETag. It prints its endpoint, and ends with its standard input.

One process on uvloop, one pass over each request, no framework: about a tenth of a millisecond of CPU time for each.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape, unescape

import uvloop

from benchmarks.latency import wait_for_end_of_input

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ISO_DATE = "2026-01-01T00:00:00.000Z"
PAGE = 1000
KEY = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)


class Stored(NamedTuple):
    """An object."""

    body: bytes
    etag: str
    headers: str
    """Its metadata, as header lines."""


class Request(NamedTuple):
    """What a client asks; header names are in small letters."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Objects:
    """All buckets."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)

    def answer(self, request: Request) -> bytes:
        """Do what is asked, and return the whole response."""
        objects = self.buckets.get(request.bucket)
        if objects is None:
            if request.method != "PUT":
                return _failure(404, "NoSuchBucket")
            self.buckets[request.bucket] = {}
            return _response(200)
        if not request.key:
            return _of_bucket(objects, request)
        if request.method == "PUT" and not request.query.keys() & {"uploadId", "partNumber"}:
            return _put(objects, request)
        if request.method in ("GET", "HEAD"):
            return _get(objects, request)
        if request.method == "DELETE":
            objects.pop(request.key, None)
            return _response(204)
        return _failure(501, "NotImplemented")


def _put(objects: dict[str, Stored], request: Request) -> bytes:
    if "if-none-match" in request.headers and request.key in objects:
        return _failure(412, "PreconditionFailed")
    etag = hashlib.md5(request.body).hexdigest()
    kept = [f"{name}: {value}\r\n" for name, value in request.headers.items() if name.startswith("x-amz-meta-")]
    objects[request.key] = Stored(request.body, etag, "".join(kept))
    return _response(200, headers=f'ETag: "{etag}"\r\n')


def _get(objects: dict[str, Stored], request: Request) -> bytes:
    stored = objects.get(request.key)
    if stored is None:
        return _failure(404, "NoSuchKey", with_body=request.method == "GET")
    headers = f'ETag: "{stored.etag}"\r\nLast-Modified: {DATE}\r\nAccept-Ranges: bytes\r\n{stored.headers}'
    if request.method == "HEAD":
        return _response(200, headers=headers, length=len(stored.body))
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not asked:
        return _response(200, stored.body, headers=headers)
    first, size = int(asked[1]), len(stored.body)
    last = min(int(asked[2] or size), size - 1)
    if first > last:
        return _failure(416, "InvalidRange")
    headers += f"Content-Range: bytes {first}-{last}/{size}\r\n"
    return _response(206, stored.body[first : last + 1], headers=headers)


def _of_bucket(objects: dict[str, Stored], request: Request) -> bytes:
    if request.method == "POST" and "delete" in request.query:
        for key in KEY.findall(request.body.decode()):
            objects.pop(unescape(key), None)
        return _response(200, b"<DeleteResult/>")
    if request.method == "GET" and "uploads" in request.query:
        return _response(200, b"<ListMultipartUploadsResult/>")
    if request.method == "GET" and not request.query.keys() - _LISTING:
        return _response(200, _listing(objects, request.query).encode())
    return _response(200) if request.method in ("HEAD", "PUT") else _failure(501, "NotImplemented")


_LISTING = {"list-type", "prefix", "delimiter", "marker", "start-after", "continuation-token", "max-keys",
            "encoding-type", "fetch-owner", "x-id"}  # fmt: skip


def _listing(objects: dict[str, Stored], query: dict[str, str]) -> str:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    names = sorted(key for key in objects if key.startswith(prefix))
    start = max(query.get(name, "") for name in ("marker", "start-after", "continuation-token"))
    page = names[bisect_right(names, start) :][: int(query.get("max-keys", PAGE))]
    spell = quote if query.get("encoding-type") == "url" else escape
    contents, folders = [], dict[str, None]()
    for key in page:
        inner, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            folders[prefix + inner + delimiter] = None
            continue
        stored = objects[key]
        contents.append(
            f"<Contents><Key>{spell(key)}</Key><LastModified>{ISO_DATE}</LastModified><ETag>&quot;{stored.etag}&quot;"
            f"</ETag><Size>{len(stored.body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
    contents += [f"<CommonPrefixes><Prefix>{spell(each)}</Prefix></CommonPrefixes>" for each in folders]
    more = bool(page) and page[-1] != names[-1]
    after = spell(page[-1]) if more else ""
    ends = f"<NextMarker>{after}</NextMarker><NextContinuationToken>{after}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Prefix>{spell(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{ends}{''.join(contents)}</ListBucketResult>"
    )


def _response(status: int, body: bytes = b"", *, headers: str = "", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status} .\r\nContent-Length: {length}\r\n{headers}\r\n".encode("latin-1") + body


def _failure(status: int, code: str, *, with_body: bool = True) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode() if with_body else b""
    return _response(status, body)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._received = bytearray()
        self._needed = 0
        self._expecting = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not say so

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there whole."""
        self._received += data
        while self._received and len(self._received) >= self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            self._needed = end + 4 + int(headers.get("content-length", 0))
            if len(self._received) < self._needed:
                if self._expecting and "expect" in headers:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._expecting = False
                return
            body = bytes(self._received[end + 4 : self._needed])
            del self._received[: self._needed]
            self._needed, self._expecting = 0, True
            method, target, _ = first.split(" ")
            path, _, query = target.partition("?")
            bucket, _, key = unquote(path[1:]).partition("/")
            pairs = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
            self._transport.write(self._objects.answer(Request(method, bucket, key, pairs, headers, body)))


async def serve() -> None:
    """Listen on a free port for as long as standard input lasts."""
    objects = Objects()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(objects), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await wait_for_end_of_input()


if __name__ == "__main__":
    uvloop.run(serve())
