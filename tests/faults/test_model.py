"""Operations on whole datasets in any order and with any fault, beside a plain model of what must be there.

What it finds becomes a test of its own. MODEL_EXAMPLES=500 makes it long, and its sequences other ones each time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import dtoolcore
import hypothesis
import pytest
import stamina
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from dtool_ecs_flows import (
    BucketSettings,
    copy_dataset,
    create_dataset,
    delete_dataset,
    list_datasets,
    new_dataset,
    verify_dataset,
)
from dtool_ecs_flows.errors import EcsFlowsError
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed, content
from tests.conftest import SLOW_IS_FINE, new_bucket
from tests.faults.cuts import restore
from tests.faults.drawn import Fault, faults
from tests.faults.model import Bucket, Folder, Frozen, Model, Place, Reader, State, Step
from tests.independent import disk_dataset, md5, noise
from tests.proxy import Proxy, proxied
from tests.servers import S3Server
from tests.small_parts import LARGE, small_parts

LONG = int(os.environ.get("MODEL_EXAMPLES", "0"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200 + 60 * LONG)]

CONTENTS = {"large": LARGE, "a": noise(100, 1), "deep/b": noise(2000, 2), "empty": b"", "ü": b"umlaut"}
WRITTEN = 1.6e9  # time of change of all files
MOST = 5  # datasets at once: more show no more

items = st.sets(st.sampled_from(sorted(CONTENTS)), max_size=3)
some = st.integers(0, 99)  # which of those that there are
readmes = st.sampled_from(["---\n", "---\ndescription: Größe\n", "---\nnew: text\n"])
tags = st.sampled_from(["raw", "v1.2", "done"])

# How many requests of each kind there are, more or less.
READS = {"*": 8, "GET": 8, "List*": 2}
WRITES = {"*": 20, "[PD]*": 12, "PUT": 10, "GET": 6, "POST": 2, "List*": 2, "UploadPart": 2, "Complete*": 1, "HEAD": 1}
COPIES = {**WRITES, "CopyObject": 2}
UPDATES = {"*": 20, "[PD]*": 4, "PUT": 4, "GET": 20, "List*": 6}
CHANGES = {"*": 6, "[PD]*": 2, "GET": 4}
DELETES = {"*": 12, "[PD]*": 5, "POST": 2, "List*": 2, "DELETE": 1, "GET": 2}


class World:
    """Two buckets behind proxies, a folder, and files to make datasets of."""

    def __init__(self, server: S3Server, proxies: tuple[Proxy, Proxy], folder: Path) -> None:
        self.proxies = proxies
        self.settings = [new_bucket(server), new_bucket(server, dataset_prefix="u/me/")]
        self.buckets = [Bucket(settings) for settings in self.settings]
        self.folder, self.files, self._cache = folder / "datasets", folder / "files", folder / "cache"
        for relpath, data in CONTENTS.items():
            path = self.files / relpath
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, (WRITTEN, WRITTEN))

    def begin(self) -> None:
        """Have nothing in any place."""
        for bucket in self.buckets:
            restore(bucket.raw, {})
            uploads = bucket.raw.client.list_multipart_uploads(Bucket=bucket.raw.bucket).get("Uploads", ())
            for each in uploads:
                bucket.raw.client.abort_multipart_upload(
                    Bucket=bucket.raw.bucket, Key=each["Key"], UploadId=each["UploadId"]
                )
        for folder in (self.folder, self._cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def through(self, workers: int, apart: bool) -> list[BucketSettings]:
        """The way to the buckets by one endpoint, so that the store copies between them, or by two."""
        ends = self.proxies[0].endpoint, self.proxies[apart].endpoint
        return [
            changed(settings, endpoint=end, concurrency=workers, cache_directory=str(self._cache))
            for settings, end in zip(self.settings, ends, strict=True)
        ]


class Operations(RuleBasedStateMachine):
    """What a user may do, one thing after the other; each may fail where there is a fault, and only there."""

    def __init__(self, world: World) -> None:
        super().__init__()
        world.begin()
        self.world = world
        self.places: list[Bucket | Folder] = [*world.buckets, Folder(world.folder)]
        self.reader = Reader(self.places, world.settings)
        self.model = Model()
        self.objects: dict[Place, Any] = {}
        self.failed: Step | None = None
        self.count = 0
        self.whole = True

    @initialize(workers=st.sampled_from([1, 4]), apart=st.booleans(), chosen=items)
    def begin(self, workers: int, apart: bool, chosen: set[str]) -> None:
        self.settings = self.world.through(workers, apart)
        self.on_disk(chosen)

    def teardown(self) -> None:
        """All is deleted; then no key is left in a bucket, and no part."""
        if not self.whole:
            return  # what was found there is told of
        for base_uri, uuid in self.in_buckets():
            state = self.model.datasets[base_uri, uuid]
            delete_dataset(f"{base_uri}/{uuid}", name_of(state), settings=self.world.settings)
        for bucket in self.world.buckets:
            assert bucket.objects() == {}
            assert bucket.unfinished() == []

    # --- one step ---

    def do(self, step: Step, fault: Fault | None) -> None:
        """Do something, with a fault on the way, and compare what is there then with the model."""
        self.whole = False
        failed, struck = self.attempt(step.run, fault)
        seen, objects = self.reader.look()
        self.model.settle(step, seen, failed=failed)
        assert [at for at in self.objects if at != step.at and objects[at] != self.objects[at]] == []
        if not struck and step.at[1]:
            unfinished = [each for place in self.places if place.uri == step.at[0] for each in place.unfinished()]
            assert [each for each in unfinished if step.at[1] in each or each.startswith("part-")] == []
        self.objects, self.failed, self.whole = objects, step if failed else None, True

    def attempt(self, run: Callable[[], object], fault: Fault | None) -> tuple[bool, bool]:
        """Run it; return whether it failed, and whether the fault has struck."""
        rules = fault.on(set(self.world.proxies)) if fault else []
        failed = False
        try:
            with active(*self.settings):
                run()
        except EcsFlowsError as error:
            if not any(each.fired for each in rules):
                raise AssertionError("it failed by itself") from error
            failed = True
        finally:
            for proxy in self.world.proxies:
                proxy.calm()
                proxy.clear()
        return failed, any(each.fired for each in rules)

    def in_buckets(self) -> list[Place]:
        return [at for at in self.model.datasets if at[0].startswith("ecs:")]

    def frozen(self, number: int) -> tuple[Place, str, Frozen]:
        """One of the frozen datasets, its URI, and what it is."""
        there = [(at, state) for at, state in self.model.datasets.items() if isinstance(state, dict)]
        at, state = there[number % len(there)]
        return at, self.uri_of(at, state), state

    def uri_of(self, at: Place, state: State) -> str:
        return "/".join([at[0], at[1] if at[0].startswith("ecs:") else name_of(state)])

    def next_name(self) -> str:
        self.count += 1
        return f"dataset-{self.count}"

    # --- making ---

    @precondition(lambda self: len(self.model.datasets) < MOST)
    @rule(chosen=items)
    def on_disk(self, chosen: set[str]) -> None:
        """A dataset on a disk, made by dtoolcore alone."""
        disk_dataset(
            self.world.folder,
            {relpath: CONTENTS[relpath] for relpath in sorted(chosen)},
            name=self.next_name(),
            overlays={"colour": dict.fromkeys(chosen, "blue")},
        )
        seen, self.objects = self.reader.look()
        (at,) = seen.keys() - self.model.datasets.keys()
        self.model.settle(Step(at, seen[at], lambda: None), seen, failed=False)

    @precondition(lambda self: len(self.model.datasets) < MOST)
    @rule(
        where=st.integers(0, 1), chosen=items, readme=readmes, tag=tags, bit_by_bit=st.booleans(), fault=faults(WRITES)
    )
    def create(  # noqa: PLR0917  # hypothesis names them
        self, where: int, chosen: set[str], readme: str, tag: str, bit_by_bit: bool, fault: Fault | None
    ) -> None:
        """In a bucket; what an attempt that failed has made can be deleted."""
        name, base_uri = self.next_name(), self.places[where].uri
        new: Frozen = {
            "name": name,
            "creator_username": "olssont",
            "README": readme,
            "items": {each: (len(CONTENTS[each]), md5(CONTENTS[each]), WRITTEN) for each in chosen},
            f"tag {tag}": True,
            "annotation grant": {"n": 1},
        }
        files = {relpath: self.world.files / relpath for relpath in chosen}
        told: dict[str, Any] = {
            "readme": readme,
            "tags": [tag],
            "annotations": {"grant": {"n": 1}},
            "creator_username": "olssont",
        }

        def at_once() -> object:
            return create_dataset(name, base_uri, files=files, **told)

        def in_a_block() -> object:
            with new_dataset(name, base_uri, **told) as dataset:
                for relpath, path in files.items():
                    dataset.put(path, relpath)
            return dataset.report

        self.do(Step((base_uri, ""), new, in_a_block if bit_by_bit else at_once), fault)

    # --- moving ---

    def pairs(self, *, there: bool) -> list[tuple[Place, Place]]:
        """Each frozen dataset, with other places where it is frozen, or is not."""
        states = self.model.datasets
        frozen = [at for at, state in states.items() if isinstance(state, dict)]
        targets = [(at, (place.uri, at[1])) for at in frozen for place in self.places if place.uri != at[0]]
        return [pair for pair in targets if isinstance(states.get(pair[1]), dict) == there]

    @precondition(lambda self: self.pairs(there=False))
    @rule(which=some, fault=faults(COPIES))
    def copy(self, which: int, fault: Fault | None) -> None:
        """To where it is not, or was left half done by what failed."""
        pairs = self.pairs(there=False)
        source, target = pairs[which % len(pairs)]
        state = self.model.datasets[source]
        self.do(Step(target, state, partial(copy_dataset, self.uri_of(source, state), target[0])), fault)

    @precondition(lambda self: self.pairs(there=True))
    @rule(which=some, update=st.booleans(), fault=faults(UPDATES))
    def compare(self, which: int, update: bool, fault: Fault | None) -> None:
        """With one that is frozen too: its documents are written over if that is asked for."""
        pairs = self.pairs(there=True)
        source, target = pairs[which % len(pairs)]
        state, there = self.model.datasets[source], self.model.datasets[target]
        assert isinstance(state, dict)
        assert isinstance(there, dict)
        run = partial(copy_dataset, self.uri_of(source, state), target[0], update_metadata=update)
        self.do(Step(target, there | state if update else there, run), fault)

    @precondition(lambda self: self.failed is not None and self.failed.at in self.model.datasets)
    @rule(fault=faults(COPIES))
    def again(self, fault: Fault | None) -> None:
        """The same that has failed; its source may have been changed meanwhile, but by nothing else."""
        assert self.failed
        self.do(self.failed, fault)

    # --- changing and deleting ---

    @rule(
        which=some,
        what=st.sampled_from(["README", "tag", "annotation"]),
        readme=readmes,
        tag=tags,
        fault=faults(CHANGES),
    )
    def change(self, which: int, what: str, readme: str, tag: str, fault: Fault | None) -> None:
        """A document of a frozen dataset, through dtoolcore."""
        at, uri, old = self.frozen(which)
        dataset = partial(dtoolcore.DataSet.from_uri, uri)
        if what == "README":
            new, run = old | {"README": readme}, lambda: dataset().put_readme(readme)
        elif what == "annotation":
            new, run = old | {"annotation grant": tag}, lambda: dataset().put_annotation("grant", tag)
        elif f"tag {tag}" in old:
            new = {name: value for name, value in old.items() if name != f"tag {tag}"}
            run = lambda: dataset().delete_tag(tag)  # noqa: E731
        else:
            new, run = old | {f"tag {tag}": True}, lambda: dataset().put_tag(tag)
        self.do(Step(at, new, run), fault)

    @precondition(lambda self: self.in_buckets())
    @rule(which=some, fault=faults(DELETES))
    def delete(self, which: int, fault: Fault | None) -> None:
        """What is frozen, or what a failure has left."""
        there = self.in_buckets()
        at = there[which % len(there)]
        uri, name = self.uri_of(at, None), name_of(self.model.datasets[at])
        self.do(Step(at, None, partial(delete_dataset, uri, name)), fault)

    # --- looking ---

    @rule(which=some, how=st.sampled_from(["read", "verify", "list"]), fault=faults(READS))
    def look(self, which: int, how: str, fault: Fault | None) -> None:
        """Nothing is changed by it."""
        at, uri, state = self.frozen(which)
        looks = {
            "read": lambda: self._read(uri, state),
            "verify": lambda: self._verify(uri, fault),
            "list": lambda: self._list(at[0], fault),
        }
        self.do(Step(at, state, looks[how]), fault)

    def _read(self, uri: str, state: Frozen) -> None:
        """The bytes are right, whatever happened to them on their way."""
        found = content(dtoolcore.DataSet.from_uri(uri))
        assert found == {relpath: CONTENTS[relpath] for relpath in state["items"]}

    def _verify(self, uri: str, fault: Fault | None) -> None:
        """What could not be read is called so, and never missing."""
        kinds = {finding.kind for finding in verify_dataset(uri).findings}
        flipped = fault is not None and fault.kind == "bit of the answer"
        assert kinds <= ({"corrupt"} if flipped else {"not verified"} if fault else set())

    def _list(self, base_uri: str, fault: Fault | None) -> None:
        """Each dataset is listed; one that cannot be read has a problem, and the others have not."""
        told = list_datasets(base_uri)
        seen = {info.uuid: info.type == "dataset" for info in told.datasets if not info.problem}
        assert fault or len(seen) == len(told.datasets)
        known = {uuid: state for (uri, uuid), state in self.model.datasets.items() if uri == base_uri}
        assert {info.uuid for info in told.datasets} | set(told.orphans) == known.keys()
        assert [uuid for uuid, frozen in seen.items() if isinstance(known[uuid], dict) != frozen] == []


def name_of(state: State) -> str:
    return state["name"] if isinstance(state, dict) else state or ""


@pytest.fixture
def world(rgw: S3Server, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        stack.enter_context(small_parts())
        stack.enter_context(stamina.set_testing(True, attempts=4))  # and no pauses between them
        yield World(rgw, (stack.enter_context(proxied(rgw)), stack.enter_context(proxied(rgw))), tmp_path)


def test_any_sequence(world: World) -> None:
    """What is frozen is what the model says; a failure changes nothing frozen and can be taken up, by any operation."""
    run_state_machine_as_test(
        partial(Operations, world),  # type: ignore[arg-type]  # whatever makes one will do
        settings=hypothesis.settings(
            max_examples=LONG or 15,
            stateful_step_count=15,
            derandomize=not LONG,
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],  # the latter takes minutes
            database=None,
            suppress_health_check=SLOW_IS_FINE,
        ),
    )
