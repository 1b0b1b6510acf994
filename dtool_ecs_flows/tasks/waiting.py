"""A sensor: waits until a dataset is there."""

from __future__ import annotations

import time

from dtool_ecs_flows.datasets import find_dataset
from dtool_ecs_flows.errors import DatasetTimeoutError, StoppedError, UnavailableError
from dtool_ecs_flows.models import DatasetInfo
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, told
from dtool_ecs_flows.words import human_seconds, one_line

_TICK = 0.5  # seconds between two looks at whether the run was cancelled


@operation("wait for", "dataset", retries=0)
def wait_for_dataset(
    dataset: str,
    base_uri: str,
    *,
    poll_seconds: float = 60.0,
    timeout_seconds: float = 24 * 3600.0,
    buckets: Buckets = (),
    config_path: str | None = None,
) -> DatasetInfo:
    """Wait until a frozen dataset is at a base URI: what another flow, or somebody at a terminal, puts there.

    A cancelled run stops within a second between two looks. A store that is down for a while is waited for, too.

    Args:
        dataset: Its name, UUID, or the URI that it will have there. By UUID or URI a look is two small reads in a
            bucket, by name it is a listing.
        base_uri: Base URI, for example ecs://my-bucket.
        poll_seconds: From the end of one look to the next one.
        timeout_seconds: How long to wait at most; with 0 there is one look.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        The dataset: its URI, UUID, name and times.

    Raises:
        DatasetTimeoutError: It was not there, or not frozen, in time.
        NotADatasetError: It is a URI of another place.
    """
    begun, stop = time.monotonic(), StopSignal()
    with told(f"Waiting for {dataset} at {base_uri}") as logger:
        while True:
            state = "there is none"
            try:
                found = find_dataset(
                    dataset, base_uri, settings=settings_of(buckets), config_path=config_path, stop=stop
                )
            except UnavailableError as error:
                state = f"the last look failed: {error}"
                logger.warning("Not looked: %s", error)
            else:
                if found is not None and found.type == "dataset":
                    waited = human_seconds(time.monotonic() - begun)
                    logger.info("Found %s (%s) after %s", one_line(found.name), found.uri, waited)
                    return found
                if found is not None:
                    state = f"{found.uri} is a proto dataset"
            left = begun + timeout_seconds - time.monotonic()
            if left <= 0:
                raise DatasetTimeoutError(
                    f"no frozen dataset {dataset} at {base_uri} after {human_seconds(timeout_seconds)}; {state}"
                )
            _sleep(min(poll_seconds, left), stop)


def _sleep(seconds: float, stop: StopSignal) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if stop.is_set():
            raise StoppedError("stopped waiting; nothing was changed")
        time.sleep(min(_TICK, left))
