"""What was written here is read by published clients, as far as each of them can."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset, create_dataset, new_dataset, verify_dataset
from dtool_ecs_flows.settings import BucketSettings, active
from dtool_ecs_flows.transfer import SINGLE_PUT
from tests.interop import story
from tests.interop.environments import DTOOL_S3_013, DTOOL_S3_014, PEERS, Peer
from tests.interop.peers.read import read_dataset
from tests.interop.peers.write import write_dataset

Writer = Callable[[str, Path, bool], str]


def by_broker(base_uri: str, folder: Path, non_ascii: bool) -> str:
    """Write it with dtoolcore and our broker."""
    return str(write_dataset({**story.request(non_ascii=non_ascii), "base_uri": base_uri})["uri"])


def by_copy(base_uri: str, folder: Path, non_ascii: bool) -> str:
    """Copy it from disk."""
    return copy_dataset(story.on_disk(folder, non_ascii=non_ascii).uri, base_uri).uri


def by_create(base_uri: str, folder: Path, non_ascii: bool) -> str:
    """Create it from a folder in one call."""
    content = story.items(non_ascii=non_ascii)
    metadata = {relpath: {**pairs, "checked": True} for relpath, pairs in story.item_metadata(content).items()}
    return create_dataset(
        "to-and-fro", base_uri, directory=story.files(folder / "plain", non_ascii=non_ascii), readme=story.NEW_README,
        tags=story.TAGS, annotations=story.ANNOTATIONS, item_metadata=metadata, creator_username="olssont",
    ).uri  # fmt: skip  # two lines less


def bit_by_bit(base_uri: str, folder: Path, non_ascii: bool) -> str:
    """Create it item by item."""
    content = story.items(non_ascii=non_ascii)
    with new_dataset("to-and-fro", base_uri, readme=story.NEW_README, creator_username="olssont") as dataset:
        for relpath, data in content.items():
            dataset.put_bytes(data, relpath)
            dataset.add_item_metadata(relpath, "length", len(data))
            dataset.add_item_metadata(relpath, "checked", True)
        for name, value in story.ANNOTATIONS.items():
            dataset.annotate(name, value)
        for tag in story.TAGS:
            dataset.tag(tag)
    return dataset.uri


every_writer = pytest.mark.parametrize("writer", [by_broker, by_copy, by_create, bit_by_bit])


@every_writer
def test_a_frozen_dataset_opens_everywhere(writer: Writer, shared: BucketSettings, tmp_path: Path) -> None:
    """Without a prefix and with ASCII names, each published client lists it and reads all of it."""
    uri = writer(shared.base_uri, tmp_path, False)
    for peer in PEERS:
        read = peer.read(shared, uri)
        story.assert_is_whole(read)
        assert read["listed"] == [peer.uri_of(uri)]


@every_writer
def test_prefix_and_non_ascii_names_open_where_they_are_known(
    writer: Writer, rgw_bucket: BucketSettings, tmp_path: Path
) -> None:
    """Below a prefix and with names in any script, dtool-s3 0.14 lists it and reads all of it."""
    shared = rgw_bucket.model_copy(update={"dataset_prefix": "u/olssont/"})
    with active(shared):
        uri = writer(shared.base_uri, tmp_path, True)
    read = DTOOL_S3_014.read(shared, uri)
    story.assert_is_whole(read, non_ascii=True)
    assert read["listed"] == [DTOOL_S3_014.uri_of(uri)]


def test_a_prefix_opens_with_the_first_that_knew_it(rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """dtool-s3 0.13 finds a dataset below our prefix by its registration key, whatever it is set up for itself."""
    shared = rgw_bucket.model_copy(update={"dataset_prefix": "u/olssont/"})
    with active(shared):
        uri = by_broker(shared.base_uri, tmp_path, False)
    story.assert_is_whole(DTOOL_S3_013.read(shared, uri))


@pytest.mark.parametrize("prefix", ["", "u/olssont/"])
def test_our_half_made_dataset_is_frozen_by_dtool_s3(prefix: str, rgw_bucket: BucketSettings) -> None:
    """dtool-s3 0.14 finishes what was begun here; the result is whole for both, its creator and times included."""
    shared = rgw_bucket.model_copy(update={"dataset_prefix": prefix})
    request = story.request(non_ascii=True)
    with active(shared):
        uri = write_dataset({**request, "base_uri": shared.base_uri, "freeze": False})["uri"]
        created_at = dtoolcore.ProtoDataSet.from_uri(uri)._admin_metadata["created_at"]

        DTOOL_S3_014.write(shared, {"uri": uri, "new_readme": story.NEW_README, "overlays": request["overlays"]})

        story.assert_is_whole(DTOOL_S3_014.read(shared, uri), non_ascii=True)
        read = read_dataset(uri)
        story.assert_is_whole(read, non_ascii=True)
        assert verify_dataset(uri).findings == ()
    assert (read["admin"]["creator_username"], read["admin"]["created_at"]) == ("olssont", created_at)
    assert isinstance(read["admin"]["frozen_at"], float)


def test_our_half_made_copy_is_finished_by_dtool_s3(shared: BucketSettings, tmp_path: Path) -> None:
    """`dtoolcore.copy_resume` with dtool-s3 0.14 takes up a copy that was begun here."""
    source = story.on_disk(tmp_path, non_ascii=True)
    request = story.request(non_ascii=True, admin={**source._admin_metadata, "type": "protodataset"}, freeze=False)
    begun = {"readings.csv", "emoji 🧪.txt"}
    half = {**request, "items": {name: request["items"][name] for name in begun}, "item_metadata": {}}
    uri = write_dataset({**half, "base_uri": shared.base_uri})["uri"]

    answer = DTOOL_S3_014.write(shared, {"copy_from": source.uri, "resume": True})

    assert answer["uri"] == DTOOL_S3_014.uri_of(uri)
    story.assert_is_whole(read_dataset(uri), non_ascii=True)
    assert verify_dataset(uri).findings == ()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_copies_our_dataset_away(peer: Peer, shared: BucketSettings, tmp_path: Path) -> None:
    """`dtoolcore.copy` with a published client brings a dataset from the bucket to a disk."""
    uri = by_broker(shared.base_uri, tmp_path, False)
    copied = peer.write(shared, {"copy_from": uri, "base_uri": str(tmp_path)})
    story.assert_is_whole(read_dataset(copied["uri"]))


def test_an_item_of_many_parts_opens_on_both_sides(shared: BucketSettings) -> None:
    """Above the threshold for a single request an item's ETag is no MD5; its checksum is still found."""
    large = bytes(range(256)) * (SINGLE_PUT // 256 + 1)
    items = {"large.bin": base64.b64encode(large).decode()}
    ours = write_dataset({"base_uri": shared.base_uri, "name": "ours", "items": items})["uri"]
    theirs = DTOOL_S3_014.write(shared, {"name": "theirs", "items": items})["uri"].replace("s3:", "ecs:")
    for uri in (ours, theirs):
        for read in (read_dataset(uri), DTOOL_S3_014.read(shared, uri)):
            assert read["items"]["large.bin"]["hash"] == hashlib.md5(large).hexdigest()
            assert read["items"]["large.bin"]["sha256"] == hashlib.sha256(large).hexdigest()
        assert verify_dataset(uri).findings == ()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_creator_with_an_umlaut_stops_nobody(peer: Peer, shared: BucketSettings) -> None:
    """User metadata is ASCII: the true name is in the body, an escaped one where published clients look."""
    request = story.request(admin={"creator_username": "jörg"}, base_uri=shared.base_uri)
    uri = write_dataset(request)["uri"]
    story.assert_is_whole(peer.read(shared, uri))
    assert read_dataset(uri)["admin"]["creator_username"] == "jörg"
