"""What a store's failures are called: each error says what is wrong, names key and setting, and shows no secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dtool_ecs_flows.errors import (
    AccessDeniedError,
    CredentialsError,
    ManifestError,
    NoSuchBucketError,
    NoSuchKeyError,
    StoreError,
    UnavailableError,
)
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, failures, open_store
from tests.conformance.helpers import changed, everything_said
from tests.conftest import new_bucket
from tests.independent import Raw, md5
from tests.proxy import Answer, Proxy, Request, proxied
from tests.servers import S3Server


@pytest.fixture(scope="module")
def proxy_of_module(server: S3Server) -> Iterator[Proxy]:
    with proxied(server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_of_module: Proxy) -> Iterator[Proxy]:
    """Stands before the server, and answers what a test tells it to."""
    yield proxy_of_module
    proxy_of_module.calm()
    proxy_of_module.clear()


@pytest.fixture
def recorded(shared_bucket: BucketSettings, proxy: Proxy) -> Store:
    """The shared bucket through the proxy."""
    return open_store(changed(shared_bucket, endpoint=proxy.endpoint))


WRONG = "wrongsecret0123"

READS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "read": lambda store: store.read("k", 0, 3, 3),
    "read a range": lambda store: store.read("k", 1, 1, 3),
    "read nothing": lambda store: store.read("k", 0, 0, 0),
}
WRITES: dict[str, Callable[[Store], Any]] = {
    "put": lambda store: store.put("k", b"abc"),
    "put if absent": lambda store: store.put("k", b"abc", if_absent=True),
    "put_item": lambda store: store.put_item("k", b"abc", md5(b"abc"), {}),
    "begin_upload": lambda store: store.begin_upload("k", {}),
    "uploads": lambda store: store.uploads("k"),
    "delete": lambda store: store.delete(["k"]),
    "delete some": lambda store: store.delete(["k", "l"]),
    "copy": lambda store: store.copy("l", store, "k", 3, {}),
}
LIST: dict[str, Callable[[Store], Any]] = {"list": lambda store: list(store.list(""))}
ALL = {**READS, **WRITES, **LIST}


@pytest.mark.parametrize("name", READS)
def test_no_such_key(shared_bucket: BucketSettings, name: str) -> None:
    """Told apart from everything else, with the key's name; it is Python's FileNotFoundError as well."""
    with pytest.raises(NoSuchKeyError, match="/k at ") as caught:
        READS[name](open_store(shared_bucket))
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("name", ALL)
def test_no_such_bucket(shared_bucket: BucketSettings, server: S3Server, name: str) -> None:
    """Never taken for a key that is not there, also where the answer to a HEAD cannot say; no bucket is made."""
    store = open_store(changed(shared_bucket, bucket="no-such-bucket-here"))
    with pytest.raises(NoSuchBucketError, match="no-such-bucket-here") as caught:
        ALL[name](store)
    assert shared_bucket.endpoint in str(caught.value)
    assert "no-such-bucket-here" not in [each["Name"] for each in server.client().list_buckets()["Buckets"]]


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_secret(
    shared_bucket: BucketSettings, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails at once, says which setting to look at and where it came from, and shows no part of any secret."""
    caplog.set_level(logging.DEBUG, "dtool_ecs_flows")
    monkeypatch.setattr(failures, "FIRST_BUDGET", failures.BUDGET)  # what is tried again takes as long
    began = time.monotonic()
    with pytest.raises(CredentialsError, match="the caller") as caught:
        ALL[name](open_store(changed(shared_bucket, secret_access_key=WRONG)))
    assert time.monotonic() - began < 60 < failures.BUDGET
    assert isinstance(caught.value, PermissionError)
    assert WRONG not in everything_said(caught.value) + caplog.text


@pytest.mark.parametrize("name", ["get", "head", "list", "put_item"])
def test_a_wrong_access_key(shared_bucket: BucketSettings, name: str) -> None:
    """A user that the store does not know is an error of the settings, not one of the bucket's policy."""
    with pytest.raises(CredentialsError) as caught:
        ALL[name](open_store(changed(shared_bucket, access_key_id="nobody")))
    assert shared_bucket.secret_access_key.get_secret_value() not in everything_said(caught.value)


@pytest.fixture(scope="module")
def private(rgw: S3Server) -> tuple[Raw, BucketSettings]:
    """A bucket with one object, for its owner alone."""
    settings = new_bucket(rgw)
    raw = Raw(settings)
    raw.put("k", b"abc")
    return raw, settings


@pytest.mark.parametrize("name", ALL)
def test_access_denied(
    private: tuple[Raw, BucketSettings], other_user: Callable[[BucketSettings], BucketSettings], name: str
) -> None:
    """Good credentials, somebody else's bucket: names the bucket, the action and, where there is one, the key."""
    raw, bucket = private
    settings = other_user(bucket)
    with pytest.raises(AccessDeniedError, match=bucket.bucket) as caught:
        ALL[name](open_store(settings))
    assert isinstance(caught.value, PermissionError)
    assert "does not allow s3:" in str(caught.value)
    assert name == "list" or f"{'l' if name == 'copy' else 'k'!r}" in str(caught.value)
    assert settings.secret_access_key.get_secret_value() not in everything_said(caught.value)
    assert raw.listed() == ["k"]


def test_cleaning_up_that_is_not_allowed_is_logged(
    rgw_bucket: BucketSettings,
    other_user: Callable[[BucketSettings], BucketSettings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a comfort that the documented policy does not give: what stays is logged, nothing is raised."""
    upload = Store(rgw_bucket).begin_upload("k", {})
    Store(other_user(rgw_bucket)).abort_upload("k", upload)
    assert "unfinished parts of" in caplog.text
    assert Store(rgw_bucket).uploads("") == [("k", upload)]
    Store(rgw_bucket).abort_upload("k", upload)
    assert Store(rgw_bucket).uploads("") == []


def test_nobody_listens() -> None:
    """A wrong port shows soon, and says which setting it is."""
    keys = {"access_key_id": "somebody", "secret_access_key": WRONG}
    store = open_store(BucketSettings(bucket="bucket", endpoint="http://127.0.0.1:9", **keys))
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="the caller") as caught:
        store.put_item("k", b"abc", md5(b"abc"), {})
    assert time.monotonic() - began < 60 < failures.BUDGET
    assert isinstance(caught.value, ConnectionError)
    assert WRONG not in everything_said(caught.value)


@pytest.mark.parametrize("name", ["get", "head", "list", "put", "put_item", "begin_upload", "copy"])
def test_something_else_answers(proxy: Proxy, recorded: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web page at the endpoint (a proxy's log-in, the store's console) is an error, and no object."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.2)
    monkeypatch.setattr(failures, "BUDGET", 0.2)
    page = Answer(200, body=b"<!doctype html><title>Please log in</title><p>Hello", content_type="text/html")
    proxy.on().call(lambda _: page)
    with pytest.raises(StoreError, match=proxy.endpoint):
        ALL[name](recorded)


class Scripted:
    """Answers the first requests of a kind with an error, lets the rest pass, and counts them."""

    def __init__(self, method: str, *answers: Answer) -> None:
        self.method = method
        self.answers = list(answers)
        self.seen = 0

    def __call__(self, request: Request) -> Answer | None:
        if request.method != self.method:
            return None
        self.seen += 1
        return self.answers.pop(0) if self.answers else None


@pytest.mark.parametrize(
    "answer",
    [Answer(503, "SlowDown"), Answer(500, "InternalError"), Answer(502, body=b"<html>"), Answer(429, ""), Answer()],
    ids=["503", "500", "502 of a proxy", "429", "lost"],
)
@pytest.mark.parametrize(("method", "name"), [("GET", "read"), ("PUT", "put")])
def test_what_is_transient_is_tried_again(
    proxy: Proxy,
    recorded: Store,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    *,
    answer: Answer,
    method: str,
    name: str,
) -> None:
    """A busy store, a proxy that restarts, a connection that breaks: the call does what it says, a little later."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", failures.BUDGET)  # of a machine that is busy
    raw.put("k", b"abc")
    script = Scripted(method, answer, answer)
    proxy.on().call(script)
    ALL[name](recorded)
    assert script.seen == 3
    assert raw.get("k") == b"abc"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(403, "AccessDenied"), AccessDeniedError),
        (Answer(403, "SignatureDoesNotMatch"), CredentialsError),
        (Answer(403, "RequestTimeTooSkewed"), CredentialsError),
        (Answer(404, "NoSuchKey"), NoSuchKeyError),
        (Answer(404, "NoSuchBucket"), NoSuchBucketError),
        (Answer(400, "InvalidRequest"), StoreError),
    ],
    ids=lambda value: value.code if isinstance(value, Answer) else "",
)
def test_what_is_permanent_is_not(proxy: Proxy, recorded: Store, answer: Answer, error: type[StoreError]) -> None:
    """One request, one error of its own: waiting does not help."""
    script = Scripted("GET", answer, answer)
    proxy.on().call(script)
    with pytest.raises(error) as caught:
        recorded.get("k")
    assert script.seen == 1
    assert not isinstance(caught.value, UnavailableError)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_that_was_dropped_is_made_again(
    server: S3Server, shared_bucket: BucketSettings, how: str, *, tls: bool
) -> None:
    """Over https too, where OpenSSL has an error of its own for it: a server drops what was idle for too long."""
    with proxied(server, tls=tls) as proxy:
        rule = getattr(proxy.on("PutObject", key="dropped", nth=2), how)()
        store = open_store(changed(shared_bucket, endpoint=proxy.endpoint, ca_bundle=proxy.ca_bundle))
        for _ in range(2):
            store.put("dropped", b"content")

        assert store.get("dropped").body == b"content"

    assert rule.fired == 1


def test_a_transient_failure_that_lasts_names_the_cause(
    proxy: Proxy, recorded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the budget of time the last cause is told: operation, key, endpoint and what the store said."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.5)
    monkeypatch.setattr(failures, "BUDGET", 0.5)
    proxy.on().call(lambda _: Answer(503, "SlowDown"))
    with pytest.raises(UnavailableError, match=f"PutObject .*/k at {proxy.endpoint}: SlowDown"):
        recorded.put("k", b"")


@pytest.mark.parametrize("name", ["put", "put_item"])
@pytest.mark.parametrize("code", ["OperationAborted", "ConcurrentModification"])
def test_a_conflict_of_a_plain_put_is_not_that_the_key_exists(
    proxy: Proxy, recorded: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, *, name: str, code: str
) -> None:
    """Only put-if-absent can fail because something is there; two writers at once are a reason to try again."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", failures.BUDGET)  # as above
    script = Scripted("PUT", *[Answer(409, code)] * 2)
    proxy.on().call(script)
    ALL[name](recorded)
    assert script.seen == 3
    assert raw.get("k") == b"abc"


def test_one_key_that_cannot_be_deleted_is_an_error(proxy: Proxy, recorded: Store) -> None:
    """DeleteObjects answers 200 and tells of failures inside: they count."""
    inside = b"<?xml version='1.0'?><DeleteResult><Error><Key>l</Key><Code>AccessDenied</Code></Error></DeleteResult>"

    def refuse(request: Request) -> Answer | None:
        if "?delete" in request.target:
            return Answer(200, body=inside)
        return Answer(403, "AccessDenied") if request.method == "DELETE" and request.target.endswith("/l") else None

    proxy.on().call(refuse)
    with pytest.raises(AccessDeniedError, match="'l'"):
        recorded.delete(["k", "l"])


def test_clock_skew_says_by_how_much(proxy: Proxy, recorded: Store) -> None:
    """The store's own clock stands in its answer: nobody has to guess."""
    proxy.offset = -50_000_000
    with pytest.raises(CredentialsError, match=r"clock is off by \+\d{7,} s"):
        recorded.get("k")


def test_no_text_of_a_store_shows_the_secret(shared_bucket: BucketSettings) -> None:
    """Printed by accident, or in the traceback of another error."""
    store = open_store(shared_bucket)
    store.put_item("k", b"", md5(b""), {})
    shown = f"{store} {store!r} {store.settings!r} {store.__dict__!r}"
    assert shared_bucket.secret_access_key.get_secret_value() not in shown


def test_a_fast_lane_that_never_serves_is_left_alone(
    rgw_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where obstore cannot reach the store and boto3 can, items arrive all the same, soon at one request each."""
    store, asked = Store(rgw_bucket), []

    def fail(*_: object) -> str:
        asked.append(1)
        raise OSError("no way")

    monkeypatch.setattr(store._fast, "put", fail)
    with caplog.at_level("INFO", "dtool_ecs_flows.store"):
        for number in range(30):
            store.put_item(f"k{number}", b"abc", md5(b"abc"), {})
    assert len(list(store.list("k"))) == 30
    assert len(asked) == 20
    assert "items go through boto3 for a while" in caplog.text


@pytest.mark.parametrize("expected", [False, True])
def test_a_document_that_is_too_large_to_be_one_is_not_read(bucket: BucketSettings, expected: bool) -> None:
    """Whoever can write to a bucket must not be able to fill the memory of who reads there."""
    Raw(bucket).put("dtool-x", b"x" * 1001)
    store = open_store(bucket)
    assert len(store.get("dtool-x", expected=expected, most=1001).body) == 1001
    with pytest.raises(ManifestError, match="dtool-x is no document of a dataset: it has 1001 bytes, where 1000"):
        store.get("dtool-x", expected=expected, most=1000)
