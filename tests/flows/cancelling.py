"""A large copy on a worker, to be ended in the middle."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.flows.site import Site
from tests.flows.test_deployments import ask, save_block
from tests.independent import MIB, Raw
from tests.proxy import Proxy, proxied
from tests.servers import S3Server

PARTS, SMALL = 10, 400
PER_SECOND = 2e6  # bytes: the whole takes a minute and a half
SOON = 5.0
"""Seconds, by the flow's own clock, from when it hears of the end to when the operation has ended."""
PATIENCE = 180.0

ENDS = ("CANCELLED", "CRASHED", "FAILED", "COMPLETED")


@dataclass(frozen=True)
class LargeCopy:
    """A copy of large and small items that runs on a worker; parts and small items have arrived."""

    site: Site
    run: str
    source: str
    bucket: BucketSettings
    proxy: Proxy

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
        """How long the operation went on after the flow had heard that it should stop, by the times of its logs."""
        until = time.monotonic() + PATIENCE
        while True:
            logs = ask(self.site, "logs/filter", {"logs": {"flow_run_id": {"any_": [self.run]}}, "limit": 200})
            told = {each["message"].partition(":")[0]: each["timestamp"].replace("Z", "+00:00") for each in logs}
            if {"Asked to stop", "Stopped"} <= told.keys():
                asked, stopped = (dt.datetime.fromisoformat(told[text]) for text in ("Asked to stop", "Stopped"))
                return (stopped - asked).total_seconds()
            assert time.monotonic() < until, told
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
        run = ask(site, f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]
        copy = LargeCopy(site, run, f"file://{source}", bucket, proxy)
        until = time.monotonic() + PATIENCE
        while not (copy.has_sent("UploadPart") and copy.has_sent("PutObject", key="*/data/*")):
            assert time.monotonic() < until, copy.record()["state"]
            time.sleep(0.1)
        yield copy
