"""Answers that no object store should give, and some do: none is mistaken for "not there" or for a whole listing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dtool_ecs_flows.errors import NoSuchKeyError, StoreError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, bucket, failures
from tests.proxy import Answer, Proxy, Request, proxied

PAGE = b"""<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key>
<LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>x</ETag><Size>1</Size></Contents></ListBucketResult>"""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server that says nothing but what it is told to say."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 60.0)
    with proxied("http://127.0.0.1:9") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy) -> Store:
    return Store(BucketSettings(bucket="b", endpoint=proxy.endpoint, access_key_id="a", secret_access_key="s"))


REQUESTS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "read": lambda store: store.read("k", 0, 3, 3),
    "list": lambda store: list(store.list("")),
    "put": lambda store: store.put("k", b"1"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_web_server_that_knows_no_page_is_not_an_empty_bucket(proxy: Proxy, store: Store, name: str) -> None:
    """A wrong endpoint answers 404 to everything: that does not mean that there is no dataset."""
    proxy.on().answer(404, body=b"<html>no such page", content_type="text/html")
    with pytest.raises(StoreError, match="endpoint") as caught:
        REQUESTS[name](store)
    assert not isinstance(caught.value, NoSuchKeyError)


EMPTY: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get(""),
    "head": lambda store: store.head(""),
    "read": lambda store: store.read("", 0, 3, 3),
    "put": lambda store: store.put("", b"1"),
    "put_item": lambda store: store.put_item("", b"1", "c4ca4238a0b923820dcc509a6f75849b", {}),
    "copy": lambda store: store.copy("k", store, "", 1, {}),
    "begin_upload": lambda store: store.begin_upload("", {}),
    "delete": lambda store: store.delete([""]),
    "delete many": lambda store: store.delete(["k", ""]),
    "make_public": lambda store: store.make_public(""),
    "plain_url": lambda store: store.plain_url(""),
    "sign_get": lambda store: store.sign_get("", 60),
    "sign_put": lambda store: store.sign_put("", 60),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_key_is_not_the_bucket(proxy: Proxy, store: Store, name: str) -> None:
    """Sent, it would list the bucket, make it public, or delete it."""
    proxy.on().answer(200)
    with pytest.raises(ValueError, match="not empty"):
        EMPTY[name](store)
    assert proxy.seen() == []


def test_a_key_that_is_not_there_is_told_by_its_code(proxy: Proxy, store: Store) -> None:
    """Deleting it is no error, even where a server says that it was not there."""
    proxy.on().answer(404, "NoSuchKey")
    for name in ("get", "head", "read"):
        with pytest.raises(NoSuchKeyError):
            REQUESTS[name](store)
    assert store.delete(["k"]) == 1


def test_a_listing_that_ends_too_early_is_an_error(proxy: Proxy, store: Store) -> None:
    """A page that promises more and does not say where is not taken for the last one."""
    proxy.on().answer(200, body=PAGE)
    with pytest.raises(StoreError, match="never ends"):
        list(store.list(""))


@pytest.mark.parametrize("way", ["round in a circle", "the same page for ever", "nothing for ever"])
def test_a_listing_that_never_ends_is_an_error(
    proxy: Proxy, store: Store, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that come round again, a page that comes again under new tokens, pages without keys and without end."""
    monkeypatch.setattr(bucket, "_EMPTY_PAGES", 20)
    asked = itertools.count()

    def page(_: Request) -> Answer:
        number = next(asked)
        token = f"token {number % 3}" if way == "round in a circle" else f"token {number}"
        key = f"key {number if way == 'round in a circle' else 0}".encode()
        body = PAGE.replace(b"<Key>a", b"<Key>" + key)
        if way == "nothing for ever":
            body = body[: body.index(b"<Contents>")] + body[body.index(b"</ListBucketResult>") :]
        more = b"<NextContinuationToken>%b</NextContinuationToken><Contents>" % token.encode()
        end = more.removesuffix(b"<Contents>") + b"</ListBucketResult>"
        body = body.replace(b"<Contents>", more) if b"<Contents>" in body else body.replace(b"</ListBucketResult>", end)
        return Answer(200, "", body)

    proxy.on().call(page)
    with pytest.raises(StoreError, match="never ends"):
        list(store.list(""))
    assert next(asked) < 30


@pytest.mark.parametrize("marker", [b"", b"<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"])
def test_a_listing_of_uploads_that_never_ends_is_an_error(proxy: Proxy, store: Store, marker: bytes) -> None:
    """It says that there is more, and not where, or the same again."""
    page = b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>%b</ListMultipartUploadsResult>" % marker
    proxy.on().answer(200, body=page)
    with pytest.raises(StoreError, match="never ends"):
        store.uploads("")


@pytest.mark.parametrize("code", ["OperationAborted", "ConditionalRequestConflict"])
def test_two_writers_at_once_do_not_mean_that_a_key_exists(proxy: Proxy, store: Store, code: str) -> None:
    """Such a conflict passes: the request is made again."""
    proxy.on(nth=range(1, 3)).answer(409, code)
    proxy.on().answer(200, body=b"")
    store.put("k", b"1", if_absent=True)
    assert len(proxy.requests) == 3


def test_an_outage_is_told_as_one(proxy: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no answer helps against ends as `UnavailableError`, after the budget."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 1.0)
    proxy.on().answer(503, "SlowDown")
    with pytest.raises(UnavailableError, match="SlowDown"):
        store.get("k")


UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


def test_success_without_its_content_is_an_accident_of_a_store_that_is_known(proxy: Proxy, store: Store) -> None:
    """It is asked again; from an endpoint that has never answered as a store does, it is an error at once."""
    proxy.on("CreateMultipartUpload", nth=(1, 2)).answer(200, body=b"")
    proxy.on("CreateMultipartUpload").answer(200, body=UPLOAD)
    proxy.on("PutObject").answer(200, body=b"")
    with pytest.raises(StoreError, match="no object store's"):
        store.begin_upload("k", {})
    assert len(proxy.requests) == 1

    store.put("k", b"1")
    assert store.begin_upload("k", {}) == "u"
    assert len(proxy.seen("CreateMultipartUpload")) == 3
