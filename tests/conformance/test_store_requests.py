"""Requests as they arrive at a store: what ECS refuses is never sent, what it needs always is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.store import bucket as bucket_module
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, md5, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server

BODIES = ("PUT", "POST")


def do_everything(store: Store) -> None:
    """Each request that a store makes, once at least."""
    store.put("dtool-1", b"u/olssont/", if_absent=True)
    store.put("x/dtool", b"{}", metadata={"name": "penguins", "frozen_at": "1.5"})
    for size in (0, 10, 6 * MIB):
        body = noise(size)
        store.put_item(f"x/data/{size}", body, md5(body), {"handle": "YQ==", "checksum": md5(body)})
        store.read(f"x/data/{size}", 0, size, size)
    store.read("x/data/10", 2, 3, 10)
    store.get("x/dtool")
    store.head("x/dtool")
    assert len(list(store.list("x/"))) == 4
    parts = [noise(5 * MIB), noise(10)]
    upload = store.begin_upload("x/data/parts", {"handle": "YQ==", "checksum": md5(b"".join(parts))})
    etags = [store.put_part("x/data/parts", upload, n, part) for n, part in enumerate(parts, start=1)]
    store.complete_upload("x/data/parts", upload, etags, size=5 * MIB + 10, checksum=md5(b"".join(parts)))
    store.abort_upload("x/data/gone", store.begin_upload("x/data/gone", {}))
    store.uploads("x/")
    store.copy("x/copied", store, "x/data/10", 10, {"checksum": md5(noise(10))})
    store.copy("x/copied in parts", store, "x/data/parts", 5 * MIB + 10, {})
    store.make_public("x/dtool")
    store.delete(["x/copied"])
    store.delete(["x/copied in parts", "x/data/10", "x/data/parts"])


@pytest.fixture(scope="module")
def shared_rgw(rgw: S3Server) -> BucketSettings:
    """One bucket for all tests here, on a server that knows every request."""
    return new_bucket(rgw)


@pytest.fixture(scope="module")
def proxy(shared_rgw: BucketSettings) -> Iterator[Proxy]:
    with proxied(shared_rgw.endpoint, bodies=True) as found:
        yield found


@pytest.fixture(scope="module", params=["", "ns1"], ids=["no namespace", "namespace"])
def requests(shared_rgw: BucketSettings, proxy: Proxy, request: pytest.FixtureRequest) -> list[Request]:
    """All requests of everything, for a user without and with a namespace."""
    proxy.clear()
    raw = Raw(shared_rgw)
    raw.delete(*raw.listed())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_module, "MULTIPART_COPY_ABOVE", 5 * MIB)
        patch.setattr(bucket_module, "COPY_PART", 5 * MIB)
        do_everything(Store(changed(shared_rgw, endpoint=proxy.endpoint, namespace=request.param)))
    return list(proxy.requests)


def test_no_body_is_sent_in_chunks(requests: list[Request]) -> None:
    """ECS commits a chunked body that was cut short, and refuses aws-chunked ones: the length is always said."""
    for request in requests:
        assert "transfer-encoding" not in request.headers, request
        assert "aws-chunked" not in request.headers.get("content-encoding", ""), request
        assert "x-amz-trailer" not in request.headers, request
        if request.method in BODIES:
            assert int(request.headers["content-length"]) == len(request.body), request


def test_no_checksum_is_sent_that_ecs_does_not_know(requests: list[Request]) -> None:
    """What boto3 adds by itself since 1.36."""
    for request in requests:
        names = [name for name in request.headers if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum"))]
        assert names == [], request


def test_every_body_is_checked_by_the_store(requests: list[Request]) -> None:
    """By its MD5 in a header, or by its SHA-256 in the signature."""
    for request in requests:
        if not request.body:
            continue
        md5_sent = request.headers.get("content-md5")
        sha_sent = request.headers.get("x-amz-content-sha256", "")
        assert md5_sent or len(sha_sent) == 64, request
        if md5_sent:
            assert md5_sent == base64.b64encode(hashlib.md5(request.body).digest()).decode(), request
            assert "content-md5" in request.signed_headers, request
        if len(sha_sent) == 64:
            assert sha_sent == hashlib.sha256(request.body).hexdigest(), request


def test_deleting_many_sends_their_md5(requests: list[Request]) -> None:
    """DeleteObjects needs Content-MD5, which boto3 no longer sends by itself."""
    (delete,) = [request for request in requests if request.method == "POST" and "delete" in request.target]
    assert delete.headers["content-md5"] == base64.b64encode(hashlib.md5(delete.body).digest()).decode()


def test_every_request_is_signed_for_a_path_of_the_bucket(requests: list[Request], shared_rgw: BucketSettings) -> None:
    """SigV4, the bucket in the path and not in the host's name, no header that the signature does not cover."""
    for request in requests:
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 "), request
        assert request.target.startswith(f"/{shared_rgw.bucket}"), request
        amazon = {name for name in request.headers if name.startswith(("x-amz-", "x-emc-"))}
        assert amazon <= set(request.signed_headers), request
        assert "x-amz-tagging" not in request.headers, request


def test_a_namespace_goes_with_every_request(requests: list[Request], request: pytest.FixtureRequest) -> None:
    """Signed, and never by way of the client that cannot sign it; without a namespace there is no such header."""
    namespaces = {each.headers.get("x-emc-namespace") for each in requests}
    agents = {each.headers["user-agent"].split("/")[0] for each in requests}
    if "no namespace" in request.node.name:
        assert namespaces == {None}
        assert len(agents) == 2  # boto3's, and obstore's, which moves items
    else:
        assert namespaces == {"ns1"}
        assert all("x-emc-namespace" in each.signed_headers for each in requests)
        assert agents == {"Boto3"}


def test_an_item_is_one_request(requests: list[Request]) -> None:
    """One PUT and one GET, its metadata in the PUT, whatever its size up to the multipart threshold."""
    for size in (10, 6 * MIB):
        (put,) = [each for each in requests if each.method == "PUT" and each.target.endswith(f"/x/data/{size}")]
        assert put.headers["x-amz-meta-handle"] == "YQ=="
        assert put.headers["x-amz-meta-checksum"] == md5(noise(size))
    gets = [each for each in requests if each.method == "GET" and each.target.endswith(f"/x/data/{6 * MIB}")]
    assert len(gets) == 1
    assert "range" not in gets[0].headers


def test_building_a_store_and_signing_make_no_request(proxy: Proxy, shared_rgw: BucketSettings) -> None:
    """URLs are made here."""
    proxy.clear()
    store = Store(changed(shared_rgw, endpoint=proxy.endpoint))
    assert store.sign_get("k", 60) != store.sign_put("k", 60) != store.plain_url("k")
    assert proxy.requests == []
