"""What an operation needs of memory, measured in a process of its own: `python -m tests.memory.child NAME ARGUMENTS`.

It prints the peak over what the imports alone take, in MB, as the last thing that it does.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from unittest import mock

from dtool_ecs_flows import documents, transfer
from dtool_ecs_flows.datasets import copy_dataset, create_dataset, iter_datasets, list_datasets, verify_dataset
from dtool_ecs_flows.datasets.destinations import EcsDestination
from dtool_ecs_flows.errors import EcsFlowsError, TransferError, UnavailableError
from dtool_ecs_flows.items import sending
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.stored import StoredDataset
from tests.memory.simulated import ADMIN, UUID, CrowdedStore, SimulatedStore


def peak() -> float:
    """The most memory that this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def bucket(name: str, endpoint: str) -> BucketSettings:
    return BucketSettings(bucket=name, endpoint=endpoint, access_key_id="me", secret_access_key="secret")


def manifest_in_and_out(path: str) -> None:
    """Read a manifest, and write it again."""
    read = documents.parse_manifest(Path(path).read_bytes(), path)
    documents.dump_manifest(read)


def copy_simulated(folder: str, count: str, there: str = "") -> None:
    """Copy a dataset of `count` items between simulated buckets; with `there` they are at the destination already."""
    stores = {
        "source": SimulatedStore(bucket("source", "http://one"), Path(folder), frozen=True, there=True),
        "target": SimulatedStore(bucket("target", "http://two"), Path(folder), frozen=False, there=bool(there)),
    }
    with mock.patch("dtool_ecs_flows.stored.open_store", lambda settings: stores[settings.bucket]):
        report = copy_dataset(
            f"ecs://source/{UUID}", "ecs://target", settings=[store.settings for store in stores.values()]
        )
    assert report.items == int(count)
    assert report.copied_items == (0 if there else int(count))


def plan_simulated(folder: str) -> None:
    """Do all of a copy to where the items are already, but for looking at each."""
    source = SimulatedStore(bucket("source", "http://one"), Path(folder), frozen=True, there=True)
    target = SimulatedStore(bucket("target", "http://two"), Path(folder), frozen=False, there=True)
    manifest = StoredDataset(cast("Store", source), UUID).read_manifest()
    destination = EcsDestination(StoredDataset(cast("Store", target), UUID))
    destination.begin(ADMIN, manifest.items)
    items = dict(manifest.items)
    destination.check(items)
    destination.freeze(documents.Manifest(items, manifest.dtoolcore_version), {}, ADMIN)


def list_crowded(count: str) -> None:
    """Go through a bucket of `count` datasets, each under a prefix of its own."""
    store = CrowdedStore(bucket("crowded", "http://one"), int(count))
    with mock.patch("dtool_ecs_flows.datasets.listing.open_store", return_value=store):
        found = sum(info.type == "dataset" for info in iter_datasets("ecs://crowded", settings=store.settings))
    assert found == int(count)


def send_large(path: str, endpoint: str, part: str) -> None:
    """Make a dataset of one file, in parts of `part` bytes."""
    with _parts_of(int(part)):
        create_dataset("large", "ecs://target", files={"zeros": path}, settings=bucket("target", endpoint))


def send_many(folder: str, endpoint: str) -> None:
    """Make a dataset of the files of a folder, with many requests at once."""
    settings = bucket("target", endpoint).model_copy(update={"concurrency": 32})
    create_dataset("many", "ecs://target", directory=folder, settings=settings)


def pass_large_on(source: str, target: str, part: str) -> None:
    """Copy a dataset from one endpoint to another, large items in parts of `part` bytes."""
    settings = [bucket("source", source), bucket("target", target)]
    with _parts_of(int(part)):
        assert copy_dataset(f"ecs://source/{UUID}", "ecs://target", settings=settings).copied_items == 1


def fetch_large(endpoint: str, folder: str, part: str) -> None:
    """Copy a dataset to a disk, large items in parts of `part` bytes."""
    with _parts_of(int(part)):
        copy_dataset(f"ecs://source/{UUID}", f"file://{folder}", settings=bucket("source", endpoint))


def fetch_another_size(endpoint: str, folder: str) -> None:
    """Copy a dataset to a disk whose item has another size than its manifest says."""
    with contextlib.suppress(TransferError):
        copy_dataset(f"ecs://source/{UUID}", f"file://{folder}", settings=bucket("source", endpoint))
        raise AssertionError("it was copied")


def verify_large(endpoint: str, part: str) -> None:
    """Read a dataset and keep nothing, large items in parts of `part` bytes."""
    with _parts_of(int(part)):
        verify_dataset(f"ecs://source/{UUID}", settings=bucket("source", endpoint))


def meet_hostile(source: str, target: str, folder: str) -> None:
    """Do all that one does with a dataset of somebody else's: each of it ends, if only in an error of ours."""
    settings = [bucket("source", source), bucket("target", target)]
    uri, refused = f"ecs://source/{UUID}", 0
    for operation in (
        lambda: list_datasets("ecs://source", settings=settings),
        lambda: verify_dataset(uri, settings=settings),
        lambda: copy_dataset(uri, "ecs://target", settings=settings),
        lambda: copy_dataset(uri, folder, settings=settings),
    ):
        try:
            operation()
        except UnavailableError:  # nobody shall be kept waiting
            raise
        except EcsFlowsError:
            refused += 1
    assert refused >= 2


@contextmanager
def _parts_of(size: int) -> Iterator[None]:
    with (
        mock.patch.object(transfer, "part_size", return_value=size),
        mock.patch.object(sending, "part_size", return_value=size),
    ):
        yield


def main() -> None:
    """Do one of the above."""
    name, *arguments = sys.argv[1:]
    imported = peak()
    globals()[name](*arguments)
    print(round(peak() - imported))  # noqa: T201


if __name__ == "__main__":
    main()
