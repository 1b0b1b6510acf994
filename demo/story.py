"""The demo, step by step; each is what a user would write."""

from __future__ import annotations

import csv
import filecmp
import importlib.resources
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dtoolcore
from prefect import flow
from prefect.client.orchestration import get_client

from demo.screen import Screen
from dtool_ecs_flows import CreateReport, create_dataset
from dtool_ecs_flows.artifacts import run_headline
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.flows.archive import archive
from dtool_ecs_flows.flows.inventory import inventory
from dtool_ecs_flows.flows.retrieve import retrieve
from dtool_ecs_flows.outcomes import RunReport
from dtool_ecs_flows.provenance import publish_dataset
from dtool_ecs_flows.tasks import verify_dataset
from dtool_ecs_flows.words import human_bytes, human_time
from flows.analysis_publish import analysis
from tests.servers import start

BUCKET = "demo-bucket"

PENGUINS_README = """\
---
title: Palmer Archipelago (Antarctica) penguins
authors: Allison Horst, Alison Hill, Kristen Gorman
description: Bills, flippers and body mass of 344 penguins of three species, 2007 to 2009
source: palmerpenguins
licence: CC0
"""


def tell(screen: Screen, folder: Path, own_data: Path | None) -> None:
    """Run the whole demo in a folder."""
    data = own_data or Path(str(importlib.resources.files("palmerpenguins"))) / "data"
    name = "penguins" if own_data is None else "own-data"
    screen.title("dtool-ecs-flows", f"The main job, from files to a bucket and back, with the files in\n{data}")
    with ExitStack() as stack:
        with screen.step("Start", "an S3 server (rclone), and Prefect's embedded server"):
            server = stack.enter_context(start("rclone"))
            server.make_bucket(BUCKET)
            with get_client(sync_client=True) as client:
                client.api_healthcheck()
        bucket = EcsBucket(
            bucket=BUCKET,
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            cache_directory=str(folder / "cache"),
        )
        there_and_back(screen, folder, data, name, bucket, own=own_data is not None)


def there_and_back(screen: Screen, folder: Path, data: Path, name: str, bucket: EcsBucket, *, own: bool) -> None:
    """Do the main job, from the files to the bucket and back."""
    local = f"file://{folder / 'datasets'}"

    with screen.step("Create", f"a dataset from the files: create_dataset({name!r}, …)") as progress:
        readme = "" if own else PENGUINS_README
        made = create_dataset(name, local, directory=data, readme=readme, tags=["demo"], progress=progress)
    screen.say(f"{made.items} items, {human_bytes(made.bytes)}, frozen as [bold]{made.uuid}[/]")

    with screen.step("Archive", "the flow that runs every night: archive(folder, bucket)"):
        archived = archive(local, bucket)
    show_run(screen, archived)

    with screen.step("Archive again", "what is there is compared, not sent"):
        again = archive(local, bucket)
    show_run(screen, again)

    with screen.step("Inventory", "what the bucket holds: inventory(bucket)"):
        listing = inventory(bucket)
    screen.table(
        ("Name", "UUID", "Frozen (UTC)", "Tags"),
        [(info.name, info.uuid, human_time(info.frozen_at), ", ".join(info.tags or ())) for info in listing.datasets],
    )

    uri = archived.datasets[0].uri
    with screen.step("Verify", "every byte read back from the bucket: verify_dataset(uri)"):
        verified = verify_dataset(uri, buckets=bucket)
    if not verified.ok:
        raise RuntimeError(f"{len(verified.findings)} findings, the first: {verified.findings[0].message}")
    screen.say(f"{verified.items} items, {human_bytes(verified.bytes_read)} read and hashed, no finding")

    with screen.step("Retrieve", "and compare with the original files: retrieve([name], bucket, …)"):
        retrieved = retrieve([made.uuid], bucket, f"file://{folder / 'retrieved'}")
        same = compare(data, retrieved)
    screen.say(f"{same} files came back, [bold]equal byte by byte[/]")

    with screen.step("Analyse", "and publish with provenance: publish_dataset(name, bucket, …)"):
        result = files_by_type(uri, bucket) if own else analysis(uri, bucket)
    show_result(screen, result, bucket, made)


def show_run(screen: Screen, report: RunReport) -> None:
    """Show what a flow did to each dataset."""
    screen.say(run_headline(report))
    rows = [
        (each.name, each.outcome, str(each.items), human_bytes(each.bytes), human_bytes(each.copied_bytes))
        for each in report.datasets
    ]
    screen.table(("Dataset", "Outcome", "Items", "Size", "Sent"), rows, right=(2, 3, 4))


def compare(data: Path, report: RunReport) -> int:
    """Compare retrieved files with the original ones; return how many are equal, which must be all."""
    retrieved = Path(unquote(urlsplit(report.datasets[0].uri).path)) / "data"
    files = [path for path in data.rglob("*") if path.is_file()]
    for path in files:
        if not filecmp.cmp(path, retrieved / path.relative_to(data), shallow=False):
            raise RuntimeError(f"{path} did not come back as it was")
    return len(files)


@flow
def files_by_type(uri: str, bucket: EcsBucket) -> str:
    """Publish how many files of each type a dataset has."""
    with publish_dataset("files-by-type", bucket, derived_from=[uri]) as out:
        source = dtoolcore.DataSet.from_uri(uri)
        paths = [Path(source.item_properties(identifier)["relpath"]) for identifier in source.identifiers]
        table = Counter(path.suffix or "(none)" for path in paths).most_common()
        out.put_bytes(
            "".join(f"{suffix},{number}\n" for suffix, number in [("type", "files"), *table]).encode(), "files.csv"
        )
    return out.uri


def show_result(screen: Screen, uri: str, bucket: EcsBucket, source: CreateReport) -> None:
    """Show the published table, and what the dataset tells of where it comes from."""
    with bucket.active():
        dataset = dtoolcore.DataSet.from_uri(uri)
        first = min(dataset.identifiers, key=lambda each: str(dataset.item_properties(each)["relpath"]))
        with Path(dataset.item_content_abspath(first)).open(encoding="utf-8", newline="") as file:
            head, *rows = list(csv.reader(file))
        told = {name: dataset.get_annotation(name) for name in dataset.list_annotation_names()}
    if told["source_dataset_uuid"] != source.uuid:
        raise RuntimeError("the result does not name its source")
    screen.table(head, rows[:12], right=range(2, len(head)))
    run, software = told["prefect_flow_run"], told["software"]
    screen.say(f"[bold]{dataset.name}[/] is {uri}")
    screen.say(f"made by flow run [bold]{run['name']}[/], from {told['source_dataset_name']} ({source.uuid})")
    screen.say(f"with Python {software['python']} and {len(software['packages'])} packages, all recorded in it")
