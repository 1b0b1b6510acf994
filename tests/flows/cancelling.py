"""A large copy on a worker, to be ended in the middle."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.flows.site import Site, ask, save_block
from tests.independent import MIB, Raw
from tests.proxy import Proxy, proxied
from tests.servers import S3Server

PARTS, SMALL = 10, 400
PER_SECOND = 2e6  # bytes: the whole takes a minute and a half
SOON = 20.0
"""Seconds, by the flow's own clock, from when it hears of the end to when the operation has ended.

A busy machine takes some for the part that is under way; what is left would take more than a minute.
"""
PATIENCE = 180.0

LINE = re.compile(r"^([\d:]+\.\d+) \|.* - (Asked|Stopped)(?: to stop)?: ", re.MULTILINE)
ENDS = ("CANCELLED", "CRASHED", "FAILED", "COMPLETED")


@dataclass(frozen=True)
class LargeCopy:
    """A copy of large and small items that runs on a worker; parts and small items have arrived."""

    site: Site
    run: str
    source: str
    bucket: BucketSettings
    proxy: Proxy
    begun: int
    """Where in the worker's log it begins."""

    def record(self) -> Any:
        """The flow run, as Prefect has it on record."""
        return ask(self.site, f"flow_runs/{self.run}")

    def outcome(self) -> str:
        """Wait for the end of the flow run, and return the name of its state."""
        until = time.monotonic() + PATIENCE
        while (state := self.record()["state"])["type"] not in ENDS:
            assert time.monotonic() < until, state
            time.sleep(0.2)
        return str(state["name"])

    def has_sent(self, what: str, key: str = "*") -> bool:
        """Whether the store has answered such a request."""
        return any(request.status == 200 for request in self.proxy.seen(what, key=key))

    def seconds_to_stop(self) -> float:
        """How long the operation went on after the flow had heard that it should stop, by the times of their lines.

        They are what the worker prints: a process that SIGTERM ends may not have sent its last lines to Prefect.
        """
        until = time.monotonic() + PATIENCE
        while True:
            said = worker_says(self.site)[self.begun :]
            told = {text: moment for moment, text in LINE.findall(said)}
            if len(told) == 2:
                return (seconds(told["Stopped"]) - seconds(told["Asked"])) % (24 * 3600)
            assert time.monotonic() < until, said
            time.sleep(0.5)

    def finish(self) -> None:
        """Check that nothing is frozen and the parts were kept on purpose; the same copy again sends the rest."""
        raw = Raw(self.bucket)
        (half,) = list_datasets(self.bucket.base_uri, settings=self.bucket).datasets
        assert half.type == "protodataset"
        assert len(raw.uploads()) == 1
        sent = sum(request.status == 200 for request in self.proxy.seen("UploadPart"))
        self.proxy.clear()

        (source,) = list_datasets(self.source).datasets
        again = copy_dataset(source.uri, self.bucket.base_uri, settings=self.bucket)

        assert 0 < again.skipped < SMALL
        assert self.proxy.seen("CreateMultipartUpload") == []
        assert len(self.proxy.seen("UploadPart")) == PARTS - sent < PARTS
        assert raw.uploads() == []
        assert raw.is_frozen(again.uuid)


def seconds(moment: str) -> float:
    """The seconds of a day that a moment such as 12:34:56.789 stands for."""
    hours, minutes, rest = moment.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def worker_says(site: Site) -> str:
    """What the site's worker, and the flow runs in it, have printed."""
    return (site.folder / "worker.log").read_text("utf-8")


@contextmanager
def large_copy(site: Site, server: S3Server, folder: Path) -> Iterator[LargeCopy]:
    """Have a worker of this site begin a copy that would take more than a minute, by the limit of its block."""
    source, files = folder / "source", folder / "files"
    for each in (source, files):
        each.mkdir()
    with (files / "large").open("wb") as file:
        file.truncate(PARTS * 16 * MIB)
    for number in range(SMALL):
        (files / f"{number}").write_bytes(bytes(64 * 1024))
    create_dataset("large", f"file://{source}", directory=files)
    with proxied(server) as proxy:
        bucket = changed(new_bucket(server), endpoint=proxy.endpoint)
        save_block(site, changed(bucket, max_bytes_per_second=PER_SECOND), "slow")
        deployment = ask(site, "deployments/name/archive/archive-now")["id"]
        block = {"$ref": {"block_document_slug": "ecs-bucket/slow"}}
        parameters = {"source_base_uri": f"file://{source}", "bucket": block}
        begun = len(worker_says(site))
        run = ask(site, f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]
        copy = LargeCopy(site, run, f"file://{source}", bucket, proxy, begun)
        until = time.monotonic() + PATIENCE
        while not (copy.has_sent("UploadPart") and copy.has_sent("PutObject", key="*/data/*")):
            assert time.monotonic() < until, copy.record()["state"]
            time.sleep(0.1)
        yield copy
