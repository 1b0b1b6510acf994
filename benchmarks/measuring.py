"""Runs one job of one client, in a process of its own, and says what it took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LAUNCH = Path(__file__).with_name("launch.py")
TIMEOUT_SECONDS = 300


class ClientFailedError(RuntimeError):
    """A client ended with an error, or did not do what it was told; the message says which."""


@dataclass(frozen=True)
class Job:
    """A process to run."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    request: Mapping[str, Any] | None = None
    """For a module of `benchmarks.inside`, which times the operation itself; None for a program, timed as a whole."""


@dataclass(frozen=True)
class Measurement:
    """What a job took. Sizes are bytes, times are seconds."""

    seconds: float
    """Of the operation alone, inside an interpreter that has imported its package; of a program, the whole process."""
    cpu_seconds: float
    """User and system time of the same."""
    process_seconds: float
    """Of the whole process, from its start to its end."""
    process_cpu_seconds: float
    """User and system time of the whole process."""
    peak_rss: int
    """Peak of the resident memory of the whole process."""
    imported_rss: int
    """Peak of the resident memory before the operation began; 0 for a program."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What the operation returned; empty for a program."""


def measure(job: Job) -> Measurement:
    """Run a job to its end.

    Raises:
        ClientFailedError: It ended with another status than 0, or was killed since it took TIMEOUT_SECONDS.
    """
    stdin = "" if job.request is None else json.dumps(job.request)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCH)],
        input=json.dumps(
            {
                "command": job.command,
                "environment": dict(job.environment),
                "stdin": stdin,
                "timeout": TIMEOUT_SECONDS,
            }
        ),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    cost = json.loads(done.stdout)
    if cost["status"]:
        said = f"{cost['stdout'][-1000:]}{cost['stderr'][-2000:]}".strip()
        raise ClientFailedError(f"{' '.join(job.command)} ended with status {cost['status']}: {said}")
    seconds, cpu_seconds = cost["seconds"], cost["cpu_seconds"]
    if job.request is None:
        return Measurement(seconds, cpu_seconds, seconds, cpu_seconds, cost["peak_rss"], 0)
    told = json.loads(cost["stdout"].splitlines()[-1])
    return Measurement(
        told["seconds"],
        told["cpu_seconds"],
        seconds,
        cpu_seconds,
        told["peak_rss"],
        told["imported_rss"],
        told["answer"],
    )
