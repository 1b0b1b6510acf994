"""What is measured: each scenario is files, operations on them, and the clients that do them in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

OURS, OUR_BROKER = "dtool-ecs-flows", "dtool-ecs-flows (dtoolcore)"
S5CMD, RCLONE, BARE = "s5cmd", "rclone", "bare obstore"
DTOOL_S3, PREFECT_AWS = "dtool-s3", "prefect-aws"
FOUR_WORKERS, ONE_WORKER = "4 workers", "1 worker"

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True)
class Files:
    """Files of random bytes: how many of which size."""

    groups: tuple[tuple[int, int], ...]
    """Number and size in bytes."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(count for count, _ in self.groups)

    @property
    def bytes(self) -> int:
        """What they hold together."""
        return sum(count * size for count, size in self.groups)


@dataclass(frozen=True)
class Scenario:
    """What some clients do, in one run."""

    name: str
    title: str
    clients: tuple[str, ...]
    """The first is the one that the others are compared with."""
    operations: tuple[str, ...]
    """What is measured, in this order; the later ones use what the earlier ones made."""
    files: Files
    fewer: Mapping[str, Files] = field(default_factory=dict)
    """Of clients that are so slow that fewer files tell the same: rates are compared, per file."""
    unit: str = "files/s"
    """Or MB/s (millions of bytes), or datasets/s."""
    before: tuple[str, ...] = ()
    """Operations that have to come first, and are not measured."""
    datasets: int = 0
    """How many datasets of these files each client's bucket holds from the beginning."""
    fewer_datasets: Mapping[str, int] = field(default_factory=dict)
    latency_ms: float = 0.0
    """Added to each request by a proxy."""
    server: str = ""
    """Where it must be another server than that of the whole run."""

    @property
    def memory(self) -> int:
        """Bytes that it needs: the gateway keeps what is stored in memory, twice, and the files may be there too."""
        return 5 * self.files.bytes

    def among(self, clients: str) -> Scenario:
        """Return the scenario with its first client and those that are named, by commas; no name means all."""
        named = [each.strip() for each in clients.split(",") if each.strip()]
        kept = [each for each in self.clients if not named or each in named or each == self.clients[0]]
        return replace(self, clients=tuple(kept))

    def files_of(self, client: str) -> Files:
        """Return the files that a client works with."""
        return self.fewer.get(client, self.files)

    def datasets_of(self, client: str) -> int:
        """Return how many datasets a client's bucket holds from the beginning."""
        return self.fewer_datasets.get(client, self.datasets)

    def amount(self, client: str, unit: str = "") -> float:
        """Return how much one operation of a client does, in the unit of the rate."""
        unit = unit or self.unit
        if unit == "datasets/s":
            return self.datasets_of(client)
        files = self.files_of(client)
        return files.count if unit == "files/s" else files.bytes / 1e6


def small(count: int) -> Files:
    """Return files of 4 KiB."""
    return Files(((count, 4 * KIB),))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "small",
        "2,000 files of 4 KiB",
        (OURS, S5CMD, RCLONE, BARE, PREFECT_AWS, DTOOL_S3),
        ("up", "down"),
        small(2000),
        fewer={DTOOL_S3: small(100), PREFECT_AWS: small(200)},
    ),
    Scenario(
        "latency",
        "2,000 files of 4 KiB, every request 10 ms later",
        (OURS, S5CMD, RCLONE, BARE, DTOOL_S3),
        ("up", "down"),
        small(2000),
        fewer={DTOOL_S3: small(25)},
        latency_ms=10,
    ),
    Scenario(
        "large",
        "1 file of 2 GiB",
        (OURS, S5CMD, RCLONE),
        ("up", "down"),
        Files(((1, 2 * GIB),)),
        unit="MB/s",
    ),
    Scenario(
        "large8",
        "8 files of 256 MiB",
        (OURS, S5CMD, RCLONE),
        ("up", "down"),
        Files(((8, 256 * MIB),)),
        unit="MB/s",
    ),
    Scenario(
        "mix",
        "1 file of 1 GiB and 2,000 of 4 KiB",
        (OURS, S5CMD, RCLONE),
        ("up", "down"),
        Files(((1, GIB), (2000, 4 * KIB))),
        unit="MB/s",
    ),
    Scenario(
        "dtool",
        "DataSetCreator and `dtool cp`, 500 files of 4 KiB",
        (OUR_BROKER, DTOOL_S3),
        ("create", "up", "down", "read"),
        small(500),
        fewer={DTOOL_S3: small(100)},
    ),
    Scenario(
        "list",
        "a bucket of 1,000 datasets",
        (OURS, OUR_BROKER, DTOOL_S3),
        ("list",),
        Files(((1, 1),)),
        unit="datasets/s",
        datasets=1000,
        fewer_datasets={OUR_BROKER: 100, DTOOL_S3: 20},
    ),
    Scenario(
        "copy",
        "1,000 files of 4 KiB from bucket to bucket, by the server",
        (OURS, S5CMD, RCLONE),
        ("copy",),
        small(1000),
        before=("up",),
    ),
    Scenario(
        "limit",
        "2,000 files of 4 KiB, a server that does next to nothing",
        (OURS, S5CMD, BARE),
        ("up", "down"),
        small(2000),
        server="sink",
    ),
    Scenario(
        "workers",
        "12,000 files of 4 KiB in shards, 8 requests at once in each worker, every request 10 ms later",
        (FOUR_WORKERS, ONE_WORKER),
        ("up",),
        small(12000),
        latency_ms=10,
        server="sink",
    ),
)


def quick(scenario: Scenario) -> Scenario:
    """Return the scenario with next to nothing in it: whether it works, and no more."""
    tiny = Files(tuple((min(count, 20), min(size, 12 * MIB)) for count, size in scenario.files.groups))
    fewer = {client: small(5) for client in scenario.fewer}
    return replace(
        scenario,
        title=f"quick: {scenario.title}",
        files=tiny,
        fewer=fewer,
        datasets=min(scenario.datasets, 10),
        fewer_datasets=dict.fromkeys(scenario.fewer_datasets, 3),
    )
