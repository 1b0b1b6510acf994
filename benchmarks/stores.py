"""Copies from and to the stores of other dtool plugins, beside dtoolcore's own copy: `make bench-stores`.

500 files of 4 KiB, on the other side a bucket on the RADOS Gateway. Each request to the other store is held back for
10 ms, as if it were far away; none to the gateway is. Both take turns, each with a dataset of its own, in one process
that has imported everything. dtoolcore reads and writes the bucket through our broker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import dtoolcore

from benchmarks import machine, servers
from benchmarks.measuring import ROOT
from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset
from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.settings import active
from tests.servers import start_other
from tests.servers.samba import SHARE
from tests.stores import azure

RESULT = ROOT / "benchmarks" / "results" / "stores.md"
WANTED = 3.0  # times as fast as dtoolcore's own copy
SIZE = 4096  # bytes of a file

Copy = Callable[[str, str], str]
"""Copies a dataset, by its URI, to a base URI, and returns the URI of the copy."""

COPIES: dict[str, Copy] = {
    "dtoolcore": lambda uri, base_uri: str(dtoolcore.copy(uri, base_uri)),
    "here": lambda uri, base_uri: copy_dataset(uri, base_uri).uri,
}


@dataclass
class Case:
    """One direction of one store, with the seconds that each copy took in each round."""

    name: str
    source: Callable[[], str]
    """Makes a dataset of its own and returns its URI."""
    base_uri: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COPIES})

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as dtoolcore, round by round."""
        return [theirs / ours for theirs, ours in zip(self.seconds["dtoolcore"], self.seconds["here"], strict=True)]


class Datasets:
    """Makes datasets in the bucket, all with the same files."""

    def __init__(self, folder: Path, count: int, bucket: BucketSettings) -> None:
        self._folder = folder / "files"
        self._folder.mkdir()
        self._bucket = bucket
        for number in range(count):
            (self._folder / f"{number:04}.bin").write_bytes(os.urandom(SIZE))

    def in_bucket(self) -> str:
        """Make one in the bucket."""
        return create_dataset("speed", self._bucket.base_uri, directory=self._folder).uri

    def at(self, base_uri: str) -> Callable[[], str]:
        """Return what makes one in another store."""
        return lambda: copy_dataset(self.in_bucket(), base_uri).uri

    def published(self, endpoint: str) -> Callable[[], str]:
        """Return what publishes one over HTTP, at an endpoint."""
        far = BucketSettings(**{**dict(self._bucket), "endpoint": endpoint})

        def publish() -> str:
            uri = self.in_bucket()
            with active(far):
                return str(ECSStorageBroker(uri).http_enable())

        return publish


@contextmanager
def cases(folder: Path, count: int, milliseconds: float) -> Iterator[list[Case]]:
    """Start the servers, and give what is to be measured."""
    with ExitStack() as stack:

        def far(endpoint: str) -> str:
            return stack.enter_context(servers.held_back(endpoint, milliseconds))

        gateway = stack.enter_context(servers.start("rgw"))
        bucket = f"bench-{uuid.uuid4()}"
        gateway.make_bucket(bucket)
        settings = BucketSettings(
            bucket=bucket,
            endpoint=gateway.endpoint,
            access_key_id=gateway.access_key_id,
            secret_access_key=gateway.secret_access_key,
        )
        stack.enter_context(active(settings))
        # A copy out of the store goes to a bucket that does not have the dataset yet.
        another = settings.model_copy(update={"bucket": f"bench-{uuid.uuid4()}"})
        gateway.make_bucket(another.bucket)
        stack.enter_context(active(another))
        samba, azurite = (stack.enter_context(start_other(name)) for name in ("samba", "azurite"))
        share = {
            "USERNAME": samba.user,
            "PASSWORD": samba.secret,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": str(urlsplit(far(f"http://{samba.endpoint}")).port),
            "DOMAIN": "WORKGROUP",
            "SERVICE_NAME": SHARE,
            "PATH": "bench",
        }
        (samba.directory / "share" / "bench").mkdir()
        os.environ |= {f"DTOOL_SMB_{key}_bench": value for key, value in share.items()}
        os.environ |= {
            f"DTOOL_AZURE_ACCOUNT_KEY_{azurite.user}": azurite.secret,
            azure.ENDPOINT: urlsplit(far(f"http://{azurite.endpoint}")).netloc,
            "DTOOL_CACHE_DIRECTORY": str(folder / "cache"),
        }
        azure.redirect()
        datasets = Datasets(folder, count, settings)
        smb, blobs, back = "smb://bench", f"azure://{azurite.user}", another.base_uri
        yield [
            Case("from http", datasets.published(far(gateway.endpoint)), back),
            Case("to azure", datasets.in_bucket, blobs),
            Case("from azure", datasets.at(blobs), back),
            Case("to smb", datasets.in_bucket, smb),
            Case("from smb", datasets.at(smb), back),
        ]


def measure(case: Case, folder: Path) -> None:
    """Do one round."""
    for name, copy in COPIES.items():
        uri = case.source()
        shutil.rmtree(folder / "cache", ignore_errors=True)
        begun = time.monotonic()
        copy(uri, case.base_uri)
        case.seconds[name].append(time.monotonic() - begun)
        print(f"{case.name}, {name}: {case.seconds[name][-1]:.1f} s", flush=True)


def table(measured: list[Case], count: int, milliseconds: float) -> str:
    """Return the result as a page."""
    here = machine.describe()
    rows = [
        f"| {case.name} | {_middle(case.seconds['dtoolcore']):.1f} s | {_middle(case.seconds['here']):.1f} s "
        f"| {_middle(case.ratios):.1f} × ({min(case.ratios):.1f} to {max(case.ratios):.1f}) |"
        for case in measured
    ]
    about = (
        f"{count} files of {SIZE} bytes, each request to the other store {milliseconds:g} ms later. Rounds: "
        f"{len(measured[0].ratios)}, of which this is the median. At least {WANTED:g} × is wanted. How it is measured: "
        "[README](../README.md#other-stores)."
    )
    where = (
        f"{here['processor']}, {here['cores']} cores, load before {here['load_before']}, {here['kernel']}, "
        f"{here['python']}, commit {machine.commit()}."
    )
    return "\n".join([
        "# From and to other stores",
        "",
        about,
        "",
        "| | dtoolcore | here | |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        "",
        where,
        "",
    ])  # fmt: skip  # a line is a line


_middle = statistics.median


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--latency", type=float, default=10, help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the plugins' own code
    with tempfile.TemporaryDirectory() as name, cases(Path(name), arguments.items, arguments.latency) as measured:
        for _ in range(arguments.rounds):
            for case in measured:
                measure(case, Path(name))
        page = table(measured, arguments.items, arguments.latency)
    print(page)
    arguments.output.write_text(page)


if __name__ == "__main__":
    main()
