"""A dataset written here and the same one written by dtool-s3 0.14.1 are the same objects in the bucket."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.settings import BucketSettings, active
from tests.conftest import new_bucket
from tests.interop import story
from tests.interop.environments import DTOOL_S3_014
from tests.interop.peers.write import write_dataset
from tests.interop.test_read_by_peers import Writer, bit_by_bit, by_broker, by_copy, by_create
from tests.servers import S3Server

NOW = "<now>"


def objects(server: S3Server, bucket: BucketSettings, dataset_uuid: str) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return body and user metadata by key; UUID, the bucket's name and the time in a backup's key made the same."""
    client = server.client()
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket):
        for entry in page.get("Contents", []):
            answer = client.get_object(Bucket=bucket.bucket, Key=entry["Key"])
            key = entry["Key"].replace(dataset_uuid, "U")
            if ".yml-" in key:
                key = key.partition("-")[0] + f"-{NOW}"
            body = answer["Body"].read().replace(dataset_uuid.encode(), b"U").replace(bucket.bucket.encode(), b"B")
            found[key] = (body, answer["Metadata"])
    return found


def comparable(key: str, body: bytes) -> Any:
    """Return what of a body must be equal: JSON without the times of writing and the writers' versions, else bytes."""
    if not key.endswith((".json", "/dtool")):
        return b"a text of its own" if key.endswith("README.txt") else body
    document = json.loads(body)
    for name in ("created_at", "frozen_at", "dtoolcore_version", "storage_broker_version"):
        if isinstance(document, dict) and name in document:
            document[name] = type(document[name]).__name__
    for item in document.get("items", {}).values() if key.endswith("manifest.json") else ():
        item["utc_timestamp"] = type(item["utc_timestamp"]).__name__
    if isinstance(document, dict) and "admin_metadata" in document:
        # On a gateway dtool-s3 publishes what the gateway made of the keys of its metadata.
        document["admin_metadata"] = sorted(name.replace("-", "_") for name in document["admin_metadata"])
    return document


@pytest.fixture
def by_peer(rgw: S3Server) -> dict[str, tuple[bytes, dict[str, str]]]:
    """The objects of the dataset as dtool-s3 0.14.1 writes them."""
    bucket = new_bucket(rgw)
    request = story.request(non_ascii=True, readme=story.NEW_README)
    del request["new_readme"]
    answer = DTOOL_S3_014.write(bucket, request)
    return objects(rgw, bucket, answer["uuid"])


@pytest.mark.parametrize("writer", [by_broker, by_copy, by_create, bit_by_bit])
def test_the_same_objects_are_written(
    writer: Writer,
    by_peer: dict[str, tuple[bytes, dict[str, str]]],
    rgw: S3Server,
    shared: BucketSettings,
    tmp_path: Path,
) -> None:
    """The same keys, the same JSON, the same handles and checksums, whichever way the dataset was made here."""
    uri = writer(shared.base_uri, tmp_path, True)
    ours = objects(rgw, shared, uri.rsplit("/", 1)[1])
    if writer is by_broker:
        assert ours.pop(f"U/README.yml-{NOW}")[0] == story.README.encode()

    assert sorted(ours) == sorted(by_peer)
    for key, (body, metadata) in ours.items():
        peers_body, peers_metadata = by_peer[key]
        assert comparable(key, body) == comparable(key, peers_body), key
        if key.startswith("U/data/"):
            assert metadata == peers_metadata, key
        else:
            assert metadata.keys() == peers_metadata.keys(), key


def test_the_same_objects_are_written_below_a_prefix(rgw: S3Server, rgw_bucket: BucketSettings) -> None:
    """With a prefix set the keys are the same again, and so is the registration key's body."""
    request = story.request(readme=story.NEW_README)
    peers_bucket = new_bucket(rgw)
    answer = DTOOL_S3_014.write(peers_bucket, request, prefix="u/olssont/")
    theirs = objects(rgw, peers_bucket, answer["uuid"])
    with active(rgw_bucket.model_copy(update={"dataset_prefix": "u/olssont/"})):
        answer = write_dataset({**request, "base_uri": rgw_bucket.base_uri})
    ours = objects(rgw, rgw_bucket, answer["uuid"])
    assert sorted(ours) == sorted(theirs)
    assert ours["dtool-U"] == theirs["dtool-U"] == (b"u/olssont/", {})


def test_a_half_made_dataset_is_the_same_objects(rgw: S3Server, shared: BucketSettings) -> None:
    """Before the freeze too: the fragments of item metadata have the same keys and bodies."""
    request = story.request(freeze=False)
    peers_bucket = new_bucket(rgw)
    theirs = objects(rgw, peers_bucket, DTOOL_S3_014.write(peers_bucket, request)["uuid"])
    ours = objects(rgw, shared, write_dataset({**request, "base_uri": shared.base_uri})["uuid"])
    assert sorted(ours) == sorted(theirs)
    for key, (body, _) in ours.items():
        assert comparable(key, body) == comparable(key, theirs[key][0]), key


def test_the_same_is_published(rgw: S3Server, shared: BucketSettings) -> None:
    """Publishing writes the same list of URLs as dtool-s3, and gives the same address."""
    dataset_uuid = str(uuid.uuid4())
    request = story.request(publish=True)
    request["admin"]["uuid"] = dataset_uuid
    peers_bucket = new_bucket(rgw)
    theirs = DTOOL_S3_014.write(peers_bucket, request)
    ours = write_dataset({**request, "base_uri": shared.base_uri})
    assert ours["url"].replace(shared.bucket, "B") == theirs["url"].replace(peers_bucket.bucket, "B")
    key = "U/http_manifest.json"
    assert comparable(key, objects(rgw, shared, dataset_uuid)[key][0]) == comparable(
        key, objects(rgw, peers_bucket, dataset_uuid)[key][0]
    )


def test_a_copy_keeps_its_times(rgw: S3Server, shared: BucketSettings, tmp_path: Path) -> None:
    """`copy_dataset` keeps each item's time, and when the dataset was created and frozen: a copy is no new dataset."""
    source = story.on_disk(tmp_path)
    copied = copy_dataset(source.uri, shared.base_uri)
    written = objects(rgw, shared, copied.uuid)
    times = {item["relpath"]: item["utc_timestamp"] for item in source._manifest["items"].values()}
    manifest = json.loads(written["U/manifest.json"][0])
    assert {item["relpath"]: item["utc_timestamp"] for item in manifest["items"].values()} == times
    admin = json.loads(written["U/dtool"][0])
    assert (admin["created_at"], admin["frozen_at"]) == tuple(
        source._admin_metadata[name] for name in ("created_at", "frozen_at")
    )
