"""Environments of their own for the published peers, made on demand and kept in `.cache/peers`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dtool_ecs_flows.settings import BucketSettings

REPOSITORY = Path(__file__).parents[2]
PINS = Path(__file__).with_name("peers")
CACHE = REPOSITORY / ".cache" / "peers"

# Taken when the tests are collected: inside a test, HOME is another, and pip would not find its configuration.
_OUTSIDE = dict(os.environ)


@cache
def environment(name: str, *, folder: Path = PINS, with_package: bool = False) -> Path:
    """Return the folder with the commands of a virtual environment that holds what `<name>.txt` pins.

    It is made anew where the pins, the interpreter or (with this package in it) the dependencies have changed.

    Args:
        name: Name of the requirement file.
        folder: Where it is.
        with_package: Install this package too, with its dependencies, so that changes in the tree count at once.
    """
    pins = folder / f"{name}.txt"
    packages = ["-r", str(pins)]
    wanted = [sys.version, pins.read_text()]
    if with_package:
        project, _, _ = (REPOSITORY / "pyproject.toml").read_text().partition("[dependency-groups]")
        wanted += [project, _constraints_beside(pins)]
        packages += ["-e", str(REPOSITORY)]
    stamp = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
    made = CACHE / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    stamp_file = made / "made-from"
    commands = made / "bin"
    if not stamp_file.is_file() or stamp_file.read_text() != stamp:
        shutil.rmtree(made, ignore_errors=True)
        install(made, packages, constraints=_constraints_beside(pins) if with_package else "")
        stamp_file.write_text(stamp)
    return commands


def install(folder: Path, packages: Sequence[str], *, constraints: str = "") -> Path:
    """Make a virtual environment with what pip is told to install; return the folder with its commands."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    file = folder / "constraints.txt"
    file.write_text(constraints)
    # Our own pip, from outside, and nothing compiled: of most that is installed here little is ever imported.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    _run([*pip, "install", "--quiet", "--no-compile", "-c", str(file), *packages])
    return folder / "bin"


def _constraints_beside(pins: Path) -> str:
    """Return the project's constraints without those on packages that a requirement file pins to its own version."""
    pinned = {_name(line) for line in pins.read_text().splitlines() if not line.startswith("#")}
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return "\n".join(line for line in lines if _name(line) not in pinned) + "\n"


def _name(line: str) -> str:
    return line.partition("==")[0].strip().lower().replace("_", "-").replace(".", "-")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, env=_OUTSIDE, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


@dataclass(frozen=True)
class Peer:
    """A published client: how it is called, and what it knows (as the design's table says)."""

    name: str
    """Name of its requirement file."""
    scheme: str
    prefix_key: str = ""
    """The setting with its prefix, `{bucket}` to be filled in; empty where it knows none."""
    non_ascii: bool = False
    """Whether item names may be others than ASCII; such peers write handles in base64."""

    def write(self, bucket: BucketSettings, request: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
        """Write a dataset as `peers/write.py` says; return its answer. The base URI is the bucket's if not given."""
        request = {"base_uri": f"{self.scheme}://{bucket.bucket}", **request}
        for key in {"uri", "copy_from"} & request.keys():
            request[key] = self.uri_of(request[key])
        answer: dict[str, Any] = self._call("write.py", [], bucket, prefix, json.dumps(request))
        return answer

    def read(self, bucket: BucketSettings, uri: str) -> dict[str, Any]:
        """Read a dataset as `peers/read.py` says; return its answer."""
        answer: dict[str, Any] = self._call("read.py", [self.uri_of(uri)], bucket)
        return answer

    def uri_of(self, uri: str) -> str:
        """Return the URI by which this peer knows a dataset in a bucket."""
        return f"{self.scheme}:{uri.partition(':')[2]}" if uri.startswith(("ecs:", "s3:")) else uri

    def _call(
        self, script: str, arguments: Sequence[str], bucket: BucketSettings, prefix: str = "", stdin: str = ""
    ) -> Any:
        python = environment(self.name) / "python"
        done = subprocess.run(
            [str(python), "-W", "ignore", str(PINS / script), *arguments],
            input=stdin,
            env=self._variables(bucket, prefix),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise PeerError(f"{self.name}: {script} {' '.join(arguments)} failed:\n{done.stderr}")
        return json.loads(done.stdout)

    def _variables(self, bucket: BucketSettings, prefix: str) -> dict[str, str]:
        start = f"DTOOL_{self.scheme.upper()}"
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("DTOOL_", "AWS_"))},
            f"{start}_ENDPOINT_{bucket.bucket}": bucket.endpoint,
            f"{start}_ACCESS_KEY_ID_{bucket.bucket}": bucket.access_key_id,
            f"{start}_SECRET_ACCESS_KEY_{bucket.bucket}": bucket.secret_access_key.get_secret_value(),
            "DTOOL_CACHE_DIRECTORY": str(Path.home() / f"cache-{self.name}"),
            # boto3 asks for a region even where the endpoint has none.
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        if prefix:
            variables[self.prefix_key.format(bucket=bucket.bucket)] = prefix
        return variables


class PeerError(RuntimeError):
    """A peer ended with an error; its traceback is in the message."""


DTOOL_S3_014 = Peer("dtool-s3-0.14", "s3", "DTOOL_S3_DATASET_PREFIX_{bucket}", non_ascii=True)
DTOOL_S3_013 = Peer("dtool-s3-0.13", "s3", "DTOOL_S3_DATASET_PREFIX")
DTOOL_ECS_05 = Peer("dtool-ecs-0.5", "ecs")
PEERS = (DTOOL_S3_014, DTOOL_S3_013, DTOOL_ECS_05)
