"""A server that takes objects and forgets them, and gives zeros: what a client holds meanwhile is all that there is."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.memory.simulated import ADMIN, UUID

_ZEROS = bytes(1024**2)
_STARTED = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
_COMPLETED = b"<CompleteMultipartUploadResult><ETag>&quot;x-1&quot;</ETag></CompleteMultipartUploadResult>"


class Sink(ThreadingHTTPServer):
    """Listens on a free port. Small objects are kept, of those below `data/` no more than the size.

    Args:
        source: objects that are there; a number stands for so many zeros.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, source: dict[str, bytes | int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.objects: dict[str, bytes | int] = dict(source)
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = self.server.objects.get(self._key)
        if "list-type" in url.query:
            self._answer(self._listing(url.query))
        elif found is None:
            self._answer(b"<Error><Code>NoSuchKey</Code></Error>", 404)
        elif isinstance(found, bytes):
            self._answer(found)
        else:
            self._answer_zeros(found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_zeros(self, size: int) -> None:
        start, _, last = self.headers.get("Range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
        left = int(last) + 1 - int(start)
        part = {"Content-Range": f"bytes {start}-{last}/{size}"} if "Range" in self.headers else {}
        self._head(206 if part else 200, left, part)
        with suppress(ConnectionError):  # who hangs up wants no more
            while left and self.command != "HEAD":
                left -= self.wfile.write(_ZEROS[: min(left, len(_ZEROS))])

    def do_PUT(self) -> None:
        md5, left, kept = hashlib.md5(), int(self.headers["Content-Length"]), b""
        size = left
        while left:
            data = self.rfile.read(min(left, 256 * 1024))
            md5.update(data)
            left -= len(data)
            kept = kept + data if size < 1024**2 else b""
        with self.server.lock:
            if "/data/" not in self._key:
                self.server.objects[self._key] = kept
            else:
                self.server.objects[self._key] = int(self.server.objects.get(self._key, 0)) + size
        self._answer(b"", extra={"ETag": f'"{md5.hexdigest()}"'})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(_STARTED if "uploads" in urlsplit(self.path).query else _COMPLETED)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/").partition("/")[2]

    def _listing(self, query: str) -> bytes:
        if "data%2F" not in query:
            return b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        rows = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-11-02T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;x-1&quot;</ETag><Size>{size}</Size></Contents>"
            for key, size in self.server.objects.items()
            if isinstance(size, int)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

    def _answer(self, body: bytes, status: int = 200, extra: dict[str, str] | None = None) -> None:
        self._head(status, len(body), extra or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, extra: dict[str, str]) -> None:
        self.send_response(status)
        dated = {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT", "ETag": '"x-1"', **extra}
        for name, value in {**dated, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


def zeros(size: int) -> dict[str, bytes | int]:
    """A frozen dataset of one item of so many zeros, as `Sink` takes it."""
    identifier, md5 = hashlib.sha1(b"zeros").hexdigest(), hashlib.md5()
    for _ in range(size // len(_ZEROS)):
        md5.update(_ZEROS)
    entry = {"relpath": "zeros", "size_in_bytes": size, "hash": md5.hexdigest(), "utc_timestamp": 1.5e9}
    manifest = {"items": {identifier: entry}, "dtoolcore_version": "3.20.0", "hash_function": "md5sum_hexdigest"}
    documents = {f"dtool-{UUID}": b"", f"{UUID}/dtool": json.dumps(ADMIN).encode(), f"{UUID}/README.yml": b""}
    return {**documents, f"{UUID}/manifest.json": json.dumps(manifest).encode(), f"{UUID}/data/{identifier}": size}


@contextmanager
def sink(source: dict[str, bytes | int]) -> Iterator[Sink]:
    """Serve until the block is left."""
    server = Sink(source)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
