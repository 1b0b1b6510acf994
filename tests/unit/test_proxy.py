"""The proxy of the tests: each of its faults is what it says, seen from a plain client."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions as boto
import pytest

from tests.conftest import new_bucket
from tests.independent import MIB, md5, noise
from tests.proxy import Answer, Proxy, Request, StrictEcs, proxied
from tests.servers import S3Server

BODY = noise(1000)


@pytest.fixture(scope="module")
def bucket_name(rclone: S3Server) -> str:
    """One bucket for all tests here."""
    return new_bucket(rclone).bucket


@pytest.fixture
def proxy(rclone: S3Server) -> Iterator[Proxy]:
    """A proxy that passes everything, until it is told otherwise."""
    with proxied(rclone) as found:
        yield found


@pytest.fixture
def put(rclone: S3Server, bucket_name: str, proxy: Proxy) -> Callable[..., Any]:
    """Puts an object through the proxy."""
    client = rclone.client(endpoint=proxy.endpoint)
    return lambda key="k", body=BODY: client.put_object(Bucket=bucket_name, Key=key, Body=body)


@pytest.fixture
def get(rclone: S3Server, bucket_name: str, proxy: Proxy) -> Callable[..., bytes]:
    """Gets an object through the proxy."""
    client = rclone.client(endpoint=proxy.endpoint)
    return lambda key="k": bytes(client.get_object(Bucket=bucket_name, Key=key)["Body"].read())


@pytest.fixture
def there(rclone: S3Server, bucket_name: str) -> Callable[[str], bytes | None]:
    """Tells what the server itself has under a key."""
    client = rclone.client()

    def look(key: str) -> bytes | None:
        try:
            return bytes(client.get_object(Bucket=bucket_name, Key=key)["Body"].read())
        except client.exceptions.NoSuchKey:
            return None

    return look


class TestPassing:
    def test_bodies_of_any_size_pass_as_they_are(self, put: Any, get: Any, there: Any, proxy: Proxy) -> None:
        """In both directions, with `Expect: 100-continue` as boto3 sends it, and over one connection."""
        for size in (0, 1, 300 * 1024, 9 * MIB):
            body = noise(size)
            put(body=body)
            assert there("k") == body
            assert get() == body
        assert [request.status for request in proxy.requests] == [200] * 8
        assert "expect" in proxy.requests[0].headers

    def test_many_clients_at_once(self, put: Any, get: Any, proxy: Proxy) -> None:
        """Each has what it asked for, and the log has all of them."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: put(f"many/{n}", b"%d" % n), range(100)))
            assert list(pool.map(lambda n: get(f"many/{n}"), range(100))) == [b"%d" % n for n in range(100)]
        assert len(proxy.seen("PutObject", key="many/*")) == len(proxy.seen("GetObject")) == 100

    def test_chunked_bodies_pass_in_both_directions(self, rclone: S3Server) -> None:
        """Their frames are kept; here a proxy stands before a proxy."""
        with proxied(rclone) as inner, proxied(inner.endpoint, bodies=True) as outer:
            connection = http.client.HTTPConnection(urlsplit(outer.endpoint).netloc)
            inner.on().answer(200, body=b"abc")
            connection.request("PUT", "/b/k", body=iter([b"one", b"two"]), encode_chunked=True)
            assert connection.getresponse().read() == b"abc"
            connection.close()
        assert outer.requests[0].body == b"onetwo"
        assert outer.requests[0].headers["transfer-encoding"] == "chunked"

    def test_a_client_need_not_wait_until_it_may_continue(self) -> None:
        """The server's word that it may comes when the body is on its way already."""
        told = threading.Event()

        def serve(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as received:
                while received.readline() != b"\r\n":
                    pass
                assert received.read(1) == b"a"
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                told.set()
                assert received.read(1) == b"b"
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
            served = pool.submit(serve, listener)
            with (
                proxied(f"http://127.0.0.1:{listener.getsockname()[1]}") as proxy,
                socket.create_connection(("127.0.0.1", urlsplit(proxy.endpoint).port or 0), timeout=30) as client,
            ):
                client.sendall(b"PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\na")
                assert told.wait(30)
                client.sendall(b"b")
                with client.makefile("rb") as answers:
                    assert [answers.readline()[:12] for _ in range(3)] == [b"HTTP/1.1 100", b"\r\n", b"HTTP/1.1 200"]
            served.result()

    def test_it_speaks_https_with_an_authority_of_its_own(self, rclone: S3Server, bucket_name: str) -> None:
        """Who trusts that authority is served, who does not is not; and a proxy may stand before it in turn."""
        with ExitStack() as stack:
            secure = stack.enter_context(proxied(rclone, tls=True))
            context = ssl.create_default_context(cafile=secure.ca_bundle)
            outer = stack.enter_context(proxied(secure.endpoint))
            client = rclone.client(endpoint=outer.endpoint)
            client.put_object(Bucket=bucket_name, Key="secure", Body=noise(MIB))
            assert client.get_object(Bucket=bucket_name, Key="secure")["Body"].read() == noise(MIB)
            with pytest.raises(urllib.error.HTTPError):  # unsigned, but heard
                urllib.request.urlopen(f"{secure.endpoint}/{bucket_name}/k", context=context)
            with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
                urllib.request.urlopen(secure.endpoint)

    def test_a_log_says_what_s3_calls_a_request(self, put: Any, proxy: Proxy, bucket_name: str) -> None:
        """Operation, bucket and key, decoded."""
        put("a b/ö+")
        (request,) = proxy.seen("PutObject")
        assert (request.bucket, request.key, request.status) == (bucket_name, "a b/ö+", 200)
        assert str(request).startswith("PutObject /")
        proxy.clear()
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/b?list-type=2&prefix=", "ListObjectsV2"),
        ("GET", "/b?uploads", "ListMultipartUploads"),
        ("GET", "/b/k?uploadId=1", "ListParts"),
        ("PUT", "/b/k?partNumber=1&uploadId=1", "UploadPart"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=1", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=1", "AbortMultipartUpload"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("HEAD", "/b", "HeadBucket"),
        ("PUT", "/b/k?acl", "PutObjectAcl"),
        ("PATCH", "/b/k", "PATCH"),
    ],
)
def test_operations_are_told_by_method_and_query(method: str, target: str, operation: str) -> None:
    """As S3 has them."""
    assert Request(method, target, {}).operation == operation
    if method == "PUT" and "part" in target:
        assert Request(method, target, {"x-amz-copy-source": "b/l"}).operation == "UploadPartCopy"


class TestFaults:
    def test_errors_have_the_body_of_s3(self, put: Any, there: Any, proxy: Proxy) -> None:
        """The server hears nothing of the request."""
        proxy.on("PutObject", nth=1).answer(503, "SlowDown")
        with pytest.raises(boto.ClientError, match="SlowDown"):
            put("refused")
        assert there("refused") is None
        put("refused")
        assert there("refused") == BODY

    def test_an_error_may_come_though_the_work_was_done(self, put: Any, there: Any, proxy: Proxy) -> None:
        """Or in an answer whose status is 200."""
        proxy.on("PutObject").answer(500, "InternalError", done=True)
        with pytest.raises(boto.ClientError, match="InternalError"):
            put("done")
        assert there("done") == BODY

    def test_connections_break_before_in_the_middle_and_after(self, put: Any, there: Any, proxy: Proxy) -> None:
        """Only after the request has the server done it."""
        proxy.on("PUT", nth=1).reset()
        proxy.on("PUT", nth=2).cut_request(after=10)
        proxy.on("PUT", nth=3).lose_answer()
        for name, state in (("before", None), ("middle", None), ("after", BODY)):
            with pytest.raises((boto.HTTPClientError, boto.ConnectionError)):
                put(name)
            assert there(name) == state

    def test_rules_are_counted_each_for_itself(self, put: Any, proxy: Proxy) -> None:
        """`nth` counts the requests that a rule is about; of those that fit, the first rule counts."""
        proxy.on("PUT", key="a*", nth=2).answer(500, "InternalError")
        rule = proxy.on("PUT", nth=range(3, 5)).answer(503, "SlowDown")
        put("a1")
        put("b1")
        with pytest.raises(boto.ClientError, match="InternalError"):
            put("a2")
        with pytest.raises(boto.ClientError, match="SlowDown"):
            put("b2")
        proxy.calm()
        put("b3")
        assert rule.fired == 1

    def test_bodies_are_cut(self, put: Any, get: Any, proxy: Proxy) -> None:
        """A client that counts notices."""
        put()
        proxy.on("GET", nth=1).cut_answer(after=999)
        proxy.on("GET", nth=2).cut_answer(after=0, reset=True)
        for _ in range(2):
            with pytest.raises((boto.IncompleteReadError, boto.HTTPClientError, boto.ResponseStreamingError)):
                get()
        assert get() == BODY

    def test_bits_flip_in_either_direction(self, put: Any, get: Any, there: Any, proxy: Proxy) -> None:
        """One bit of one byte."""
        put()
        proxy.on("GET").flip_answer(at=17)
        flipped = bytearray(BODY)
        flipped[17] ^= 1
        assert get() == flipped
        proxy.on("PUT").flip_request(at=17)
        put("flipped")  # this server checks nothing
        assert there("flipped") == flipped

    def test_bodies_come_slowly(self, put: Any, get: Any, proxy: Proxy) -> None:
        """Byte by byte; a request may also be held up as a whole."""
        put(body=b"abc")
        proxy.on("GET", nth=1).trickle(0.001)
        proxy.on("GET", nth=2).delay(0.001)
        assert get() == get() == b"abc"
        assert [request.fault for request in proxy.seen("GET")] == [
            "answer trickled, 1 B in 0.001 s",
            "delayed by 0.001 s",
        ]

    def test_a_clock_is_off(self, put: Any, there: Any, proxy: Proxy) -> None:
        """By more than S3 allows: then it refuses what is signed, and tells its own time."""
        proxy.offset = 600
        put("skewed")
        proxy.offset = -3600
        with pytest.raises(boto.ClientError, match="RequestTimeTooSkewed"):
            put("more skewed")
        assert there("more skewed") is None
        proxy.calm()
        put("more skewed")

    def test_a_server_is_down_for_a_while(self, put: Any, proxy: Proxy) -> None:
        """Connections are refused, then it is there again, at the same place, which nobody else gets meanwhile."""
        place = "127.0.0.1", urlsplit(proxy.endpoint).port or 0
        put()
        with proxy.down():
            with pytest.raises(boto.EndpointConnectionError):
                put()
            with pytest.raises(OSError, match="in use"):
                socket.create_server(place)
        put()

    def test_what_a_client_had_asked_for_that_is_gone_is_waited_for(self, proxy: Proxy) -> None:
        """A process that was killed leaves requests which the store has not heard of yet."""
        proxy.on().delay(0.3)
        for number in range(20):
            with socket.create_connection(("127.0.0.1", urlsplit(proxy.endpoint).port or 0)) as client:
                client.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        proxy.settle()
        assert {request.target for request in proxy.requests} == {f"/{number}" for number in range(20)}
        assert all(request.status for request in proxy.requests)

    def test_anything_can_be_called_in_between(self, put: Any, there: Any, proxy: Proxy) -> None:
        """A function that waits does not hold up other connections; it may answer, too."""
        waiting, go_on = threading.Event(), threading.Event()

        def wait(_: Request) -> None:
            waiting.set()
            assert go_on.wait(20)

        proxy.on("PUT", key="waits").call(wait)
        proxy.on("PUT", key="answered").call(lambda request: Answer(418, request.key))
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(put, "waits")
            assert waiting.wait(20)
            put("other")
            assert there("waits") is None
            go_on.set()
            late.result()
        with pytest.raises(boto.ClientError, match="answered"):
            put("answered")

    def test_a_header_is_forgotten_and_the_signature_right(self, rclone: S3Server, bucket_name: str) -> None:
        """As if the store did not know it; the body passes as it is."""
        with proxied(rclone) as store, proxied(store.endpoint) as proxy:
            proxy.on("PUT").forget("if-none-match", {rclone.access_key_id: rclone.secret_access_key})
            client = rclone.client(endpoint=proxy.endpoint)
            client.put_object(Bucket=bucket_name, Key="forgotten", Body=BODY, IfNoneMatch="*", Metadata={"a": "b"})
            assert "if-none-match" in proxy.requests[0].headers
            (request,) = store.requests
        assert "if-none-match" not in request.headers
        assert (request.status, request.headers["x-amz-meta-a"]) == (200, "b")
        assert rclone.client().get_object(Bucket=bucket_name, Key="forgotten")["Body"].read() == BODY


class TestStrictEcs:
    @pytest.mark.parametrize(
        ("why", "headers"),
        [
            ("an aws-chunked body", {"content-encoding": "aws-chunked"}),
            ("an aws-chunked body", {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}),
            ("trailing headers", {"x-amz-trailer": "x-amz-checksum-crc32"}),
            ("the header x-amz-checksum-crc32", {"x-amz-checksum-crc32": "AAAAAA=="}),
            ("the header x-amz-sdk-checksum-algorithm", {"x-amz-sdk-checksum-algorithm": "CRC32"}),
            ("virtual-host addressing of b.localhost", {"host": "b.localhost:9020"}),
            ("an empty x-amz-tagging header", {"x-amz-tagging": ""}),
            ("x-amz-tagging-directive", {"x-amz-tagging-directive": "REPLACE"}),
            ("a body without Content-Length", {"content-length": ""}),
            ("x-emc-namespace ns1 is missing, or not signed", {"x-emc-namespace": ""}),
            ("x-emc-namespace ns1 is missing, or not signed", {"authorization": "AWS4-HMAC-SHA256 SignedHeaders=host"}),
        ],
    )
    def test_what_ecs_refuses_is_refused(self, why: str, headers: dict[str, str]) -> None:
        """With a reason that can be read."""
        good = {
            "host": "127.0.0.1:9020",
            "content-length": "3",
            "x-emc-namespace": "ns1",
            "authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;x-emc-namespace, Signature=y",
        }
        ecs = StrictEcs(namespace="ns1")
        assert ecs.refuses(Request("PUT", "/b/k", good)) is None
        sent = {name: value for name, value in {**good, **headers}.items() if value or name == "x-amz-tagging"}
        answer = ecs.refuses(Request("PUT", "/b/k", sent))
        assert answer is not None
        assert why in answer.content.decode()

    def test_long_keys_and_deletions_without_md5_are_refused(self) -> None:
        """255 characters are the most, however many bytes they have."""
        ecs, headers = StrictEcs(), {"host": "localhost", "content-length": "3"}
        assert ecs.refuses(Request("GET", "/b/" + "%C3%B6" * 255, headers)) is None
        assert "a key of 256 characters" in str(ecs.refuses(Request("GET", "/b/" + "k" * 256, headers)))
        assert "DeleteObjects without Content-MD5" in str(ecs.refuses(Request("POST", "/b?delete", headers)))

    def test_what_todays_boto3_does_by_itself_is_refused(self, rclone: S3Server, bucket_name: str) -> None:
        """The reason why this mode exists: over https it is a body with a trailing checksum."""
        import boto3

        for tls in (False, True):
            with proxied(rclone, ecs=StrictEcs(), tls=tls) as proxy:
                client = boto3.client(
                    "s3",
                    endpoint_url=proxy.endpoint,
                    aws_access_key_id=rclone.access_key_id,
                    aws_secret_access_key=rclone.secret_access_key,
                    region_name="us-east-1",
                    verify=proxy.ca_bundle or None,
                )
                with pytest.raises(boto.ClientError, match="ECS: "):
                    client.put_object(Bucket=bucket_name, Key="k", Body=BODY)
                assert len(proxy.refused) == 1

    def test_etags_of_multipart_objects_mean_nothing(self, rgw: S3Server) -> None:
        """`00`, wherever they are told; an object of one PUT has its MD5."""
        name = new_bucket(rgw).bucket
        with proxied(rgw, ecs=StrictEcs()) as proxy:
            client = rgw.client(endpoint=proxy.endpoint)
            client.put_object(Bucket=name, Key="one", Body=BODY)
            upload = client.create_multipart_upload(Bucket=name, Key="parts")["UploadId"]
            names = {"Bucket": name, "Key": "parts", "UploadId": upload}
            etag = client.upload_part(**names, PartNumber=1, Body=BODY)["ETag"]
            assert etag == f'"{md5(BODY)}"'
            parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            client.complete_multipart_upload(**names, MultipartUpload=parts)
            told = client.head_object(Bucket=name, Key="parts")["ETag"]
            listed = {each["Key"]: each["ETag"] for each in client.list_objects_v2(Bucket=name)["Contents"]}
        assert told == listed["parts"] == '"00"'
        assert listed["one"] == f'"{md5(BODY)}"'
