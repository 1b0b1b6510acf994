"""Multipart uploads: begun, found again, taken up, completed, thrown away."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dtool_ecs_flows.errors import AccessDeniedError, NoSuchKeyError, NoSuchUploadError, StoreError, UnavailableError
from dtool_ecs_flows.store.objects import etag_of, info_of, made_etag
from dtool_ecs_flows.store.requests import Requests
from dtool_ecs_flows.words import visible

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """A part that the store holds."""

    size: int
    """Bytes."""
    etag: str
    """Its MD5 in hex, but for stores that encrypt."""


class Uploads(Requests):
    """The multipart uploads of one bucket."""

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload and return its id; the caller completes it, aborts it, or takes it up later."""
        params = {"Key": key, "Metadata": dict(metadata)}

        def read(response: dict[str, Any]) -> str:
            return str(response["UploadId"])

        try:
            return self._call("CreateMultipartUpload", key, params, read, once=True)
        except UnavailableError as error:
            upload = self._call("CreateMultipartUpload", key, params, read, failed=error)
        # The store may have begun one all the same, whose id nobody knows. Where another process sends the same item,
        # it begins anew.
        with suppress(StoreError):
            for other_key, other in self.uploads(key, once=True):
                if other_key == key and other != upload:
                    self.abort_upload(key, other)
        return upload

    def put_part(self, key: str, upload: str, number: int, body: Any) -> str:
        """Put one part (numbers from 1, any buffer) and return its ETag.

        The store checks its SHA-256, which is in the signature. That takes a third of the time of an MD5, and botocore
        leaves it out, over https, only where there is a Content-MD5.

        Raises:
            NoSuchUploadError: the upload was completed or aborted, by somebody else.
        """
        params = {"Key": key, "UploadId": upload, "PartNumber": number, "Body": body}
        return self._call("UploadPart", key, params, etag_of, size=len(body))

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], *, size: int, checksum: str) -> None:
        """Make the parts one object of `size` bytes.

        Where the answer was lost, a repeated request meets `NoSuchUpload`: an object of this size and `checksum` then
        says that it worked.

        Raises:
            NoSuchUploadError: it was aborted, or completed with other parts, by somebody else.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        params = {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            self._call("CompleteMultipartUpload", key, params, made_etag)
        except NoSuchUploadError:
            with suppress(NoSuchKeyError):
                info = self._call("HeadObject", key, {"Key": key}, functools.partial(info_of, key))
                if info.size == size and info.metadata.get("checksum") == checksum:
                    return
            raise

    def abort_upload(self, key: str, upload: str, *, raising: bool = False) -> None:
        """Throw the parts of an upload away as far as store and policy allow; what stays is logged.

        Nothing is raised: mostly something else has failed, which is what the caller has to hear of. With `raising`,
        that is so only where the policy does not allow it.
        """
        try:
            self.abort(key, upload)
        except StoreError as error:
            if raising and not isinstance(error, AccessDeniedError):
                raise
            logger.warning("unfinished parts of %s/%s stay in the store: %s", self.bucket, visible(key), error)

    def abort(self, key: str, upload: str) -> None:
        """Throw the parts of an upload away; one that is not there any more is no error.

        Raises:
            AccessDeniedError: the policy does not allow it.
        """
        with suppress(NoSuchUploadError):
            self._call("AbortMultipartUpload", key, {"Key": key, "UploadId": upload}, _nothing)

    def uploads(self, prefix: str, *, once: bool = False) -> list[tuple[str, str]]:
        """Return `(key, upload id)` of unfinished multipart uploads below a prefix, of each key the oldest first.

        With `once` nothing is tried again.

        Raises:
            AccessDeniedError: the policy does not allow it.
        """
        found: list[tuple[str, float, str]] = []
        seen: set[tuple[str, str]] = set()
        params: dict[str, Any] = {"Prefix": prefix}
        while True:
            try:
                page = self._call("ListMultipartUploads", prefix, params, lambda response: response, once=once)
            except NoSuchUploadError:  # what rclone answers where there never was one
                break
            for entry in page.get("Uploads", ()):
                begun = entry["Initiated"].timestamp() if "Initiated" in entry else 0.0
                found.append((entry["Key"], begun, entry["UploadId"]))
            if not page.get("IsTruncated"):
                break
            marks = (page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", ""))
            if not any(marks) or marks in seen:
                raise StoreError(f"listing uploads below {self.bucket}/{prefix} never ends")
            seen.add(marks)
            params["KeyMarker"], params["UploadIdMarker"] = marks
        return [(key, upload) for key, _, upload in sorted(found)]

    def parts(self, key: str, upload: str) -> dict[int, Part]:
        """Return the parts of an unfinished upload that the store holds, by number.

        Raises:
            NoSuchUploadError: the upload was completed or aborted.
            AccessDeniedError: the policy does not allow it.
        """
        found: dict[int, Part] = {}
        params: dict[str, Any] = {"Key": key, "UploadId": upload}
        while True:
            try:
                page = self._call("ListParts", key, params, lambda response: response)
            except NoSuchKeyError as error:  # what a RADOS Gateway calls it
                raise NoSuchUploadError(str(error)) from None
            for entry in page.get("Parts", ()):
                found[int(entry["PartNumber"])] = Part(int(entry["Size"]), etag_of(entry))
            marker = int(page.get("NextPartNumberMarker", 0))
            if not page.get("IsTruncated") or marker <= params.get("PartNumberMarker", 0):
                return found
            params["PartNumberMarker"] = marker


def _nothing(_: dict[str, Any]) -> None:
    return None
