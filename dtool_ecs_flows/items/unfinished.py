"""Multipart uploads that an earlier attempt did not end: found again, by any process on any host."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dtool_ecs_flows.errors import CredentialsError, StoreError, UnavailableError
from dtool_ecs_flows.store import Part
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import MAX_PARTS, part_size
from dtool_ecs_flows.words import visible

logger = logging.getLogger(__name__)

_LEAST_PART = 5 * 1024**2  # bytes; S3 takes no smaller one but the last
_LARGEST_PART = 64 * 1024**2  # bytes; a part has to be in memory, so one of another client may be too large


class Upload(NamedTuple):
    """A multipart upload to go on with."""

    id: str
    step: int
    """Bytes of each part but the last."""
    parts: Mapping[int, Part]
    """What the store holds already, by number; not compared yet."""


class Unfinished:
    """The multipart uploads that earlier attempts left in a dataset. Thread-safe.

    Args:
        dataset: the dataset.
        uploads: key and upload id, of each key the oldest first.
    """

    def __init__(self, dataset: StoredDataset, uploads: Iterable[tuple[str, str]] = ()) -> None:
        self._store = dataset.store
        self._lock = threading.Lock()
        self._uploads: dict[str, list[str]] = {}
        for key, upload in uploads:
            self._uploads.setdefault(key, []).append(upload)

    @classmethod
    def find(cls, dataset: StoredDataset) -> Unfinished:
        """Ask the store; one request. Where it is not allowed, or not known to the store, there are none."""
        try:
            return cls(dataset, dataset.store.uploads(dataset.keys.data))
        except (UnavailableError, CredentialsError):
            raise
        except StoreError as error:
            logger.info("large items that were cut short start again, their parts cannot be found: %s", error)
            return cls(dataset)

    def take_up(self, key: str, size: int) -> Upload | None:
        """Return an upload to a key for an object of `size` bytes: the newest that has parts of it, else one without.

        One request for each that is looked at.
        """
        with self._lock:
            uploads = list(self._uploads.get(key, ()))
        found = None
        for upload in reversed(uploads):
            try:
                parts = self._store.parts(key, upload)
            except (UnavailableError, CredentialsError):
                raise
            except StoreError as error:
                logger.info("%s starts again, the parts of its upload are not told: %s", visible(key), error)
                continue
            step, fitting = fit(parts, size)
            if step and (fitting or found is None):
                found = Upload(upload, step, fitting)
            if fitting:
                break
        if found is not None:
            with self._lock:
                self._uploads[key].remove(found.id)
        return found

    def abort(self) -> None:
        """Throw away all that were not taken up."""
        for key, uploads in self._uploads.items():
            for upload in uploads:
                self._store.abort_upload(key, upload)
        self._uploads.clear()


def fit(parts: Mapping[int, Part], size: int) -> tuple[int, dict[int, Part]]:
    """Return in which steps an object of `size` bytes was cut into these parts, and those that are right so.

    The step is not stored anywhere: it is today's for this size, or else the size that most parts have. It is 0 where
    none can be used, since a part has a number that such an object does not need.
    """
    best: tuple[int, dict[int, Part]] = (0, {})
    most = Counter(part.size for part in parts.values()).most_common(1)
    for step in (part_size(size), *(size for size, _ in most)):
        usable = step == part_size(size) or _LEAST_PART <= step <= _LARGEST_PART
        count = -(-size // step)
        if usable and max(parts, default=0) <= count <= MAX_PARTS:
            fitting = {n: part for n, part in parts.items() if part.size == min(step, size - (n - 1) * step)}
            if not best[0] or len(fitting) > len(best[1]):
                best = step, fitting
    return best
