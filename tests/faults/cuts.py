"""Operations that are cut off after each of their requests, and what readers see then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, list_datasets, verify_dataset
from dtool_ecs_flows.settings import active
from tests.independent import Raw, md5
from tests.proxy import Proxy
from tests.proxy.faults import Rule

WRITES = "[PD]*"  # PUT, POST, DELETE
FOR_EVER = 10**9

Cut = Callable[[Proxy, int], Rule]
Objects = dict[str, tuple[bytes, dict[str, str]]]
"""Content and user metadata by key."""


def dies_before(proxy: Proxy, nth: int) -> Rule:
    """The store never hears of this write, or of a later one: the client was killed after the last one before it."""
    return proxy.on(WRITES, nth=range(nth, FOR_EVER)).answer(400, "Dead")


def fails_though_done(proxy: Proxy, nth: int) -> Rule:
    """This write is done, and answered with an error: the client lives, and may put things in order."""
    return proxy.on(WRITES, nth=nth).answer(400, "Refused", done=True)


def is_refused(proxy: Proxy, nth: int) -> Rule:
    """This request alone is refused for good: the client lives, and may put things in order."""
    return proxy.on(nth=nth).answer(400, "Refused")


def loses_its_answer(proxy: Proxy, nth: int) -> Rule:
    """This write is done and its answer lost: the client lives, and asks again."""
    return proxy.on(WRITES, nth=nth).lose_answer()


CUTS = [dies_before, fails_though_done, is_refused, loses_its_answer]


def points(proxy: Proxy, cut: Cut, *, at_least: int) -> Iterator[Rule]:
    """Cut the n-th request, n = 1, 2, 3 …, until there are no more; the last round is undisturbed.

    What is done in a round goes through the proxy; `proxy.calm()` ends the fault.
    """
    for nth in count(1):
        proxy.calm()
        rule = cut(proxy, nth)
        yield rule
        if not rule.fired:
            assert nth > at_least, f"only {nth - 1} requests were cut"
            return


def frozen_there(settings: BucketSettings) -> dict[str, dict[str, Any]]:
    """What readers see of the frozen datasets of a bucket, by URI; each is whole, and a proto dataset is none."""
    found = {}
    with active(settings):
        for info in list_datasets(settings.base_uri).datasets:
            assert info.problem == ""
            if info.type != "dataset":
                with pytest.raises(dtoolcore.DtoolCoreTypeError):
                    dtoolcore.DataSet.from_uri(info.uri)
                continue
            assert verify_dataset(info.uri).findings == ()
            found[info.uri] = described(info.uri)
    return found


def described(uri: str) -> dict[str, Any]:
    """All that dtoolcore tells of a dataset but its bytes and times of its own; each document has a name."""
    dataset = dtoolcore.DataSet.from_uri(uri)
    told = {name: dataset._admin_metadata[name] for name in ("name", "creator_username")}
    told["README"] = dataset.get_readme_content()
    told["items"] = {
        each["relpath"]: (each["size_in_bytes"], each["hash"], each["utc_timestamp"])
        for each in dataset._manifest["items"].values()
    }
    told |= {f"tag {tag}": True for tag in dataset.list_tags()}
    told |= {f"annotation {name}": dataset.get_annotation(name) for name in dataset.list_annotation_names()}
    return told | {f"overlay {name}": dataset.get_overlay(name) for name in dataset.list_overlay_names()}


def told_of(raw: Raw) -> dict[str, Any]:
    """What tells the content of a bucket apart, but for what an update of the README has replaced.

    It is the ETag of each object and, where there is any, the user metadata.
    """
    with_metadata = ("/data/", "/dtool")
    return {
        key: (etag, any(part in key for part in with_metadata) and raw.metadata(key))
        for key, (etag, _) in raw.state().items()
        if "/README.yml-" not in key
    }


def objects_of(raw: Raw) -> Objects:
    """All that is in a bucket, for `restore`."""
    found = {}
    for key in raw.listed():
        response = raw.client.get_object(Bucket=raw.bucket, Key=key)
        found[key] = (bytes(response["Body"].read()), dict(response["Metadata"]))
    return found


def restore(raw: Raw, objects: Objects) -> None:
    """Make a bucket hold these objects, and nothing else."""
    there = {key: etag.strip('"') for key, (etag, _) in raw.state().items()}
    for key, (body, metadata) in objects.items():
        if there.pop(key, "") != md5(body):
            raw.put(key, body, metadata)
    raw.delete(*there)
