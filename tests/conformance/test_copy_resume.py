"""A copy that was cut short: what it leaves behind, and what the same call again does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, Progress, copy_dataset, list_datasets
from dtool_ecs_flows.errors import CorruptItemError, EcsFlowsError, StoppedError, TransferError
from dtool_ecs_flows.layout import item_metadata
from tests.conformance.helpers import changed, environment
from tests.conftest import new_bucket
from tests.independent import MIB, Raw, disk_dataset, disk_path, everything, identifier, md5, noise
from tests.proxy import CountingProxy, Request, counting_proxy, proxied
from tests.servers import S3Server

ITEMS = {f"item {number:02}.bin": noise(1000 + number, number) for number in range(20)}


def sent(proxy: CountingProxy) -> list[str]:
    """The identifiers of the items that were put."""
    puts = [r for r in proxy.requests if r.method in ("PUT", "POST") and "/data/" in r.target]
    return [request.target.split("/data/")[1].split("?")[0] for request in puts]


def fetched(proxy: CountingProxy) -> list[str]:
    """The identifiers of the items that were read."""
    return [r.target.split("/data/")[1] for r in proxy.requests if r.method == "GET" and "/data/" in r.target]


def half_done(source: str, bucket: BucketSettings) -> Raw:
    """Bring a bucket into the state that a copy cut short leaves, as another client might have: a proto dataset."""
    uuid = dtoolcore.DataSet.from_uri(source).uuid
    raw = Raw(bucket)
    copy_dataset(source, bucket.base_uri, settings=bucket)
    raw.edit_json(f"{uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    raw.delete(f"{uuid}/manifest.json", *raw.listed(f"{uuid}/data/"))
    return raw


def test_only_what_is_missing_or_wrong_is_sent_again(server: S3Server, bucket: BucketSettings, tmp_path: Path) -> None:
    """Of half a dataset, the right items stay; one of the same size but other bytes and one that is short are sent."""
    source = disk_dataset(tmp_path / "in", ITEMS)
    raw = half_done(source, bucket)
    names, uuid = list(ITEMS), dtoolcore.DataSet.from_uri(source).uuid
    for name in names[:10]:
        raw.put(f"{uuid}/data/{identifier(name)}", ITEMS[name], item_metadata(name, md5(ITEMS[name])))
    wrong, short = names[3], names[7]
    raw.replace(f"{uuid}/data/{identifier(wrong)}", bytes(reversed(ITEMS[wrong])))
    raw.replace(f"{uuid}/data/{identifier(short)}", ITEMS[short][:-1])

    with counting_proxy(server) as proxy:
        counted = bucket.model_copy(update={"endpoint": proxy.endpoint})
        report = copy_dataset(source, bucket.base_uri, settings=counted)

    again = [wrong, short, *names[10:]]
    assert sorted(sent(proxy)) == sorted(map(identifier, again))
    assert (report.copied_items, report.skipped, report.already_there) == (12, 8, False)
    assert report.copied_bytes == sum(len(ITEMS[name]) for name in again)
    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(report.uri, str(tmp_path / "out"), settings=bucket).uri) == everything(source)


def test_an_item_of_many_parts_that_is_there_is_not_sent_again(
    server: S3Server, bucket: BucketSettings, tmp_path: Path
) -> None:
    """Its ETag says nothing, so its checksum is asked for: one HEAD saves the upload."""
    source = disk_dataset(tmp_path, {"large": noise(20 * MIB), "small": b"1"})
    raw = Raw(bucket)
    uuid = copy_dataset(source, bucket.base_uri, settings=bucket).uuid
    raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type="protodataset"))
    raw.delete(f"{uuid}/data/{identifier('small')}")

    with counting_proxy(server) as proxy:
        counted = bucket.model_copy(update={"endpoint": proxy.endpoint})
        report = copy_dataset(source, bucket.base_uri, settings=counted)

    assert sent(proxy) == [identifier("small")]
    assert (report.copied_items, report.skipped) == (1, 1)
    assert raw.is_frozen(uuid)


def test_on_a_disk_only_what_is_missing_or_wrong_is_fetched_again(
    server: S3Server, bucket: BucketSettings, tmp_path: Path
) -> None:
    """The same on the way out: files that are there are hashed, and only the wrong ones are fetched."""
    report = copy_dataset(disk_dataset(tmp_path / "in", ITEMS), bucket.base_uri, settings=bucket)
    out = tmp_path / "out"
    out.mkdir()
    folder = disk_path(copy_dataset(report.uri, str(out), settings=bucket).uri)
    reference = everything(str(folder))
    (folder / ".dtool" / "manifest.json").unlink()
    dtool = folder / ".dtool" / "dtool"
    dtool.write_text(dtool.read_text().replace('"dataset"', '"protodataset"'))
    names = list(ITEMS)
    for name in names[10:]:
        (folder / "data" / name).unlink()
    (folder / "data" / names[3]).write_bytes(bytes(reversed(ITEMS[names[3]])))
    (folder / "data" / names[7]).write_bytes(ITEMS[names[7]][:-1])

    with counting_proxy(server) as proxy:
        counted = bucket.model_copy(update={"endpoint": proxy.endpoint})
        again = copy_dataset(report.uri, str(out), settings=counted)

    assert sorted(fetched(proxy)) == sorted(map(identifier, [names[3], names[7], *names[10:]]))
    assert (again.copied_items, again.skipped) == (12, 8)
    assert everything(again.uri) == reference


# --- cut short ---


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_stopped_copy_is_no_dataset_and_can_be_finished(
    bucket: BucketSettings, tmp_path: Path, direction: str
) -> None:
    """Asked to stop, a copy ends at once without freezing; the same call again sends the rest, and all is equal."""
    source = disk_dataset(tmp_path / "in", ITEMS)
    out = tmp_path / "out"
    out.mkdir()
    if direction == "out":
        there = copy_dataset(source, bucket.base_uri, settings=bucket)
        arguments = (there.uri, str(out))
    else:
        arguments = (source, bucket.base_uri)
    stop = threading.Event()

    def stop_after_five(progress: Progress) -> None:
        if progress.items_done == 5:
            stop.set()

    with pytest.raises(StoppedError):
        copy_dataset(*arguments, settings=bucket, concurrency=1, progress=stop_after_five, stop=stop)

    (left,) = list_datasets(arguments[1], settings=bucket).datasets
    assert left.type == "protodataset"
    done = copy_dataset(*arguments, settings=bucket)
    assert 5 <= done.skipped < 20
    assert done.skipped + done.copied_items == 20
    end = done if direction == "out" else copy_dataset(done.uri, str(out), settings=bucket)
    assert everything(end.uri) == everything(source)
    assert Raw(bucket).uploads() == []


def test_stopping_before_the_start_writes_no_item(bucket: BucketSettings, tmp_path: Path) -> None:
    """A stop that came early is heard."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        copy_dataset(disk_dataset(tmp_path, ITEMS), bucket.base_uri, settings=bucket, stop=stop)

    assert not [key for key in Raw(bucket).listed() if "/data/" in key]


SCRIPT = """
import sys, time
from dtool_ecs_flows import copy_dataset

def tell(progress):
    print(progress.items_done, flush=True)
    time.sleep(600 if progress.items_done == 5 else 0)  # until it is killed

copy_dataset(sys.argv[1], sys.argv[2], concurrency=1, progress=tell)
"""


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_killed_copy_is_no_dataset_and_can_be_finished(
    bucket: BucketSettings, tmp_path: Path, direction: str
) -> None:
    """A process that dies by kill -9 leaves a proto dataset; the same call again sends the rest, and all is equal."""
    source = disk_dataset(tmp_path / "in", ITEMS)
    out = tmp_path / "out"
    out.mkdir()
    if direction == "out":
        arguments = (copy_dataset(source, bucket.base_uri, settings=bucket).uri, str(out))
    else:
        arguments = (source, bucket.base_uri)
    command = [sys.executable, "-c", SCRIPT, *arguments]
    with subprocess.Popen(
        command, env={**os.environ, **environment(bucket)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == "5":
                process.kill()
    assert process.returncode == -signal.SIGKILL

    (left,) = list_datasets(arguments[1], settings=bucket).datasets
    assert (left.type, left.frozen_at) == ("protodataset", None)
    done = copy_dataset(*arguments, settings=bucket)
    assert 5 <= done.skipped < 20
    assert done.skipped + done.copied_items == 20
    end = done if direction == "out" else copy_dataset(done.uri, str(out), settings=bucket)
    assert everything(end.uri) == everything(source)
    leftovers = [path for path in disk_path(end.uri).rglob("*") if "part-" in path.name or "fragment" in path.name]
    assert [path for path in leftovers if path.is_file()] == []


def test_a_copy_that_died_before_its_freeze_is_finished(bucket: BucketSettings, tmp_path: Path) -> None:
    """With all items there, the rest is a few small writes and no item at all."""
    source = disk_dataset(tmp_path, ITEMS)
    report = copy_dataset(source, bucket.base_uri, settings=bucket)
    raw = Raw(bucket)
    undisturbed = {key: raw.get(key) for key in raw.listed()}
    raw.edit_json(f"{report.uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    raw.delete(f"{report.uuid}/manifest.json")

    again = copy_dataset(source, bucket.base_uri, settings=bucket)

    assert (again.copied_items, again.skipped) == (0, 20)
    assert {key: raw.get(key) for key in raw.listed()} == undisturbed


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_a_copy_that_died_among_its_first_writes_is_finished(
    rclone_bucket: BucketSettings, tmp_path: Path, keep: int
) -> None:
    """Whichever of registration key, structure.json and README.txt was the last that got through."""
    source = disk_dataset(tmp_path, ITEMS)
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)
    raw = Raw(rclone_bucket)
    undisturbed = {key: raw.get(key) for key in raw.listed()}
    first = [f"dtool-{report.uuid}", f"{report.uuid}/structure.json", f"{report.uuid}/README.txt"][:keep]
    raw.delete(*(key for key in raw.listed() if key not in first))

    copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    assert {key: raw.get(key) for key in raw.listed()} == undisturbed


def test_a_copy_to_a_disk_that_died_among_its_first_writes_is_finished(
    rclone_bucket: BucketSettings, tmp_path: Path
) -> None:
    """A folder that holds the structure of a dataset and nothing else is what is left of an attempt."""
    report = copy_dataset(disk_dataset(tmp_path / "in", ITEMS), rclone_bucket.base_uri, settings=rclone_bucket)
    out = tmp_path / "out"
    out.mkdir()
    folder = disk_path(copy_dataset(report.uri, str(out), settings=rclone_bucket).uri)
    reference = everything(str(folder))
    shutil.rmtree(folder)
    dtoolcore.storagebroker.DiskStorageBroker(f"file://{folder}").create_structure()

    again = copy_dataset(report.uri, str(out), settings=rclone_bucket)

    assert everything(again.uri) == reference


def test_two_copies_at_once_end_with_one_dataset(server: S3Server, bucket: BucketSettings, tmp_path: Path) -> None:
    """Two jobs that do the same work at the same time do not hurt each other: what is there in the end is right."""
    source = disk_dataset(tmp_path / "in", ITEMS)
    reference = new_bucket(server)
    copy_dataset(source, reference.base_uri, settings=reference)
    start = threading.Barrier(2)
    errors: list[EcsFlowsError] = []

    def run() -> None:
        start.wait()
        try:
            copy_dataset(source, bucket.base_uri, settings=bucket.model_copy(), concurrency=4)
        except EcsFlowsError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) < 2, errors
    raw, expected = Raw(bucket), Raw(reference)
    assert {key: raw.get(key) for key in raw.listed()} == {key: expected.get(key) for key in expected.listed()}


# --- items that fail ---


def corrupt(path: Path) -> None:
    """Change a byte of a file, and not its size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("size", [1000, 9 * MIB])
@pytest.mark.parametrize("damage", [corrupt, shorten, Path.unlink])
def test_damage_in_the_source_is_not_archived_as_if_it_were_right(
    rclone_bucket: BucketSettings, tmp_path: Path, damage: Callable[[Path], None], size: int
) -> None:
    """The item is named, the others are sent, nothing is frozen; when the file is right again, the rest follows."""
    source = disk_dataset(tmp_path, {**ITEMS, "broken file": noise(size)})
    path = disk_path(source) / "data" / "broken file"
    good = path.read_bytes()
    damage(path)
    raw = Raw(rclone_bucket)

    with pytest.raises(TransferError, match="'broken file'") as caught:
        copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    ((relpath, cause),) = caught.value.failures
    assert relpath == "broken file"
    assert isinstance(cause, CorruptItemError)
    uuid = dtoolcore.DataSet.from_uri(source).uuid
    assert not raw.is_frozen(uuid)
    assert f"{uuid}/manifest.json" not in raw.listed()
    there = {key.removeprefix(f"{uuid}/data/") for key in raw.listed(f"{uuid}/data/")}
    assert there == {identifier(name) for name in ITEMS}
    assert raw.uploads() == []

    path.write_bytes(good)
    report = copy_dataset(source, rclone_bucket.base_uri, settings=rclone_bucket)

    assert (report.copied_items, report.skipped) == (1, 20)
    assert raw.is_frozen(uuid)


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_damage_in_the_bucket_does_not_reach_the_disk(bucket: BucketSettings, tmp_path: Path, size: int) -> None:
    """Other bytes of the same size are noticed by their hash, and nothing lies under the item's final name."""
    source = disk_dataset(tmp_path / "in", {**ITEMS, "broken file": noise(size)})
    report = copy_dataset(source, bucket.base_uri, settings=bucket)
    raw, key = Raw(bucket), f"{report.uuid}/data/{identifier('broken file')}"
    wrong = bytes(reversed(noise(size)))
    raw.replace(key, wrong)
    out = tmp_path / "out"
    out.mkdir()

    with pytest.raises(TransferError, match="'broken file'") as caught:
        copy_dataset(report.uri, str(out), settings=bucket)

    ((_, cause),) = caught.value.failures
    assert isinstance(cause, CorruptItemError)
    assert (cause.expected, cause.actual) == (md5(noise(size)), md5(wrong))
    folder = out / "penguins"
    assert {path.name for path in (folder / "data").iterdir()} == set(ITEMS)
    assert [path.name for path in folder.rglob("part-*")] == []
    (left,) = list_datasets(str(out)).datasets
    assert left.type == "protodataset"

    raw.replace(key, noise(size))
    again = copy_dataset(report.uri, str(out), settings=bucket)
    assert (again.copied_items, again.skipped) == (1, 20)
    assert everything(again.uri) == everything(source)


def test_what_is_lost_while_the_others_are_looked_at_is_not_frozen(rgw_bucket: BucketSettings, tmp_path: Path) -> None:
    """Where ETags do not tell what is there, each item is looked at, which takes a while: all are listed after it."""
    contents = {"one": noise(9 * MIB, 1), "other": noise(9 * MIB, 2)}
    source = disk_dataset(tmp_path, contents)
    raw, uuid = Raw(rgw_bucket), copy_dataset(source, rgw_bucket.base_uri, settings=rgw_bucket).uuid
    raw.edit_json(f"{uuid}/dtool", lambda admin: admin.update(type="protodataset"))
    keys = {f"{uuid}/data/{identifier(relpath)}" for relpath in contents}

    def lose_the_first(_: Request) -> None:
        first, *second = (request.key for request in proxy.seen("HeadObject", key="*/data/*"))
        if second:
            raw.delete(first)

    with proxied(rgw_bucket.endpoint) as proxy:
        proxy.on("HeadObject", key="*/data/*").call(lose_the_first)
        through = changed(rgw_bucket, endpoint=proxy.endpoint)
        with pytest.raises(TransferError, match="does not hold what was sent"):
            copy_dataset(source, rgw_bucket.base_uri, settings=through, concurrency=1)

    assert len(keys & set(raw.listed())) == 1
    assert json.loads(raw.get(f"{uuid}/dtool"))["type"] == "protodataset"
