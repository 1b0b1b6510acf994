"""Each operation, cut off after each of its requests: what readers see then, and that the same again ends well."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
import stamina

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, delete_dataset, list_datasets
from dtool_ecs_flows.errors import EcsFlowsError, NotADatasetError
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.faults.cuts import (
    CUTS,
    FOR_EVER,
    Cut,
    described,
    dies_before,
    fails_though_done,
    frozen_there,
    loses_its_answer,
    objects_of,
    points,
    restore,
    told_of,
)
from tests.faults.site import Site
from tests.independent import Raw, bucket_dataset, disk_dataset, files_below, identifier, noise
from tests.proxy import Answer, Proxy, Request
from tests.servers import S3Server
from tests.small_parts import LARGE, run_in_small_parts, small_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONTENTS = {"large": LARGE, "a": noise(100, 1), "deep/b": noise(2000, 2), "empty": b""}
SMALL = {"a": noise(100, 1), "b": noise(2000, 2), "empty": b""}
COLOURS = {"colour": {"a": "blue"}}

# A real process of its own for each attempt, which does not have to import everything anew.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dtool_ecs_flows", "tests.small_parts"])

each_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__.replace("_", " "))


@pytest.fixture(scope="module", autouse=True)
def in_small_parts() -> Iterator[None]:
    """The parts of a large item are small, and so is what goes over the wire some hundred times."""
    with small_parts():
        yield


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Requests are tried again at once."""
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of few items, one of them in three parts, and with every kind of document."""
    return disk_dataset(tmp_path_factory.mktemp("in"), CONTENTS, tags=["raw"], overlays=COLOURS)


@pytest.fixture(scope="module")
def undisturbed(rgw: S3Server, source: str) -> dict[str, Any]:
    """What is told of a bucket after a copy in which nothing went wrong."""
    bucket = new_bucket(rgw)
    copy_dataset(source, bucket.base_uri, settings=bucket)
    return told_of(Raw(bucket))


@pytest.fixture
def slow(site: Site) -> BucketSettings:
    """The way through the proxy, one request at a time."""
    return changed(site.through, concurrency=1)


# --- copies ---


@each_cut
def test_copy_in(site: Site, slow: BucketSettings, undisturbed: dict[str, Any], cut: Cut) -> None:
    """A copy into a bucket is frozen whole, or not at all; the same again is whole, and leaves no unfinished parts."""
    whole = described(site.source)
    for _ in points(site.proxy, cut, at_least=15):
        with suppress(EcsFlowsError):
            copy_dataset(site.source, slow.base_uri, settings=slow)

        site.proxy.calm()
        frozen = list(frozen_there(site.direct).values())
        assert frozen == [whole] if cut is loses_its_answer else frozen in ([], [whole])
        copy_dataset(site.source, site.direct.base_uri, settings=site.direct)

        assert told_of(site.raw) == undisturbed
        assert site.raw.uploads() == []
        restore(site.raw, {})


@pytest.mark.parametrize("cut", [dies_before, fails_though_done], ids=["dies before", "fails though done"])
def test_copy_in_after_its_source_has_lost_documents(
    site: Site, slow: BucketSettings, tmp_path: Path, cut: Cut
) -> None:
    """What an earlier attempt left of them is removed before the freeze, or by the same again; nothing else is."""
    source = disk_dataset(tmp_path, SMALL, tags=["kept"], overlays=COLOURS)
    whole, uuid = described(source), dtoolcore.DataSet.from_uri(source).uuid
    copy_dataset(source, site.direct.base_uri, settings=site.direct)
    expected = told_of(site.raw)
    site.raw.edit_json(f"{uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    for lost in ("tags/lost", "tags/lost-too", "annotations/lost.json", "overlays/lost.json"):
        site.raw.put(f"{uuid}/{lost}", b"" if "tags" in lost else b"{}")
    begun = objects_of(site.raw)
    for _ in points(site.proxy, cut, at_least=8):
        restore(site.raw, begun)
        with suppress(EcsFlowsError):
            copy_dataset(source, slow.base_uri, settings=slow)

        site.proxy.calm()
        assert list(frozen_there(site.direct).values()) in ([], [whole])
        copy_dataset(source, site.direct.base_uri, settings=site.direct)
        assert told_of(site.raw) == expected


def refused(copy: Callable[[], object], proxy: Proxy, nth: int) -> bool:
    """Copy with all requests refused from the n-th on; return whether there was one."""
    rule = proxy.on(nth=range(nth, FOR_EVER)).answer(400, "Refused")
    with suppress(EcsFlowsError):
        copy()
    return rule.fired > 0


def killed(copy: Callable[[], object], proxy: Proxy, nth: int) -> bool:
    """Copy in a process that is killed at its n-th request; return whether there was one."""
    started = threading.Event()
    process = PROCESSES.Process(target=run_in_small_parts, args=(copy,))

    def kill(_: Request) -> Answer:
        assert started.wait(60)
        process.kill()
        multiprocessing.connection.wait([process.sentinel])
        return Answer(500, "InternalError")  # to nobody

    rule = proxy.on(nth=nth).call(kill)
    process.start()
    started.set()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if rule.fired else 0)
    return rule.fired > 0


@pytest.mark.parametrize("cut", [refused, killed])
def test_copy_out(
    site: Site, slow: BucketSettings, tmp_path: Path, cut: Callable[[Callable[[], object], Proxy, int], bool]
) -> None:
    """A copy to a disk has no short file under its final name, and no hole; the same again is whole."""
    uri = copy_dataset(site.source, site.direct.base_uri, settings=site.direct).uri
    copy_dataset(uri, str(site.out), settings=site.direct)
    whole = files_below(site.out)
    for nth in count(1):
        folder = tmp_path / f"cut {nth}"
        folder.mkdir()
        copy = partial(copy_dataset, uri, str(folder), settings=slow)

        was_cut = cut(copy, site.proxy, nth)

        site.proxy.calm()
        there = files_below(folder)
        assert [name for name, data in there.items() if "/data/" in name and data != whole.get(name)] == []
        for dataset in folder.iterdir():
            with suppress(dtoolcore.DtoolCoreTypeError):
                dtoolcore.DataSet.from_uri(f"file://{dataset}")
                assert there == whole
        copy_dataset(uri, str(folder), settings=site.direct)
        assert files_below(folder) == whole
        if not was_cut:
            break
    assert nth > 10


# --- making and deleting ---


@each_cut
def test_create(site: Site, slow: BucketSettings, tmp_path: Path, cut: Cut) -> None:
    """A dataset is made whole or not at all; what an attempt has left can be deleted; the next is another dataset."""
    files = {}
    for number, (relpath, data) in enumerate(CONTENTS.items()):
        files[relpath] = tmp_path / str(number)
        files[relpath].write_bytes(data)
    create: Callable[..., Any] = partial(
        create_dataset,
        "penguins",
        slow.base_uri,
        files=files,
        readme="---\n",
        tags=["raw"],
        annotations={"grant": 1},
        item_metadata={"a": {"colour": "blue"}},
        settings=slow,
    )
    uri = create().uri
    (expected,) = frozen_there(site.direct).values()
    delete_dataset(uri, "penguins", settings=site.direct)
    for _ in points(site.proxy, cut, at_least=15):
        with suppress(EcsFlowsError):
            create()
            assert site.raw.uploads() == []

        site.proxy.calm()
        frozen = list(frozen_there(site.direct).values())
        assert frozen == [expected] if cut is loses_its_answer else frozen in ([], [expected])
        there = list_datasets(site.direct.base_uri, settings=site.direct)
        for info in there.datasets:
            delete_dataset(info.uri, "penguins", settings=site.direct)
        for uuid in there.orphans:
            delete_dataset(f"{site.direct.base_uri}/{uuid}", "", settings=site.direct)
        assert site.raw.listed() == []
        assert site.raw.uploads() == []


@each_cut
def test_delete(site: Site, slow: BucketSettings, cut: Cut) -> None:
    """What is half deleted is no dataset; the same again leaves none of its keys, and touches no other."""
    other, uuid = (bucket_dataset(site.raw, SMALL, tags=["raw"], name=name) for name in ("other", "penguins"))
    site.raw.put(f"{uuid}/README.yml-1700000000.25", b"old")
    site.raw.put(f"{uuid}/annotations/grant.json", b"1")
    before = objects_of(site.raw)
    beside = {key: value for key, value in told_of(site.raw).items() if other in key}
    seen = frozen_there(site.direct)
    uri, other_uri = f"{site.direct.base_uri}/{uuid}", f"{site.direct.base_uri}/{other}"
    for rule in points(site.proxy, cut, at_least=4):
        site.raw.put(f"{uuid}/README.yml-1700000000.25", b"old")
        key = f"{uuid}/data/{identifier('large')}"
        site.raw.client.create_multipart_upload(Bucket=site.raw.bucket, Key=key)
        with suppress(EcsFlowsError):
            delete_dataset(uri, "penguins", settings=slow)
            assert not rule.fired or cut is not dies_before

        site.proxy.calm()
        assert frozen_there(site.direct) in (seen, {other_uri: seen[other_uri]})
        with suppress(NotADatasetError):  # it is gone already
            delete_dataset(uri, "penguins", settings=site.direct)

        assert told_of(site.raw) == beside
        assert [key for key in site.raw.listed() if uuid in key] == site.raw.uploads() == []
        restore(site.raw, before)


# --- changes to what is frozen ---


def new_readme(uri: str, _: str) -> None:
    dtoolcore.DataSet.from_uri(uri).put_readme("---\nnew: text\n")


def new_tag(uri: str, _: str) -> None:
    dtoolcore.DataSet.from_uri(uri).put_tag("new")


def tag_taken_away(uri: str, _: str) -> None:
    dtoolcore.DataSet.from_uri(uri).delete_tag("raw")


def new_annotation(uri: str, _: str) -> None:
    dtoolcore.DataSet.from_uri(uri).put_annotation("grant", {"n": 2})


def all_from_the_source(uri: str, source: str) -> None:
    copy_dataset(source, uri.rpartition("/")[0], update_metadata=True)


CHANGES = [new_readme, new_tag, tag_taken_away, new_annotation, all_from_the_source]


@each_cut
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.replace("_", " "))
def test_change(site: Site, slow: BucketSettings, tmp_path: Path, change: Callable[[str, str], None], cut: Cut) -> None:
    """Each document of a frozen dataset is the old one or the new one; the same again makes all of them new."""
    source = disk_dataset(tmp_path / "in", SMALL, overlays=COLOURS)
    uri = copy_dataset(source, site.direct.base_uri, settings=site.direct).uri
    before, old = objects_of(site.raw), described(source)
    changed_source = dtoolcore.DataSet.from_uri(source)
    changed_source.put_readme("---\nnewer: text\n")
    changed_source.put_tag("newer")
    changed_source.put_annotation("grant", "newer")
    changed_source.put_overlay("colour", dict.fromkeys(changed_source.identifiers, "newer"))
    with active(slow):
        change(uri, source)
    after, new = told_of(site.raw), frozen_there(site.direct)[uri]
    assert new != old
    for rule in points(site.proxy, cut, at_least=1):
        restore(site.raw, before)
        with active(slow), suppress(EcsFlowsError, dtoolcore.DtoolCoreTypeError):
            change(uri, source)
            assert not rule.fired or cut is not dies_before

        site.proxy.calm()
        seen = frozen_there(site.direct)[uri]
        assert [name for name in old | new if seen.get(name) not in (old.get(name), new.get(name))] == []
        assert seen.keys() <= old.keys() | new.keys()
        with active(site.direct):
            change(uri, source)
        assert told_of(site.raw) == after
