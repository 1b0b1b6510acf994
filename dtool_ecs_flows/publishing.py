"""Sharing a dataset by URL: public, or signed for a time. A signed URL is a secret while it lasts; none is logged."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from dtool_ecs_flows.errors import NoSuchKeyError, SettingsError
from dtool_ecs_flows.stored import StoredDataset
from dtool_ecs_flows.transfer import Transfer

MAX_EXPIRY = 7 * 24 * 3600
"""Seconds; SigV4 signs for no longer."""


def check_expiry(seconds: int) -> int:
    """Return a time of validity in seconds where it can be signed.

    Raises:
        SettingsError: it is not between one second and seven days.
    """
    if not 0 < seconds <= MAX_EXPIRY:
        raise SettingsError(f"a signed URL is valid for 1 to {MAX_EXPIRY} seconds, not {seconds}")
    return seconds


def publish(dataset: StoredDataset, expiry: int | None) -> str:
    """Publish a frozen dataset over HTTP and return the URL that dtool-http opens.

    Its objects are made readable by everyone, or, with an expiry, their URLs are signed for so many seconds and nothing
    is made public.
    """
    settings, store, keys = dataset.store.settings, dataset.store, dataset.keys
    admin = dataset.frozen_admin()
    url: Callable[[str], str] = (
        store.make_public if expiry is None else partial(store.sign_get, expiry=check_expiry(expiry))
    )
    parts = _keys_of(dataset)
    try:
        store.head(keys.readme)
    except NoSuchKeyError:  # nobody wrote one; who opens the URL asks for it all the same
        store.put(keys.readme, b"")
    with Transfer(settings.concurrency) as transfer:
        urls: dict[str, str] = {}
        for key, result in transfer.each(parts["all"], url):
            if isinstance(result, Exception):
                raise result
            urls[key] = result
    http_manifest = {
        "admin_metadata": admin,
        "item_urls": {name: urls[key] for name, key in parts["items"].items()},
        "overlays": {name: urls[key] for name, key in parts["overlays"].items()},
        "annotations": {name: urls[key] for name, key in parts["annotations"].items()},
        "tags": dataset.names(keys.tags),
        "readme_url": urls[keys.readme],
        "manifest_url": urls[keys.manifest],
    }
    store.put(keys.http_manifest, json.dumps(http_manifest, indent=2).encode())
    _, question, signature = url(keys.http_manifest).partition("?")
    return store.plain_url(keys.root.rstrip("/")) + question + signature


def signed_urls(dataset: StoredDataset, expiry: int) -> dict[str, Any]:
    """Return signed URLs of everything in a dataset, in the form that dtool-s3 0.15 gave them for dserver."""
    check_expiry(expiry)
    sign = partial(dataset.store.sign_get, expiry=expiry)
    parts, keys = _keys_of(dataset), dataset.keys
    return {
        "admin_metadata_url": sign(keys.admin_metadata),
        "manifest_url": sign(keys.manifest),
        "readme_url": sign(keys.readme),
        "item_urls": {name: sign(key) for name, key in parts["items"].items()},
        "overlay_urls": {name: sign(key) for name, key in parts["overlays"].items()},
        "annotation_urls": {name: sign(key) for name, key in parts["annotations"].items()},
        "tags": dataset.names(keys.tags),
    }


def _keys_of(dataset: StoredDataset) -> dict[str, Any]:
    keys = dataset.keys
    named: dict[str, dict[str, str]] = {
        "items": {identifier: keys.item(identifier) for identifier in dataset.manifest()["items"]},
        "overlays": {name: keys.overlay(name) for name in dataset.names(keys.overlays, ".json")},
        "annotations": {name: keys.annotation(name) for name in dataset.names(keys.annotations, ".json")},
    }
    shared = [keys.readme, keys.manifest, *(key for part in named.values() for key in part.values())]
    return {**named, "all": shared}
