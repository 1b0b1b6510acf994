"""Archive, retrieve, verify and delete for so long, and tell what this process holds after each round.

`python -m tests.faults.soaking MINUTES FOLDER` with the settings of two buckets, as JSON, on its standard input. It
prints a line of JSON for each round; what fails by a fault is done again later, or deleted.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import dtoolcore

from dtool_ecs_flows import (
    BucketSettings,
    copy_dataset,
    create_dataset,
    delete_dataset,
    list_datasets,
    transfer,
    verify_dataset,
)
from dtool_ecs_flows.errors import EcsFlowsError, NotADatasetError
from dtool_ecs_flows.settings import active
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import content
from tests.independent import MIB, noise

CONTENTS = {"large": noise(9 * MIB), **{f"item {number}": noise(5000 + number, number) for number in range(12)}}
PART = 5 * MIB  # no server takes less
BUDGET = 2.0  # seconds of retries: an outage takes longer, and is given up on
LEAST = 9  # rounds, though the machine be slow


def held() -> dict[str, Any]:
    """What this process holds, once the threads have ended that read ahead for datasets that were let go."""
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "dtool-ecs-ahead":
            thread.join(60)
    files = [_target(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "memory": resident / MIB,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "native threads": len(os.listdir("/proc/self/task")),
        "sockets": sum(name.startswith("socket:") for name in files),
        "files": sum(not name.startswith("socket:") for name in files),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
    }


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # the one by which they were listed
        return ""


class Round:
    """One dataset: made of files, copied to another bucket and to a disk, read, changed, verified."""

    def __init__(self, settings: list[BucketSettings], files: Path, folder: Path, done: Counter[str]) -> None:
        self.one, self.two = (each.base_uri for each in settings)
        self.files, self.folder, self.done = files, folder, done

    def run(self) -> None:
        uri = self._done("create", lambda: create_dataset("soak", self.one, directory=self.files, tags=["raw"]).uri)
        if uri is None:
            return
        self._done("verify", partial(verify_dataset, uri))
        self._done("change", lambda: dtoolcore.DataSet.from_uri(uri).put_readme("---\nnew: text\n"))
        self._done("read", lambda: content(dtoolcore.DataSet.from_uri(uri)))
        self._done("archive", partial(copy_dataset, uri, self.two))
        self._done("retrieve", partial(copy_dataset, uri, str(self.folder)))

    def delete(self) -> None:
        """Delete all that is in the buckets, whatever state it is in, as far as that goes now."""
        for base_uri in (self.one, self.two):
            there = self._done("list", partial(list_datasets, base_uri))
            if there is None:
                continue
            left = [(info.uri, info.name) for info in there.datasets]
            for uri, name in [*left, *((f"{base_uri}/{uuid}", "") for uuid in there.orphans)]:
                with suppress(NotADatasetError):  # the answer that said so was lost
                    self._done("delete", partial(delete_dataset, uri, name))

    def _done(self, name: str, operation: Callable[[], Any]) -> Any:
        try:
            result = operation()
        except NotADatasetError:
            raise
        except EcsFlowsError:
            self.done[f"{name} failed"] += 1
            return None
        self.done[name] += 1
        return result


def main(minutes: float, folder: Path) -> None:
    settings = [BucketSettings(**each) for each in json.load(sys.stdin)]
    files, out, cache = (folder / name for name in ("files", "out", "cache"))
    files.mkdir()
    for name, data in CONTENTS.items():
        (files / name).write_bytes(data)
    until, done = time.monotonic() + 60 * minutes, Counter[str]()
    for number in count():
        if number >= LEAST and time.monotonic() > until:
            break
        out.mkdir()
        with active(*settings):
            each = Round(settings, files, out, done)
            each.run()
            each.delete()
        part_files = [path.name for path in (*out.rglob("part-*"), *cache.rglob(".*"))]
        for path in (out, cache):
            shutil.rmtree(path, ignore_errors=True)
        sys.stdout.write(json.dumps({**held(), "parts of files": part_files, "done": done}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with (
        mock.patch.object(failures, "BUDGET", BUDGET),
        mock.patch.object(failures, "FIRST_BUDGET", BUDGET),
        mock.patch.object(transfer, "_PART", PART),
    ):
        main(float(sys.argv[1]), Path(sys.argv[2]))
