"""`Store`: the requests that this project makes to one bucket."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import botocore.exceptions as boto
from botocore import xform_name
from urllib3.exceptions import HTTPError

from dtool_ecs_flows.errors import AccessDeniedError, NoSuchKeyError, StoreError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import client, failures
from dtool_ecs_flows.store.fast import FAILURES, FastLane, can_spell, usable
from dtool_ecs_flows.store.objects import ObjectInfo, StoredObject, content_md5, etag_of, info_of

logger = logging.getLogger(__name__)

MULTIPART_COPY_ABOVE = 5 * 1024**3
"""Bytes; S3's CopyObject moves no more in one request."""

_COPY_PART = 1024**3
_FAST_FAILURES = 20  # in a row, before the fast lane is left alone
_FAST_PAUSE = 60.0  # seconds; after an outage it serves again
_DELETE_BATCH = 1000  # S3's limit for DeleteObjects

T = TypeVar("T")


@functools.lru_cache(maxsize=32)
def _open_store(settings: BucketSettings, _pid: int) -> Store:
    return Store(settings)


def open_store(settings: BucketSettings) -> Store:
    """Return the store of these settings; equal settings share one, and so its connections.

    dtoolcore builds three brokers to open one dataset; without sharing, each would connect anew. Keyed by the whole
    settings and by the process, so no two buckets, users or forked processes share anything.
    """
    return _open_store(settings, os.getpid())


class Store:
    """One bucket, with one user's eyes. See the package's docstring for the contract."""

    def __init__(self, settings: BucketSettings) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._pid = os.getpid()
        self._fast = FastLane(settings)
        self._fast_failures = 0  # a race between threads counts one more or less, which does not matter
        self._fast_from = 0.0
        self._succeeded = False

    def __repr__(self) -> str:
        """Name the bucket and where it is."""
        return f"<Store {self.bucket} at {self.settings.endpoint}>"

    # --- reading ---

    def get(self, key: str) -> StoredObject:
        """Return a small object whole."""

        def read(response: dict[str, Any]) -> StoredObject:
            body = response["Body"].read()
            return StoredObject(body, info_of(key, response, len(body)))

        return self._call("GetObject", key, {"Key": key}, read)

    def head(self, key: str) -> ObjectInfo:
        """Return what the store knows of an object, its user metadata included."""
        try:
            return self._call("HeadObject", key, {"Key": key}, functools.partial(info_of, key))
        except (NoSuchKeyError, AccessDeniedError):
            # The answer to a HEAD has no body that would tell a missing key from a missing bucket: that of a GET has.
            self._call("GetObject", key, {"Key": key, "Range": "bytes=0-0"}, _nothing)
            raise

    def read(self, key: str, offset: int, length: int, size: int) -> memoryview:
        """Return `length` bytes of an object of `size` bytes, from `offset` on.

        Where the object has another size, other than `length` bytes may come: the caller compares. An answer that was
        cut short on its way is another matter, and is asked for again.
        """
        if length == 0:
            self.head(key)  # there are no bytes to ask for, but the object must be there
            return memoryview(b"")
        whole = length == size
        if self._fast_for(key):
            try:
                data = self._fast.get(key) if whole else self._fast.get_range(key, offset, length)
                if len(data) == length:
                    self._fast_served()
                    return data
            except FAILURES as error:  # told apart by the request below
                self._fast_failed(error)

        def read(response: dict[str, Any]) -> memoryview:
            data = response["Body"].read()
            if not whole and len(data) == size:  # a server that knows no ranges
                data = data[offset : offset + length]
            return memoryview(data)

        params: dict[str, Any] = {"Key": key}
        if not whole:
            params["Range"] = f"bytes={offset}-{offset + length - 1}"
        try:
            return self._call("GetObject", key, params, read)
        except StoreError as error:
            if "InvalidRange" not in str(error):
                raise
            return memoryview(b"")  # the object ends before the range begins

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects whose key starts with the prefix, in the order of their keys; one request per 1,000."""
        token = ""
        while True:
            params: dict[str, Any] = {"Prefix": prefix}
            if token:
                params["ContinuationToken"] = token
            page = self._call("ListObjectsV2", prefix, params, lambda response: response)
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    key=entry["Key"],
                    size=int(entry["Size"]),
                    etag=entry.get("ETag", "").strip('"').lower(),
                    last_modified=entry["LastModified"].timestamp(),
                )
            if not page.get("IsTruncated"):
                return
            last, token = token, page.get("NextContinuationToken", "")
            if not token or token == last:
                raise StoreError(f"listing {self.bucket}/{prefix} at {self.settings.endpoint} never ends")

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
        }
        if if_absent:
            params["IfNoneMatch"] = "*"
        return self._call("PutObject", key, params, etag_of)

    def put_item(self, key: str, body: Any, md5: str, metadata: Mapping[str, str]) -> str:
        """Put an item's bytes (any buffer), whose MD5 in hex is known, with one request; return its ETag."""
        if self._fast_for(key):
            try:
                etag = self._fast.put(key, body, dict(metadata))
            except FAILURES as error:  # told apart by the request below; a put may be repeated
                self._fast_failed(error)
            else:
                self._fast_served()
                return etag
        params = {"Key": key, "Body": bytes(body), "ContentMD5": content_md5(md5), "Metadata": dict(metadata)}
        return self._call("PutObject", key, params, etag_of)

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload and return its id; the caller completes or aborts it."""
        params = {"Key": key, "Metadata": dict(metadata)}
        return self._call("CreateMultipartUpload", key, params, lambda response: str(response["UploadId"]))

    def put_part(self, key: str, upload: str, number: int, body: Any, md5: str) -> str:
        """Put one part (numbers from 1) and return its ETag; the store checks its MD5."""
        params = {
            "Key": key,
            "UploadId": upload,
            "PartNumber": number,
            "Body": bytes(body),
            "ContentMD5": content_md5(md5),
        }
        return self._call("UploadPart", key, params, etag_of)

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], *, size: int, checksum: str) -> None:
        """Make the parts one object of `size` bytes.

        Where the answer was lost, a repeated request meets `NoSuchUpload`: an object of this size and `checksum` then
        says that it worked.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        params = {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            self._call("CompleteMultipartUpload", key, params, _nothing)
        except StoreError as error:
            if "NoSuchUpload" not in str(error):
                raise
            info = self.head(key)
            if info.size != size or info.metadata.get("checksum") != checksum:
                raise

    def abort_upload(self, key: str, upload: str) -> None:
        """Throw the parts of an upload away as far as store and policy allow; what stays is logged, nothing is raised.

        It is called where something else has failed, which is what the caller has to hear of.
        """
        try:
            self._call("AbortMultipartUpload", key, {"Key": key, "UploadId": upload}, _nothing)
        except StoreError as error:
            if "NoSuchUpload" not in str(error):
                logger.warning("unfinished parts of %s/%s stay in the store: %s", self.bucket, key, error)

    def uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Return `(key, upload id)` of unfinished multipart uploads below a prefix; none where that is not allowed."""
        found: list[tuple[str, str]] = []
        params: dict[str, Any] = {"Prefix": prefix}
        while True:
            try:
                page = self._call("ListMultipartUploads", prefix, params, lambda response: response)
            except AccessDeniedError:
                return found
            except StoreError as error:
                if "NoSuchUpload" not in str(error):  # what rclone answers where there never was one
                    raise
                return found
            found += [(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", ())]
            if not page.get("IsTruncated"):
                return found
            params["KeyMarker"] = page["NextKeyMarker"]
            params["UploadIdMarker"] = page["NextUploadIdMarker"]

    def copy(self, key: str, source: Store, source_key: str, size: int, metadata: Mapping[str, str]) -> None:
        """Copy an object of `size` bytes from another bucket of this endpoint, on the server, with new metadata."""
        origin = {"Bucket": source.bucket, "Key": source_key}
        if size <= MULTIPART_COPY_ABOVE:
            whole = {
                "Key": key,
                "CopySource": origin,
                "MetadataDirective": "REPLACE",
                "Metadata": dict(metadata),
            }
            self._call("CopyObject", key, whole, _nothing)
            return
        upload = self.begin_upload(key, metadata)
        try:
            etags: list[str] = []
            for number, offset in enumerate(range(0, size, _COPY_PART), start=1):
                params: dict[str, Any] = {
                    "Key": key,
                    "UploadId": upload,
                    "PartNumber": number,
                    "CopySource": origin,
                    "CopySourceRange": f"bytes={offset}-{min(offset + _COPY_PART, size) - 1}",
                }
                etags.append(self._call("UploadPartCopy", key, params, _copied_etag))
            self.complete_upload(key, upload, etags, size=size, checksum=metadata.get("checksum", ""))
        except BaseException:
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
        signer = self._client("signed", client.build)
        return str(signer.generate_presigned_url(operation, ExpiresIn=expiry, Params={"Bucket": self.bucket, **params}))

    # --- how a request is made ---

    def _fast_for(self, key: str) -> bool:
        return time.monotonic() >= self._fast_from and usable(self.settings) and can_spell(key)

    def _fast_served(self) -> None:
        self._succeeded, self._fast_failures = True, 0

    def _fast_failed(self, error: BaseException) -> None:
        """Count a failure: what fails time and again shall not cost one request more for each item."""
        logger.debug("a request goes through boto3 after %s of the fast lane", type(error).__name__)
        self._fast_failures += 1
        if self._fast_failures >= _FAST_FAILURES:
            self._fast_from, self._fast_failures = time.monotonic() + _FAST_PAUSE, 0
            logger.info("%r: the fast lane failed %d times, items go through boto3 for a while", self, _FAST_FAILURES)

    def _client(self, name: str, build: Callable[[BucketSettings], Any]) -> Any:
        with self._lock:
            if self._pid != os.getpid():  # a forked child must not write into its parent's connections
                self._clients, self._pid = {}, os.getpid()
            if name not in self._clients:
                self._clients[name] = build(self.settings)
            return self._clients[name]

    def _call(self, operation: str, key: str, params: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Make one request and read its answer, again while that may help."""
        s3 = self._client("signed", client.build)
        method = getattr(s3, xform_name(operation))
        for attempt in failures.attempts(self._succeeded):
            with attempt:
                try:
                    result = read(method(Bucket=self.bucket, **params))
                except StoreError:
                    raise
                except (boto.BotoCoreError, boto.ClientError, HTTPError, OSError, KeyError) as error:
                    raise failures.translate(error, self.settings, operation, key) from None
                self._succeeded = True
                return result
        raise AssertionError("attempts end by returning or raising")


def _nothing(_: dict[str, Any]) -> None:
    return None


def _copied_etag(response: dict[str, Any]) -> str:
    return str(response["CopyPartResult"]["ETag"]).strip('"')
