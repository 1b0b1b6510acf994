"""`Store`: the requests that this project makes to one bucket."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import closing, suppress
from typing import Any

import botocore.exceptions as boto

from dtool_ecs_flows.errors import AccessDeniedError, ManifestError, NoSuchKeyError, StoreError, UnavailableError
from dtool_ecs_flows.memory import Allocate
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import client, failures, objects
from dtool_ecs_flows.store.fast import FAILURES
from dtool_ecs_flows.store.flow import Flow, TakerError
from dtool_ecs_flows.store.multipart import Uploads
from dtool_ecs_flows.store.objects import ObjectInfo, StoredObject, content_md5, etag_of, info_of, made_etag
from dtool_ecs_flows.store.pages import OBJECTS

logger = logging.getLogger(__name__)

MULTIPART_COPY_ABOVE = 5 * 1024**3
"""Bytes; S3's CopyObject moves no more in one request."""

COPY_TRIED_ONCE_ABOVE = 512 * 1024**2
"""Bytes. A store that copies by reference (a RADOS Gateway) does so at once, whatever the size; the answer of one that
moves bytes may take longer than `read_timeout`. So a larger copy is asked for once; then it goes in parts."""

COPY_PART = 256 * 1024**2
"""Bytes of a part of a larger copy, or more where 10,000 parts would not hold the object."""

READ_WHOLE = 1024**2
"""Bytes; an object up to this size is taken from its answer in one piece, during which no stop is heard."""

LOOK_FIRST = 64 * 1024**2
"""Bytes; before memory is taken for more, the object is looked at: a manifest can say any size."""

_MAX_PARTS = 10_000  # S3's limit for a multipart upload
_DELETE_BATCH = 1000  # S3's limit for DeleteObjects
_EMPTY_PAGES = 1000  # of a listing, one after the other: of keys that were deleted, but not for ever


@functools.lru_cache(maxsize=32)
def _open_store(settings: BucketSettings, _pid: int) -> Store:
    return Store(settings)


def open_store(settings: BucketSettings) -> Store:
    """Return the store of these settings; equal settings share one, and so its connections.

    dtoolcore builds three brokers to open one dataset; without sharing, each would connect anew. Keyed by the whole
    settings and by the process, so no two buckets, users or forked processes share anything.
    """
    return _open_store(settings, os.getpid())


class Store(Uploads):
    """One bucket, with one user's eyes. See the package's docstring for the contract."""

    _copies_slowly = False

    # --- reading ---

    def get(self, key: str, *, expected: bool = False, most: int = objects.DOCUMENT) -> StoredObject:
        """Return a document whole.

        With `expected` it is asked for in the fast lane first: what is not there then costs one request more.

        Raises:
            ManifestError: it has more than `most` bytes; they were not read.
        """
        busy = None
        if expected and self._fast_for(key):
            try:
                with self._limits.request():
                    stored = self._fast.get_object(key, most)
                self._fast_served()
                self._limits.received(len(stored.body))
                return stored
            except ManifestError:
                raise
            except FileNotFoundError:  # no fault of the lane; told apart from what else is not there below
                pass
            except FAILURES as error:
                busy = self._fast_failed(error, "GetObject", key)

        def read(response: dict[str, Any]) -> StoredObject:
            with closing(response["Body"]) as stream:
                objects.check_document(key, response["ContentLength"], most)
                body = stream.read()
            self._limits.received(len(body))
            return StoredObject(body, info_of(key, response, len(body)))

        return self._call("GetObject", key, {"Key": key}, read, failed=busy)

    def head(self, key: str) -> ObjectInfo:
        """Return what the store knows of an object, its user metadata included."""
        try:
            return self._call("HeadObject", key, {"Key": key}, functools.partial(info_of, key))
        except (NoSuchKeyError, AccessDeniedError):
            # The answer to a HEAD has no body that would tell a missing key from a missing bucket: that of a GET has.
            self._call("GetObject", key, {"Key": key, "Range": "bytes=0-0"}, _nothing)
            raise

    def read(self, key: str, offset: int, length: int, size: int, allocate: Allocate = bytearray) -> memoryview:
        """Return `length` bytes of an object of `size` bytes, from `offset` on; many are read into what is allocated.

        Where the object has another size, none come, and its bytes are not read into memory: whoever can write to the
        bucket chose how many they are. An answer that was cut short on its way is another matter, and is asked for
        again.
        """
        if length != size or size > READ_WHOLE or not size:
            return self._filled(key, offset, length, size, allocate)
        busy = None
        if self._fast_for(key):
            try:
                with self._limits.request(length):
                    data = self._fast.get(key, size)
                self._fast_served()
                return data
            except FAILURES as error:  # told apart by the request below
                busy = self._fast_failed(error, "GetObject", key)

        def read(response: dict[str, Any]) -> memoryview:
            with closing(response["Body"]) as body:
                return memoryview(body.read() if response["ContentLength"] == size else b"")

        return self._call("GetObject", key, {"Key": key}, read, size=length, failed=busy)

    def _filled(self, key: str, offset: int, length: int, size: int, allocate: Allocate) -> memoryview:
        if length > LOOK_FIRST and self.head(key).size != size:
            return memoryview(b"")
        buffer, filled = memoryview(allocate(length)), 0

        def take(chunk: Any) -> None:
            nonlocal filled
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)

        self.fetch(key, offset, length, size, take)
        return buffer[:filled]

    def fetch(self, key: str, offset: int, length: int, size: int, take: Callable[[Any], None]) -> int:
        """Hand `length` bytes of an object of `size` bytes, from `offset` on, to `take`: in order, a chunk at a time.

        An answer that was cut short is continued where it stopped, so each byte is handed on once. Where the object has
        another size, fewer come. Returns how many came; what `take` raises ends it.
        """
        if length == 0:
            self.head(key)  # there are no bytes to ask for, but the object must be there
            return 0
        flow, busy = Flow(key, offset, length, size, take), None
        try:
            if self._fast_for(key):
                try:
                    with self._limits.request(length):
                        for chunk in self._fast.chunks(key, offset, length, size):
                            flow.hand_on(chunk)
                    self._fast_served()
                except FAILURES as error:  # told apart by the request below
                    busy = self._fast_failed(error, "GetObject", key)
            if flow.left:
                self._call("GetObject", key, flow.params, flow.read, size=flow.left, failed=busy)
        except TakerError as error:
            raise error.error from None
        except StoreError as error:
            if "InvalidRange" not in str(error):  # of an object that ends before the range begins
                raise
        return length - flow.left

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects whose key starts with the prefix, in the order of their keys; one request per 1,000.

        `after` leaves out the keys up to this one; a store that knows no such thing may give them all the same.
        """
        token, seen, empty = "", set[int](), 0
        while True:
            params: dict[str, Any] = {"Prefix": prefix} | ({"StartAfter": after} if after else {})
            if token:
                params["ContinuationToken"] = token
            page = self._call("ListObjectsV2", prefix, params, lambda response: response)
            found = page[OBJECTS]
            yield from found
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken", "")
            # Two numbers are kept of each page: that with this first key, or the way to the next, comes but once.
            marks = {hash(("token", token)), *(hash(("key", info.key)) for info in found[:1])}
            empty = 0 if found else empty + 1
            if not token or marks & seen or empty > _EMPTY_PAGES:
                raise StoreError(f"listing {self.bucket}/{prefix} at {self.settings.endpoint} never ends")
            seen |= marks

    # --- about the bucket ---

    def ahead(self) -> float:
        """Return by how many seconds the store's clock is ahead of this computer's; asks for one page of one key.

        Raises:
            StoreError: also where the answer names no time.
        """

        def read(response: dict[str, Any]) -> float:
            response["IsTruncated"]  # which a listing has, and the page of a web server has not
            return failures.seconds_ahead(response)

        return self._call("ListObjectsV2", "", {"Prefix": "", "MaxKeys": 1}, read)

    def versioning(self) -> str:
        """Return `Enabled`, `Suspended`, or nothing for a bucket that keeps no old versions.

        Raises:
            AccessDeniedError: the policy does not allow to ask, as that of `docs/access-policy.md` does not.
        """
        return self._call("GetBucketVersioning", "", {}, lambda response: str(response.get("Status", "")))

    # --- writing ---

    def put(self, key: str, body: bytes, *, metadata: Mapping[str, str] | None = None, if_absent: bool = False) -> str:
        """Put a small object and return its ETag; the store checks its MD5.

        With `if_absent` nothing is written over an object that is there, where the store knows `If-None-Match`.

        Raises:
            AlreadyExistsError: `if_absent`, and there is one.
        """
        params: dict[str, Any] = {
            "Key": key,
            "Body": bytes(body),
            "ContentMD5": content_md5(hashlib.md5(body, usedforsecurity=False).hexdigest()),
            "Metadata": dict(metadata or {}),
            **objects.content_type_of(key),
        }
        if if_absent:
            params["IfNoneMatch"] = "*"
        return self._call("PutObject", key, params, etag_of, size=len(body))

    def put_item(self, key: str, body: Any, md5: str, metadata: Mapping[str, str]) -> str:
        """Put an item's bytes (any buffer), whose MD5 in hex is known, with one request; return its ETag."""
        busy = None
        if self._fast_for(key):
            try:
                with self._limits.request(len(body)):
                    etag = self._fast.put(key, body, dict(metadata))
            except FAILURES as error:  # told apart by the request below; a put may be repeated
                busy = self._fast_failed(error, "PutObject", key)
            else:
                self._fast_served()
                return etag
        params = {"Key": key, "Body": body, "ContentMD5": content_md5(md5), "Metadata": dict(metadata)}
        return self._call("PutObject", key, params, etag_of, size=len(body), failed=busy)

    def copy(
        self,
        key: str,
        source: Store,
        source_key: str,
        size: int,
        metadata: Mapping[str, str],
        *,
        submit: Callable[[Callable[[], str]], Future[str]] | None = None,
        copied: Callable[[int], None] | None = None,
    ) -> None:
        """Copy an object of `size` bytes from another bucket of this endpoint, on the server, with new metadata.

        Above `MULTIPART_COPY_ABOVE`, or where a copy of more than `COPY_TRIED_ONCE_ABOVE` was not answered in time, it
        goes in parts: they run where `submit` runs them, else one after the other here.
        `copied` is then called with the length of each part that is done.
        """
        origin = {"Bucket": source.bucket, "Key": source_key}
        once = size > COPY_TRIED_ONCE_ABOVE
        if size <= MULTIPART_COPY_ABOVE and not (once and self._copies_slowly):
            whole = {
                "Key": key,
                "CopySource": origin,
                "MetadataDirective": "REPLACE",
                "Metadata": dict(metadata),
            }
            try:
                self._call("CopyObject", key, whole, made_etag, once=once)
                return
            except UnavailableError as error:
                if not once:
                    raise
                logger.info("large objects are copied in parts from now on: %s", error)
                self._copies_slowly = True
        upload = self.begin_upload(key, metadata)

        def copier(number: int, offset: int, end: int) -> Callable[[], str]:
            params: dict[str, Any] = {
                "Key": key,
                "UploadId": upload,
                "PartNumber": number,
                "CopySource": origin,
                "CopySourceRange": f"bytes={offset}-{end - 1}",
            }

            def copy() -> str:
                failures.check_stop()
                etag = self._call("UploadPartCopy", key, params, made_etag)
                if copied is not None:
                    copied(end - offset)
                return etag

            return copy

        parts: list[Future[str]] = []
        step = max(COPY_PART, -(-size // _MAX_PARTS))
        try:
            for number, offset in enumerate(range(0, size, step), start=1):
                parts.append((submit or _at_once)(copier(number, offset, min(offset + step, size))))
            wait(parts, return_when=FIRST_EXCEPTION)
            etags = [part.result() for part in parts if part.done()]
            self.complete_upload(key, upload, etags, size=size, checksum=metadata.get("checksum", ""))
        except BaseException:
            wait([part for part in parts if not part.cancel()])  # none may arrive after the abort
            self.abort_upload(key, upload)
            raise

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects, 1,000 per request; what is not there is no error. Return how many were named."""
        batch: list[str] = []
        count = 0
        for key in keys:
            batch.append(key)
            count += 1
            if len(batch) == _DELETE_BATCH:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)
        return count

    def _delete(self, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            with suppress(NoSuchKeyError):
                self._call("DeleteObject", keys[0], {"Key": keys[0]}, _nothing)
            return

        def check(response: dict[str, Any]) -> None:
            for failed in response.get("Errors", ()):
                error = boto.ClientError({"Error": dict(failed)}, "DeleteObjects")
                raise failures.translate(error, self.settings, "DeleteObjects", failed.get("Key", ""))

        objects = [{"Key": key} for key in keys]
        try:
            self._call("DeleteObjects", keys[0], {"Delete": {"Objects": objects, "Quiet": True}}, check)
        except AccessDeniedError:
            # A RADOS Gateway holds this request against the bucket, not its keys: no policy for a prefix allows it.
            for key in keys:
                self._delete([key])

    # --- sharing ---

    def make_public(self, key: str) -> str:
        """Let everyone read an object, and return its plain URL."""
        self._call("PutObjectAcl", key, {"Key": key, "ACL": "public-read"}, _nothing)
        return self.plain_url(key)

    def plain_url(self, key: str) -> str:
        """Return the URL of an object without a signature; it serves where the object is public."""
        client.check_key({"Key": key})
        unsigned = self._client("unsigned", client.build_unsigned)
        return str(
            unsigned.generate_presigned_url("get_object", ExpiresIn=0, Params={"Bucket": self.bucket, "Key": key})
        )

    def sign_get(self, key: str, expiry: int) -> str:
        """Return a URL that reads an object for `expiry` seconds. It is a secret while it lasts: never log it."""
        return self._sign("get_object", expiry, {"Key": key})

    def sign_put(self, key: str, expiry: int, *, md5: str = "", metadata: Mapping[str, str] | None = None) -> str:
        """Return a URL that writes an object for `expiry` seconds; MD5 and metadata, where given, are signed too."""
        params: dict[str, Any] = {"Key": key}
        if md5:
            params["ContentMD5"] = content_md5(md5)
        if metadata:
            params["Metadata"] = dict(metadata)
        return self._sign("put_object", expiry, params)

    def _sign(self, operation: str, expiry: int, params: dict[str, Any]) -> str:
        client.check_key(params)
        signer = self._client("signed", client.build)
        return str(signer.generate_presigned_url(operation, ExpiresIn=expiry, Params={"Bucket": self.bucket, **params}))


def _nothing(_: dict[str, Any]) -> None:
    return None


def _at_once(work: Callable[[], str]) -> Future[str]:
    done: Future[str] = Future()
    done.set_result(work())
    return done
