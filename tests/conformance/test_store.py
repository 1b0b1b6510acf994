"""The contract of `Store`, over every server. States are made, and looked at, by a plain boto3 client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import obstore.store
import pytest

from dtool_ecs_flows.errors import AlreadyExistsError, NoSuchKeyError, StoreError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, failures
from dtool_ecs_flows.store import bucket as bucket_module
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, md5, noise
from tests.proxy import Answer, Request, counting_proxy, proxied
from tests.proxy.ecs import LONGEST_KEY
from tests.servers import S3Server

PLAIN_KEYS = (
    "a/b/c.txt",
    "a b",
    " c ",
    "Größe/µ.txt",
    "日本語",
    "emoji 🐧",
    "a+b",
    "100%",
    "%41",
    "a&b=c?d#e;f",
    "'\"",
)
"""What any server keeps, and keeps apart."""

ODD_KEYS = (
    *PLAIN_KEYS,
    "a",
    "a//b",
    "a/",
    "/a",
    "a/./b",
    "a/../b",
    "..",
    "\\",
    "line\nbreak",
    "é",
    "e\u0301",
    "x" * 1000,
)


def keys_for(server: S3Server) -> list[str]:
    """The keys that a server keeps; ECS has a limit of its own."""
    keys = ODD_KEYS if "odd_keys" in server.capabilities else PLAIN_KEYS
    return [key for key in keys if not server.strict or len(key) <= LONGEST_KEY - len("copy of/x")]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transient failures are given up after a second: for tests that wait for the end of it."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 1.0)
    monkeypatch.setattr(failures, "BUDGET", 1.0)


def fill(settings: BucketSettings, keys: Iterable[str]) -> None:
    """Put an object under each key, its body the key; boto3 would take half a minute for thousands."""
    options: Any = {"allow_http": True}
    if settings.ca_bundle:
        options["root_certificate"] = Path(settings.ca_bundle).read_bytes()
    target = obstore.store.S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key.get_secret_value(),
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options=options,
    )
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: obstore.put(target, key, key.encode()), keys))


class TestPutting:
    @pytest.mark.parametrize("body", [b"", b"abc", noise(100_000)])
    def test_what_is_put_is_there_whole(self, store: Store, raw: Raw, body: bytes) -> None:
        """Body and user metadata are in the bucket when the call returns; the ETag is the MD5."""
        etag = store.put("x/dtool", body, metadata={"name": "penguins", "frozen_at": "1.5"})

        assert raw.get("x/dtool") == body
        assert raw.metadata("x/dtool").items() >= {"name": "penguins", "frozen_at": "1.5"}.items()
        assert etag == md5(body)

    @pytest.mark.parametrize("size", [0, 1, 100_000, 6 * MIB])
    @pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
    def test_an_item_is_put_whatever_buffer_it_is_in(
        self, store: Store, raw: Raw, size: int, buffer: Callable[[bytes], Any]
    ) -> None:
        """Also above 5 MiB it is one object of one PUT, with the MD5 of its bytes for an ETag."""
        body = noise(size)
        etag = store.put_item("x/data/1", buffer(body), md5(body), {"handle": "YQ==", "checksum": md5(body)})

        assert raw.get("x/data/1") == body
        assert raw.metadata("x/data/1").items() >= {"handle": "YQ==", "checksum": md5(body)}.items()
        assert etag == md5(body) == raw.client.head_object(Bucket=raw.bucket, Key="x/data/1")["ETag"].strip('"')

    def test_a_put_replaces_body_and_metadata(self, store: Store, raw: Raw) -> None:
        """Nothing of what was there before shines through."""
        raw.put("k", b"long before", {"old": "1"})
        store.put("k", b"new", metadata={"name": "2"})
        assert raw.get("k") == b"new"
        assert "old" not in raw.metadata("k")

    def test_put_if_absent_never_writes_over_an_object(self, store: Store, raw: Raw, server: S3Server) -> None:
        """The second of two who register a dataset is told so, and the first one's body stays."""
        if "conditional_put" not in server.capabilities:
            pytest.skip(f"{server.name} does not know If-None-Match")
        store.put("dtool-1", b"first", if_absent=True)
        with pytest.raises(AlreadyExistsError, match="dtool-1"):
            store.put("dtool-1", b"second", if_absent=True)
        assert raw.get("dtool-1") == b"first"

    def test_of_many_puts_if_absent_at_once_one_wins(self, store: Store, raw: Raw, server: S3Server) -> None:
        """A race is decided by the store."""
        if "conditional_put" not in server.capabilities:
            pytest.skip(f"{server.name} does not know If-None-Match")

        def register(number: int) -> bool:
            try:
                store.put("dtool-1", str(number).encode(), if_absent=True)
            except AlreadyExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            won = [number for number, first in enumerate(threads.map(register, range(8))) if first]
        assert [str(number).encode() for number in won] == [raw.get("dtool-1")]

    @pytest.mark.usefixtures("impatient", "raw")
    def test_a_body_that_changes_on_its_way_is_refused(self, shared_bucket: BucketSettings, server: S3Server) -> None:
        """A bit that flips on the way to the store is noticed there: nothing is stored."""
        if server.name == "rclone":
            pytest.skip("rclone does not look at the SHA-256 in the signature")
        with proxied(shared_bucket.endpoint) as proxy:
            proxy.on("PutObject").flip_request()
            proxy.on("UploadPart").flip_request()
            store = Store(changed(shared_bucket, endpoint=proxy.endpoint))
            upload = store.begin_upload("k", {})
            with pytest.raises(StoreError):
                store.put_part("k", upload, 1, b"abc")
            store.abort_upload("k", upload)
            with pytest.raises(StoreError):
                store.put("k", b"abc")
            with pytest.raises(StoreError):
                store.put_item("k", b"abc", md5(b"abc"), {})
        with pytest.raises(NoSuchKeyError):
            Store(shared_bucket).head("k")


class TestReading:
    def test_get_tells_all_of_an_object(self, store: Store, raw: Raw) -> None:
        """Body, size, ETag without quotes, time in UTC epoch seconds."""
        before = time.time()
        raw.put("k", b"abc")
        found = store.get("k")
        assert (found.body, found.info.key, found.info.size, found.info.etag) == (b"abc", "k", 3, md5(b"abc"))
        assert before - 2 <= found.info.last_modified <= time.time() + 2

    def test_times_are_utc_wherever_the_user_lives(
        self, store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Listing, HEAD and GET agree, and none is off by the local time zone."""
        monkeypatch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        try:
            raw.put("k", b"abc")
            times = [store.get("k").info.last_modified, store.head("k").last_modified]
            times += [info.last_modified for info in store.list("k")]
        finally:
            monkeypatch.undo()
            time.tzset()
        assert all(abs(each - time.time()) < 600 for each in times)

    @pytest.mark.parametrize("name", ["Handle", "HANDLE", "handle"])
    def test_metadata_keys_have_one_spelling(self, store: Store, raw: Raw, name: str) -> None:
        """However a server or a client spells them: lower case, underscores."""
        raw.put("k", b"", {name: "YQ==", "frozen_at": "1.5", "created-at": "1"})
        for metadata in (store.head("k").metadata, store.get("k").info.metadata):
            assert metadata.items() >= {"handle": "YQ==", "frozen_at": "1.5", "created_at": "1"}.items()

    @pytest.mark.parametrize("size", [1, 10, 100_000])
    def test_any_range_can_be_read(self, store: Store, raw: Raw, size: int) -> None:
        """The first byte, the last one, some in between, all: exactly these bytes."""
        body = noise(size)
        raw.put("data/1", body)
        ranges = {(0, 1), (size - 1, 1), (size // 2, size - size // 2), (0, size), (size // 3, size // 3), (size, 0)}
        for offset, length in ranges:
            assert bytes(store.read("data/1", offset, length, size)) == body[offset : offset + length]

    def test_an_empty_object_is_read(self, store: Store, raw: Raw) -> None:
        """An empty file is an item like others: it is there, or it is not."""
        raw.put("data/1", b"")
        assert bytes(store.read("data/1", 0, 0, 0)) == b""
        with pytest.raises(NoSuchKeyError):
            store.read("data/2", 0, 0, 0)

    @pytest.mark.parametrize(("offset", "length"), [(0, 8), (0, 4), (4, 4), (6, 2)])
    @pytest.mark.parametrize("actual", [5, 0, 9])
    def test_an_object_of_another_size_is_no_failure_of_the_network(
        self, store: Store, raw: Raw, offset: int, length: int, actual: int
    ) -> None:
        """Asking again does not change it: nothing comes, at once, however many bytes there are."""
        raw.put("data/1", noise(actual))
        store.head("data/1")  # from the first success on, transient failures have a budget of minutes
        began = time.monotonic()
        found = bytes(store.read("data/1", offset, length, 8))
        assert time.monotonic() - began < 60 < failures.BUDGET
        assert found == b""


class TestKeys:
    def test_any_key_comes_back_as_it_is(self, store: Store, raw: Raw, server: S3Server) -> None:
        """Spaces, plus, percent, quotes, letters of all scripts; where the server keeps them apart, odd slashes."""
        keys = keys_for(server)
        for number, key in enumerate(keys):
            body = f"{number}".encode()
            store.put_item(key, body, md5(body), {"n": str(number)})
            assert raw.get(key) == body, key
            assert store.get(key).body == body, key
            assert store.head(key).metadata["n"] == str(number), key
            assert bytes(store.read(key, 0, len(body), len(body))) == body, key
        assert [info.key for info in store.list("")] == sorted(keys, key=str.encode) == raw.listed()
        for key in keys:
            below = {other for other in keys if other.startswith(key)}
            assert {info.key for info in store.list(key)} == below, key
        assert store.delete(keys) == len(keys)
        assert raw.listed() == []

    def test_any_key_is_copied(self, store: Store, raw: Raw, server: S3Server) -> None:
        """On the server, from and to such keys."""
        keys = keys_for(server)
        for number, key in enumerate(keys):
            raw.put(key, f"{number}".encode())
            store.copy(f"copy of/{key}x", store, key, len(f"{number}"), {})
            assert raw.get(f"copy of/{key}x") == f"{number}".encode(), key


class TestListing:
    def test_many_keys_are_listed_and_deleted_by_the_thousand(
        self, shared_bucket: BucketSettings, raw: Raw, server: S3Server
    ) -> None:
        """2,100 keys are three listing requests; deleting 1,001 of them is two, and deletes no other."""
        keys = sorted(f"data/{number:04}" for number in range(2100))
        fill(shared_bucket, [*keys, "dat", "data0", "e"])

        with counting_proxy(server) as proxy:
            store = Store(changed(shared_bucket, endpoint=proxy.endpoint))
            found = list(store.list("data/"))
            listed = len(proxy.requests)
            deleted = store.delete(keys[:1001])
            requests = len(proxy.requests)

        assert [info.key for info in found] == keys
        assert all(info.size == 9 and info.etag == md5(info.key.encode()) for info in found)
        assert (listed, requests - listed, deleted) == (3, 2, 1001)
        assert raw.listed() == sorted([*keys[1001:], "dat", "data0", "e"])
        Store(shared_bucket).delete(keys)

    def test_nothing_is_listed_of_nothing(self, store: Store, raw: Raw) -> None:
        """An empty bucket, and a prefix without keys."""
        assert list(store.list("")) == []
        raw.put("a/b", b"")
        assert list(store.list("a/b/")) == []


class TestDeleting:
    def test_what_is_not_there_is_no_error(self, store: Store, raw: Raw) -> None:
        """One key, some keys, none: afterwards they are not there."""
        raw.put("a", b"")
        raw.put("b", b"")
        store.delete(["not there"])
        store.delete(["a", "nor this"])
        assert store.delete([]) == 0
        assert raw.listed() == ["b"]


class TestMultipart:
    def test_parts_become_one_object(self, store: Store, raw: Raw) -> None:
        """In the order of their numbers, with the metadata given at the beginning."""
        parts = [noise(5 * MIB, 1), noise(5 * MIB, 2), noise(1000, 3)]
        whole = b"".join(parts)
        upload = store.begin_upload("data/1", {"handle": "YQ==", "checksum": md5(whole)})
        etags = [store.put_part("data/1", upload, 3, memoryview(parts[2]))]
        etags = [store.put_part("data/1", upload, n, parts[n - 1]) for n in (1, 2)] + etags
        assert raw.listed() == []

        store.complete_upload("data/1", upload, etags, size=len(whole), checksum=md5(whole))

        assert raw.get("data/1") == whole
        assert raw.metadata("data/1").items() >= {"handle": "YQ==", "checksum": md5(whole)}.items()
        assert store.head("data/1").size == len(whole)
        (info,) = store.list("")
        assert info.size == len(whole)

    def test_an_aborted_upload_leaves_nothing(self, store: Store, raw: Raw, server: S3Server) -> None:
        """No object and no parts that cost; aborting again is no error."""
        upload = store.begin_upload("data/1", {})
        store.put_part("data/1", upload, 1, b"abc")
        if server.name == "rgw":
            assert store.uploads("data/") == [("data/1", upload)]
        store.abort_upload("data/1", upload)
        store.abort_upload("data/1", upload)
        assert raw.listed() == []
        assert list(store.uploads("")) == []

    def test_completing_what_is_no_upload_is_an_error(
        self, store: Store, raw: Raw, shared_bucket: BucketSettings
    ) -> None:
        """An object of another size or content under this key does not count as its result."""
        raw.put("data/1", b"abd", {"checksum": md5(b"abd")})
        with proxied(shared_bucket.endpoint) as proxy:
            proxy.on().call(lambda request: Answer(404, "NoSuchUpload") if request.method == "POST" else None)
            store = Store(changed(shared_bucket, endpoint=proxy.endpoint))
            for size, checksum in ((3, md5(b"abc")), (4, md5(b"abd"))):
                with pytest.raises(StoreError, match="NoSuchUpload"):
                    store.complete_upload("data/1", "1", ["0" * 32], size=size, checksum=checksum)
            store.complete_upload("data/1", "1", ["0" * 32], size=3, checksum=md5(b"abd"))

    def test_a_completion_whose_answer_was_lost_counts(self, shared_bucket: BucketSettings, raw: Raw) -> None:
        """The request is repeated, meets NoSuchUpload, and the object that is there says that it had worked."""
        lost: list[Request] = []

        def lose_first(request: Request) -> Answer | None:
            if request.method == "POST" and "uploadId=" in request.target and not lost:
                lost.append(request)
                return Answer()
            return None

        body = noise(1000)
        with proxied(shared_bucket.endpoint) as proxy:
            proxy.on().call(lose_first)
            store = Store(changed(shared_bucket, endpoint=proxy.endpoint))
            upload = store.begin_upload("k", {"checksum": md5(body)})
            etag = store.put_part("k", upload, 1, body)
            store.complete_upload("k", upload, [etag], size=len(body), checksum=md5(body))
        assert lost
        assert raw.get("k") == body


class TestCopying:
    def test_an_object_is_copied_on_the_server(self, store: Store, raw: Raw, server: S3Server) -> None:
        """From another bucket, without its bytes coming here, with the metadata given and none of the source's."""
        source = new_bucket(server)
        Raw(source).put("data/1", b"abc", {"handle": "old", "old": "1"})
        store.copy("copied", Store(source), "data/1", 3, {"handle": "YQ==", "checksum": md5(b"abc")})
        assert raw.get("copied") == b"abc"
        assert raw.metadata("copied").items() >= {"handle": "YQ==", "checksum": md5(b"abc")}.items()
        assert server.name == "rclone" or "old" not in raw.metadata("copied")  # rclone keeps it whatever it is told

    @pytest.mark.parametrize("size", [5 * MIB + 1, 11 * MIB])
    def test_a_large_object_is_copied_in_parts(self, rgw: S3Server, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """Above what one request copies (5 GiB; here 5 MiB) the parts are whole, in order, and no upload stays open."""
        monkeypatch.setattr(bucket_module, "MULTIPART_COPY_ABOVE", 5 * MIB)
        monkeypatch.setattr(bucket_module, "COPY_PART", 5 * MIB)
        source, target = new_bucket(rgw), new_bucket(rgw)
        body = noise(size)
        Raw(source).put("data/1", body)
        with counting_proxy(rgw) as proxy:
            store = Store(changed(target, endpoint=proxy.endpoint))
            store.copy("copied", Store(source), "data/1", size, {"checksum": md5(body)})
            copied = [request for request in proxy.requests if "partNumber=" in request.target]
        raw = Raw(target)
        assert len(copied) == -(-size // (5 * MIB))
        assert raw.get("copied") == body
        assert raw.metadata("copied")["checksum"] == md5(body)
        assert raw.uploads() == []

    def test_a_copy_in_parts_that_fails_leaves_nothing(self, rgw: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The source is not there: an error, no object, and no upload that stays open."""
        monkeypatch.setattr(bucket_module, "MULTIPART_COPY_ABOVE", 5 * MIB)
        monkeypatch.setattr(bucket_module, "COPY_PART", 5 * MIB)
        source, target = new_bucket(rgw), new_bucket(rgw)
        with pytest.raises(NoSuchKeyError):
            Store(target).copy("copied", Store(source), "data/1", 6 * MIB, {})
        assert Raw(target).listed() == []
        assert Raw(target).uploads() == []

    def test_what_is_not_there_cannot_be_copied(self, store: Store) -> None:
        """The error says so."""
        with pytest.raises(NoSuchKeyError):
            store.copy("copied", store, "not there", 3, {})
