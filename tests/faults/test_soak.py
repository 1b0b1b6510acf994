"""Archiving, retrieving, verifying and deleting for a long time, under faults: nothing piles up, and nothing stays.

`make soak` does so for an hour; SOAK_MINUTES says for how long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, delete_dataset, list_datasets
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import Raw
from tests.proxy import Proxy, proxied
from tests.proxy.faults import Rule
from tests.servers import S3Server

MINUTES = float(os.environ.get("SOAK_MINUTES", "1"))
ROOT = Path(__file__).parents[2]
HEADROOM = 30  # MB that the memory of a process may grow by, for no reason of ours

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 90 * MINUTES)]

Told = list[dict[str, Any]]
"""What the process held after each round."""


class Every:
    """As `nth` of a rule: so many in a row, again and again; for the first time half a period after the start."""

    def __init__(self, period: int, length: int = 1) -> None:
        self._period, self._length = period, length

    def __contains__(self, nth: object) -> bool:
        assert isinstance(nth, int)
        return (nth - self._period // 2) % self._period < self._length


def disturb(proxy: Proxy) -> None:
    """Let one in some twenty requests go wrong, each in another way, and now and then so many that operations fail."""
    faults: list[tuple[Callable[[Rule], Rule], str, Every]] = [
        (Rule.reset, "*", Every(600, 30)),
        (lambda rule: rule.answer(400, "Refused"), "*", Every(499)),
        (lambda rule: rule.answer(503, "SlowDown"), "*", Every(307)),
        (lambda rule: rule.answer(500, "InternalError", done=True), "*", Every(151)),
        (Rule.reset, "*", Every(139)),
        (Rule.lose_answer, "*", Every(149)),
        (lambda rule: rule.cut_answer(50), "*", Every(157)),
        (lambda rule: rule.cut_request(50), "*", Every(163)),
        (lambda rule: rule.flip_request(7), "*", Every(167)),
        (lambda rule: rule.flip_answer(7), "*/data/*", Every(31)),
    ]
    for fault, key, nth in faults:
        fault(proxy.on(key=key, nth=nth))


def soak(minutes: float, settings: list[BucketSettings], folder: Path, proxies: list[Proxy]) -> Told:
    """Work for so long in a process of its own, with a folder for temporary files of its own."""
    temporary = folder / "tmp"
    temporary.mkdir()
    given = json.dumps([
        {**dict(each), "secret_access_key": each.secret_access_key.get_secret_value()} for each in settings
    ])  # fmt: skip
    command = [sys.executable, "-m", "tests.faults.soaking", str(minutes), str(folder)]
    environment = {**os.environ, "TMPDIR": str(temporary), "MALLOC_ARENA_MAX": "2"}
    told: Told = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            told.append(json.loads(line))
            for proxy in proxies:
                proxy.clear()  # else its log piles up here
    assert process.returncode == 0
    return told


HELD = {"memory": HEADROOM, "native threads": 2, "sockets": 2, "files": 2}
"""What a process may hold more of late than early, at the most."""


def summary(told: Told) -> str:
    """What was held, from the first round over the middle to the last, and what was done, for who waits an hour."""
    some = [told[0], told[len(told) // 4], told[len(told) // 2], told[3 * len(told) // 4], told[-1]]
    held = "; ".join(f"{name} {' '.join(f'{each[name]:.0f}' for each in some)}" for name in HELD)
    return f"\n{len(told)} rounds; {held}\ndone: {told[-1]['done']}\n"


def test_nothing_piles_up_and_nothing_stays(rgw: S3Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """After the last round a process holds what it held after the first ones, and emptied buckets are empty."""
    buckets = [new_bucket(rgw), new_bucket(rgw, dataset_prefix="u/me/")]
    with ExitStack() as stack:
        proxies = [stack.enter_context(proxied(rgw)) for _ in buckets]
        for proxy in proxies:
            disturb(proxy)
        told = soak(
            MINUTES,
            [
                changed(each, endpoint=proxy.endpoint, concurrency=4, cache_directory=str(tmp_path / "cache"))
                for each, proxy in zip(buckets, proxies, strict=True)
            ],
            tmp_path,
            proxies,
        )

    with capfd.disabled():
        sys.stdout.write(summary(told))
    done = told[-1]["done"]
    for name in ("create", "verify", "change", "read", "archive", "retrieve", "list", "delete"):
        assert done[name] > 0
    assert sum(count for name, count in done.items() if name.endswith("failed")) > 0
    for each in told:
        assert each["threads"] == ["MainThread"]
        assert each["temporary"] == each["parts of files"] == []
    early, late = told[: len(told) // 3], told[-len(told) // 3 :]
    for name, headroom in HELD.items():
        assert min(each[name] for each in late) <= max(each[name] for each in early) + headroom, name
    for settings in buckets:
        there = list_datasets(settings.base_uri, settings=settings)
        for info in there.datasets:
            delete_dataset(info.uri, info.name, settings=settings)
        for uuid in there.orphans:
            delete_dataset(f"{settings.base_uri}/{uuid}", "", settings=settings)
        assert Raw(settings).listed() == []
        assert Raw(settings).uploads() == []
