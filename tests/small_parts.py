"""Large items that are small: what goes in parts goes in small ones, so that a test can move hundreds of them.

The gateway of the tests takes such parts; stores refuse parts below 5 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from dtool_ecs_flows import cache, transfer
from dtool_ecs_flows.datasets import destinations, writer
from dtool_ecs_flows.items import receiving, sending
from tests.independent import noise
from tests.servers.rgw import LEAST_PART

LARGE = noise(2 * LEAST_PART + 1000)
"""The bytes of an item in three parts."""


@contextmanager
def small_parts() -> Iterator[None]:
    """Within it, in this process, an item above the least part goes in parts of that size."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(transfer, "_PART", LEAST_PART))
        for module in (cache, destinations, receiving, sending, transfer, writer):
            stack.enter_context(mock.patch.object(module, "SINGLE_PUT", LEAST_PART))
        yield


def run_in_small_parts(function: Callable[[], object]) -> None:
    """Call a function in small parts: for another process, which finds this module imported by its fork server."""
    with small_parts():
        function()
