"""Runs scenarios: the clients in turn, in rounds, on one server."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import files, servers
from benchmarks.clients import CLIENTS, Client, Ours, Place, S5cmd
from benchmarks.measuring import ClientFailedError, Measurement, measure
from benchmarks.results import Outcome, ScenarioResult
from benchmarks.scenarios import MIB, Scenario
from tests.proxy import counting_proxy
from tests.servers import S3Server

SETTLE_SECONDS = 3.0
"""After much was deleted: the gateway gives the room back behind the scenes, with work that others would pay for."""

Say = Callable[[str], None]


class Bench:
    """One run: a scratch folder, and the servers that its scenarios ask for, each started once."""

    def __init__(self, scratch: Path, server: str, say: Say, stack: ExitStack) -> None:
        """Nothing is started yet; what will be ends with the stack."""
        self._scratch = scratch
        self._server = server
        self._say = say
        self._stack = stack
        self._servers: dict[str, S3Server] = {}

    def run(self, scenario: Scenario, rounds: int) -> ScenarioResult:
        """Measure one scenario.

        Args:
            scenario: What is done by whom.
            rounds: How often each client does it. One pass more comes first: it warms the server up, and counts
                requests, and is not timed.
        """
        server = self._start(scenario.server or self._server)
        outcomes = {
            name: {each: _empty(scenario, name, each) for each in scenario.operations if CLIENTS[name].can(each)}
            for name in scenario.clients
        }
        with ExitStack() as stack:
            endpoint = server.endpoint
            if scenario.latency_ms:
                endpoint = stack.enter_context(servers.slowed(server, scenario.latency_ms))
            turns = [stack.enter_context(self._turn(scenario, CLIENTS[name], server)) for name in scenario.clients]
            for number in range(rounds + 1):
                self._say(f"{scenario.name}: {f'round {number} of {rounds}' if number else 'warming up'}")
                first = number % len(turns)
                for turn in turns[first:] + turns[:first]:
                    turn.take(outcomes[turn.client.name], endpoint, number)
        in_order = [each for operation in scenario.operations for each in _of(operation, outcomes.values())]
        return ScenarioResult(scenario.name, scenario.title, server.name, scenario.latency_ms, scenario.unit, in_order)

    def _start(self, name: str) -> S3Server:
        if name not in self._servers:
            self._say(f"starting {name}")
            self._servers[name] = self._stack.enter_context(servers.start(name))
        return self._servers[name]

    @contextmanager
    def _turn(self, scenario: Scenario, client: Client, server: S3Server) -> Iterator[_Turn]:
        """Prepare a client's buckets and files, and leave nothing behind."""
        made = files.make(scenario.files_of(client.name), self._scratch)
        folder = self._scratch / f"{scenario.name}-{scenario.clients.index(client.name)}"
        home = folder / "home"
        home.mkdir(parents=True)
        buckets = [f"bench-{uuid.uuid4().hex[:12]}" for _ in range(2)]
        for bucket in buckets:
            server.make_bucket(bucket)
        place = Place(server, buckets[0], buckets[1], home, made.folder, made.dataset, folder / "target")
        if count := scenario.datasets_of(client.name):
            measure(Ours().make_datasets(place, count))
        turn = _Turn(scenario, client, place)
        try:
            yield turn
        finally:
            turn.empty_buckets()
            shutil.rmtree(folder)


class _Turn:
    """One client in its place, round after round."""

    def __init__(self, scenario: Scenario, client: Client, place: Place) -> None:
        self.client = client
        self._scenario = scenario
        self._place = place

    def take(self, outcomes: dict[str, Outcome], endpoint: str, number: int) -> None:
        """Do all operations once, and add to the outcomes; in round 0, count requests instead."""
        place = self._place.through(endpoint)
        try:
            for operation in self._scenario.before:
                place = replace(place, uri=self._do(operation, place).answer.get("uri", ""))
            for operation, outcome in outcomes.items():
                try:
                    done = self._counted(operation, place, outcome) if number == 0 else self._do(operation, place)
                except ClientFailedError as error:
                    outcome.failures.append(f"round {number}: {error}")
                    break
                if operation in ("up", "create"):
                    place = replace(place, uri=done.answer.get("uri", ""))
                if number:
                    _add(outcome, done, number)
        finally:
            if not self._scenario.datasets:
                self.empty_buckets()

    def empty_buckets(self) -> None:
        """Remove all objects, and wait until the server has digested it."""
        for bucket in (self._place.bucket, self._place.other_bucket):
            if self._place.server.client().list_objects_v2(Bucket=bucket, MaxKeys=1).get("KeyCount"):
                measure(S5cmd().remove(self._place, bucket))
        if self._scenario.files.bytes > 256 * MIB:
            time.sleep(SETTLE_SECONDS)

    def _counted(self, operation: str, place: Place, outcome: Outcome) -> Measurement:
        with counting_proxy(place.server) as proxy:
            done = self._do(operation, place.through(proxy.endpoint))
            outcome.requests = len(proxy.requests)
        return done

    def _do(self, operation: str, place: Place) -> Measurement:
        """Run one operation and look whether it did what it says.

        Raises:
            ClientFailedError: It did not.
        """
        place.target.mkdir()
        try:
            done = measure(self.client.job(operation, place))
            wanted = self._scenario.files_of(self.client.name)
            if operation == "down" and (got := files.weigh(place.target)) != (wanted.count, wanted.bytes):
                raise ClientFailedError(f"{self.client.name} brought {got[0]} files of {got[1]} bytes in all")
            if operation == "list" and done.answer["datasets"] != self._scenario.datasets_of(self.client.name):
                raise ClientFailedError(f"{self.client.name} listed {done.answer['datasets']} datasets")
        finally:
            for used in (place.target, *place.home.iterdir()):
                shutil.rmtree(used)
        return done


def _of(operation: str, outcomes: Iterable[dict[str, Outcome]]) -> list[Outcome]:
    """Return what each client that can has done, compared with the first."""
    done = [each[operation] for each in outcomes if operation in each]
    for outcome in done:
        outcome.conclude(done[0])
    return done


def _empty(scenario: Scenario, client: str, operation: str) -> Outcome:
    wanted = scenario.files_of(client)
    amount = scenario.amount(client)
    datasets = scenario.datasets_of(client)
    return Outcome(client, operation, scenario.unit, wanted.count, wanted.bytes, datasets, amount)


def _add(outcome: Outcome, done: Measurement, number: int) -> None:
    outcome.rounds.append(number)
    outcome.seconds.append(done.seconds)
    outcome.cpu_seconds.append(done.cpu_seconds)
    outcome.process_seconds.append(done.process_seconds)
    outcome.process_cpu_seconds.append(done.process_cpu_seconds)
    outcome.peak_rss.append(done.peak_rss)
    outcome.imported_rss.append(done.imported_rss)


def versions(scenarios: Sequence[Scenario], server: str) -> dict[str, str]:
    """Return what exactly is measured, by client and by server; environments that are not there yet are made."""
    names = dict.fromkeys(name for scenario in scenarios for name in scenario.clients)
    used = dict.fromkeys(scenario.server or server for scenario in scenarios)
    return {
        **{name: CLIENTS[name].version() for name in names},
        **{f"server {name}": servers.version(name) for name in used},
    }
