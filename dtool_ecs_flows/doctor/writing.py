"""What can only be known by writing: a dataset's keys are tried, and removed again."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import uuid4

from dtool_ecs_flows import layout
from dtool_ecs_flows.doctor.report import Step
from dtool_ecs_flows.errors import AccessDeniedError, AlreadyExistsError, NoSuchKeyError, StoreError
from dtool_ecs_flows.layout import DatasetKeys
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.transfer import Transfer, md5_of
from dtool_ecs_flows.words import plural

OBJECTS, SIZE = 100, 4096
"""How many objects the speed is measured with, and their bytes."""

SLOW = 0.2
"""Seconds; where a request takes longer, small items crawl."""

_SINGLE = 10  # requests one after the other, for the time of one

_POLICY = "docs/access-policy.md has a policy that allows it"


class Trial:
    """Tries out in a bucket what a dataset needs. `clean` removes all that it wrote, whatever happened."""

    def __init__(self, store: Store, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self.keys = DatasetKeys(store.settings.dataset_prefix, str(uuid4()))
        self._body = os.urandom(SIZE)
        self._md5 = md5_of(self._body)
        self._metadata = layout.item_metadata("Übung/doctor", self._md5)
        self._item = self.keys.item(layout.identifier_of("doctor"))
        self._written: list[str] = []
        self._uploads: list[tuple[str, str]] = []

    @property
    def parts(self) -> Sequence[tuple[Sequence[str], Callable[[], list[Step]]]]:
        """What there is to try: the names of the steps, and what takes them. All after the prefix needs it."""
        return (
            (("registration keys", "put-if-absent"), self.register),
            (("prefix", "checksums", "metadata"), self.put),
            (("server-side copy",), self.copy),
            (("large items", "comfort: find uploads", "comfort: find parts"), self.upload),
            (("comfort: throw parts away",), self.abort),
            (("speed",), self.measure),
        )

    # --- what is tried ---

    def register(self) -> list[Step]:
        """Write a registration key, and once more where it must not be written over."""
        body = self.keys.prefix.encode()
        key = self.keys.registration
        with self._writing(key), suppress(AlreadyExistsError):  # its first answer may have been lost
            self._store.put(key, body, if_absent=True)
        steps = [Step(name="registration keys", state="ok", found=f"{layout.REGISTRATION_PREFIX}* can be written")]
        try:
            self._store.put(key, body, if_absent=True)
        except AlreadyExistsError:
            found = "the store writes no object over one that is there, where it is asked not to"
            return [*steps, Step(name="put-if-absent", state="ok", found=found)]
        return [
            *steps,
            Step(
                name="put-if-absent",
                state="warning",
                found="the store takes no notice of If-None-Match, which ECS knows from 3.8 on: of two copies of one "
                "dataset at once, the later may undo the freeze of the first, or take it to another prefix",
                advice="let one process at a time copy a dataset to this bucket: docs/reliability.md, two writers",
            ),
        ]

    def put(self) -> list[Step]:
        """Write an item below the prefix, and look at what the store tells of it."""
        with self._writing(self._item):
            etag = self._store.put_item(self._item, self._body, self._md5, self._metadata)
        where = f"objects below {self.keys.prefix}" if self.keys.prefix else "objects anywhere (no prefix is set)"
        steps = [Step(name="prefix", state="ok", found=f"{where} can be written")]
        if etag == self._md5:
            steps.append(Step(name="checksums", state="ok", found="the ETag of an object is the MD5 of its bytes"))
        else:
            steps.append(
                Step(
                    name="checksums",
                    state="warning",
                    found="the ETag of an object is not the MD5 of its bytes, as where a store encrypts: what is there "
                    "already is compared by one request for each item",
                )
            )
        kept = self._store.head(self._item).metadata
        lost = [name for name, value in self._metadata.items() if kept.get(name) != value]
        whole = bytes(self._store.read(self._item, 0, SIZE, SIZE)) == self._body
        if lost or not whole:
            what = f"the metadata {', '.join(lost)} of an object" if lost else "the bytes of an object"
            advice = "the store, or a proxy before it, is no S3 store that datasets can be kept in"
            return [*steps, Step(name="metadata", state="failed", found=f"{what} came back changed", advice=advice)]
        return [*steps, Step(name="metadata", state="ok", found="an object comes back with its bytes and metadata")]

    def copy(self) -> list[Step]:
        """Copy the item on the server."""
        key = self.keys.item(layout.identifier_of("copy"))
        try:
            with self._writing(key):
                self._store.copy(key, self._store, self._item, SIZE, self._metadata)
            right = self._store.head(key)
        except StoreError as error:
            advice = "copies from bucket to bucket of this endpoint will not work; others do"
            return [Step(name="server-side copy", state="warning", found=str(error), advice=advice)]
        if (right.size, right.metadata.get("checksum")) == (SIZE, self._md5):
            return [Step(name="server-side copy", state="ok", found="the store copies by itself, with new metadata")]
        return [Step(name="server-side copy", state="warning", found="a copy on the server is not like its source")]

    def upload(self) -> list[Step]:
        """Send an object in parts, and look for the upload before it is completed."""
        key = self.keys.item(layout.identifier_of("parts"))
        upload, etag = self._begin(key)
        comforts = [
            self._comfort(
                "find uploads",
                lambda: (key, upload) in self._store.uploads(self.keys.root),
                "s3:ListBucketMultipartUploads",
                "large items that were cut short are sent again whole, and what is left of them is not found",
            ),
            self._comfort(
                "find parts",
                lambda: 1 in self._store.parts(key, upload),
                "s3:ListMultipartUploadParts",
                "large items that were cut short are sent again whole",
            ),
        ]
        self._complete(key, upload, etag)
        return [Step(name="large items", state="ok", found="can be sent in parts"), *comforts]

    def abort(self) -> list[Step]:
        """Throw an upload away."""
        key = self.keys.item(layout.identifier_of("aborted"))
        upload, _ = self._begin(key)
        name, action = "throw parts away", "s3:AbortMultipartUpload"
        if self._discard(key, upload):
            return [Step(name=f"comfort: {name}", state="ok", found=f"{action} is allowed")]
        return [self._denied(name, action, "parts that are of no use stay, take room and are in no listing")]

    def measure(self) -> list[Step]:
        """Send small objects and fetch them again, many at once; and ask for one, again and again, for one request."""
        settings = self._store.settings
        keys = [self.keys.item(layout.identifier_of(f"speed {number}")) for number in range(OBJECTS)]

        def put(key: str) -> None:
            self._store.put_item(key, self._body, self._md5, self._metadata)

        def get(key: str) -> None:
            self._store.read(key, 0, SIZE, SIZE)

        rates = []
        self._written += keys
        for work in (put, get):
            begun = time.monotonic()
            with Transfer(settings.concurrency, self._stop) as transfer:
                for _, result in transfer.each(keys, work):
                    if isinstance(result, Exception):
                        raise result
            rates.append(OBJECTS / (time.monotonic() - begun))
        took = []
        for _ in range(_SINGLE):
            begun = time.monotonic()
            self._store.head(self._item)
            took.append(time.monotonic() - begun)
        one = statistics.median(took)
        limited = settings.max_requests_per_second or settings.max_bytes_per_second
        return [
            Step(
                name="speed",
                state="warning" if one > SLOW else "ok",
                found=f"{OBJECTS} objects of {SIZE // 1024} KiB: {rates[0]:,.0f} per second up, {rates[1]:,.0f} down, "
                f"{settings.concurrency} at once; one request takes {1000 * one:.1f} ms",
                advice="work nearer to the store, or set a higher concurrency" if one > SLOW else "",
                details=("the limits per second of this bucket's settings count in it",) if limited else (),
            )
        ]

    # --- its end ---

    def clean(self) -> Step:
        """Remove all that was written, and look whether it is gone."""
        left: list[str] = []
        try:
            for key, upload in list(self._uploads):
                self._discard(key, upload)
            self._store.delete(self._written)
            left = [info.key for info in self._store.list(self.keys.root)]
            with suppress(NoSuchKeyError):
                left.append(self._store.head(self.keys.registration).key)
        except StoreError as error:
            problem = str(error)
        else:
            if not left:
                found = f"all that was written is removed: {plural(len(self._written), 'object')}"
                return Step(name="clean-up", state="ok", found=found)
            problem = "the store deletes nothing"
        return Step(
            name="clean-up",
            state="failed",
            found=f"what this trial wrote could not be removed: {problem}",
            advice=f"have {self.keys.registration} and all below {self.keys.root} deleted; {_POLICY}",
            details=tuple(left[:3]),
        )

    # --- small things ---

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        self._written.append(key)  # before: the answer may be lost
        try:
            yield
        except AccessDeniedError:
            self._written.remove(key)
            raise

    def _begin(self, key: str) -> tuple[str, str]:
        upload = self._store.begin_upload(key, self._metadata)
        self._uploads.append((key, upload))
        return upload, self._store.put_part(key, upload, 1, self._body)

    def _complete(self, key: str, upload: str, etag: str) -> None:
        self._written.append(key)
        self._store.complete_upload(key, upload, [etag], size=SIZE, checksum=self._md5)
        self._uploads.remove((key, upload))

    def _discard(self, key: str, upload: str) -> bool:
        """Throw an upload away; where that is not allowed it is completed, since an object can be deleted."""
        try:
            self._store.abort(key, upload)
        except AccessDeniedError:
            self._complete(key, upload, self._store.put_part(key, upload, 1, self._body))
            return False
        self._uploads.remove((key, upload))
        return True

    def _comfort(self, name: str, allowed: Callable[[], bool], action: str, otherwise: str) -> Step:
        try:
            if allowed():
                return Step(name=f"comfort: {name}", state="ok", found=f"{action} is allowed")
        except AccessDeniedError:
            return self._denied(name, action, otherwise)
        return Step(name=f"comfort: {name}", state="warning", found=f"the store does not tell it, so {otherwise}")

    def _denied(self, name: str, action: str, otherwise: str) -> Step:
        return Step(
            name=f"comfort: {name}",
            state="warning",
            found=f"the policy does not allow {action}: {otherwise}",
            advice="have the policy allow it: docs/access-policy.md, the three comforts",
        )
