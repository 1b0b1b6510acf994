"""Finding one dataset at a base URI."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from dtool_ecs_flows import layout
from dtool_ecs_flows.datasets import listing
from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.errors import ManifestError, NoSuchKeyError, NotADatasetError
from dtool_ecs_flows.models import DatasetInfo
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.stored import StoredDataset


def find_dataset(
    dataset: str,
    base_uri: str,
    *,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    stop: threading.Event | None = None,
) -> DatasetInfo | None:
    """Return the dataset of this name, UUID or URI at a base URI, frozen or not; None where there is none.

    In a bucket a UUID, or a URI, costs two small reads; a name costs a listing. Of several datasets with one name,
    the one that was frozen last is returned, and an unfinished one only where none is frozen.

    Args:
        dataset: name, UUID, or the URI that it has, or will have, at the base URI.
        base_uri: `ecs://bucket`, or a folder, or any base URI that a dtool plugin serves.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        stop: set it to end early with `StoppedError`.

    Raises:
        NotADatasetError: no plugin serves the base URI, or a bucket is asked for the URI of another place.
        ManifestError: what describes the dataset cannot be read.
        StoreError, SettingsError: the store or its settings.
    """
    base = base_uri.rstrip("/")
    in_bucket = base.startswith(f"{layout.SCHEME}://")
    if in_bucket and "://" in dataset and not dataset.startswith(f"{base}/"):
        raise NotADatasetError(f"{dataset} is not at {base_uri}: it can never be found there")
    wanted = dataset.rstrip("/").rpartition("/")[2] if in_bucket else dataset.rstrip("/")
    if in_bucket and layout.is_uuid(wanted):
        with operation(base, settings=settings, config_path=config_path, concurrency=1, stop=stop):
            return _in_bucket(f"{base}/{wanted}", config_path)
    all_of_it = listing.list_datasets(base, settings=settings, config_path=config_path, stop=stop)
    found = [info for info in all_of_it.datasets if wanted in (info.name, info.uuid, info.uri.rstrip("/"))]
    return max(found, key=lambda info: (info.type == "dataset", info.frozen_at or 0.0), default=None)


def uuid_of(
    uri: str, *, settings: BucketSettings | Iterable[BucketSettings] = (), config_path: str | None = None
) -> str:
    """Return the UUID of the frozen dataset at a URI; in a bucket no more is read than its administrative metadata.

    Raises:
        NotADatasetError: there is none.
        StoreError, SettingsError: the store or its settings.
    """
    with operation(uri, settings=settings, config_path=config_path, concurrency=1, stop=None):
        return str(open_source(uri, config_path).admin["uuid"])


def _in_bucket(uri: str, config_path: str | None) -> DatasetInfo | None:
    stored = StoredDataset.at(uri, config_path)
    if not stored.is_registered():
        return None
    try:
        info = listing._info(stored.store, stored.uuid, stored.keys.prefix, tags=False)
    except NoSuchKeyError:  # only its registration key is there
        return None
    if info.problem:
        raise ManifestError(f"{stored.uri} cannot be read: {info.problem}")
    return info
