"""The files that are moved: made once a run, of random bytes, plain and as a frozen dataset at once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.scenarios import MIB, Files
from dtool_ecs_flows import create_dataset


@dataclass(frozen=True)
class Made:
    """Where files are: the plain ones are those inside the dataset."""

    folder: Path
    dataset: str


@cache
def make(files: Files, under: Path) -> Made:
    """Make files once, below a folder; they are in the page cache then."""
    plain = under / "plain"
    plain.mkdir(parents=True)
    number = 0
    for count, size in files.groups:
        for _ in range(count):
            with (plain / f"file-{number:05}.dat").open("wb") as file:
                for start in range(0, size, MIB):
                    file.write(os.urandom(min(MIB, size - start)))
            number += 1
    datasets = under / f"dataset-{files.count}-{files.bytes}"
    datasets.mkdir()
    uri = create_dataset("benchmark", str(datasets), directory=plain).uri
    shutil.rmtree(plain)
    (dataset,) = datasets.iterdir()
    return Made(dataset / "data", uri)


def weigh(folder: Path) -> tuple[int, int]:
    """Return the number of files below a folder, and their bytes: the items alone where it holds a dataset."""
    data = list(folder.glob("*/data"))
    sizes = [path.stat().st_size for top in data or [folder] for path in top.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
