"""Copies in a process of its own, which kills itself on its way: `python -m tests.stores.child SOURCE BASE ITEMS`."""

from __future__ import annotations

import os
import signal
import sys

from dtool_ecs_flows import copy_dataset
from dtool_ecs_flows.models import Progress
from tests.stores import azure

if __name__ == "__main__":
    if azure.ENDPOINT in os.environ:
        azure.redirect()
    source, base_uri, after = sys.argv[1], sys.argv[2], int(sys.argv[3])

    def kill(progress: Progress) -> None:
        if progress.items_done >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    copy_dataset(source, base_uri, progress=kill)
