"""A proxy that makes a server far away: `python -m benchmarks.latency http://127.0.0.1:8000 10`.

Each request is held back for so many milliseconds before it goes on to the server; its answer comes back at once. Any
number of requests wait side by side. Bytes pass as they are, so signatures stay valid. It prints its endpoint, and
ends with its standard input.

A request begins with the first bytes that a client sends after an answer, which is all that has to be known of HTTP
where nobody sends a request before the last one is answered; `100 Continue` is no answer. Setting up a connection
takes no longer than without it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import cast
from urllib.parse import urlsplit

import uvloop


class _Side(asyncio.Protocol):
    """One end of a connection; what it receives goes to the other end."""

    other: _Side

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not say so

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other.transport:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport:
            self.other.transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self.transport:
            self.transport.write(data)


class _Server(_Side):
    """The connection to the server."""

    other: _Client

    def data_received(self, data: bytes) -> None:
        self.other.write(data)
        if not data.startswith(b"HTTP/1.1 100 ") or data.count(b"HTTP/1.1 ", 0, 256) > 1:
            self.other.answered = True


class _Client(_Side):
    """A client's connection."""

    other: _Server

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int, delay: float) -> None:
        super().__init__()
        self._loop = loop
        self._address = (host, port)
        self._delay = delay
        self._held: list[bytes] | None = None
        self.answered = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = _Server()
        self.other.other = self
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self.other, *self._address)
        except OSError:
            assert self.transport
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self.answered:
            self.answered = False
            self._held = [data]
            self._loop.call_later(self._delay, self._connecting.add_done_callback, self._release)
        else:
            self.other.write(data)

    def _release(self, _connected: asyncio.Task[None]) -> None:
        assert self._held is not None
        held, self._held = self._held, None
        self.other.write(b"".join(held))


async def serve(backend: str, delay: float) -> None:
    """Listen on a free port for as long as standard input lasts.

    Args:
        backend: The endpoint of the server.
        delay: Seconds.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(backend)
    host, port = parts.hostname or "", parts.port or 80
    server = await loop.create_server(lambda: _Client(loop, host, port, delay), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await wait_for_end_of_input()


async def wait_for_end_of_input() -> None:
    """Return when whoever started this process closes its standard input, or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], float(sys.argv[2]) / 1000))
