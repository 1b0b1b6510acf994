"""What dtoolcore 3.20 does that no released version does yet, call for call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dtoolcore
from dtoolcore.utils import generate_identifier


def freeze_with_manifest(proto: Any, manifest: Mapping[str, Any], frozen_at: float | None = None) -> None:
    """Freeze with a manifest that the caller made: the calls of the broker that 3.20 makes, in their order."""
    broker = proto._storage_broker
    try:
        broker.get_readme_content()
    except Exception as error:
        raise dtoolcore.DtoolCoreValueError(f"README file is missing or cannot be read: {error}") from error
    there = {generate_identifier(handle) for handle in set(broker.iter_item_handles())}
    missing = set(manifest.get("items", {})) - there
    if missing:
        raise dtoolcore.DtoolCoreValueError(f"Missing {len(missing)} item(s) in storage")
    broker.pre_freeze_hook()
    broker.put_manifest(manifest)
    for name, overlay in proto._generate_overlays().items():
        proto._put_overlay(name, overlay)
    proto._admin_metadata.update({"type": "dataset", "frozen_at": frozen_at or time.time()})
    broker.put_admin_metadata(proto._admin_metadata)
    broker.post_freeze_hook()
