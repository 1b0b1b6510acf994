"""A reverse proxy that counts: what a client really asked of its server, request by request.

    with counting_proxy(server) as proxy:
        ...                          # a client of proxy.endpoint
        assert len(proxy.requests) <= 110

Bytes pass through as they are. The Host header, which SigV4 signs, is among them, so signatures stay valid. Each
connection of a client has a connection of its own to the server, and its two directions are read apart: bodies stream,
and a server may answer (100 Continue, or an error) before it has seen the end of a body.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from tests.servers import S3Server

T = TypeVar("T")

CHUNK = 256 * 1024
NO_BODY = frozenset({204, 304})

HUNG_UP = (ConnectionError, asyncio.IncompleteReadError)  # either side may do so at any time


class Request(NamedTuple):
    """One request and the status that it was answered with; equal to a plain tuple of the same."""

    method: str
    target: str  # path and query, as the client sent them
    status: int


class Head(NamedTuple):
    """The first line and the headers of a message, as they came and as they are understood."""

    raw: bytes
    words: tuple[str, str]  # method and target, or version and status
    headers: dict[str, str]  # by lower-case name


class CountingProxy:
    """Listens on a free port from `start` to `stop`; its event loop has a thread of its own."""

    def __init__(self, backend: str) -> None:
        parts = urlsplit(backend)
        assert parts.scheme == "http", "the proxy does not speak TLS"
        assert parts.hostname
        self.endpoint = ""
        self._backend = (parts.hostname, parts.port or 80)
        self._requests: list[Request] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="counting-proxy", daemon=True)

    @property
    def requests(self) -> list[Request]:
        """The requests answered so far, in the order of their answers; a copy."""
        return list(self._requests)

    def clear(self) -> None:
        """Forget what was counted."""
        self._requests.clear()

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20))
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _close(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client until either side hangs up."""
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        writers = [writer]
        try:
            from_server, to_server = await asyncio.open_connection(*self._backend, limit=2**20)
            writers.append(to_server)
            waiting: deque[tuple[str, str]] = deque()  # requests that have no answer yet
            directions = [
                asyncio.ensure_future(self._forward_requests(reader, to_server, waiting)),
                asyncio.ensure_future(self._forward_responses(from_server, writer, waiting)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in directions:
                    each.cancel()
                results = await asyncio.gather(*directions, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
        except (*HUNG_UP, asyncio.CancelledError):
            pass  # of `stop`, or of a server that is gone: the client sees its connection closed
        finally:
            for each_writer in writers:
                each_writer.close()
            self._connections.discard(task)

    async def _forward_requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, waiting: deque[tuple[str, str]]
    ) -> None:
        while True:
            head = await _read_head(client)
            waiting.append(head.words)
            server.write(head.raw)
            await _forward_body(head, client, server, until_end=False)

    async def _forward_responses(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, waiting: deque[tuple[str, str]]
    ) -> None:
        while True:
            head = await _read_head(server)
            status = int(head.words[1])
            if status < 200:  # 100 Continue comes before the answer
                client.write(head.raw)
                continue
            method, target = waiting.popleft()
            self._requests.append(Request(method, target, status))
            client.write(head.raw)
            if method != "HEAD" and status not in NO_BODY:
                await _forward_body(head, server, client, until_end=True)
            await client.drain()
            if head.headers.get("connection", "").lower() == "close":
                return


async def _read_head(reader: asyncio.StreamReader) -> Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    one, two = first.split(" ", 2)[:2]
    pairs = (line.partition(":") for line in lines)
    return Head(raw, (one, two), {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _forward_body(
    head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, until_end: bool
) -> None:
    """Copy a body, however its end is told; `until_end` says what it means that nothing tells."""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        size = -1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line)
            await _copy(size + 2 if size else 0, reader, writer)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":  # trailers
            writer.write(line)
        writer.write(line)
    elif "content-length" in head.headers:
        await _copy(int(head.headers["content-length"]), reader, writer)
    elif until_end:
        while block := await reader.read(CHUNK):
            writer.write(block)
            await writer.drain()


async def _copy(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while size:
        block = await reader.read(min(size, CHUNK))
        if not block:
            raise ConnectionResetError
        writer.write(block)
        await writer.drain()
        size -= len(block)


@contextmanager
def counting_proxy(server: S3Server | str) -> Iterator[CountingProxy]:
    """Run a counting proxy for as long as the block lasts.

    Args:
        server: The server, or its endpoint.

    Yields:
        The proxy; clients use its `endpoint` in place of the server's.
    """
    proxy = CountingProxy(server if isinstance(server, str) else server.endpoint)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
