"""One bucket of an object store. The only room that knows boto3 and obstore.

Contract, for every method of `Store`:

- It either did what it says or raises a leaf of `errors.StoreError`; `NoSuchKeyError` is the only one that means
  "not there". (`get` also raises `ManifestError`.)
- Transient failures are retried here and nowhere else, with backoff, jitter and a budget of time (`failures`).
- No more requests at once, requests per second and bytes per second than the settings allow, all callers of a store
  together; fewer while it says that it is busy (`limits`). Waiting for that does not count as time of a failure.
- Puts are idempotent and atomic: an object is there whole, or not at all.
- All methods may be called from many threads at once. Building a `Store` makes no request.
- ETags come unquoted and in lower case, metadata keys in lower case with underscores, times as UTC epoch seconds.
"""

from dtool_ecs_flows.store.bucket import COPY_PART, COPY_TRIED_ONCE_ABOVE, MULTIPART_COPY_ABOVE, Store, open_store
from dtool_ecs_flows.store.client import trusted
from dtool_ecs_flows.store.failures import heed
from dtool_ecs_flows.store.multipart import Part
from dtool_ecs_flows.store.objects import (
    DOCUMENT,
    SMALL_DOCUMENT,
    WRITTEN_DOCUMENT,
    ObjectInfo,
    StoredObject,
    check_document,
    content_md5,
    is_md5,
)

__all__ = [
    "COPY_PART",
    "COPY_TRIED_ONCE_ABOVE",
    "DOCUMENT",
    "MULTIPART_COPY_ABOVE",
    "SMALL_DOCUMENT",
    "WRITTEN_DOCUMENT",
    "ObjectInfo",
    "Part",
    "Store",
    "StoredObject",
    "check_document",
    "content_md5",
    "heed",
    "is_md5",
    "open_store",
    "trusted",
]
