"""Making a dataset bit by bit: the context manager for a step that writes its outputs one after the other."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, DatasetWriter, delete_dataset, list_datasets, new_dataset, verify_dataset
from dtool_ecs_flows.datasets import behind
from dtool_ecs_flows.errors import DatasetError, StoppedError, UnsafeNameError
from tests.conformance.helpers import changed
from tests.independent import MIB, Raw, disk_dataset, everything, identifier, noise
from tests.proxy import Request, proxied


def test_a_step_writes_its_outputs_one_after_the_other(bucket: BucketSettings, tmp_path: Path) -> None:
    """Files, bytes, staged files, and what is to be said of them, in any order; frozen when the block is left."""
    (tmp_path / "plot.png").write_bytes(b"png")

    with new_dataset("result", bucket.base_uri, readme="---\na: 1\n", tags=["early"], settings=bucket) as dataset:
        raw = Raw(bucket)
        dataset.add_item_metadata("table.csv", "rows", 2)
        assert dataset.put(tmp_path / "plot.png") == identifier("plot.png")
        dataset.put(tmp_path / "plot.png", "figures/Größe.png")
        (tmp_path / "plot.png").unlink()
        dataset.put_bytes(b"a,b\n", "table.csv")
        staged = dataset.staging_path("runs/1.nc")
        assert staged.suffix == ".nc"
        staged.write_bytes(b"netcdf")
        dataset.tag("late")
        dataset.annotate("parameters", {"x": [1.5, None]})
        dataset.readme("---\na: 2\n")
        assert not raw.is_frozen(dataset.uuid)
        with pytest.raises(DatasetError, match="not frozen yet"):
            _ = dataset.report

    root = dataset.uuid
    assert raw.is_frozen(root)
    expected = {"plot.png": b"png", "figures/Größe.png": b"png", "table.csv": b"a,b\n", "runs/1.nc": b"netcdf"}
    items = raw.json(f"{root}/manifest.json")["items"]
    assert {entry["relpath"] for entry in items.values()} == set(expected)
    assert {relpath: raw.get(f"{root}/data/{identifier(relpath)}") for relpath in expected} == expected
    assert raw.get(f"{root}/README.yml") == b"---\na: 2\n"
    assert raw.listed(f"{root}/tags/") == [f"{root}/tags/early", f"{root}/tags/late"]
    assert raw.json(f"{root}/annotations/parameters.json") == {"x": [1.5, None]}
    overlay = raw.json(f"{root}/overlays/rows.json")
    assert overlay == {**dict.fromkeys(map(identifier, expected)), identifier("table.csv"): 2}
    assert (dataset.report.uri, dataset.report.items, dataset.report.bytes) == (dataset.uri, 4, 16)
    assert dataset.uri == f"{bucket.base_uri}/{root}"
    assert not staged.parent.exists()
    assert verify_dataset(dataset.uri, settings=bucket).ok


def test_on_a_disk_it_works_alike(tmp_path: Path) -> None:
    """The same block makes a dataset in a folder."""
    with new_dataset("result", str(tmp_path), tags=["t"]) as dataset:
        dataset.put_bytes(b"1", "a/b")
        dataset.put_bytes(b"", "empty")

    found = everything(dataset.uri)
    assert found["bytes"] == {identifier("a/b"): b"1", identifier("empty"): b""}
    assert found["tags"] == ["t"]


def test_a_step_that_fails_leaves_a_proto_dataset_that_can_be_deleted(bucket: BucketSettings, tmp_path: Path) -> None:
    """Its own error comes through, nothing is frozen, and the URI that it had is good for deleting."""
    uri = ""
    with (  # noqa: PT012  # it is the block as a whole that is tested
        pytest.raises(ZeroDivisionError),
        new_dataset("result", bucket.base_uri, settings=bucket) as dataset,
    ):
        uri = dataset.uri
        dataset.put_bytes(b"1", "a")
        staged = dataset.staging_path("b")
        _ = 1 / 0

    (info,) = list_datasets(bucket.base_uri, settings=bucket).datasets
    assert (info.uri, info.type, info.frozen_at) == (uri, "protodataset", None)
    assert not staged.parent.exists()
    with pytest.raises(DatasetError):
        _ = dataset.report
    delete_dataset(uri, "result", settings=bucket)
    assert Raw(bucket).listed() == []


def test_items_may_come_from_several_threads(bucket: BucketSettings) -> None:
    """Each is there in the end, with what was said of it."""
    contents = {f"{number}": noise(1000, number) for number in range(60)}

    with new_dataset("result", bucket.base_uri, settings=bucket) as dataset, ThreadPoolExecutor(8) as pool:

        def put(relpath: str) -> None:
            dataset.put_bytes(contents[relpath], relpath)
            dataset.add_item_metadata(relpath, "number", int(relpath))
            dataset.staging_path(f"staged {relpath}").write_bytes(contents[relpath])

        list(pool.map(put, contents))

    raw = Raw(bucket)
    for relpath, data in contents.items():
        assert raw.get(f"{dataset.uuid}/data/{identifier(relpath)}") == data
        assert raw.get(f"{dataset.uuid}/data/{identifier(f'staged {relpath}')}") == data
    overlay = raw.json(f"{dataset.uuid}/overlays/number.json")
    assert {overlay[identifier(relpath)] for relpath in contents} == set(range(60))
    assert dataset.report.items == 120


def test_one_relpath_is_put_once(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """A second item of the same name, whichever way, is refused, since one of them would be lost; the first stays."""
    (tmp_path / "a").write_bytes(b"file")

    with new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:
        dataset.put_bytes(b"first", "a")
        dataset.staging_path("b").write_bytes(b"first")
        for relpath in ("a", "b"):
            with pytest.raises(UnsafeNameError, match="before"):
                dataset.put_bytes(b"second", relpath)
            with pytest.raises(UnsafeNameError, match="before"):
                dataset.put(tmp_path / "a", relpath)
            with pytest.raises(UnsafeNameError, match="before"):
                dataset.staging_path(relpath)

    raw = Raw(rclone_bucket)
    assert {raw.get(key) for key in raw.listed(f"{dataset.uuid}/data/")} == {b"first"}


def test_of_two_threads_that_put_one_relpath_at_once_one_is_refused(rclone_bucket: BucketSettings) -> None:
    """The check and the claim are one step, however long the upload takes."""
    start = threading.Barrier(2)
    refused: list[UnsafeNameError] = []

    with new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:

        def put(seed: int) -> None:
            data = noise(4 * MIB, seed)
            start.wait()
            try:
                dataset.put_bytes(data, "same")
            except UnsafeNameError as error:
                refused.append(error)

        threads = [threading.Thread(target=put, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(refused) == 1
    assert verify_dataset(dataset.uri, settings=rclone_bucket).ok


def test_after_a_failed_put_the_name_is_free_again(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """A file that was not there yet may be put when it is."""
    with new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:
        with pytest.raises(FileNotFoundError):
            dataset.put(tmp_path / "a", "a")
        (tmp_path / "a").write_bytes(b"now")
        dataset.put(tmp_path / "a", "a")

    assert dataset.report.bytes == 3


def keep_writer(bucket: BucketSettings) -> DatasetWriter:
    with new_dataset("result", bucket.base_uri, settings=bucket) as dataset:
        dataset.put_bytes(b"1", "a")
    return dataset


def test_a_frozen_dataset_takes_no_more_items(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Outside of the block it is frozen, and a late item would be one that its manifest does not know."""
    dataset = keep_writer(rclone_bucket)
    (tmp_path / "late").write_bytes(b"2")
    raw = Raw(rclone_bucket)
    state = raw.state()

    with pytest.raises(DatasetError):
        dataset.put_bytes(b"2", "late")
    with pytest.raises(DatasetError):
        dataset.put(tmp_path / "late")
    with pytest.raises(DatasetError):
        dataset.staging_path("late")

    assert raw.state() == state


def test_a_staged_file_that_was_never_written_is_an_error(rclone_bucket: BucketSettings) -> None:
    """Forgetting to write an output is noticed, and nothing is frozen."""
    with (  # noqa: PT012  # it fails when the block is left
        pytest.raises(DatasetError, match=r"'runs/1\.nc'"),
        new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset,
    ):
        dataset.put_bytes(b"1", "a")
        dataset.staging_path("runs/1.nc")

    assert not Raw(rclone_bucket).is_frozen(dataset.uuid)


def test_metadata_of_an_item_that_was_never_put_is_an_error(rclone_bucket: BucketSettings) -> None:
    """A typing mistake in a relpath is noticed, and nothing is frozen."""
    with (  # noqa: PT012  # it fails when the block is left
        pytest.raises(DatasetError, match="'colour'"),
        new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset,
    ):
        dataset.put_bytes(b"1", "a")
        dataset.add_item_metadata("A", "colour", "blue")

    assert not Raw(rclone_bucket).is_frozen(dataset.uuid)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object()])
def test_what_no_json_can_hold_fails_where_it_is_said(rclone_bucket: BucketSettings, value: object) -> None:
    """At the line that has the mistake, not at the end of a long computation; the dataset goes on without it."""
    with new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket) as dataset:
        dataset.put_bytes(b"1", "a")
        with pytest.raises((TypeError, ValueError)):
            dataset.annotate("x", value)
        with pytest.raises((TypeError, ValueError)):
            dataset.add_item_metadata("a", "x", value)

    root = dataset.uuid
    assert Raw(rclone_bucket).listed(f"{root}/annotations/") + Raw(rclone_bucket).listed(f"{root}/overlays/") == []


def test_two_datasets_may_be_written_at_once(rclone_bucket: BucketSettings, rgw_bucket: BucketSettings) -> None:
    """Into two buckets on two endpoints, one within the other, each with settings of its own."""
    with (
        new_dataset("one", rclone_bucket.base_uri, settings=rclone_bucket) as one,
        new_dataset("two", rgw_bucket.base_uri, settings=rgw_bucket) as two,
    ):
        two.put_bytes(b"2", "a")
        one.put_bytes(b"1", "a")

    assert Raw(rclone_bucket).get(f"{one.uuid}/data/{identifier('a')}") == b"1"
    assert Raw(rgw_bucket).get(f"{two.uuid}/data/{identifier('a')}") == b"2"


def test_an_item_that_is_still_on_its_way_is_not_left_out_of_what_is_frozen(
    rclone_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that was not waited for must not be told that all is well by a dataset without its item."""
    monkeypatch.setattr(behind, "BEHIND", 1)  # the second put waits for the first
    go_on = threading.Event()

    def slow(request: Request) -> None:
        if request.method == "PUT" and "/data/" in request.target:
            go_on.wait(20)

    def put_late(dataset: DatasetWriter) -> None:
        try:
            dataset.put_bytes(b"late", "late.txt")
        finally:
            go_on.set()

    with proxied(rclone_bucket.endpoint) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.on().call(slow)
        settings = changed(rclone_bucket, endpoint=proxy.endpoint)
        with (  # noqa: PT012  # it fails when the block is left
            pytest.raises(DatasetError, match="1 items were still being put"),
            new_dataset("result", settings.base_uri, settings=settings) as dataset,
        ):
            dataset.put_bytes(b"early", "early.txt")
            late = pool.submit(put_late, dataset)
            while not dataset._being_put:
                time.sleep(0.01)
        with pytest.raises(StoppedError):
            late.result()

    assert not Raw(rclone_bucket).is_frozen(dataset.uuid)


def test_a_stop_ends_the_next_put(rclone_bucket: BucketSettings) -> None:
    """Small items included; what is there stays a proto dataset."""
    stop = threading.Event()
    with (  # noqa: PT012  # it is stopped inside
        pytest.raises(StoppedError),
        new_dataset("result", rclone_bucket.base_uri, settings=rclone_bucket, stop=stop) as dataset,
    ):
        dataset.put_bytes(b"1", "a")
        stop.set()
        dataset.put_bytes(b"2", "b")

    assert not Raw(rclone_bucket).is_frozen(dataset.uuid)


def test_another_dataset_of_this_name_on_a_disk_is_not_taken_up(tmp_path: Path) -> None:
    """A folder holds one dataset: one that somebody has begun there keeps its tags and its README to itself."""
    begun = disk_dataset(tmp_path, {"a": b"1"}, name="result", freeze=False)

    with pytest.raises(DatasetError, match="another dataset"), new_dataset("result", str(tmp_path)) as dataset:
        dataset.put_bytes(b"2", "b")

    assert sorted(dtoolcore.ProtoDataSet.from_uri(begun).list_tags()) == ["raw", "v1.2"]
