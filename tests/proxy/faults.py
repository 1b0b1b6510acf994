"""What can go wrong with a request, as a little language.

    proxy.on("UploadPart", nth=2).answer(503, "SlowDown")
    proxy.on("CompleteMultipartUpload", nth=1).lose_answer()
    proxy.on("GET", key="*/data/*").flip_answer(at=17)

Each fault is a few lines over an `Exchange`, which passes a request on and its answer back.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Protocol

from tests.proxy.messages import Answer, Head, Request
from tests.proxy.signing import without

Change = Callable[[int, bytes], bytes]
"""Changes a block of a body, given where in the body it begins; the length stays."""

Fault = Callable[["Exchange"], None]


class Exchange(Protocol):
    """One request on its way; what a fault can do with it. Methods may be left out, or called in another order."""

    request: Request

    def pass_request(self, *, most: int | None = None, change: Change | None = None) -> None:
        """Pass the request on, at most so many bytes of its body."""

    def pass_answer(
        self, *, most: int | None = None, change: Change | None = None, pause: float = 0, step: int = 1
    ) -> None:
        """Pass the answer back, at most so many bytes of its body; with a pause (seconds), `step` bytes at a time."""

    def edit_head(self, edit: Callable[[Head], Head]) -> None:
        """Have the request go on with another head."""

    def drop_request(self) -> None:
        """Read the request to its end; the server does not get it."""

    def drop_answer(self) -> None:
        """Read the server's answer to its end; the client does not get it."""

    def answer(self, answer: Answer) -> None:
        """Answer in place of the server."""

    def hang_up(self, *, reset: bool) -> None:
        """End both connections, in good order or with a reset."""

    def wait(self, seconds: float) -> None:
        """Let time pass, or the proxy stop."""


class Rule:
    """Which requests something happens to, and what: one of the methods says it."""

    def __init__(self, what: str, key: str, nth: int | Container[int] | None) -> None:
        self._what = what
        self._key = key
        self._nth: Container[int] | None = (nth,) if isinstance(nth, int) else nth
        self._seen = 0
        self.fault: Fault | None = None
        self.words = ""
        self.fired = 0
        """How many requests it has happened to."""

    def strikes(self, request: Request) -> bool:
        """Count a request that it is about, and tell whether this is one that it happens to. Called under a lock."""
        if not self.fault or not request.matches(self._what, self._key):
            return False
        self._seen += 1
        return self._nth is None or self._seen in self._nth

    def _set(self, words: str, fault: Fault) -> Rule:
        self.words, self.fault = words, fault
        return self

    # --- instead of the server's answer ---

    def answer(
        self,
        status: int,
        code: str = "",
        *,
        body: bytes | None = None,
        content_type: str = "application/xml",
        done: bool = False,
    ) -> Rule:
        """Answer like this; with `done`, after the server has done what was asked."""

        def fault(exchange: Exchange) -> None:
            if done:
                exchange.pass_request()
                exchange.drop_answer()
            else:
                exchange.drop_request()
            exchange.answer(Answer(status, code, body, content_type))

        return self._set(f"answered {status} {code}".rstrip() + " though it was done" * done, fault)

    def call(self, function: Callable[[Request], Answer | None]) -> Rule:
        """Call this, in a thread of the proxy; what it returns is the answer, None lets the request pass.

        An answer without a status is lost: the server has done what was asked, and the connection is closed.
        """

        def fault(exchange: Exchange) -> None:
            found = function(exchange.request)
            if found is not None and found.status:
                exchange.request.fault = f"answered {found}"
                exchange.drop_request()
                exchange.answer(found)
                return
            exchange.pass_request()
            if found is None:
                exchange.pass_answer()
            else:
                exchange.request.fault = "answer lost"
                exchange.drop_answer()
                exchange.hang_up(reset=False)

        return self._set("", fault)

    def forget(self, header: str, secrets: Mapping[str, str]) -> Rule:
        """Pass the request on as if it had not had this header: to a store that does not know it.

        It is signed anew, with one of these secrets by access key.
        """

        def fault(exchange: Exchange) -> None:
            if header in exchange.request.headers:
                exchange.edit_head(lambda head: without(header, head, secrets))
            exchange.pass_request()
            exchange.pass_answer()

        return self._set(f"{header} forgotten", fault)

    # --- the connection ---

    def reset(self) -> Rule:
        """Reset the connection before the server hears of the request."""
        return self._set("reset before", lambda exchange: exchange.hang_up(reset=True))

    def close(self) -> Rule:
        """Close the connection in good order before the server hears of the request, as one that was idle too long."""
        return self._set("closed before", lambda exchange: exchange.hang_up(reset=False))

    def cut_request(self, after: int = 0) -> Rule:
        """Reset the connection after so many bytes of the request's body."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request(most=after)
            exchange.hang_up(reset=True)

        return self._set(f"reset after {after} bytes of the request", fault)

    def lose_answer(self) -> Rule:
        """Reset the connection after the server has done what was asked."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request()
            exchange.drop_answer()
            exchange.hang_up(reset=True)

        return self._set("answer lost", fault)

    def cut_answer(self, after: int, *, reset: bool = False) -> Rule:
        """End the connection after so many bytes of the answer's body."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request()
            exchange.pass_answer(most=after)
            exchange.hang_up(reset=reset)

        return self._set(f"answer cut after {after} bytes", fault)

    # --- time ---

    def delay(self, seconds: float) -> Rule:
        """Let this time pass before the server hears of the request."""

        def fault(exchange: Exchange) -> None:
            exchange.wait(seconds)
            exchange.pass_request()
            exchange.pass_answer()

        return self._set(f"delayed by {seconds} s", fault)

    def trickle(self, pause: float, *, step: int = 1) -> Rule:
        """Pass the answer's body so many bytes at a time, with a pause (seconds) after each."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request()
            exchange.pass_answer(pause=pause, step=step)

        return self._set(f"answer trickled, {step} B in {pause} s", fault)

    # --- damage ---

    def flip_request(self, at: int = 0) -> Rule:
        """Flip a bit of the request's body, in this byte."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request(change=_flip(at))
            exchange.pass_answer()

        return self._set(f"bit flipped in byte {at} of the request", fault)

    def flip_answer(self, at: int = 0) -> Rule:
        """Flip a bit of the answer's body, in this byte."""

        def fault(exchange: Exchange) -> None:
            exchange.pass_request()
            exchange.pass_answer(change=_flip(at))

        return self._set(f"bit flipped in byte {at} of the answer", fault)


def _flip(at: int) -> Change:
    def change(offset: int, block: bytes) -> bytes:
        if not offset <= at < offset + len(block):
            return block
        changed = bytearray(block)
        changed[at - offset] ^= 1
        return bytes(changed)

    return change
