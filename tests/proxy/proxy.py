"""The proxy: a listener, a thread for each connection, rules, and a log of what passed."""

from __future__ import annotations

import datetime as dt
import email.utils
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from tests.proxy.ecs import StrictEcs
from tests.proxy.exchange import Connection
from tests.proxy.faults import Exchange, Fault, Rule
from tests.proxy.messages import Answer, Request
from tests.proxy.streams import Stream
from tests.servers import S3Server

MOST_SKEW = 15 * 60
"""Seconds that S3 allows a client's clock to be off."""


class Proxy:
    """Listens on a free port of the loopback interface from `start` to `stop`. All methods are thread-safe."""

    def __init__(self, backend: str, *, authority: trustme.CA | None, ecs: StrictEcs | None, bodies: bool) -> None:
        self.endpoint = ""
        self.ca_bundle = ""
        """The file with the authority that its certificate is from, where it speaks https."""
        self.ecs = ecs
        self.bodies = bodies
        self.offset = 0.0
        """Seconds that the server's clock seems to be ahead of this machine's."""
        self.connected = 0
        """How many connections were made, and hands shaken over TLS, since it was built."""
        self.stopped = threading.Event()
        self._backend = urlsplit(backend)
        self._tls = _context(authority) if authority else None
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._requests: list[Request] = []
        self._connections: dict[Connection, threading.Thread] = {}
        self._port = 0

    # --- the script ---

    def on(self, what: str = "*", *, key: str = "*", nth: int | Container[int] | None = None) -> Rule:
        """Begin a rule, for requests with this method (in capitals) or operation and a key of this pattern.

        Args:
            what: `PUT`, or `PutObject`, or a pattern such as `*Object`.
            key: A pattern of `fnmatch`.
            nth: Which of them, from 1: a number, or a range; all by default.

        Returns:
            The rule, which does nothing before it is told what. Of several that fit, the first counts.
        """
        rule = Rule(what, key, nth)
        with self._lock:
            self._rules.append(rule)
        return rule

    def calm(self) -> None:
        """Forget all rules, and set the clock right."""
        with self._lock:
            self._rules.clear()
        self.offset = 0.0

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections for as long as the block lasts; the port stays taken, so nobody else answers there."""
        self._close()
        listener = self._bound()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        try:
            yield
        finally:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside connections that have just ended
            self._listen(listener)

    def settle(self) -> None:
        """Wait until all is done that clients which are gone had asked for: one that was killed does not wait itself.

        Their connections may not be taken yet. One of our own is taken after them, and ended when we say nothing on it.
        """
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as own:
            own.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                own.recv(1)
        with self._lock:
            connections = dict(self._connections)
        for thread in connections.values():
            thread.join(timeout=60)

    # --- the log ---

    @property
    def requests(self) -> list[Request]:
        """The requests so far, in the order of their arrival; a copy."""
        with self._lock:
            return list(self._requests)

    def seen(self, what: str = "*", *, key: str = "*") -> list[Request]:
        """Those of the requests that `on` would be about."""
        return [request for request in self.requests if request.matches(what, key)]

    @property
    def refused(self) -> list[Request]:
        """The requests that ECS would not have taken."""
        return [request for request in self.requests if request.fault.startswith("refused")]

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    # --- for its connections ---

    def decide(self, request: Request) -> Fault | None:
        """Write a request down, and say what happens to it."""
        refusal = self.ecs.refuses(request) if self.ecs else None
        words = "refused" if refusal else ""
        if not refusal and self.offset and self._skewed(request):
            refusal, words = Answer(403, "RequestTimeTooSkewed"), "clock"
        with self._lock:
            self._requests.append(request)
            if refusal:
                request.fault = f"{words}: {refusal}"
                return _answering(refusal)
            striking = [rule for rule in self._rules if rule.strikes(request)]  # each counts, whichever was first
            if not striking:
                return None
            striking[0].fired += 1
            request.fault = striking[0].words
            return striking[0].fault

    def connect(self) -> Stream:
        """Connect to the server."""
        assert self._backend.hostname
        secure = self._backend.scheme == "https"
        address = (self._backend.hostname, self._backend.port or (443 if secure else 80))
        connection = socket.create_connection(address)
        if secure:  # a proxy before a proxy: who it is does not matter here
            connection = ssl._create_unverified_context().wrap_socket(connection)
        return Stream(connection)

    def date(self) -> str:
        """The time by the server's clock, as HTTP writes it."""
        return email.utils.formatdate(time.time() + self.offset, usegmt=True)

    def _skewed(self, request: Request) -> bool:
        told = request.headers.get("x-amz-date") or request.query.get("X-Amz-Date", "")
        if not told:
            return False
        theirs = dt.datetime.strptime(told, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.timezone.utc)
        return abs(time.time() + self.offset - theirs.timestamp()) > MOST_SKEW

    # --- its life ---

    def start(self) -> None:
        """Listen from now on."""
        self._listen(self._bound())

    def stop(self) -> None:
        """Close every connection and end every thread."""
        self.stopped.set()
        self._close()

    def _listen(self, listener: socket.socket) -> None:
        listener.listen(512)
        self._listener = listener
        self._port = listener.getsockname()[1]
        self.endpoint = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), name="proxy", daemon=True)
        self._thread.start()

    def _bound(self) -> socket.socket:
        """Take the port that it has listened on before; for a moment somebody's outgoing connection may have it."""
        until = time.monotonic() + 60
        while True:
            bound = socket.socket()
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind(("127.0.0.1", self._port))
            except OSError:
                bound.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return bound

    def _close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for clients
        self._thread.join()
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            connection.wake()
        for thread in connections.values():
            thread.join(timeout=30)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                if self._tls:  # the first read shakes hands, in a thread of its own
                    client = self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
                connection = Connection(self, Stream(client))
            except OSError:  # it has hung up before it was taken
                client.close()
                continue
            self.connected += 1
            thread = threading.Thread(target=self._serve, args=(connection,), name="proxy-connection", daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(connection, None)


def _answering(answer: Answer) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.drop_request()
        exchange.answer(answer)

    return fault


@contextmanager
def proxied(
    server: S3Server | str, *, tls: bool = False, ecs: StrictEcs | None = None, bodies: bool = False
) -> Iterator[Proxy]:
    """Run a proxy for as long as the block lasts.

    Args:
        server: The server, or its endpoint.
        tls: Speak https, with a certificate of an authority that `ca_bundle` names.
        ecs: Refuse what ECS refuses.
        bodies: Keep the bodies of requests in the log.

    Yields:
        The proxy; clients use its `endpoint` in place of the server's.
    """
    endpoint = server if isinstance(server, str) else server.endpoint
    with tempfile.TemporaryDirectory(prefix="proxy-") as folder:
        authority = trustme.CA() if tls else None
        proxy = Proxy(endpoint, authority=authority, ecs=ecs, bodies=bodies)
        if authority:
            proxy.ca_bundle = str(Path(folder) / "ca.pem")
            authority.cert_pem.write_to_path(proxy.ca_bundle)
        proxy.start()
        try:
            yield proxy
        finally:
            proxy.stop()


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context
