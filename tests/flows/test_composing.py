"""What others' flows can do with our tasks: cache, roll back, wait for a dataset; and what they can react to."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait

from dtool_ecs_flows import (
    BucketSettings,
    CopyReport,
    DatasetInfo,
    copy_dataset,
    delete_dataset,
    find_dataset,
    list_datasets,
)
from dtool_ecs_flows import create_dataset as create
from dtool_ecs_flows import tasks as our
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import AccessDeniedError, DatasetTimeoutError, NotADatasetError, StoppedError, TransferError
from dtool_ecs_flows.events import ARCHIVED, CORRUPT, PUBLISHED, resource_id
from dtool_ecs_flows.provenance import publish_dataset
from dtool_ecs_flows.rollback import removes_unfinished
from tests.flows.conftest import MakeDataset, PrefectApi, block_of
from tests.independent import Raw
from tests.proxy import proxied
from tests.servers import S3Server

MADE = "prefect.asset.materialization.succeeded"


def spoil(uri: str) -> None:
    """Change a file of a dataset on disk behind dtool's back."""
    folder = Path("/" + uri.partition("://")[2].partition("/")[2])
    next((folder / "data").iterdir()).write_text("spoilt")


def state_of(block: EcsBucket) -> dict[str, str]:
    """The datasets of a bucket, and whether they are frozen."""
    return {info.name: info.type for info in list_datasets(block.base_uri, settings=block.settings()).datasets}


# --- caching ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cached_copy_is_trusted_only_while_the_dataset_is_there(
    block: EcsBucket, make: MakeDataset, tmp_path: Path
) -> None:
    """The report comes back for the same UUID, from wherever it is copied; where the dataset is gone, it is copied."""
    made = make("a")
    elsewhere = copy_dataset(made.uri, str(tmp_path)).uri
    cached = our.copy_dataset.with_options(persist_result=True, cache_policy=our.BY_DATASET)

    @flow
    def theirs(uri: str, bucket: EcsBucket) -> CopyReport:
        return cached(uri, bucket.base_uri, buckets=bucket)

    first, second, third = theirs(made.uri, block), theirs(made.uri, block), theirs(elsewhere, block)
    assert first == second == third
    assert not first.already_there
    delete_dataset(first.uri, "a", settings=block.settings())
    again, once_more = theirs(made.uri, block), theirs(made.uri, block)
    assert (again.already_there, again.copied_items) == (False, 2)
    assert again == once_more != first
    assert state_of(block) == {"a": "dataset"}


# --- rolling back ----------------------------------------------------------------------------------------------------


@flow
def archive_all(uris: list[str], bucket: EcsBucket) -> None:
    """Copy datasets; fail where one does."""
    copies = [our.copy_dataset.submit(uri, bucket.base_uri, buckets=bucket) for uri in uris]
    wait(copies)
    [copy.result() for copy in copies]


@flow
def archive_all_or_leave_no_half(uris: list[str], bucket: EcsBucket) -> None:
    """The same, in a transaction."""
    with removes_unfinished():
        archive_all.fn(uris, bucket)


def test_what_is_unfinished_is_kept_or_in_a_transaction_removed(block: EcsBucket, make: MakeDataset) -> None:
    """By default a proto dataset stays, to be resumed; a transaction removes it, and leaves what is frozen."""
    good, bad = make("good"), make("bad")
    spoil(bad.uri)
    with pytest.raises(TransferError):
        archive_all([good.uri, bad.uri], block)
    assert state_of(block) == {"good": "dataset", "bad": "protodataset"}
    with pytest.raises(TransferError):
        archive_all_or_leave_no_half([good.uri, bad.uri], block)
    assert state_of(block) == {"good": "dataset"}
    assert Raw(block.settings()).uploads() == []


def test_a_pipeline_that_fails_while_it_publishes_leaves_nothing_in_a_transaction(
    rclone: S3Server, rclone_bucket: BucketSettings, tmp_path: Path
) -> None:
    """Datasets of `publish_dataset` and `create_dataset` that were begun and not frozen are removed with it."""
    file = tmp_path / "f"
    file.write_text("x")

    @task
    def publish(bucket: EcsBucket) -> None:
        with publish_dataset("results", bucket):
            raise ZeroDivisionError

    @flow
    def theirs(bucket: EcsBucket, how: str) -> None:
        with removes_unfinished():
            if how == "publish":
                publish(bucket)
            our.create_dataset("made", bucket.base_uri, files={"f": file}, buckets=bucket)

    raw = Raw(rclone_bucket)
    with proxied(rclone) as proxy:
        block = block_of(rclone_bucket, endpoint=proxy.endpoint)
        with pytest.raises(ZeroDivisionError):
            theirs(block, "publish")
        assert len(proxy.seen("PutObject", key="*/dtool")) == 1
        assert raw.listed() == []
        proxy.on("PutObject", key="*/data/*").answer(403, "AccessDenied")
        with pytest.raises(AccessDeniedError):
            theirs(block, "create")
        assert len(proxy.seen("PutObject", key="*/dtool")) == 2
    assert raw.listed() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Prefect leaves a socket open
def test_an_async_flow_waits_archives_and_leaves_nothing_half(block: EcsBucket, make: MakeDataset) -> None:
    """Sensor, copies and the transaction work in a flow that is a coroutine, on its threads."""
    good, bad = make("good"), make("bad")
    spoil(bad.uri)

    @flow
    async def theirs(bucket: EcsBucket) -> str:
        found = our.wait_for_dataset.submit("good", bucket.base_uri, poll_seconds=0.1, buckets=bucket)
        with removes_unfinished():
            our.copy_dataset(good.uri, bucket.base_uri, buckets=bucket)
        await asyncio.sleep(0)
        with pytest.raises(TransferError), removes_unfinished():
            our.copy_dataset.submit(bad.uri, bucket.base_uri, buckets=bucket).result()
        return found.result().uri

    uri = asyncio.run(theirs(block))
    gc.collect()  # the socket: here, where it is no error, and not in a later test
    assert uri == f"{block.base_uri}/{good.uuid}"
    assert state_of(block) == {"good": "dataset"}


def test_a_transaction_without_a_failure_removes_nothing(block: EcsBucket, make: MakeDataset) -> None:
    """What was archived in it is there."""
    archive_all_or_leave_no_half([make("a").uri], block)
    assert state_of(block) == {"a": "dataset"}


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "uuid", "uri"])
def test_a_dataset_that_comes_is_waited_for(block: EcsBucket, make: MakeDataset, by: str) -> None:
    """Whoever waits, by name, UUID or URI, goes on when the dataset is frozen there, and knows where it is."""
    made = make("late")
    wanted = {"name": made.name, "uuid": made.uuid, "uri": f"{block.base_uri}/{made.uuid}"}[by]

    @flow
    def theirs(bucket: EcsBucket) -> DatasetInfo:
        found = our.wait_for_dataset.submit(wanted, bucket.base_uri, poll_seconds=0.1, buckets=bucket)
        our.copy_dataset(made.uri, bucket.base_uri, buckets=bucket)
        return found.result()

    found = theirs(block)
    assert (found.uri, found.type) == (f"{block.base_uri}/{made.uuid}", "dataset")


def test_waiting_ends_in_time_and_says_what_is_there(block: EcsBucket, make: MakeDataset) -> None:
    """A dataset that never comes, or is never frozen, is an error that says so; one of another place is one at once."""
    bad = make("bad")
    spoil(bad.uri)

    @flow
    def waiting(dataset: str, bucket: EcsBucket) -> DatasetInfo:
        return our.wait_for_dataset(dataset, bucket.base_uri, poll_seconds=0.1, timeout_seconds=0.3, buckets=bucket)

    with pytest.raises(DatasetTimeoutError, match=r"no frozen dataset bad .*; there is none"):
        waiting("bad", block)
    with pytest.raises(TransferError):
        copy_dataset(bad.uri, block.base_uri, settings=block.settings())
    with pytest.raises(DatasetTimeoutError, match=f"{bad.uuid} is a proto dataset"):
        waiting(bad.uuid, block)
    with pytest.raises(NotADatasetError, match="it can never be found there"):
        waiting(f"ecs://another/{uuid4()}", block)


def test_a_cancelled_run_does_not_wait_any_longer(rclone: S3Server, rclone_bucket: BucketSettings) -> None:
    """The task ends soon, long before its next look."""
    states: list[State[Any]] = []
    looked = threading.Event()

    def watch(future: PrefectFuture[DatasetInfo]) -> None:
        future.wait()
        states.append(future.state)

    @flow
    def theirs(bucket: EcsBucket) -> None:
        with our.stops_with_flow():
            future = our.wait_for_dataset.submit("never", bucket.base_uri, poll_seconds=3600, buckets=bucket)
            watchers.append(threading.Thread(target=watch, args=[future]))
            watchers[0].start()
            assert looked.wait(60)
            raise KeyboardInterrupt

    watchers: list[threading.Thread] = []
    with proxied(rclone) as proxy:
        proxy.on("List*").call(lambda _: looked.set())
        block = block_of(rclone_bucket, endpoint=proxy.endpoint)
        with pytest.raises(KeyboardInterrupt):
            theirs(block)
    watchers[0].join(timeout=60)
    (state,) = states
    assert isinstance(state.result(raise_on_failure=False), StoppedError)


def test_one_dataset_is_found_by_name_uuid_or_uri(block: EcsBucket, make: MakeDataset, source: str) -> None:
    """In a bucket and on a disk; of several of one name, a frozen one; of none, nothing."""
    made = [make("a"), create("a", block.base_uri, settings=block.settings())]
    for base_uri, one in zip((source, block.base_uri), made, strict=True):
        for wanted in (one.name, one.uuid, one.uri):
            found = find_dataset(wanted, base_uri, settings=block.settings())
            assert found is not None
            assert (found.uri, found.uuid, found.type) == (one.uri, one.uuid, "dataset")
        assert find_dataset(str(uuid4()), base_uri, settings=block.settings()) is None
        assert find_dataset("nobody", base_uri, settings=block.settings()) is None
    spoil(made[0].uri)
    with pytest.raises(TransferError):
        copy_dataset(made[0].uri, block.base_uri, settings=block.settings())
    found = find_dataset("a", block.base_uri, settings=block.settings())
    assert found is not None
    assert found.uuid == made[1].uuid


# --- events and lineage ----------------------------------------------------------------------------------------------


def test_others_can_react_to_what_becomes_of_a_dataset(
    block: EcsBucket, make: MakeDataset, tmp_path: Path, api: PrefectApi
) -> None:
    """Archived, published and corrupt are events about the dataset; its lineage leads from a copy to its source."""
    made = make("raw")

    @task
    def publish(source_uri: str, bucket: EcsBucket) -> str:
        with publish_dataset("means", bucket, derived_from=[source_uri]) as dataset:
            dataset.put_bytes(b"1", "one.txt")
        return dataset.uri

    @flow
    def theirs(bucket: EcsBucket) -> tuple[str, str]:
        copied = our.copy_dataset(made.uri, bucket.base_uri, buckets=bucket)
        our.copy_dataset(made.uri, bucket.base_uri, buckets=bucket)  # is there: no second event
        raw = Raw(bucket.settings())
        published = publish(copied.uri, bucket)
        raw.replace(next(key for key in raw.listed() if f"{made.uuid}/data/" in key), b"odd")
        our.verify_dataset(copied.uri, buckets=bucket)
        return copied.uri, published

    copied, published = theirs(block)
    (event,) = api.events(ARCHIVED, resource_id(made.uuid))
    assert event["payload"] == {"uri": copied, "name": "raw", "source_uri": made.uri, "items": 2, "bytes": 6}
    assert any(each["prefect.resource.id"].startswith("prefect.task-run.") for each in event["related"])
    (event,) = api.events(PUBLISHED, resource_id(published.rpartition("/")[2]))
    assert event["payload"]["derived_from"] == [copied]
    (event,) = api.events(CORRUPT, resource_id(made.uuid))
    assert event["payload"]["corrupt_items"] == 1
    for made_uri, source_uri in ((copied, made.uri), (published, copied)):
        (event,) = api.events(MADE, made_uri)
        related = {each["prefect.resource.id"]: each["prefect.resource.role"] for each in event["related"]}
        assert related[source_uri] == "asset"
        assert related["dtool-ecs-flows"] == "asset-materialized-by"
