"""Starts one process and tells what it cost: run as `python -I -S launch.py < job.json > cost.json`.

A process of its own between the benchmark and what it measures, as small as it can be: the peak memory that the
kernel tells of a process begins with that of the one that started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from typing import IO, Any


def launch(job: dict[str, Any]) -> dict[str, Any]:
    """Run `command` with `environment` and `stdin`, for `timeout` seconds at most; return its output and its cost."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(job["stdin"].encode())
        stdin.seek(0)
        command = job["command"]
        streams = [(os.POSIX_SPAWN_DUP2, each.fileno(), number) for number, each in enumerate((stdin, stdout, stderr))]
        begun = time.perf_counter()
        child = os.posix_spawn(command[0], command, job["environment"], file_actions=streams)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
        signal.alarm(job["timeout"])
        _, status, usage = os.wait4(child, 0)
        signal.alarm(0)
        seconds = time.perf_counter() - begun
        return {
            "status": os.waitstatus_to_exitcode(status),
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_rss": usage.ru_maxrss * 1024,
            "stdout": _read(stdout),
            "stderr": _read(stderr),
        }


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


if __name__ == "__main__":
    json.dump(launch(json.load(sys.stdin)), sys.stdout)
