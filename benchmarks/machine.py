"""Where a run took place."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path


def describe() -> dict[str, str]:
    """Return processor, cores, memory, kernel and Python; nothing that names the machine or who uses it."""
    kibibytes = int(_first(r"^MemTotal:\s+(\d+) kB$", "/proc/meminfo") or 0)
    return {
        "processor": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{kibibytes / 2**20:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "load_before": f"{os.getloadavg()[0]:.1f}",
    }


def commit() -> str:
    """Return the commit of this repository, with `-dirty` where there are changes; empty outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()


def free_memory() -> int:
    """Return how many bytes of memory are available now."""
    return int(_first(r"^MemAvailable:\s+(\d+) kB$", "/proc/meminfo") or 0) * 1024


def scratch(elsewhere: Path) -> Path:
    """Return a folder for files: in memory where there is room, since creating files on a disk is what is timed there.

    A small file on ext4 takes more CPU time than moving it does.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 8 * 2**30
    return memory / "dtool-ecs-flows-bench" if roomy else elsewhere


def _first(pattern: str, path: str) -> str:
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1] if found else ""
