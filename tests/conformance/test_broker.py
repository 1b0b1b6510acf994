"""The storage broker as dtoolcore and programs on it use it: through dtoolcore's public calls, over every server."""

from __future__ import annotations

import time
import uuid as uuids
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dtoolcore
import pytest
from dtoolcore.utils import generate_identifier

from dtool_ecs_flows import copy_dataset, verify_dataset
from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.errors import (
    DatasetDiffersError,
    FrozenDatasetError,
    NotADatasetError,
    UnsafeNameError,
)
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import Files, content, proto_dataset
from tests.conftest import new_bucket
from tests.independent import CONTENTS, MIB, Raw, disk_dataset, everything, identifier, md5, noise
from tests.servers import S3Server

pytestmark = pytest.mark.usefixtures("configured")


# --- the life of a dataset ---


def test_a_dataset_is_created_and_read_back(base_uri: str, raw: Raw, files: Files) -> None:
    """Items of all names and sizes, README, tags, annotations, metadata of items: all comes back."""
    large = noise(17 * MIB)
    with dtoolcore.DataSetCreator("penguins", base_uri, "---\ndescription: ü\n", "Jörg") as creator:
        for relpath, data in CONTENTS.items():
            assert creator.put_item(files(data), relpath) == relpath
            creator.add_item_metadata(relpath, "v1.2", {"size": len(data)})
        creator.put_item(files(large), "large.bin")
        creator.add_item_metadata("large.bin", "v1.2", None)
        Path(creator.prepare_staging_abspath_promise("staged/ü.txt")).write_bytes(b"staged")
        creator.add_item_metadata("staged/ü.txt", "v1.2", "ü")
        creator.put_annotation("a.b", {"ü": [1, None]})
        creator.put_tag("v1.2")

    dataset = dtoolcore.DataSet.from_uri(creator.uri)
    expected = {**CONTENTS, "large.bin": large, "staged/ü.txt": b"staged"}
    assert content(dataset) == expected
    for relpath, data in expected.items():
        properties = dataset.item_properties(generate_identifier(relpath))
        assert (properties["size_in_bytes"], properties["hash"]) == (len(data), md5(data))
        assert abs(properties["utc_timestamp"] - time.time()) < 120
    assert dataset.get_readme_content() == "---\ndescription: ü\n"
    assert dataset.list_overlay_names() == ["v1.2"]
    assert dataset.get_overlay("v1.2")[identifier("table.csv")] == {"size": len(CONTENTS["table.csv"])}
    assert dataset.get_overlay("v1.2")[identifier("staged/ü.txt")] == "ü"
    assert (dataset.list_annotation_names(), dataset.get_annotation("a.b")) == (["a.b"], {"ü": [1, None]})
    assert dataset.list_tags() == ["v1.2"]
    assert (dataset.name, dataset._admin_metadata["creator_username"]) == ("penguins", "Jörg")
    assert isinstance(dataset._admin_metadata["frozen_at"], float)
    assert isinstance(dataset._admin_metadata["created_at"], float)
    assert raw.listed(f"{dataset.uuid}/fragments/") == []
    assert raw.get(f"dtool-{dataset.uuid}") == b""


def test_an_empty_dataset_is_a_dataset(base_uri: str) -> None:
    """No items, no README, no tags."""
    with dtoolcore.DataSetCreator("empty", base_uri) as creator:
        pass
    dataset = dtoolcore.DataSet.from_uri(creator.uri)
    assert list(dataset.identifiers) == []
    assert (dataset.list_tags(), dataset.list_annotation_names(), dataset.list_overlay_names()) == ([], [], [])
    assert dataset.get_readme_content() == ""


def test_a_proto_dataset_is_worked_on_in_turns(base_uri: str, files: Files) -> None:
    """As `dtool` does, with new objects at every command: each sees what the others did; the last freezes."""
    uri = proto_dataset(base_uri).uri
    dtoolcore.ProtoDataSet.from_uri(uri).put_item(files(b"1"), "a")
    dtoolcore.ProtoDataSet.from_uri(uri).put_item(files(b"22"), "b")
    dtoolcore.ProtoDataSet.from_uri(uri).add_item_metadata("a", "n", 1)
    dtoolcore.ProtoDataSet.from_uri(uri).add_item_metadata("b", "n", 2)
    dtoolcore.ProtoDataSet.from_uri(uri).put_item(files(b"333"), "a")  # once more, with other bytes
    dtoolcore.ProtoDataSet.from_uri(uri).put_readme("---\nn: 2\n")
    dtoolcore.ProtoDataSet.from_uri(uri).update_name("renamed")
    proto = dtoolcore.ProtoDataSet.from_uri(uri)
    broker = proto._storage_broker
    assert sorted(broker.iter_item_handles()) == ["a", "b"]
    assert (broker.get_size_in_bytes("a"), broker.get_hash("a")) == (3, md5(b"333"))
    assert broker.get_item_metadata("a") == {"n": 1}
    proto.freeze()

    dataset = dtoolcore.DataSet.from_uri(uri)
    assert content(dataset) == {"a": b"333", "b": b"22"}
    assert {dataset.item_properties(i)["hash"] for i in dataset.identifiers} == {md5(b"333"), md5(b"22")}
    assert dataset.get_overlay("n") == {identifier("a"): 1, identifier("b"): 2}
    assert (dataset.name, dataset.get_readme_content()) == ("renamed", "---\nn: 2\n")


def test_an_item_that_another_process_replaced_is_frozen_as_it_is(base_uri: str, files: Files) -> None:
    """What this object sent is not what is there any more: the manifest says what is there."""
    proto = proto_dataset(base_uri)
    proto.put_item(files(b"1"), "a")
    dtoolcore.ProtoDataSet.from_uri(proto.uri).put_item(files(b"two"), "a")
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    assert dataset.item_properties(identifier("a"))["hash"] == md5(b"two")
    assert dataset.item_properties(identifier("a"))["size_in_bytes"] == 3


def test_what_is_described_later_is_described(base_uri: str, files: Files) -> None:
    """On a frozen dataset: README with history, annotations, tags, overlays and name change; items do not."""
    with dtoolcore.DataSetCreator("penguins", base_uri, "---\nold: 1\n") as creator:
        creator.put_item(files(b"1"), "a")
        creator.put_tag("old")
        creator.put_annotation("old", 1)
    dataset = dtoolcore.DataSet.from_uri(creator.uri)
    dataset.put_readme("---\nnew: 2\n")
    dataset.put_readme("---\nnew: 3\n")
    dataset.put_tag("new")
    dataset.delete_tag("old")
    dataset.put_annotation("old", 2)
    dataset.put_overlay("colour", {identifier("a"): "blue"})
    dataset.update_name("renamed")

    again = dtoolcore.DataSet.from_uri(creator.uri)
    history = again._storage_broker._list_historical_readme_keys()
    assert again.get_readme_content() == "---\nnew: 3\n"
    assert {again._storage_broker.get_text(key) for key in history} == {"---\nold: 1\n", "---\nnew: 2\n"}
    assert all(abs(float(key.rpartition("README.yml-")[2]) - time.time()) < 120 for key in history)
    assert (again.list_tags(), again.get_annotation("old")) == (["new"], 2)
    assert again.get_overlay("colour") == {identifier("a"): "blue"}
    assert (again.name, again._admin_metadata["frozen_at"]) == ("renamed", dataset._admin_metadata["frozen_at"])
    if hasattr(again, "delete_annotation"):
        again.delete_annotation("old")
        assert again.list_annotation_names() == []


def test_a_dataset_without_a_readme_can_be_given_one(base_uri: str) -> None:
    """There is nothing to keep of an old one, and that is no reason to fail."""
    proto = dtoolcore.generate_proto_dataset(dtoolcore.generate_admin_metadata("bare"), base_uri)
    proto.create()
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    dataset.put_readme("---\nfirst: 1\n")
    assert dataset.get_readme_content() == "---\nfirst: 1\n"
    assert dataset._storage_broker._list_historical_readme_keys() == []


def test_a_freeze_that_failed_is_done_again(base_uri: str, files: Files, raw: Raw) -> None:
    """Metadata on some items only is refused by dtoolcore after the manifest; mended, the same object freezes."""
    proto = proto_dataset(base_uri)
    for relpath in ("a", "b"):
        proto.put_item(files(b"1"), relpath)
    proto.add_item_metadata("a", "n", 1)
    with pytest.raises(ValueError, match="Overlay keys"):
        proto.freeze()
    assert not raw.is_frozen(proto.uuid)
    proto.add_item_metadata("b", "n", 2)
    assert proto._storage_broker.get_item_metadata("b") == {"n": 2}
    proto.put_item(files(b"2"), "c")
    proto.add_item_metadata("c", "n", 3)
    assert sorted(proto._storage_broker.iter_item_handles()) == ["a", "b", "c"]
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    assert dataset.get_overlay("n") == {identifier("a"): 1, identifier("b"): 2, identifier("c"): 3}


def test_freezing_with_a_manifest_that_is_known(base_uri: str, files: Files, raw: Raw) -> None:
    """The calls of `freeze_with_manifest` (dtoolcore 3.20), for dtool servers whose clients uploaded by signed URLs."""
    bare = dtoolcore.generate_proto_dataset(dtoolcore.generate_admin_metadata("bare"), base_uri)
    bare.create()
    with pytest.raises(FileNotFoundError):  # it takes any error for "there is no README", and only an error
        bare._storage_broker.get_readme_content()

    proto = proto_dataset(base_uri)
    proto.put_item(files(b"1"), "a")
    proto.add_item_metadata("a", "n", 1)
    broker = proto._storage_broker
    manifest = {
        "dtoolcore_version": "3.20.0",
        "hash_function": "md5sum_hexdigest",
        "items": {
            identifier("a"): {"relpath": "a", "size_in_bytes": 1, "hash": md5(b"1"), "utc_timestamp": 1500000000.5}
        },
    }
    assert broker.get_readme_content() == "---\n"
    assert set(map(generate_identifier, broker.iter_item_handles())) == set(manifest["items"])
    broker.pre_freeze_hook()
    broker.put_manifest(manifest)
    for name, overlay in proto._generate_overlays().items():
        proto._put_overlay(name, overlay)
    proto._admin_metadata.update({"type": "dataset", "frozen_at": 1500000001.5})
    broker.put_admin_metadata(proto._admin_metadata)
    broker.post_freeze_hook()

    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    assert dataset._manifest == manifest == raw.json(f"{proto.uuid}/manifest.json")
    assert dataset._admin_metadata["frozen_at"] == 1500000001.5
    assert dataset.get_overlay("n") == {identifier("a"): 1}
    assert content(dataset) == {"a": b"1"}


# --- copies through dtoolcore ---


def test_dtoolcore_copies_in_and_out_and_on(server: S3Server, base_uri: str, tmp_path: Path) -> None:
    """From disk to a bucket, to another bucket and to a disk again: the same dataset."""
    source = disk_dataset(tmp_path / "in", CONTENTS, overlays={"v1.2": dict.fromkeys(CONTENTS, 1)})
    (tmp_path / "out").mkdir()
    other = new_bucket(server)
    with active(other):
        there = dtoolcore.copy(source, base_uri)
        on = dtoolcore.copy(there, other.base_uri)
        back = dtoolcore.copy(on, f"file://{tmp_path / 'out'}")
    before, after = everything(source), everything(back)
    for each in (before, after):
        for properties in each["items"].values():
            del properties["utc_timestamp"]  # of the copy's files: dtoolcore's freeze asks the destination
    assert after == before


def test_dtoolcore_resumes_a_copy(base_uri: str, tmp_path: Path, raw: Raw) -> None:
    """What is there is not sent again, what is missing is; the frozen dataset has the source's time of freezing."""
    source = disk_dataset(tmp_path, CONTENTS)
    dataset = dtoolcore.DataSet.from_uri(source)
    proto = dtoolcore._copy_create_proto_dataset(dtoolcore.DataSet.from_uri(source), base_uri)
    proto.put_item(dataset.item_content_abspath(identifier("table.csv")), "table.csv")
    before = raw.state()[f"{proto.uuid}/data/{identifier('table.csv')}"]
    assert "frozen_at" not in raw.json(f"{proto.uuid}/dtool")

    uri = dtoolcore.copy_resume(source, base_uri)

    assert raw.state()[f"{proto.uuid}/data/{identifier('table.csv')}"] == before
    copied = dtoolcore.DataSet.from_uri(uri)
    assert content(copied) == CONTENTS
    assert copied._admin_metadata["frozen_at"] == dataset._admin_metadata["frozen_at"]


def test_what_dtoolcore_does_not_see_when_it_resumes(base_uri: str, tmp_path: Path, raw: Raw) -> None:
    """As README.md says: it skips by size, and freezes what the bucket holds. `copy_dataset` finds the difference."""
    source = disk_dataset(tmp_path, {"a": b"right"})
    proto = dtoolcore._copy_create_proto_dataset(dtoolcore.DataSet.from_uri(source), base_uri)
    (tmp_path / "wrong").write_bytes(b"wrong")
    proto.put_item(str(tmp_path / "wrong"), "a")

    uri = dtoolcore.copy_resume(source, base_uri)

    assert content(dtoolcore.DataSet.from_uri(uri)) == {"a": b"wrong"}
    assert verify_dataset(uri).ok  # its manifest was made of what was there
    with pytest.raises(DatasetDiffersError):
        copy_dataset(source, base_uri)
    raw.edit_json(f"{proto.uuid}/dtool", lambda admin: admin.update(type="protodataset"))
    copy_dataset(source, base_uri)
    assert raw.get(f"{proto.uuid}/data/{identifier('a')}") == b"right"


def test_all_datasets_of_a_bucket_are_found(base_uri: str, files: Files) -> None:
    """Frozen ones and proto ones, each by its own call; nothing else in the bucket disturbs."""
    with dtoolcore.DataSetCreator("frozen", base_uri) as creator:
        creator.put_item(files(b"1"), "a")
    proto = proto_dataset(base_uri, "half")
    assert [each.uri for each in dtoolcore.iter_datasets_in_base_uri(base_uri)] == [creator.uri]
    assert [each.uri for each in dtoolcore.iter_proto_datasets_in_base_uri(base_uri)] == [proto.uri]
    assert sorted(ECSStorageBroker.list_dataset_uris(base_uri)) == sorted([creator.uri, proto.uri])


def test_what_is_no_dataset_is_none(base_uri: str) -> None:
    """A UUID that nobody registered, and a base URI, are no datasets; opening one is the error that dtool knows."""
    nothing = f"{base_uri}/{uuids.uuid4()}"
    for uri in (nothing, base_uri, f"{base_uri}/"):
        assert ECSStorageBroker(uri).has_admin_metadata() is False
    with pytest.raises(dtoolcore.DtoolCoreTypeError):
        dtoolcore.DataSet.from_uri(nothing)
    with pytest.raises(NotADatasetError):
        ECSStorageBroker(nothing).http_enable()


def test_a_frozen_dataset_is_not_created_again(base_uri: str, files: Files, raw: Raw) -> None:
    """Not by creating over it, not by copying over it; nothing of it changes."""
    with dtoolcore.DataSetCreator("penguins", base_uri) as creator:
        creator.put_item(files(b"1"), "a")
    before = raw.state()
    again = dtoolcore.generate_proto_dataset(dict(creator.proto_dataset._admin_metadata), base_uri)
    again._admin_metadata["type"] = "protodataset"
    with pytest.raises(FrozenDatasetError):
        again.create()
    with pytest.raises(FrozenDatasetError):
        ECSStorageBroker(creator.uri).put_admin_metadata(again._admin_metadata)
    assert raw.state() == before


@pytest.mark.parametrize("relpath", ["../../x", "/etc/passwd", "a/../../x", "", "a\0b", "x" * 1501])
def test_an_item_that_must_not_be_stored_is_refused_before_anything_is_sent(
    base_uri: str, files: Files, raw: Raw, relpath: str
) -> None:
    """The error names it, and the dataset goes on without it."""
    proto = proto_dataset(base_uri)
    with pytest.raises(UnsafeNameError, match="relpath"):
        proto.put_item(files(b"1"), relpath)
    assert raw.listed(f"{proto.uuid}/data/") == []


# --- threads, and many at once ---


def test_threads_put_items_at_once(base_uri: str, files: Files) -> None:
    """One proto dataset, many threads: every item is there and right."""
    proto = proto_dataset(base_uri)
    paths = {f"{n}.bin": files(noise(1000, n)) for n in range(24)}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda relpath: proto.put_item(paths[relpath], relpath), paths))
    proto.freeze()
    dataset = dtoolcore.DataSet.from_uri(proto.uri)
    with ThreadPoolExecutor(8) as threads:
        got = dict(
            zip(dataset.identifiers, threads.map(dataset.item_content_abspath, dataset.identifiers), strict=True)
        )
    assert {i: Path(path).read_bytes() for i, path in got.items()} == {
        identifier(f"{n}.bin"): noise(1000, n) for n in range(24)
    }


def test_two_proto_datasets_at_once_are_two(base_uri: str, files: Files, raw: Raw) -> None:
    """Worked on in turns by one program, neither changes anything of the other."""
    first, second = proto_dataset(base_uri, "first"), proto_dataset(base_uri, "second")
    for proto, other in ((first, second), (second, first)):
        proto.put_item(files(proto.name.encode()), "item")
        assert other._storage_broker.get_structure_key() == f"{other.uuid}/structure.json"
    first.freeze()
    second.freeze()
    for proto in (first, second):
        assert raw.json(f"{proto.uuid}/structure.json")["dataset_registration_key"] == f"dtool-{proto.uuid}"
        assert content(dtoolcore.DataSet.from_uri(proto.uri)) == {"item": proto.name.encode()}
