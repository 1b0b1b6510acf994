"""A proxy that writes down every request whole, and can be told to answer some of them itself.

`tests.proxy` counts requests without touching them; this one understands them, to look at headers and bodies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def signed_headers(self) -> list[str]:
        """Names of the headers that the signature covers."""
        _, _, rest = self.headers["authorization"].partition("SignedHeaders=")
        return rest.partition(",")[0].split(";")

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True)
class Answer:
    """What the recorder answers instead of the server. Without a status it hangs up after the server has answered."""

    status: int = 0
    code: str = ""
    body: bytes | None = None
    content_type: str = "application/xml"

    @property
    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        return f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>told so</Message></Error>".encode()


Script = Callable[[Recorded], Answer | None]


class Recorder(ThreadingHTTPServer):
    """Listens on a free port; `script` may answer a request, None lets it pass; `date` is what its own answers say."""

    daemon_threads = True

    def __init__(self, backend: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend = urlsplit(backend).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[Recorded] = []
        self.script: Script = lambda _: None
        self.date = ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up."""

    def of(self, method: str, part: str = "") -> list[Recorded]:
        """The requests of a method whose target has this part."""
        return [each for each in self.requests if each.method == method and part in each.target]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Write no log."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        recorded = Recorded(self.command, self.path, headers, self._body(headers))
        answer = self.server.script(recorded)
        self.server.requests.append(recorded)
        if answer is not None and answer.status:
            own = {"Content-Type": answer.content_type, "Date": self.server.date or self.date_time_string()}
            self._send(answer.status, own, answer.content)
            return
        status, back, content = self._forward(recorded)
        if answer is not None:
            self.close_connection = True
            return
        self._send(status, back, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # the base class's names

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forward(self, recorded: Recorded) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self.server.backend, timeout=60)
        try:
            connection.putrequest(recorded.method, recorded.target, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(recorded.body)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def recording(endpoint: str) -> Iterator[Recorder]:
    """Run a recorder in front of an endpoint for as long as the block lasts."""
    recorder = Recorder(endpoint)
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.shutdown()
        recorder.server_close()
        thread.join()
