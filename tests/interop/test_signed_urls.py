"""The calls that came with dtool-s3 0.15 and dtoolcore 3.20, which a server makes for clients without credentials."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import dtoolcore
import pytest
from dtoolcore.utils import generate_identifier

from dtool_ecs_flows import verify_dataset
from dtool_ecs_flows.errors import SettingsError, UnsafeNameError
from dtool_ecs_flows.settings import BucketSettings, active
from tests.interop import story
from tests.interop.environments import DTOOL_S3_014
from tests.interop.freezing import freeze_with_manifest
from tests.interop.peers.read import read_dataset
from tests.interop.peers.write import write_dataset


def http(method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Make a request with nothing but the URL and the headers given."""
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def status_of(method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
    """Return the status of a request that is refused; 200 where it is not."""
    try:
        http(method, url, data, headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def dataset(shared: BucketSettings) -> Any:
    """A frozen dataset in the bucket."""
    return dtoolcore.DataSet.from_uri(
        write_dataset({**story.request(non_ascii=True), "base_uri": shared.base_uri})["uri"]
    )


@pytest.fixture
def proto(shared: BucketSettings) -> Any:
    """An empty proto dataset in the bucket, without a README, as a server prepares it."""
    admin = dtoolcore.generate_admin_metadata("to-and-fro", "olssont")
    made = dtoolcore.generate_proto_dataset(admin, shared.base_uri)
    made.create()
    return made


def test_a_reader_needs_nothing_but_urls(dataset: Any) -> None:
    """The URLs that are given for a dataset bring all of it; they are named as dtool-s3 0.15 names them."""
    broker = dataset._storage_broker
    assert broker.supports_signing()
    urls = broker.generate_dataset_signed_urls(expiry_seconds=60)
    assert set(urls) == {
        "admin_metadata_url", "manifest_url", "readme_url", "item_urls", "overlay_urls", "annotation_urls", "tags",
    }  # fmt: skip  # five lines less
    assert dataset.name.encode() in http("GET", urls["admin_metadata_url"])
    assert set(dataset.identifiers) == set(urls["item_urls"])
    assert http("GET", urls["readme_url"]).decode() == story.NEW_README
    for relpath, content in story.items(non_ascii=True).items():
        assert http("GET", urls["item_urls"][generate_identifier(relpath)]) == content
    assert set(urls["overlay_urls"]) == {"checked", "length"}
    assert set(urls["annotation_urls"]) == set(story.ANNOTATIONS)
    assert http("GET", urls["annotation_urls"]["temperature"]) == b"21.5"
    assert urls["tags"] == list(story.TAGS)


def test_dserver_makes_keys_of_its_own(rgw_bucket: BucketSettings) -> None:
    """dserver's plugin for signed URLs adds identifiers to dtool-s3's attributes, and so do others to the rest."""
    with active(rgw_bucket.model_copy(update={"dataset_prefix": "u/olssont/"})):
        uri = write_dataset({**story.request(), "base_uri": rgw_bucket.base_uri})["uri"]
    with active(rgw_bucket):
        broker = dtoolcore.DataSet.from_uri(uri)._storage_broker  # which learns the prefix from the bucket
    for identifier, entry in broker.get_manifest()["items"].items():
        url = broker.generate_signed_read_url(broker.data_key_prefix + identifier, 60)
        assert http("GET", url) == story.items(non_ascii=False)[entry["relpath"]]
    url = broker.generate_signed_read_url(broker.annotations_key_prefix + "temperature.json", 60)
    assert http("GET", url) == b"21.5"
    assert broker.overlays_key_prefix + "checked.json" == broker.get_overlay_key("checked")
    assert broker.tags_key_prefix + "raw" == broker.get_tag_key("raw")
    assert broker.fragments_key_prefix == f"u/olssont/{broker.uuid}/fragments/"


def test_a_url_lasts_as_long_as_was_said(dataset: Any) -> None:
    """After its seconds a URL is refused; a time that cannot be signed is refused at once."""
    broker = dataset._storage_broker
    longer, url = (broker.generate_signed_read_url(broker.get_readme_key(), expiry_seconds=each) for each in (600, 1))
    time.sleep(2.1)
    assert status_of("GET", url) == 403
    assert http("GET", longer).decode() == story.NEW_README
    for seconds in (0, 7 * 24 * 3600 + 1):
        with pytest.raises(SettingsError, match=str(seconds)):
            broker.generate_signed_read_url(broker.get_readme_key(), expiry_seconds=seconds)


def test_an_item_is_what_was_signed_for(proto: Any) -> None:
    """Other bytes, or other metadata, than those that a URL was signed for are refused by the gateway."""
    broker = proto._storage_broker
    url, headers = broker.generate_signed_item_write_url("größe.txt", md5(b"right"), expiry_seconds=60)
    assert set(headers) == {"Content-MD5", "x-amz-meta-handle", "x-amz-meta-checksum"}
    assert status_of("PUT", url, b"wrong", headers) == 400
    assert status_of("PUT", url, b"right", {**headers, "x-amz-meta-handle": "YQ=="}) == 403
    assert status_of("PUT", url, b"right", {"Content-MD5": headers["Content-MD5"]}) == 403
    assert list(broker.iter_item_handles()) == []
    assert status_of("PUT", url, b"right", headers) == 200
    assert list(broker.iter_item_handles()) == ["größe.txt"]
    with pytest.raises(UnsafeNameError):
        broker.generate_signed_item_write_url("../../x", md5(b"right"))


def test_a_client_without_credentials_makes_a_dataset(proto: Any, shared: BucketSettings) -> None:
    """README and items come by signed URLs, the manifest from the client; the frozen dataset opens here and there."""
    broker = proto._storage_broker
    http("PUT", broker.generate_signed_write_url(broker.get_readme_key(), 60), story.NEW_README.encode())
    content = story.items(non_ascii=True)
    for relpath, data in content.items():
        url, headers = broker.generate_signed_item_write_url(relpath, md5(data), 60)
        http("PUT", url, data, headers)
        proto.add_item_metadata(relpath, "length", len(data))
        proto.add_item_metadata(relpath, "checked", True)
    for name, value in story.ANNOTATIONS.items():
        proto.put_annotation(name, value)
    for tag in story.TAGS:
        proto.put_tag(tag)
    manifest = {
        "dtoolcore_version": "3.20.0",
        "hash_function": "md5sum_hexdigest",
        "items": {
            generate_identifier(relpath): {
                "relpath": relpath, "size_in_bytes": len(data), "hash": md5(data), "utc_timestamp": 1.5,
            }
            for relpath, data in content.items()
        },
    }  # fmt: skip  # three lines less

    freeze_with_manifest(dtoolcore.ProtoDataSet.from_uri(proto.uri), manifest, frozen_at=1234.5)

    read = read_dataset(proto.uri)
    story.assert_is_whole(read, non_ascii=True)
    assert read["admin"]["frozen_at"] == 1234.5
    assert dtoolcore.DataSet.from_uri(proto.uri)._manifest == manifest
    assert verify_dataset(proto.uri).findings == ()
    story.assert_is_whole(DTOOL_S3_014.read(shared, proto.uri), non_ascii=True)


def test_a_manifest_does_not_freeze_what_is_not_there(proto: Any, tmp_path: Any) -> None:
    """A missing README, or a missing item, is told before anything is written; the proto dataset stays one."""
    manifest = {"items": {generate_identifier("a"): {"relpath": "a"}}}
    with pytest.raises(dtoolcore.DtoolCoreValueError, match="README"):
        freeze_with_manifest(proto, manifest)
    proto.put_readme("")
    with pytest.raises(dtoolcore.DtoolCoreValueError, match="Missing 1 item"):
        freeze_with_manifest(proto, manifest)
    assert dtoolcore.ProtoDataSet.from_uri(proto.uri).uri == proto.uri


def test_a_published_dataset_can_end_with_its_signatures(dataset: Any, shared: BucketSettings) -> None:
    """With DTOOL_ECS_PUBLISH_EXPIRY nothing becomes public: the list of URLs and its URLs are signed for that time."""
    with active(shared.model_copy(update={"publish_expiry": 60})):
        address = dtoolcore.DataSet.from_uri(dataset.uri)._storage_broker.http_enable()
    place, _, signature = address.partition("?")
    listed = http("GET", f"{place}/http_manifest.json?{signature}")
    assert dataset.name.encode() in listed
    assert status_of("GET", f"{place}/http_manifest.json") == 403
    assert status_of("GET", f"{place}/README.yml") == 403
