"""The proxy, told by one function what to answer; new tests use `tests.proxy` and its rules."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.proxy import Proxy, Request, proxied
from tests.proxy import messages as messages_module
from tests.proxy.faults import Exchange

Recorded = Request


@dataclass(frozen=True)
class Answer(messages_module.Answer):
    """What is answered instead of the server. Without a status the answer is lost after the server has given it."""

    status: int = 0


Script = Callable[[Recorded], Answer | None]


class Recorder:
    """A proxy that keeps bodies; `script` may answer a request, None lets it pass; `date` is the server's time."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.endpoint = proxy.endpoint
        self.requests = proxy._requests
        self.script: Script = lambda _: None
        proxy.on()._set("", self._serve)

    def of(self, method: str, part: str = "") -> list[Recorded]:
        """The requests of a method whose target has this part."""
        return [each for each in self.requests if each.method == method and part in each.target]

    @property
    def date(self) -> str:
        return self.proxy.date()

    @date.setter
    def date(self, value: str) -> None:
        self.proxy.offset = email.utils.parsedate_to_datetime(value).timestamp() - time.time() if value else 0.0

    def _serve(self, exchange: Exchange) -> None:
        answer = self.script(exchange.request)
        if answer is not None and answer.status:
            exchange.drop_request()
            exchange.answer(answer)
            return
        exchange.pass_request()
        if answer is None:
            exchange.pass_answer()
        else:
            exchange.drop_answer()
            exchange.hang_up(reset=False)


@contextmanager
def recording(endpoint: str) -> Iterator[Recorder]:
    """Run a recorder in front of an endpoint for as long as the block lasts."""
    with proxied(endpoint, bodies=True) as proxy:
        yield Recorder(proxy)
