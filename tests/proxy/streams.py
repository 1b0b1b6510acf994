"""A connection, read by head, line and body, in plain or under TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.proxy.messages import Head

CHUNK = 256 * 1024

HUNG_UP = (OSError, EOFError)
"""What either side may do at any time; errors of TLS are OSErrors."""


class Block(NamedTuple):
    """A piece of a body: content, or what frames it."""

    data: bytes
    content: bool


class Stream:
    """A socket with a buffer. Used by one thread; `close` may come from another."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._buffer = b""

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def arrived(self) -> bool:
        """Whether there is something to read now, an end included; never waits."""
        if self._buffer:
            return True
        self.socket.settimeout(0)
        try:
            self._buffer = self.socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:  # an end, too; who reads on meets it
            return True
        finally:
            self.socket.settimeout(None)
        return True

    def head(self) -> Head:
        return Head.parse(self._until(b"\r\n\r\n"))

    def body(self, head: Head, *, until_end: bool) -> Iterator[Block]:
        """Yield a body as it arrives, however its end is told; `until_end` says what it means that nothing tells."""
        if head.chunked:
            size = -1
            while size:
                line = self._until(b"\r\n")
                size = int(line.split(b";")[0], 16)
                yield Block(line, content=False)
                yield from self._content(size)
                if size:
                    yield Block(self._until(b"\r\n"), content=False)
            while (line := self._until(b"\r\n")) != b"\r\n":  # trailers
                yield Block(line, content=False)
            yield Block(line, content=False)
        elif "content-length" in head.headers:
            yield from self._content(int(head.headers["content-length"]))
        elif until_end:
            with contextlib.suppress(EOFError):
                while True:
                    yield Block(self._some(CHUNK), content=True)

    def unread(self, head: Head) -> None:
        """Have a head be read again."""
        self._buffer = head.raw + self._buffer

    def drain(self) -> None:
        """Say that nothing more comes, and hear the other side out: it would miss the last word otherwise."""
        self.socket.shutdown(socket.SHUT_WR)
        self.socket.settimeout(5)
        while self.socket.recv(CHUNK):
            pass

    def reset(self) -> None:
        """Close it so that the other side sees a reset connection."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.socket.close()

    def wake(self) -> None:
        """End whatever a thread waits for on this connection."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _content(self, size: int) -> Iterator[Block]:
        while size:
            data = self._some(min(size, CHUNK))
            size -= len(data)
            yield Block(data, content=True)

    def _some(self, most: int) -> bytes:
        data = self._buffer or self.socket.recv(most)
        if not data:
            raise EOFError
        data, self._buffer = data[:most], data[most:]
        return data

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            more = self.socket.recv(CHUNK)
            if not more:
                raise EOFError
            self._buffer += more
        found, _, self._buffer = self._buffer.partition(end)
        return found + end
