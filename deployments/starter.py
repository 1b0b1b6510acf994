r"""What the deployments need on a Prefect server: block type, work pool with its limit and queues, variables.

    python starter.py --block my-bucket --source file:///data/datasets --audits /data/audits \
        --inventories /data/inventories

Run it as often as you like. What is there already is left as it is, since somebody may have changed it in the UI;
with --overwrite a variable that is named gets its new value. The blocks come from `dtool-ecs-flows blocks import`.
"""

from __future__ import annotations

import argparse

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable
from prefect.workers.process import ProcessWorker

from dtool_ecs_flows.blocks import EcsBucket

POOL = "dtool-ecs"

RUNS_AT_ONCE = 4
"""Flow runs of the pool at once, all workers together. Each copies some datasets, each of those with the requests at
once of its bucket's block: the store sees the product."""

QUEUE = "people"
"""A work queue that comes before the pool's own: of the places, those who wait in front of the UI get the first."""

VARIABLES = {
    "--block": ("dtool_block", "my-bucket", "name of the bucket's block, as `blocks import` says it"),
    "--source": ("dtool_source", "file:///data/datasets", "what is archived every night, as a worker sees it"),
    "--audits": ("dtool_audits", "/data/audits", "folder for what audits find, which each worker can write"),
    "--inventories": ("dtool_inventories", "/data/inventories", "folder for inventories, which each worker can write"),
}
"""The variables that prefect.yaml asks for: name, first value and meaning, by the option that gives another value."""


def main() -> None:
    """Make what is missing, and say so."""
    arguments = _arguments()
    EcsBucket.register_type_and_schema()
    print(f"block type {EcsBucket.get_block_type_slug()}: registered")
    with get_client(sync_client=True) as client:
        print(f"work pool {POOL}: {make_pool(client)}")
        print(f"work queue {QUEUE}: {make_queue(client)}")
    for option, (name, first, _) in VARIABLES.items():
        wanted = vars(arguments)[option.lstrip("-")]
        print(f"variable {name}: {set_variable(name, wanted, first, overwrite=arguments.overwrite)}")


def make_pool(client: SyncPrefectClient) -> str:
    """Make the work pool; one that is there keeps its limit, and its type."""
    try:
        found = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", base_job_template=template, concurrency_limit=RUNS_AT_ONCE)
        )
        return f"made, for {RUNS_AT_ONCE} runs at once"
    return f"is there, of type {found.type}, for {found.concurrency_limit or 'any number of'} runs at once"


def make_queue(client: SyncPrefectClient) -> str:
    """Make the queue with the highest priority; one that is there keeps its own."""
    pool = {"work_pool_name": POOL}
    found = client.request("POST", "/work_pools/{work_pool_name}/queues/filter", path_params=pool, json={}).json()
    there = {queue["name"]: queue["priority"] for queue in found}
    if QUEUE in there:
        return f"is there, with priority {there[QUEUE]}"
    body = {"name": QUEUE, "priority": 1}  # whatever had this priority comes next
    client.request("POST", "/work_pools/{work_pool_name}/queues", path_params=pool, json=body)
    return "made, with priority 1"


def set_variable(name: str, wanted: str | None, first: str, *, overwrite: bool) -> str:
    """Give a variable its value unless it has one."""
    found = Variable.get(name)
    if found is None:
        Variable.set(name, wanted or first)
        return f"made, {wanted or first}"
    if wanted in (None, found):
        return f"is {found}"
    if not overwrite:
        return f"is {found}, and stays so without --overwrite"
    Variable.set(name, wanted, overwrite=True)
    return f"was {found}, is {wanted} after the next deploy"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, (name, first, meaning) in VARIABLES.items():
        parser.add_argument(option, help=f"variable {name}: {meaning} (first: {first})")
    parser.add_argument("--overwrite", action="store_true", help="change variables that have another value")
    return parser.parse_args()


if __name__ == "__main__":
    main()
