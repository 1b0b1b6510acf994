"""The second half of the table of traps (see `test_traps.py`): verifying, listing, freezing, uploading, resuming."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, MutableMapping, MutableSequence, MutableSet
from pathlib import Path

import dtoolcore
import pytest

import dtool_ecs_flows
from dtool_ecs_flows import copy_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.errors import (
    EcsFlowsError,
    StoreError,
    UnsafeNameError,
)
from dtool_ecs_flows.settings import BucketSettings, active
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import Files, changed, content, encoded, half_made, proto_dataset
from tests.independent import Raw, bucket_dataset, disk_dataset, identifier, md5, noise
from tests.proxy import Answer, CountingProxy, proxied

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def base_uri(shared_bucket: BucketSettings) -> str:
    return shared_bucket.base_uri


def test_verifying_by_what_the_metadata_says(raw: Raw, base_uri: str) -> None:
    """A stored `checksum` says nothing of the bytes: they are read, or the report says that they were not."""
    uuid = bucket_dataset(raw, {"a": b"right", "b": b"also"})
    raw.replace(f"{uuid}/data/{identifier('a')}", b"wrong")
    uri = f"{base_uri}/{uuid}"
    read = verify_dataset(uri)
    assert [(finding.kind, finding.subject) for finding in read.findings] == [("corrupt", "a")]
    assert (read.ok, read.content_read, read.bytes_read) == (False, True, 9)
    glanced = verify_dataset(uri, read=False)
    assert (glanced.content_read, glanced.bytes_read) == (False, 0)
    broker = ECSStorageBroker(uri)  # what `dtool verify -f` goes by
    assert (broker.get_hash("a"), broker.get_hash("b")) == (md5(b"wrong"), md5(b"also"))


def test_last_modified_through_local_time(
    raw: Raw, base_uri: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times in a manifest are UTC epoch seconds, wherever the user lives."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        proto = proto_dataset(base_uri)
        proto.put_item(files(b"1"), "a")
        proto.freeze()
    finally:
        monkeypatch.undo()
        time.tzset()
    entry = raw.json(f"{proto.uuid}/manifest.json")["items"][identifier("a")]
    there = raw.client.head_object(Bucket=raw.bucket, Key=f"{proto.uuid}/data/{identifier('a')}")["LastModified"]
    assert abs(entry["utc_timestamp"] - there.timestamp()) <= 1


def test_other_keys_that_start_with_dtool(raw: Raw, base_uri: str) -> None:
    """Only `dtool-` and a UUID registers a dataset."""
    uuid = bucket_dataset(raw)
    for key in (
        "dtool",
        "dtool-",
        "dtool-readme.txt",
        f"dtool-{uuid}.bak",
        "dtool-x",
        f"dtool_{uuid}",
    ):
        raw.put(key, b"not a prefix\n")
    assert ECSStorageBroker.list_dataset_uris(base_uri) == [f"{base_uri}/{uuid}"]
    assert [info.uuid for info in list_datasets(base_uri).datasets] == [uuid]


def test_a_dict_of_the_module_that_brokers_change() -> None:
    """No module has a global that can be changed after its import, but for what a process is."""
    of_the_process = {
        "dtool_ecs_flows.store.fast._runtime_of",  # obstore's runtime does not survive a fork
        "dtool_ecs_flows.store.requests._in_this_process",  # what a forked child must begin anew
    }
    found = set()
    for info in pkgutil.walk_packages(dtool_ecs_flows.__path__, "dtool_ecs_flows."):
        module = importlib.import_module(info.name)
        found |= {
            f"{info.name}.{name}"
            for name, value in vars(module).items()
            if isinstance(value, MutableMapping | MutableSequence | MutableSet) and not name.startswith("__")
        }
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            assert not isinstance(node, ast.Global), f"{info.name}:{node.lineno}"
    assert found == of_the_process


def test_two_open_datasets_keep_their_own_registration_keys(raw: Raw, base_uri: str, files: Files) -> None:
    """The way in which it was met: the second one's creation changed what the first one wrote."""
    first, second = proto_dataset(base_uri), proto_dataset(base_uri)
    first.create()
    for proto in (first, second):
        assert raw.json(f"{proto.uuid}/structure.json")["dataset_registration_key"] == f"dtool-{proto.uuid}"


def test_network_in_the_constructor_and_a_listing_that_builds_brokers(
    shared_bucket: BucketSettings, raw: Raw, request_counter: Callable[[str], CountingProxy]
) -> None:
    """Nothing is asked for by building; a listing is a page, and one small read per dataset."""
    uuids_there = {bucket_dataset(raw) for _ in range(10)}
    proxy = request_counter(shared_bucket.endpoint)
    with active(changed(shared_bucket, endpoint=proxy.endpoint)):
        for uuid in uuids_there:
            ECSStorageBroker(f"{shared_bucket.base_uri}/{uuid}")
        assert proxy.requests == []
        assert len(ECSStorageBroker.list_dataset_uris(shared_bucket.base_uri)) == 10
        assert len(proxy.requests) == 1
        proxy.clear()
        assert {info.uuid for info in list_datasets(shared_bucket.base_uri).datasets} == uuids_there
    assert len(proxy.requests) <= 11


def test_what_freezing_costs(
    shared_bucket: BucketSettings, files: Files, request_counter: Callable[[str], CountingProxy]
) -> None:
    """One PUT an item and a page of the listing: nothing is read that was just sent."""
    proxy = request_counter(shared_bucket.endpoint)
    with active(changed(shared_bucket, endpoint=proxy.endpoint)):
        proto = proto_dataset(shared_bucket.base_uri)
        path = files(noise(100))
        proxy.clear()
        for number in range(30):
            proto.put_item(path, f"{number}")
        assert len(proxy.requests) == 30
        proxy.clear()
        proto.freeze()
    assert len(proxy.requests) <= 10
    assert not [request for request in proxy.requests if request.method == "GET" and "/data/" in request.target]


@pytest.mark.parametrize("size", [10, 9 * 2**20])
@pytest.mark.parametrize("answer", [Answer(400, "InvalidDigest"), Answer(503, "SlowDown"), Answer(403, "AccessDenied")])
def test_an_upload_that_failed(
    shared_bucket: BucketSettings, raw: Raw, files: Files, monkeypatch: pytest.MonkeyPatch, *, size: int, answer: Answer
) -> None:
    """It is an error of the call that uploads, in one piece or in parts, and nothing is taken for uploaded."""
    monkeypatch.setattr(failures, "BUDGET", 0.3)
    proto = proto_dataset(shared_bucket.base_uri)
    with proxied(shared_bucket.endpoint) as proxy, active(changed(shared_bucket, endpoint=proxy.endpoint)):
        refused = dtoolcore.ProtoDataSet.from_uri(proto.uri)
        proxy.on().call(lambda request: answer if request.method == "PUT" and "/data/" in request.target else None)
        with pytest.raises(StoreError, match=answer.code):
            refused.put_item(files(noise(size)), "a")
        assert list(refused._storage_broker.iter_item_handles()) == []
    assert raw.listed(f"{proto.uuid}/data/") == []
    assert raw.uploads() == []


def test_deleting_the_fragments(
    shared_bucket: BucketSettings, raw: Raw, files: Files, request_counter: Callable[[str], CountingProxy]
) -> None:
    """They are deleted by name in one request: the bucket is not paged through, and no other dataset's are touched."""
    other = proto_dataset(shared_bucket.base_uri)
    other.put_item(files(b"1"), "a")
    other.add_item_metadata("a", "n", 1)
    proxy = request_counter(shared_bucket.endpoint)
    with active(changed(shared_bucket, endpoint=proxy.endpoint)):
        proto = proto_dataset(shared_bucket.base_uri)
        for number in range(10):
            proto.put_item(files(b"1"), f"{number}")
            proto.add_item_metadata(f"{number}", "n", number)
        proxy.clear()
        proto.freeze()
    assert raw.listed(f"{proto.uuid}/fragments/") == []
    assert len(raw.listed(f"{other.uuid}/fragments/")) == 1
    listings = [request.target for request in proxy.requests if "list-type=2" in request.target]
    assert all(f"prefix={proto.uuid}" in target.replace("%2F", "/") for target in listings)
    assert len([request for request in proxy.requests if "delete" in request.target or request.method == "DELETE"]) == 1


def test_already_there_means_same_size(shared_bucket: BucketSettings, raw: Raw, tmp_path: Path) -> None:
    """An item of the right size with other bytes is sent again when a copy is taken up; what is right is not."""
    source = disk_dataset(tmp_path, {"a": b"right", "b": b"also"})
    proto = dtoolcore._copy_create_proto_dataset(dtoolcore.DataSet.from_uri(source), shared_bucket.base_uri)
    for relpath, data in (("a", b"wrong"), ("b", b"also")):
        metadata = {"handle": encoded(relpath), "checksum": md5(data)}
        raw.put(f"{proto.uuid}/data/{identifier(relpath)}", data, metadata)
    report = copy_dataset(source, shared_bucket.base_uri)
    assert (report.copied_items, report.skipped) == (1, 1)
    assert raw.get(f"{proto.uuid}/data/{identifier('a')}") == b"right"
    assert raw.is_frozen(proto.uuid)


@pytest.mark.parametrize("relpath", ["../../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_a_relpath_that_leaves_the_folder(
    shared_bucket: BucketSettings, raw: Raw, files: Files, tmp_path: Path, relpath: str
) -> None:
    """It is neither taken in nor let out: nothing is written for it, in a bucket or on a disk."""
    proto = proto_dataset(shared_bucket.base_uri)
    with pytest.raises(UnsafeNameError):
        proto.put_item(files(b"1"), relpath)
    assert raw.listed(f"{proto.uuid}/data/") == []

    uuid = bucket_dataset(raw, {"good": b"1", relpath: b"evil"})
    target = tmp_path / "deep" / "folder"
    target.mkdir(parents=True)
    with pytest.raises(EcsFlowsError) as caught:
        copy_dataset(f"{shared_bucket.base_uri}/{uuid}", f"file://{target}")
    assert repr(relpath) in str(caught.value)
    assert not [path for path in (tmp_path / "deep").rglob("*") if path.is_file()]


@pytest.mark.parametrize("names", [("Handle", "Checksum"), ("HANDLE", "CHECKSUM"), ("hAnDlE", "cHeCkSuM")])
def test_metadata_keys_in_odd_case(raw: Raw, base_uri: str, names: tuple[str, str]) -> None:
    """As some gateways give them: read like any other."""
    uuid = half_made(raw, {}, {}, "0.14.1")
    raw.put(f"{uuid}/data/{identifier('a')}", b"1", {names[0]: encoded("a"), names[1]: md5(b"1")})
    dtoolcore.ProtoDataSet.from_uri(f"{base_uri}/{uuid}").freeze()
    assert content(dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}")) == {"a": b"1"}
