"""What must be in some places after operations on whole datasets, whatever went wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, list_datasets, verify_dataset
from dtool_ecs_flows.settings import active
from tests.faults.cuts import described
from tests.independent import Raw

Frozen: TypeAlias = dict[str, Any]
"""All that dtoolcore tells of a frozen dataset, each document by name: see `described`."""

State: TypeAlias = Frozen | str | None
"""Of a dataset in one place. A proto dataset is its name, a registration key that stands alone "", nothing None."""

Place: TypeAlias = tuple[str, str]
"""A base URI and a UUID."""

Objects: TypeAlias = dict[str, tuple[Any, Any]]
"""What tells objects or files by name from others: whatever is written changes it."""


@dataclass(frozen=True)
class Step:
    """One operation on one dataset."""

    at: Place  # with "" for a UUID that is made by it
    new: State  # what success leaves
    run: Callable[[], object]


class Model:
    """What is there, and what may be there after a step."""

    def __init__(self) -> None:
        self.datasets: dict[Place, State] = {}

    def settle(self, step: Step, seen: dict[Place, State], *, failed: bool) -> None:
        """Compare what is there after a step, and take it over: one that failed has left one of several states."""
        made = [place for place in seen if place not in self.datasets]
        at = made[0] if made and not step.at[1] else step.at
        old, now = self.datasets.get(at), seen.get(at)
        assert {**seen, at: None} == {**self.datasets, at: None}
        assert now == step.new or (failed and self._may_be_left(old, step.new, now)), (
            f"{at} was {old} and is {now}; success makes it {step.new}"
        )
        self.datasets = dict(seen)

    def _may_be_left(self, old: State, new: State, now: State) -> bool:
        if isinstance(old, dict) and isinstance(new, dict):  # each document is the old one or the new one
            names = old | new
            return isinstance(now, dict) and all(
                now.get(name) in (old.get(name), new.get(name)) for name in names | now
            )
        return now == old or isinstance(now, str)


class Bucket:
    """What is in a bucket, seen without anything in the way."""

    def __init__(self, settings: BucketSettings) -> None:
        self.uri = settings.base_uri
        self._settings = settings
        self.raw = Raw(settings)

    def objects(self) -> Objects:
        """Each object, and what tells it from others."""
        return self.raw.state()

    def unfinished(self) -> list[str]:
        """Keys of multipart uploads that were not ended."""
        return self.raw.uploads()


class Folder:
    """What is in a folder."""

    def __init__(self, path: Path) -> None:
        self.uri = f"file://{path}"
        self._path = path

    def objects(self) -> Objects:
        """Each file that is part of a dataset, and what tells it from others."""
        found = [path for path in self._path.rglob("*") if path.is_file()]
        return {str(path): (os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in found}

    def unfinished(self) -> list[str]:
        """Names of temporary files."""
        return [path.name for path in self._path.rglob("part-*")]


class Reader:
    """Looks at all places, and at what has changed since the last look by every way there is."""

    def __init__(self, places: Sequence[Bucket | Folder], settings: Sequence[BucketSettings]) -> None:
        self._places = places
        self._settings = settings
        self._known: dict[Place, tuple[Objects, State]] = {}

    def look(self) -> tuple[dict[Place, State], dict[Place, Objects]]:
        """Return the state of each dataset, and its objects."""
        known: dict[Place, tuple[Objects, State]] = {}
        with active(*self._settings):
            for place in self._places:
                objects = place.objects()
                there = list_datasets(place.uri)
                types = {info.uuid: (info.type, info.name, info.uri) for info in there.datasets}
                assert [info.problem for info in there.datasets if info.problem] == []
                types |= dict.fromkeys(there.orphans, ("", "", ""))
                for uuid, (kind, name, uri) in types.items():
                    mark = f"/{name}/" if isinstance(place, Folder) else uuid
                    own = {key: objects.pop(key) for key in list(objects) if mark in key}
                    before = self._known.get((place.uri, uuid))
                    state = before[1] if before is not None and before[0] == own else _state(kind, name, uri)
                    known[place.uri, uuid] = own, state
                assert isinstance(place, Folder) or objects == {}, "keys that belong to no dataset"
        self._known = known
        return {at: state for at, (_, state) in known.items()}, {at: own for at, (own, _) in known.items()}


def _state(kind: str, name: str, uri: str) -> State:
    if kind != "dataset":
        if uri:
            with pytest.raises(dtoolcore.DtoolCoreTypeError):
                dtoolcore.DataSet.from_uri(uri)
        return name
    assert verify_dataset(uri).findings == ()
    return described(uri)
