"""Times an operation in this process, and says so in one line of JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Do what the request on standard input says: `operation` names it, the rest is its own."""
    request = json.load(sys.stdin)
    operation = operations[request["operation"]]
    imported = _peak_rss()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    answer = operation(request)
    took, cpu_took = time.perf_counter() - begun, time.process_time() - cpu_begun
    cpu_took += answer.pop("cpu_seconds_elsewhere", 0.0)  # where other processes did a part of the work
    line = {
        "seconds": took,
        "cpu_seconds": cpu_took,
        "imported_rss": imported,
        "peak_rss": _peak_rss(),
        "answer": answer,
    }
    print(json.dumps(line), flush=True)


def _peak_rss() -> int:
    """Bytes. From /proc, since getrusage remembers the process that started this one."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
