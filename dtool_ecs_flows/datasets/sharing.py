"""Sharing a dataset of a bucket by URL, with everyone or with who has a signed one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from pydantic import SecretStr

from dtool_ecs_flows.datasets.running import operation
from dtool_ecs_flows.errors import NotADatasetError
from dtool_ecs_flows.models import ShareReport
from dtool_ecs_flows.publishing import check_expiry, publish
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.stored import StoredDataset


def share_dataset(
    uri: str,
    *,
    expiry: int | None,
    settings: BucketSettings | Iterable[BucketSettings] = (),
    config_path: str | None = None,
    stop: threading.Event | None = None,
) -> tuple[ShareReport, SecretStr]:
    """Make a frozen dataset readable over HTTP: by everyone for good, or by who has its signed URL for a time.

    dtool-http and a browser open it. The same call again brings it up to date, and signs anew.

    A signed URL is a key while it lasts, so it comes apart from the report, as a `SecretStr`; `http_manifest.json` in
    the bucket holds those of all objects, for whoever may read the bucket.

    Args:
        uri: `ecs://bucket/uuid`.
        expiry: seconds that the signed URLs last, at most 604800; None makes the dataset public, for good. What the
            bucket's settings say of it does not count.
        settings: of the bucket; looked up by name where they are not given.
        config_path: another file than `~/.config/dtool/dtool.json`.
        stop: set it to end early with `StoppedError`; a part of the objects may be public then.

    Returns:
        The report, and the URL.

    Raises:
        NotADatasetError: there is no frozen dataset at this URI.
        AccessDeniedError: the policy does not allow to change what is public.
        StoreError, SettingsError: the store or its settings.
    """
    if expiry is not None:
        check_expiry(expiry)
    with operation(uri, settings=settings, config_path=config_path, concurrency=1, stop=stop) as transfer:
        dataset = StoredDataset.at(uri, config_path)
        if not dataset.uuid:
            raise NotADatasetError(f"{uri} is a base URI; the URI of a dataset ends with its UUID")
        admin = dataset.frozen_admin()
        transfer.check()
        begun = time.time()  # the first URL ends first
        url = publish(dataset, expiry)
    report = ShareReport(
        uri=dataset.uri,
        uuid=dataset.uuid,
        name=admin["name"],
        url=url if expiry is None else "",
        expires_at=None if expiry is None else begun + expiry,
    )
    return report, SecretStr(url)
