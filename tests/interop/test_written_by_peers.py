"""What published clients wrote is read here: whole, frozen, half-made, under whatever prefix."""

from __future__ import annotations

from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.settings import BucketSettings
from tests.interop import story
from tests.interop.environments import DTOOL_S3_014, PEERS, Peer
from tests.interop.peers.read import read_dataset
from tests.interop.peers.write import write_dataset

# Each peer as it is set up: without a prefix; with one as documented; with one that lacks its slash.
SET_UPS = [
    pytest.param(peer, prefix, id=f"{peer.name}-{prefix or 'no prefix'}")
    for peer in PEERS
    for prefix in ("", *(("u/olssont/", "u/olssont") if peer.prefix_key else ()))
]
every_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)


def ecs(uri: str) -> str:
    """Return the URI by which a dataset is known here."""
    return f"ecs:{uri.partition(':')[2]}"


@pytest.mark.parametrize(("peer", "prefix"), SET_UPS)
def test_all_that_a_peer_wrote_is_read(peer: Peer, prefix: str, shared: BucketSettings, tmp_path: Path) -> None:
    """A dataset that a published client made opens here with everything in it, is listed, verified and copied out."""
    uri = ecs(peer.write(shared, story.request(non_ascii=peer.non_ascii), prefix=prefix)["uri"])

    read = read_dataset(uri)
    story.assert_is_whole(read, non_ascii=peer.non_ascii)
    assert read["admin"]["creator_username"] == "olssont"
    assert isinstance(read["admin"]["created_at"], float)
    assert isinstance(read["admin"]["frozen_at"], float)

    (backup,) = dtoolcore.DataSet.from_uri(uri)._storage_broker._list_historical_readme_keys()
    assert dtoolcore.DataSet.from_uri(uri)._storage_broker.get_text(backup) == story.README
    assert backup.startswith(f"{prefix}{read['uuid']}/README.yml-")

    (listed,) = list_datasets(shared.base_uri).datasets
    assert (listed.uri, listed.name, listed.type) == (uri, "to-and-fro", "dataset")
    assert (listed.creator_username, listed.frozen_at) == ("olssont", read["admin"]["frozen_at"])
    assert read["listed"] == [uri]

    assert verify_dataset(uri).findings == ()
    copied = copy_dataset(uri, tmp_path.as_uri())
    story.assert_is_whole(read_dataset(copied.uri), non_ascii=peer.non_ascii)


@every_peer
def test_what_a_peer_left_half_made_is_frozen_here(peer: Peer, shared: BucketSettings) -> None:
    """Items and item metadata of a published client are all there when dtoolcore freezes with this broker."""
    half = peer.write(shared, story.request(non_ascii=peer.non_ascii, freeze=False))
    uri = ecs(half["uri"])
    (listed,) = list_datasets(shared.base_uri).datasets
    assert listed.type == "protodataset"

    write_dataset({
        "uri": uri, "new_readme": story.NEW_README, "overlays": story.request(non_ascii=peer.non_ascii)["overlays"],
    })  # fmt: skip  # one line less

    story.assert_is_whole(read_dataset(uri), non_ascii=peer.non_ascii)
    assert verify_dataset(uri).findings == ()
    story.assert_is_whole(peer.read(shared, uri), non_ascii=peer.non_ascii)
    admin = dtoolcore.DataSet.from_uri(uri)._admin_metadata
    assert (admin["creator_username"], type(admin["created_at"])) == ("olssont", float)


@every_peer
def test_a_copy_that_a_peer_left_half_made_is_finished_here(peer: Peer, shared: BucketSettings, tmp_path: Path) -> None:
    """`copy_dataset` takes up what a published client left of a copy, and sends only what is not there."""
    source = story.on_disk(tmp_path)
    request = story.request(admin=dict(source._admin_metadata, type="protodataset"), freeze=False)
    kept = "readings.csv"
    half = {**request, "items": {kept: request["items"][kept]}, "item_metadata": {}, "tags": [], "annotations": {}}
    uri = ecs(peer.write(shared, half)["uri"])

    report = copy_dataset(source.uri, shared.base_uri)

    assert report.uri == uri
    assert (report.skipped, report.copied_items) == (1, len(story.ITEMS) - 1)
    story.assert_is_whole(read_dataset(uri))
    story.assert_is_whole(peer.read(shared, uri))


def test_what_a_peer_changes_later_is_seen_here(shared: BucketSettings) -> None:
    """A new name, README and overlay that dtool-s3 gave to our frozen dataset are read; nobody's name and time is lost.

    On a gateway dtool-s3 sees `creator-username` for `creator_username`, and writes it back so.
    """
    uri = write_dataset({**story.request(), "base_uri": shared.base_uri})["uri"]
    before = dtoolcore.DataSet.from_uri(uri)._admin_metadata

    DTOOL_S3_014.write(shared, {
        "uri": uri, "frozen": True, "new_name": "renamed", "new_readme": "description: third\n",
        "overlays": {"later": dict.fromkeys(story.ITEMS, 1)},
    })  # fmt: skip  # one line less

    read = read_dataset(uri)
    assert (read["name"], read["readme"]) == ("renamed", "description: third\n")
    assert read["overlays"]["later"] == dict.fromkeys(story.ITEMS, 1)
    assert read["admin"] == {**before, "name": "renamed"}
    (listed,) = list_datasets(shared.base_uri).datasets
    assert (listed.creator_username, listed.frozen_at) == ("olssont", before["frozen_at"])
