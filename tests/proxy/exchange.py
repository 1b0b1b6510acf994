"""One client's connection and its connection to the server: requests pass one after the other."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tests.proxy.faults import Change
from tests.proxy.messages import Answer, Head, Request
from tests.proxy.streams import HUNG_UP, Block, Stream

if TYPE_CHECKING:
    from tests.proxy.proxy import Proxy

NO_BODY = (204, 304)


class Connection:
    """A client's connection; an `Exchange` for the request that is on its way."""

    request: Request

    def __init__(self, proxy: Proxy, client: Stream) -> None:
        self._proxy = proxy
        self.client = client
        self.server: Stream | None = None
        self._head = Head.parse(b"- -\r\n\r\n")
        self._open = True
        self._early = False  # the server answered before the end of a body

    def serve(self) -> None:
        """Serve requests until either side hangs up."""
        with contextlib.suppress(*HUNG_UP):
            while self._open:
                self._head = self.client.head()
                self.request = Request(self._head.words[0], self._head.words[1], self._head.headers)
                fault = self._proxy.decide(self.request)
                if fault:
                    fault(self)
                else:
                    self.pass_request()
                    self.pass_answer()
            if self._early:
                self.client.drain()
        self.close()

    def close(self) -> None:
        """Close both sides."""
        for stream in (self.client, self.server):
            if stream:
                stream.close()

    def wake(self) -> None:
        """Have the thread that serves this connection end."""
        for stream in (self.client, self.server):
            if stream:
                stream.wake()

    # --- what a fault can do: see `Exchange` ---

    def pass_request(self, *, most: int | None = None, change: Change | None = None) -> None:
        server = self._connect()
        server.write(self._head.raw)
        if self.request.headers.get("expect", "").lower() == "100-continue" and not self._may_continue(server):
            return
        for data in _shaped(self._kept(self.client.body(self._head, until_end=False)), most, change):
            if self._answered(server):  # before the end: the rest is nobody's, and neither is the connection
                self._open, self._early = False, True
                return
            server.write(data)

    def pass_answer(
        self, *, most: int | None = None, change: Change | None = None, pause: float = 0, step: int = 1
    ) -> None:
        head = self._answer()
        ecs = self._proxy.ecs
        rewrite = ecs.answers(self.request) if ecs else None
        body = self._body(head)
        if ecs:
            head = ecs.head(head)
        if rewrite:
            content = rewrite(b"".join(block.data for block in body if block.content))
            head, body = head.with_length(len(content)), iter([Block(content, content=True)])
        if self._proxy.offset:
            head = head.replace("date", self._proxy.date())
        self.client.write(head.raw)
        for data in _shaped(body, most, change):
            for piece in [data[at : at + step] for at in range(0, len(data), step)] if pause else [data]:
                self.client.write(piece)
                self.request.passed += len(piece)
                self.wait(pause)
        if head.headers.get("connection", "").lower() == "close":
            self._open = False

    def edit_head(self, edit: Callable[[Head], Head]) -> None:
        self._head = edit(self._head)

    def drop_request(self) -> None:
        if self.request.headers.get("expect", "").lower() == "100-continue":
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        for _ in self._kept(self.client.body(self._head, until_end=False)):
            pass

    def drop_answer(self) -> None:
        for _ in self._body(self._answer()):
            pass

    def answer(self, answer: Answer) -> None:
        self.request.status = answer.status
        content = answer.content
        lines = [
            f"HTTP/1.1 {answer.status} Told",
            f"Date: {self._proxy.date()}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(content)}",
            *([f"Retry-After: {answer.retry_after}"] if answer.retry_after else []),
            "",
            "",
        ]
        self.client.write("\r\n".join(lines).encode() + (b"" if self.request.method == "HEAD" else content))

    def hang_up(self, *, reset: bool) -> None:
        self._open = False
        for stream in (self.client, self.server):
            if stream and reset:
                stream.reset()

    def wait(self, seconds: float) -> None:
        if seconds:
            self._proxy.stopped.wait(seconds)

    # --- how ---

    def _connect(self) -> Stream:
        """Return a connection to the server that it has not closed meanwhile."""
        if self.server is None or self.server.arrived():
            if self.server:
                self.server.close()
            self.server = self._proxy.connect()
        return self.server

    def _may_continue(self, server: Stream) -> bool:
        """Wait for the server's word, and pass it on, or for a client that does not wait for it."""
        with selectors.DefaultSelector() as either:  # select() ends at 1,024 open files, which a busy run passes
            for stream in (self.client, server):
                either.register(stream.socket, selectors.EVENT_READ)
            while not (self.client.arrived() or server.arrived()):
                either.select()
        if not self._answered(server):
            return True
        self._open, self._early = False, True  # nobody knows whether the client still sends the body
        return False

    def _answered(self, server: Stream) -> bool:
        """Whether the server's answer begins; `100 Continue`, which may come late, is passed on."""
        while server.arrived():
            head = server.head()
            if head.words[1] != "100":
                server.unread(head)
                return True
            self.client.write(head.raw)
        return False

    def _answer(self) -> Head:
        """Read the head of the server's answer, and write down its status."""
        assert self.server
        while True:
            head = self.server.head()
            if int(head.words[1]) >= 200:
                break
            self.client.write(head.raw)
        self.request.status = int(head.words[1])
        return head

    def _body(self, head: Head) -> Iterator[Block]:
        assert self.server
        if self.request.method == "HEAD" or int(head.words[1]) in NO_BODY:
            return iter(())
        if not head.chunked and "content-length" not in head.headers:
            self._open = False
        return self.server.body(head, until_end=True)

    def _kept(self, body: Iterator[Block]) -> Iterator[Block]:
        """Write down what comes, where bodies are kept."""
        for block in body:
            if block.content and self._proxy.bodies:
                self.request.body += block.data
            yield block


def _shaped(body: Iterator[Block], most: int | None, change: Change | None) -> Iterator[bytes]:
    """Yield a body changed, and cut after so many bytes of its content."""
    passed = 0
    for data, content in body:
        if not content:
            yield data
            continue
        changed = change(passed, data) if change else data
        cut = changed if most is None else changed[: most - passed]
        passed += len(data)
        if cut:
            yield cut
        if most is not None and passed >= most:
            return
