"""What the model test found: a copy that takes another up, whose source has lost documents meanwhile."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.errors import EcsFlowsError, FrozenDatasetError
from dtool_ecs_flows.settings import active
from tests.faults.cuts import described
from tests.faults.site import Site
from tests.independent import disk_dataset, disk_path
from tests.proxy import Request


def lost_since_it_was_cut_off(site: Site, folder: Path) -> str:
    """A dataset that was copied into the bucket, but for the freeze, and has lost a document of each kind since."""
    source = disk_dataset(folder, {"a": b"1"}, tags=["lost"], annotations={"lost": 1}, overlays={"lost": {"a": 1}})
    site.proxy.on("PUT", key="*/dtool", nth=2).answer(400, "Refused")
    with pytest.raises(EcsFlowsError):
        copy_dataset(source, site.through.base_uri, settings=site.through)
    site.proxy.calm()
    dataset = dtoolcore.DataSet.from_uri(source)
    dataset.delete_tag("lost")
    (disk_path(source) / ".dtool" / "annotations" / "lost.json").unlink()  # dtoolcore 3.18 has no call for it
    (disk_path(source) / ".dtool" / "overlays" / "lost.json").unlink()
    return source


def test_what_a_source_has_lost_meanwhile(site: Site, tmp_path: Path) -> None:
    """A copy that takes another up is like its source now: what that has lost since is removed."""
    source = lost_since_it_was_cut_off(site, tmp_path)

    uri = copy_dataset(source, site.through.base_uri, settings=site.through).uri

    with active(site.direct):
        assert described(uri) == described(source)
    assert [key for key in site.raw.listed() if "lost" in key] == []


def test_what_a_source_has_lost_is_not_taken_from_what_was_frozen_meanwhile(site: Site, tmp_path: Path) -> None:
    """Of a dataset that another process has frozen nothing is removed; the copy says so, and the next what differs."""
    source = lost_since_it_was_cut_off(site, tmp_path)
    uuid = dtoolcore.DataSet.from_uri(source).uuid

    def freeze(request: Request) -> None:
        if request.query["prefix"] == f"{uuid}/overlays/":  # the last listing of those that look for what to remove
            site.raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type="dataset"))

    site.proxy.on("ListObjectsV2").call(freeze)
    with pytest.raises(FrozenDatasetError):
        copy_dataset(source, site.through.base_uri, settings=site.through)

    assert len([key for key in site.raw.listed() if "lost" in key]) == 3
    again = copy_dataset(source, site.through.base_uri, settings=site.through)
    assert again.already_there
    assert again.differences == tuple(f"only there: {kind}/lost" for kind in ("annotations", "overlays", "tags"))
