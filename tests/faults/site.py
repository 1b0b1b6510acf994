"""What the tests of faults share."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dtoolcore

from dtool_ecs_flows import BucketSettings, CopyReport, copy_dataset, list_datasets
from tests.conformance.helpers import environment
from tests.independent import MIB, Raw, everything, identifier, noise
from tests.proxy import Proxy

LARGE = 17 * MIB  # two parts
ITEMS = {"large": noise(LARGE), **{f"item {number}": noise(1000 + number, number) for number in range(8)}}
ONE_OF_THEM = f"*/data/{identifier('item 3')}"
LARGE_ONE = f"*/data/{identifier('large')}"

COPY = """
import sys
from dtool_ecs_flows import copy_dataset
copy_dataset(sys.argv[1], sys.argv[2])
"""


@dataclass(frozen=True)
class Site:
    """A dataset on a disk, an empty bucket, and a proxy before it."""

    proxy: Proxy
    direct: BucketSettings
    through: BucketSettings
    raw: Raw
    source: str
    out: Path

    @property
    def uuid(self) -> str:
        return str(dtoolcore.DataSet.from_uri(self.source).uuid)

    def copy_in(self) -> CopyReport:
        """Copy the dataset into the bucket, through the proxy."""
        return copy_dataset(self.source, self.through.base_uri, settings=self.through)

    def copy_out(self, uri: str) -> CopyReport:
        """Copy a dataset of the bucket into the folder, through the proxy."""
        return copy_dataset(uri, str(self.out), settings=self.through)

    def objects(self) -> dict[str, bytes]:
        """All that is in the bucket."""
        return {key: self.raw.get(key) for key in self.raw.listed()}

    def files(self) -> set[str]:
        """Names of the items that are there under their final names; parts of files have others."""
        return {path.name for path in self.out.glob("*/data/*")}

    def is_equal(self, uri: str) -> bool:
        """Whether a dataset in the folder is, for dtoolcore, the source."""
        return everything(uri) == everything(self.source)

    def is_unfinished(self) -> bool:
        """Whether the bucket shows one proto dataset and no frozen one."""
        return [info.type for info in list_datasets(self.direct.base_uri, settings=self.direct).datasets] == [
            "protodataset"
        ]

    def start_copy(self, source: str = "", to: str = "") -> subprocess.Popen[str]:
        """Start a process that copies through the proxy, by default the dataset into the bucket."""
        return subprocess.Popen(
            [sys.executable, "-c", COPY, source or self.source, to or self.through.base_uri],
            env={**os.environ, **environment(self.through)},
            stderr=subprocess.PIPE,
            text=True,
        )
