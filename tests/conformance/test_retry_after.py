"""A store that says when to come back: Retry-After, in an answer of 503 or 429."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from dtool_ecs_flows.errors import StoppedError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, failures, heed
from tests.conformance.helpers import changed
from tests.independent import Raw
from tests.proxy import Answer, Proxy, Request, proxied

MD5 = "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture
def proxy(rgw_bucket: BucketSettings) -> Iterator[Proxy]:
    with proxied(rgw_bucket.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy, rgw_bucket: BucketSettings) -> Store:
    return Store(changed(rgw_bucket, endpoint=proxy.endpoint))


def times(proxy: Proxy, *answers: Answer) -> list[float]:
    """Have the first requests answered like this; return when each request came, as they come."""
    came: list[float] = []

    def script(_: Request) -> Answer | None:
        came.append(time.monotonic())
        return answers[len(came) - 1] if len(came) <= len(answers) else None

    proxy.on().call(script)
    return came


@pytest.mark.parametrize("status", [503, 429])
def test_it_is_not_asked_before(proxy: Proxy, store: Store, rgw_bucket: BucketSettings, status: int) -> None:
    """The pauses of our own would be over after 1.1 s at the most."""
    came = times(proxy, Answer(status, "SlowDown", retry_after="2"))

    store.put("k", b"abc")

    assert len(came) == 2
    assert came[1] - came[0] >= 2
    assert Raw(rgw_bucket).get("k") == b"abc"


def test_an_item_heeds_it_from_the_second_answer_on(proxy: Proxy, store: Store, rgw_bucket: BucketSettings) -> None:
    """The first goes through obstore, which does not tell of headers; the next ones through boto3."""
    busy = Answer(503, "SlowDown", retry_after="2")
    came = times(proxy, busy, busy)

    store.put_item("k", b"abc", MD5, {})

    assert len(came) == 3
    assert came[2] - came[1] >= 2
    assert Raw(rgw_bucket).get("k") == b"abc"


def test_it_may_say_a_time(proxy: Proxy, store: Store) -> None:
    """Of its own clock, which may be another than that of this computer."""
    proxy.offset = 500
    came: list[float] = []

    def script(_: Request) -> Answer | None:
        came.append(time.monotonic())
        then = formatdate(time.time() + proxy.offset + 4, usegmt=True)  # in whole seconds, as the answer's own time
        return Answer(503, "SlowDown", retry_after=then) if len(came) == 1 else None

    proxy.on().call(script)

    store._call("ListObjectsV2", "", {"Prefix": ""}, lambda _: None)

    assert came[1] - came[0] >= 2


FAR = "Thu, 01 Jan 1970 00:00:00 +9999999999999999"


@pytest.mark.parametrize(
    "nonsense", ["soon", "-5", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00", "\xb2", FAR]
)
def test_what_says_nothing_is_not_heeded(proxy: Proxy, store: Store, nonsense: str) -> None:
    """It is tried again as if there were no such header."""
    came = times(proxy, Answer(503, "SlowDown", retry_after=nonsense))
    store.put("k", b"abc")
    assert len(came) == 2


def test_it_does_not_outlast_the_budget(proxy: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks for an hour is asked once more at the end of the budget; the error tells what it had asked for."""
    list(store.list(""))  # which makes the client: that takes some of a budget
    monkeypatch.setattr(failures, "BUDGET", 2.0)
    busy = Answer(503, "SlowDown", retry_after="3600")
    came = times(proxy, *[busy] * 5)

    with pytest.raises(UnavailableError, match="the store asks to wait 3600 s") as caught:
        store.put("k", b"abc")

    assert caught.value.retry_after == 3600
    assert len(came) == 2


def test_a_stop_is_heard_meanwhile(proxy: Proxy, store: Store) -> None:
    """Whoever waits for the store to be ready does not wait for it when asked to stop."""
    stop = threading.Event()
    store._succeeded = True

    def busy(_: Request) -> Answer:
        threading.Timer(1, stop.set).start()
        return Answer(503, "SlowDown", retry_after=f"{failures.BUDGET:.0f}")

    proxy.on().call(busy)

    def check() -> None:
        if stop.is_set():
            raise StoppedError("stopped")

    with heed(check), pytest.raises(StoppedError):
        store.put("k", b"abc")

    assert len(proxy.requests) == 1
