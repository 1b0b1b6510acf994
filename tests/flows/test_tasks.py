"""The tasks: names, retries, how they compose, and what they never show."""

from __future__ import annotations

import asyncio
import gc
import re
import uuid
from collections import Counter
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.artifacts import update_progress_artifact
from prefect.cache_policies import INPUTS

from dtool_ecs_flows import BucketSettings, CopyReport, DatasetList, VerifyReport
from dtool_ecs_flows.artifacts import progress as artifacts
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import (
    AccessDeniedError,
    CorruptItemError,
    CredentialsError,
    StoppedError,
    TransferError,
    UnavailableError,
)
from dtool_ecs_flows.flows.archive import ArchiveOptions, archive
from dtool_ecs_flows.outcomes import RunFailedError
from dtool_ecs_flows.tasks import (
    copy_dataset,
    create_dataset,
    delete_dataset,
    is_transient,
    list_datasets,
    verify_dataset,
)
from tests.flows.conftest import MakeDataset, PrefectApi, block_of


def test_one_dataset_through_all_tasks(
    rgw_bucket: BucketSettings, make: MakeDataset, tmp_path: Any, api: PrefectApi
) -> None:
    """Each operation is a task with its dataset's name in its run's name, and returns its operation's report."""
    block = block_of(rgw_bucket)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    made = make("apples")

    @flow
    def life(bucket: EcsBucket) -> tuple[CopyReport, DatasetList, VerifyReport, int]:
        copied = copy_dataset(made.uri, bucket.base_uri, buckets=bucket)
        created = create_dataset("pears", bucket.base_uri, directory=folder, tags=["ripe"], buckets=[bucket])
        listing = list_datasets(bucket.base_uri, tags=True, buckets=bucket)
        verified = verify_dataset(copied.uri, buckets=bucket)
        deleted = delete_dataset(created.uri, "pears", buckets=bucket)
        return copied, listing, verified, deleted.deleted

    copied, listing, verified, deleted = life(block)
    assert (copied.name, copied.items) == ("apples", 2)
    assert [(info.name, info.tags) for info in listing.datasets] == [("apples", ()), ("pears", ("ripe",))]
    assert verified.ok
    assert deleted > 3
    names = {each["name"] for each in api.task_runs()}
    assert {"copy apples", "create pears", f"verify {copied.uuid}", "delete pears"} <= names


def test_tasks_compose_as_prefect_tasks_do(block: EcsBucket, make: MakeDataset) -> None:
    """Submitted, mapped, waited for, with another task's report as input, in a flow of somebody else's."""
    uris = [make(name).uri for name in ("a", "b", "c")]

    @task
    def size(report: CopyReport) -> int:
        return report.bytes

    @flow
    def theirs(bucket: EcsBucket) -> tuple[list[int], int]:
        copies = copy_dataset.map(uris, unmapped(bucket.base_uri), buckets=unmapped(bucket))
        sizes = size.map(copies)
        listing = list_datasets.submit(bucket.base_uri, buckets=bucket, wait_for=copies)  # type: ignore[call-overload]
        return sizes.result(), len(listing.result().datasets)

    assert theirs(block) == ([6, 6, 6], 3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Prefect leaves a socket open
def test_tasks_run_in_an_async_flow(block: EcsBucket, make: MakeDataset) -> None:
    """An async flow calls and submits them like any synchronous task."""
    made = make("a")

    @flow
    async def theirs(bucket: EcsBucket) -> tuple[CopyReport, VerifyReport]:
        copied = copy_dataset(made.uri, bucket.base_uri, buckets=bucket)
        verified = verify_dataset.submit(copied.uri, buckets=bucket)
        return copied, verified.result()

    copied, verified = asyncio.run(theirs(block))
    gc.collect()  # the socket: here, where it is no error, and not in a later test
    assert copied.items == verified.items == 2
    assert verified.ok


def test_reports_are_kept_and_work_is_cached_only_for_those_who_ask(block: EcsBucket, make: MakeDataset) -> None:
    """With a cache policy of the user's own the report persists and comes back; else work is done anew."""
    made = make("a")
    kept = copy_dataset.with_options(persist_result=True, cache_policy=INPUTS - "buckets")

    @flow
    def theirs(bucket: EcsBucket) -> list[CopyReport]:
        copies = (copy_dataset, copy_dataset, kept, kept)
        return [each(made.uri, bucket.base_uri, buckets=bucket) for each in copies]

    first, second, third, fourth = theirs(block)
    assert (first.already_there, second.already_there) == (False, True)
    assert second.seconds != third.seconds
    assert third == fourth


def test_only_what_may_work_later_is_retried() -> None:
    """Unavailable is transient, and so is a transfer all of whose failures are; wrong keys and wrong bytes are not."""
    unavailable = UnavailableError("503")
    corrupt = CorruptItemError("a", expected="x", actual="y", where="here")
    assert is_transient(unavailable)
    assert is_transient(TransferError("2 failed", [("a", unavailable), ("b", UnavailableError("reset"))]))
    assert not is_transient(TransferError("2 failed", [("a", unavailable), ("b", corrupt)]))
    assert not is_transient(TransferError("none is named"))
    for error in (corrupt, CredentialsError("no"), AccessDeniedError("no"), StoppedError("stop"), ValueError("x")):
        assert not is_transient(error)


def attempts(api: PrefectApi, name: str) -> int:
    (run,) = [each for each in api.task_runs() if each["name"] == name]
    return int(run["run_count"])


@pytest.mark.slow
def test_a_server_that_is_away_is_asked_again_and_a_wrong_key_is_not(
    block: EcsBucket, make: MakeDataset, api: PrefectApi
) -> None:
    """The task run of an unreachable endpoint is attempted three times, that of wrong credentials once."""
    away = EcsBucket(
        bucket=f"away-{uuid.uuid4()}", endpoint="http://127.0.0.1:9", access_key_id="k", secret_access_key="s"
    )
    wrong = EcsBucket(**{**block.model_dump(exclude={"block_type_slug"}), "secret_access_key": "not this one"})
    quick = list_datasets.with_options(retry_delay_seconds=0.01)

    @flow
    def theirs(bucket: EcsBucket, name: str) -> None:
        quick.with_options(task_run_name=name)(bucket.base_uri, buckets=bucket)

    with pytest.raises(UnavailableError):
        theirs(away, f"away {away.bucket}")
    with pytest.raises(CredentialsError):
        theirs(wrong, f"wrong {block.bucket}")
    assert attempts(api, f"away {away.bucket}") == 3
    assert attempts(api, f"wrong {block.bucket}") == 1


def test_no_secret_is_in_anything_that_prefect_keeps(
    rclone_bucket: BucketSettings, make: MakeDataset, source: str, api: PrefectApi, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs, parameters, logs, artifacts, events and messages of failed runs hold no secret key, in no state."""
    make("apples")
    secret = f"s3cr3t-{uuid.uuid4()}"
    good = rclone_bucket.secret_access_key.get_secret_value()
    archive(source, block_of(rclone_bucket))
    with pytest.raises(RunFailedError, match="check the access key") as refused:
        archive(source, block_of(rclone_bucket, secret_access_key=secret))

    everything = api.text() + caplog.text + str(refused.value) + repr(refused.value)
    assert rclone_bucket.bucket in everything
    assert secret not in everything
    assert '"secret_access_key":"**********"' in everything.replace('": "', '":"')
    assert good not in everything


def test_the_signature_of_a_url_is_in_nothing_that_prefect_keeps(
    block: EcsBucket, source: str, api: PrefectApi, caplog: pytest.LogCaptureFixture
) -> None:
    """Copying from a signed URL fails here, since nobody listens; the log tells from where, and not what was signed."""

    @flow(name="from a signed URL")
    def work() -> str:
        source = "http://127.0.0.1:1/bucket/0f4f6f5a?X-Amz-Signature=5e2f17c0"
        return str(copy_dataset.submit(source, block.base_uri, buckets=block).result(raise_on_failure=False))

    said = work()
    assert "http://127.0.0.1:1/bucket/0f4f6f5a" in said
    assert "5e2f17c0" not in said + caplog.text
    assert "Copying http://127.0.0.1:1/bucket/0f4f6f5a?… to" in caplog.text
    api.task_runs()  # all is on record when they are
    assert "5e2f17c0" not in api.text()

    url = "http://127.0.0.1:1/bucket/0f4f6f5a?X-Amz-Signature=7b3d90aa"
    with pytest.raises(RunFailedError) as failed:
        archive(source, block, ArchiveOptions(datasets=[url]))
    assert "7b3d90aa" not in f"{failed.value} {failed.value.report} {caplog.text}"
    names = [each["name"] for each in api.task_runs()]
    assert "7b3d90aa" not in f"{names} {api.artifact(f'archive-{block.bucket}')}"


def test_what_concerns_all_datasets_is_tried_once(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """With a bucket that is not there, the first dataset fails and the others are not even tried."""
    names = [f"{block.bucket[-8:]}-{number}" for number in range(4)]
    for name in names:
        make(name)
    nowhere = EcsBucket(**{**block.model_dump(exclude={"block_type_slug"}), "bucket": f"no-{block.bucket}"})
    with pytest.raises(RunFailedError, match="4 of 4 datasets failed") as failure:
        archive(source, nowhere, ArchiveOptions(at_once=1))
    messages = [each.message for each in failure.value.report.datasets]
    assert [message.startswith("not tried") for message in messages] == [False, True, True, True]
    assert len([each for each in api.task_runs() if block.bucket[-8:] in each["name"]]) == 1


def test_the_progress_of_a_dataset_can_be_seen(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copy has a progress artifact of its own that names the dataset, ends at 100 % and was seldom updated."""
    made = make("grown", **{f"item{number}": str(number) for number in range(300)})
    updates = []

    def updating(*arguments: Any, **how: Any) -> Any:
        updates.append(arguments)
        return update_progress_artifact(*arguments, **how)

    monkeypatch.setattr(artifacts, "update_progress_artifact", updating)
    archive(source, block)
    shown = api.artifact(f"progress-copy-grown-{made.uuid}")
    assert (shown["type"], shown["data"]) == ("progress", 100)
    assert re.match(rf"`copy grown {made.uuid}`: 300 items, [\d.]+ B, in .* s, .*B/s", shown["description"])
    assert len(updates) <= 12
    archive(source, block)
    assert api.artifact(f"progress-copy-grown-{made.uuid}")["id"] == shown["id"]


def test_a_dataset_is_one_task_run_whatever_its_number_of_items(
    block: EcsBucket, make: MakeDataset, source: str, api: PrefectApi
) -> None:
    """Fifty items make no more task runs and no more log lines than one does."""
    name = f"many-{block.bucket[-8:]}"  # others have many too
    make(name, **{f"item{number}": str(number) for number in range(50)})
    archive(source, block)
    runs = Counter(each["name"].split()[0] for each in api.task_runs() if name in each["name"])
    assert runs == {"copy": 1}
    lines = [each["message"] for each in api.records("logs", limit=200) if name in each["message"]]
    assert len(lines) <= 3
