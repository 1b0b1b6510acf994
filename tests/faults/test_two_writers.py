"""Two that write one dataset at the same time: see "Two writers" in docs/reliability.md."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.process
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, delete_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import DatasetError, EcsFlowsError, FrozenDatasetError, NotADatasetError
from dtool_ecs_flows.models import Finding
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.faults.cuts import described, frozen_there, restore
from tests.independent import Raw, disk_dataset, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server
from tests.small_parts import LARGE, small_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONTENTS = {"large": LARGE, **{f"item {number}": noise(1000 + number, number) for number in range(4)}}

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dtool_ecs_flows", "tests.small_parts"])

Process = multiprocessing.process.BaseProcess


@pytest.fixture(scope="module", autouse=True)
def in_small_parts() -> Iterator[None]:
    """Who looks again and again takes little from those who write."""
    with small_parts():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset on a disk, one item of it in three parts."""
    return disk_dataset(tmp_path_factory.mktemp("in"), CONTENTS, overlays={"colour": {"large": "blue"}})


@pytest.fixture(scope="module")
def users(rgw: S3Server) -> dict[str, str]:
    """Secrets of two users of the gateway, by access key."""
    other = f"other-{uuid.uuid4().hex[:8]}"
    rgw.add_user(other, other, "othersecret")
    return {rgw.access_key_id: rgw.secret_access_key, other: "othersecret"}


@pytest.fixture
def puts_if_absent() -> bool:
    """Whether the store knows `If-None-Match`, as ECS does from 3.8 on."""
    return True


with_and_without = pytest.mark.parametrize("puts_if_absent", [True, False], ids=["put-if-absent", "no put-if-absent"])


@pytest.fixture
def bucket(rgw: S3Server, users: dict[str, str]) -> BucketSettings:
    """A bucket that both users may write to; the way straight to it, for readers."""
    settings = new_bucket(rgw)
    raw = Raw(settings)
    allow = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{raw.bucket}", f"arn:aws:s3:::{raw.bucket}/*"],
    }
    raw.client.put_bucket_policy(Bucket=raw.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    return settings


@pytest.fixture
def proxy(rgw: S3Server, users: dict[str, str], puts_if_absent: bool) -> Iterator[Proxy]:
    """The way for writers. In front of what makes an older store of the gateway, where that is asked for."""
    with ExitStack() as stack:
        store = stack.enter_context(proxied(rgw))
        if not puts_if_absent:
            store.on("PUT").forget("if-none-match", users)
        yield stack.enter_context(proxied(store.endpoint))


def together(proxy: Proxy, what: str, key: str) -> None:
    """Let the first two such requests wait for each other."""
    gate = threading.Barrier(2, timeout=60)

    def wait(_: Request) -> None:
        with suppress(threading.BrokenBarrierError):  # one of them has ended for a reason of its own
            gate.wait()

    proxy.on(what, key=key, nth=range(1, 3)).call(wait)


def copy(source: str, settings: BucketSettings) -> None:
    """Copy in a process of its own; one that finds the dataset frozen by the other has nothing to do."""
    with suppress(FrozenDatasetError), small_parts():
        copy_dataset(source, settings.base_uri, settings=settings)


def run(*processes: Process, meanwhile: Callable[[], object]) -> list[int | None]:
    """Run processes at once, and something else again and again until they are done; return how they ended."""
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        meanwhile()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def wrong_with_frozen(uri: str, settings: BucketSettings) -> list[Finding]:
    """What is wrong with a dataset that a reader sees as frozen; nothing where there is none, or it is not frozen."""
    try:
        findings = verify_dataset(uri, settings=settings).findings
    except NotADatasetError:
        return []
    return [each for each in findings if each.kind not in ("proto dataset", "orphan registration")]


def sees_no_hole(uri: str, settings: BucketSettings) -> Callable[[], None]:
    """A reader who looks at one dataset; it may have looked for the registration key before there was one."""

    def look() -> None:
        assert [each for each in wrong_with_frozen(uri, settings) if not each.subject.startswith("dtool-")] == []

    return look


def uri_of(source: str, bucket: BucketSettings) -> str:
    return f"{bucket.base_uri}/{dtoolcore.DataSet.from_uri(source).uuid}"


@with_and_without
def test_two_copies(proxy: Proxy, bucket: BucketSettings, source: str) -> None:
    """Both look before either writes: no reader ever sees a hole, it is whole in the end, and no parts stay."""
    through, uri = changed(bucket, endpoint=proxy.endpoint), uri_of(source, bucket)
    together(proxy, "GET", "dtool-*")

    ends = run(
        *(PROCESSES.Process(target=copy, args=(source, through)) for _ in range(2)),
        meanwhile=sees_no_hole(uri, bucket),
    )

    assert 0 in ends
    proxy.calm()
    copy_dataset(source, through.base_uri, settings=through)
    assert frozen_there(bucket) == {uri: described(source)}
    assert Raw(bucket).uploads() == []


@pytest.fixture(params=["one user", "two users"])
def writers(
    request: pytest.FixtureRequest, proxy: Proxy, bucket: BucketSettings, users: dict[str, str]
) -> tuple[BucketSettings, BucketSettings]:
    """Two settings for one bucket, with different prefixes."""
    access_key_id, secret = list(users.items())[request.param == "two users"]
    one = changed(bucket, endpoint=proxy.endpoint, dataset_prefix="u/one/")
    return one, changed(one, dataset_prefix="u/two/", access_key_id=access_key_id, secret_access_key=secret)


@with_and_without
def test_two_prefixes(
    proxy: Proxy, bucket: BucketSettings, writers: tuple[BucketSettings, ...], source: str, puts_if_absent: bool
) -> None:
    """What readers find is whole, and its writer ends well; with put-if-absent nothing is under the other prefix."""
    raw, uri = Raw(bucket), uri_of(source, bucket)
    together(proxy, "PUT", "dtool-*")

    ends = run(
        *(PROCESSES.Process(target=copy, args=(source, settings)) for settings in writers),
        meanwhile=sees_no_hole(uri, bucket),
    )

    (key,) = raw.listed("dtool-")
    found = raw.get(key).decode()
    assert ends[[settings.dataset_prefix for settings in writers].index(found)] == 0
    assert frozen_there(bucket) == {uri: described(source)}
    assert not puts_if_absent or raw.listed("u/") == raw.listed(found)
    for settings in writers:
        assert copy_dataset(source, settings.base_uri, settings=settings).already_there


def test_a_registration_that_is_taken_over(proxy: Proxy, bucket: BucketSettings, source: str) -> None:
    """A copy whose dataset nobody could find in the end is an error, and the same again goes where readers look."""
    through, uri = changed(bucket, endpoint=proxy.endpoint, dataset_prefix="u/one/"), uri_of(source, bucket)
    registration = f"dtool-{uri.rpartition('/')[2]}"
    proxy.on("PUT", key="*/manifest.json", nth=1).call(lambda _: Raw(bucket).put(registration, b"u/two/"))

    with pytest.raises(DatasetError, match="registered under another prefix"):
        copy_dataset(source, through.base_uri, settings=through)

    assert frozen_there(bucket) == {}
    assert copy_dataset(source, through.base_uri, settings=through).copied_items == len(CONTENTS)
    assert frozen_there(bucket) == {uri: described(source)}


def change(uri: str, settings: BucketSettings, mine: str) -> None:
    """Change tags and annotations of a frozen dataset."""
    with active(settings):
        dataset = dtoolcore.DataSet.from_uri(uri)
        for number in range(10):
            dataset.put_tag(f"{mine}-{number}")
            dataset.put_annotation(mine, number)
            dataset.put_annotation("of-both", {"by": mine, "number": number})
        for number in range(5):
            dataset.delete_tag(f"{mine}-{number}")


def test_two_that_change_tags_and_annotations(proxy: Proxy, bucket: BucketSettings, source: str) -> None:
    """Neither undoes what the other does; where both write one annotation, it is that of either, whole."""
    through = changed(bucket, endpoint=proxy.endpoint)
    uri = copy_dataset(source, bucket.base_uri, settings=bucket).uri
    old = described(source)

    ends = run(
        *(PROCESSES.Process(target=change, args=(uri, through, mine)) for mine in ("a", "b")),
        meanwhile=sees_no_hole(uri, bucket),
    )

    assert ends == [0, 0]
    new = frozen_there(bucket)[uri]
    of_both = new.pop("annotation of-both")
    assert of_both in [{"by": mine, "number": 9} for mine in ("a", "b")]
    tags = {f"tag {mine}-{number}": True for mine in ("a", "b") for number in range(5, 10)}
    assert new == old | tags | {"annotation a": 9, "annotation b": 9}


def test_a_delete_during_a_copy(proxy: Proxy, bucket: BucketSettings, tmp_path: Path) -> None:
    """Whenever it comes: no frozen dataset has a hole when both are done, and the same copy again is whole."""
    source = disk_dataset(tmp_path / "in", {"a": b"1", "b": b"2", "c": b"3"}, overlays={"colour": {"a": "blue"}})
    through, uri = changed(bucket, endpoint=proxy.endpoint, concurrency=1), uri_of(source, bucket)
    raw, whole = Raw(bucket), described(source)
    for nth in count(1):
        deleted: list[Any] = []

        def delete(_: Request, deleted: list[Any] = deleted) -> None:
            with suppress(NotADatasetError):
                named = [info.name for info in list_datasets(bucket.base_uri, settings=bucket).datasets]
                deleted.append(delete_dataset(uri, *named or [""], settings=bucket))

        proxy.calm()
        rule = proxy.on(nth=nth).call(delete)
        with suppress(EcsFlowsError):
            copy_dataset(source, through.base_uri, settings=through)

        assert wrong_with_frozen(uri, bucket) == []
        proxy.calm()
        copy_dataset(source, through.base_uri, settings=through)
        assert frozen_there(bucket) == {uri: whole}
        restore(raw, {})
        if not rule.fired:
            break
    assert nth > 15


def test_a_copy_during_a_delete(proxy: Proxy, bucket: BucketSettings, tmp_path: Path) -> None:
    """The other way round: whenever a whole copy comes, the same holds."""
    source = disk_dataset(tmp_path / "in", {"a": b"1", "b": b"2", "c": b"3"}, overlays={"colour": {"a": "blue"}})
    through, uri = changed(bucket, endpoint=proxy.endpoint, concurrency=1), uri_of(source, bucket)
    raw, whole = Raw(bucket), described(source)
    for nth in count(1):
        copy_dataset(source, bucket.base_uri, settings=bucket)

        def copy_in(_: Request) -> None:
            with suppress(EcsFlowsError):
                copy_dataset(source, bucket.base_uri, settings=bucket)

        proxy.calm()
        rule = proxy.on(nth=nth).call(copy_in)
        with suppress(EcsFlowsError):
            delete_dataset(uri, "penguins", settings=through)

        assert wrong_with_frozen(uri, bucket) == []
        copy_dataset(source, bucket.base_uri, settings=bucket)
        assert frozen_there(bucket) == {uri: whole}
        restore(raw, {})
        if not rule.fired:
            break
    assert nth > 5


def test_a_delete_during_a_freeze_by_dtoolcore(proxy: Proxy, bucket: BucketSettings, tmp_path: Path) -> None:
    """Of `dtool freeze` and `DataSetCreator`: whenever it comes, no frozen dataset stays that no listing shows."""
    (tmp_path / "file").write_bytes(b"1")
    through, raw = changed(bucket, endpoint=proxy.endpoint, concurrency=1), Raw(bucket)
    for nth in count(1):
        proxy.calm()
        with active(bucket):
            made = dtoolcore.create_proto_dataset("penguins", bucket.base_uri, "---\n")
            made.put_item(str(tmp_path / "file"), "a")
            made.add_item_metadata("a", "n", 1)
        with active(through):
            proto = dtoolcore.ProtoDataSet.from_uri(made.uri)

        def delete(_: Request, uri: str = made.uri) -> None:
            delete_dataset(uri, "penguins", settings=bucket)

        rule = proxy.on(nth=nth).call(delete)
        with suppress(EcsFlowsError):
            proto.freeze()

        assert wrong_with_frozen(made.uri, bucket) == []
        there = raw.listed()
        assert f"dtool-{made.uuid}" in there or f"{made.uuid}/dtool" not in there or not raw.is_frozen(made.uuid)
        restore(raw, {})
        if not rule.fired:
            break
    assert nth > 10
