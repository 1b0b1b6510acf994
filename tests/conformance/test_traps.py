"""Traps of the format, each met in an existing client: a test for each row of the table, in the table's order.

This has the rows as far as the cache, `test_traps_of_work.py` has the others.
Datasets are written as those clients write them, with plain boto3, and opened through dtoolcore and our operations.

Rows that have their tests elsewhere: the key of dtool.json (`DTOOL_ECS_ACCESS_KEY_ID_<bucket>`, and the template that
leaves `_ID` out) in `tests/unit/test_settings.py`; two installed packages that both provide `ecs` in
`tests/conformance/test_broker_settings.py`, in a process of its own.
"""

from __future__ import annotations

import json
import uuid as uuids
from pathlib import Path

import dtoolcore
import pytest

import dtool_ecs_flows
from dtool_ecs_flows import copy_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    CorruptItemError,
    CredentialsError,
    FrozenDatasetError,
    ManifestError,
    NoSuchBucketError,
    StoreError,
    UnavailableError,
    UnsafeNameError,
)
from dtool_ecs_flows.settings import BucketSettings, active
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import Files, changed, content, encoded, half_made, proto_dataset
from tests.independent import CONTENTS, Raw, bucket_dataset, disk_dataset, disk_path, identifier, md5
from tests.proxy import Answer, proxied

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def base_uri(shared_bucket: BucketSettings) -> str:
    return shared_bucket.base_uri


@pytest.mark.parametrize("version", ["0.5.0", "0.10.0", "0.13.0", "0.14.1", "0.15.0"])
@pytest.mark.parametrize("spelling", ["plain", "base64"])
def test_handles_plain_or_base64(raw: Raw, base_uri: str, version: str, spelling: str) -> None:
    """Whatever version stands in structure.json, a handle is read in the way that its identifier proves."""
    contents = {"a/b.txt": b"1", "YWJj": b"22", "x y": b"333"}
    handles = {relpath: relpath if spelling == "plain" else encoded(relpath) for relpath in contents}
    uuid = half_made(raw, handles, contents, version)
    proto = dtoolcore.ProtoDataSet.from_uri(f"{base_uri}/{uuid}")
    assert sorted(proto._storage_broker.iter_item_handles()) == sorted(contents)
    proto.freeze()
    assert content(dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}")) == contents


def test_handles_are_written_in_base64_and_the_version_says_so(raw: Raw, base_uri: str, files: Files) -> None:
    """dtool-s3 compares `storage_broker_version` with 0.14.0: it is the format's version, and not this package's."""
    proto = proto_dataset(base_uri)
    proto.put_item(files(b"1"), "Größe/µ")
    structure = raw.json(f"{proto.uuid}/structure.json")
    assert tuple(map(int, structure["storage_broker_version"].split("."))) >= (0, 14, 0)
    assert structure["storage_broker_version"] != dtool_ecs_flows.__version__
    assert raw.metadata(f"{proto.uuid}/data/{identifier('Größe/µ')}")["handle"] == encoded("Größe/µ")


def test_items_without_handle_or_checksum(raw: Raw, base_uri: str) -> None:
    """Uploaded through old signed URLs: unfrozen the key is named; the manifest, where there is one, fills in."""
    uuid = half_made(raw, {}, {}, "0.14.1")
    for metadata, lacks in (({}, "handle"), ({"handle": encoded("a")}, "checksum"), ({"checksum": "0" * 32}, "handle")):
        raw.put(f"{uuid}/data/{identifier('a')}", b"1", metadata)
        with pytest.raises(ManifestError, match=f"{uuid}/data/{identifier('a')} has no usable {lacks}"):
            dtoolcore.ProtoDataSet.from_uri(f"{base_uri}/{uuid}").freeze()
        assert not raw.is_frozen(uuid)

    frozen = bucket_dataset(raw, CONTENTS)
    for relpath, data in CONTENTS.items():
        raw.put(f"{frozen}/data/{identifier(relpath)}", data)
    dataset = dtoolcore.DataSet.from_uri(f"{base_uri}/{frozen}")
    assert content(dataset) == CONTENTS
    assert sorted(dataset._storage_broker.iter_item_handles()) == sorted(CONTENTS)
    assert verify_dataset(dataset.uri).ok


def test_times_as_strings(raw: Raw, base_uri: str) -> None:
    """`frozen_at` and `created_at` from user metadata, or as strings in a body, are floats."""
    in_body = bucket_dataset(raw, admin={"frozen_at": "1700000001.25", "created_at": "1700000000.5"})
    in_metadata = bucket_dataset(raw)
    admin = {key: str(value) for key, value in raw.json(f"{in_metadata}/dtool").items()}
    raw.put(f"{in_metadata}/dtool", b"", admin)
    for uuid in (in_body, in_metadata):
        admin = dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}")._admin_metadata
        times = [admin["frozen_at"], admin["created_at"]]
        assert times == [1700000001.25, 1700000000.5]
        assert all(isinstance(each, float) for each in times)


def test_user_metadata_that_is_not_ascii_or_too_long(raw: Raw, base_uri: str, files: Files) -> None:
    """The body has a creator's umlaut, the metadata an escape; a relpath that is too long is refused, by name."""
    proto = dtoolcore.create_proto_dataset("penguins", base_uri, "---\n", "Jörg 日本")
    proto.put_item(files(b"1"), "Größe/日本.txt")
    with pytest.raises(UnsafeNameError, match=r"x{100}.*1600 bytes"):
        proto.put_item(files(b"1"), "x" * 1600)
    proto.freeze()
    assert raw.json(f"{proto.uuid}/dtool")["creator_username"] == "Jörg 日本"
    metadata = raw.metadata(f"{proto.uuid}/dtool")
    assert metadata["creator_username"] == r"J\xf6rg \u65e5\u672c"
    assert metadata["type"] == "dataset"
    assert float(metadata["frozen_at"]) == raw.json(f"{proto.uuid}/dtool")["frozen_at"]
    assert dtoolcore.DataSet.from_uri(proto.uri)._admin_metadata["creator_username"] == "Jörg 日本"


def test_administrative_metadata_that_is_too_long(raw: Raw, base_uri: str) -> None:
    """A store refuses more than 2 KB of user metadata: the body has all of it, and peers find what they ask for."""
    long = "Jörg und viele andere " * 300
    with dtoolcore.DataSetCreator("penguins", base_uri, "---\n", long) as creator:
        pass
    assert raw.json(f"{creator.proto_dataset.uuid}/dtool")["creator_username"] == long
    metadata = raw.metadata(f"{creator.proto_dataset.uuid}/dtool")
    assert metadata["creator_username"].startswith(r"J\xf6rg und viele andere J")
    assert (metadata["name"], metadata["type"], metadata["uuid"]) == ("penguins", "dataset", creator.proto_dataset.uuid)
    assert dtoolcore.DataSet.from_uri(creator.uri)._admin_metadata["creator_username"] == long


@pytest.mark.parametrize("where", ["body", "metadata"])
def test_dashes_for_underscores(raw: Raw, base_uri: str, where: str) -> None:
    """As a RADOS Gateway gives metadata back, and as a peer that freezes there writes it into the body."""
    uuid = bucket_dataset(raw)
    admin = raw.json(f"{uuid}/dtool")
    dashed = {key.replace("_", "-"): str(value) for key, value in admin.items()}
    raw.put(f"{uuid}/dtool", json.dumps(dashed).encode() if where == "body" else b"", dashed)
    found = dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}")._admin_metadata
    assert found.items() >= admin.items()
    (info,) = [info for info in list_datasets(base_uri).datasets if info.uuid == uuid]
    assert (info.creator_username, info.created_at, info.frozen_at) == ("olssont", 1700000000.5, 1700000001.25)


@pytest.mark.parametrize("body", [b"", b"0.3.0", b"olssont\n", b"0.3"])
def test_admin_metadata_without_a_json_body(raw: Raw, base_uri: str, body: bytes) -> None:
    """As before dtool-s3 0.4: the user metadata says it."""
    uuid = bucket_dataset(raw)
    raw.put(f"{uuid}/dtool", body, {key: str(value) for key, value in raw.json(f"{uuid}/dtool").items()})
    assert dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}").name == "penguins"


def test_admin_metadata_without_user_metadata(raw: Raw, base_uri: str) -> None:
    """As after an upload through a signed URL: the body says it."""
    uuid = bucket_dataset(raw)
    raw.put(f"{uuid}/dtool", raw.get(f"{uuid}/dtool"))
    assert dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}").name == "penguins"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(403, "AccessDenied"), AccessDeniedError),
        (Answer(403, "SignatureDoesNotMatch"), CredentialsError),
        (Answer(404, "NoSuchBucket"), NoSuchBucketError),
        (Answer(503, "SlowDown"), UnavailableError),
        (Answer(400, "InvalidRequest"), StoreError),
    ],
    ids=lambda value: value.code if isinstance(value, Answer) else "",
)
@pytest.mark.parametrize("asked", ["dtool-", "/dtool"])
def test_is_there_a_dataset(
    shared_bucket: BucketSettings,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    *,
    answer: Answer,
    error: type[Exception],
    asked: str,
) -> None:
    """Only "no such key" is a no, for registration key and metadata alike; any other answer is an error."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.2)
    monkeypatch.setattr(failures, "BUDGET", 0.2)
    uuid = bucket_dataset(raw, prefix="elsewhere/")
    with proxied(shared_bucket.endpoint) as proxy, active(changed(shared_bucket, endpoint=proxy.endpoint)):
        broker = ECSStorageBroker(f"{shared_bucket.base_uri}/{uuid}")
        proxy.on().call(lambda request: answer if asked in request.target else None)
        with pytest.raises(error):
            broker.has_admin_metadata()
        assert raw.listed(uuid) == []
        proxy.calm()
        assert broker.has_admin_metadata() is True


def test_creating_over_a_frozen_dataset(raw: Raw, base_uri: str) -> None:
    """It is refused, and nothing of it changes."""
    uuid = bucket_dataset(raw, CONTENTS)
    before = raw.state()
    admin = {**dtoolcore.generate_admin_metadata("penguins"), "uuid": uuid}
    with pytest.raises(FrozenDatasetError):
        dtoolcore.generate_proto_dataset(admin, base_uri).create()
    assert raw.state() == before


def test_copying_again_after_the_configured_prefix_changed(
    shared_bucket: BucketSettings, raw: Raw, tmp_path: Path
) -> None:
    """An existing registration key decides: all keys stay under one prefix, by dtoolcore and by our copy alike."""
    source = disk_dataset(tmp_path, {"a": b"1", "b": b"2"})
    with active(changed(shared_bucket, dataset_prefix="old/")):
        proto = dtoolcore._copy_create_proto_dataset(dtoolcore.DataSet.from_uri(source), shared_bucket.base_uri)
    with active(changed(shared_bucket, dataset_prefix="new/")):
        uri = dtoolcore.copy_resume(source, shared_bucket.base_uri)
        assert content(dtoolcore.DataSet.from_uri(uri)) == {"a": b"1", "b": b"2"}
        assert copy_dataset(source, shared_bucket.base_uri).already_there
    assert raw.get(f"dtool-{proto.uuid}") == b"old/"
    assert raw.listed("new/") == []
    assert raw.listed(proto.uuid) == []


def test_names_with_a_dot(raw: Raw, base_uri: str, files: Files) -> None:
    """One known suffix is stripped, no more: of annotations, overlays, tags and metadata of items."""
    proto = proto_dataset(base_uri)
    proto.put_item(files(b"1"), "a")
    proto.add_item_metadata("a", "v1.2", 3)
    proto.put_annotation("x.json", 1)
    proto.put_tag("t.json")
    assert proto._storage_broker.get_item_metadata("a") == {"v1.2": 3}
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    assert (dataset.list_overlay_names(), dataset.get_overlay("v1.2")) == (["v1.2"], {identifier("a"): 3})
    assert (dataset.list_annotation_names(), dataset.get_annotation("x.json")) == (["x.json"], 1)
    assert dataset.list_tags() == ["t.json"]


def test_dtoolcore_copy_changes_its_source(raw: Raw, base_uri: str, tmp_path: Path) -> None:
    """The source is read only; what is handed over is not changed either, and a proto dataset has no `frozen_at`."""
    source = disk_dataset(tmp_path, {"a": b"1"})
    before = (disk_path(source) / ".dtool" / "dtool").read_bytes()
    dataset = dtoolcore.DataSet.from_uri(source)
    proto = dtoolcore._copy_create_proto_dataset(dataset, base_uri)
    assert "frozen_at" not in raw.json(f"{proto.uuid}/dtool")
    assert "frozen_at" not in raw.metadata(f"{proto.uuid}/dtool")
    assert "frozen_at" in dataset._admin_metadata
    proto._storage_broker.delete_key(f"{proto.uuid}/dtool")
    copy_dataset(source, base_uri)
    assert (disk_path(source) / ".dtool" / "dtool").read_bytes() == before


def test_dtoolcore_drops_config_path(shared_bucket: BucketSettings, files: Files, tmp_path: Path) -> None:
    """`copy_resume` and `iter_datasets_in_base_uri` never pass it on: settings are found by the bucket's name."""
    other = new_bucket_like(shared_bucket)
    source = disk_dataset(tmp_path, {"a": b"1"})
    with active(other):
        dtoolcore._copy_create_proto_dataset(dtoolcore.DataSet.from_uri(source), other.base_uri)
        uri = dtoolcore.copy_resume(source, other.base_uri)
        assert [each.uri for each in dtoolcore.iter_datasets_in_base_uri(other.base_uri)] == [uri]


def new_bucket_like(settings: BucketSettings) -> BucketSettings:
    """A bucket of its own, of which the environment knows nothing."""
    name = f"test-{uuids.uuid4()}"
    Raw(settings).client.create_bucket(Bucket=name)
    return changed(settings, bucket=name)


def test_the_cache_file_of_an_item(raw: Raw, base_uri: str) -> None:
    """Extension from the manifest, no temporary file shared or left, the hash checked on the way in."""
    uuid = bucket_dataset(raw, {"table.csv": b"a,b\n"})
    dataset = dtoolcore.DataSet.from_uri(f"{base_uri}/{uuid}")
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", b"a,B\n")
    cache = Path(dtoolcore.utils.DEFAULT_CACHE_PATH)
    with pytest.raises(CorruptItemError, match=md5(b"a,B\n")):
        dataset.item_content_abspath(identifier("table.csv"))
    assert not [path for path in cache.rglob("*") if path.is_file()]
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", b"a,b\n")
    assert dataset.item_content_abspath(identifier("table.csv")) == str(cache / uuid / f"{identifier('table.csv')}.csv")
