"""The flows in the Prefect UI: a real browser, server and worker. Screenshots are kept in test-artifacts/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, create_dataset
from tests.conftest import new_bucket
from tests.flows.cancelling import SOON, large_copy
from tests.flows.site import Site, ask, prefect_site, save_block
from tests.independent import Raw
from tests.servers import S3Server
from tests.ui.conftest import Page, expect, keep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def settings(rclone: S3Server) -> BucketSettings:
    """A bucket for all tests of this file."""
    return new_bucket(rclone)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, settings: BucketSettings) -> Iterator[Site]:
    """A site with its deployments, and a worker."""
    folder = tmp_path_factory.mktemp("ui")
    with prefect_site(folder / "site") as site:
        save_block(site, settings)
        site.deploy(audits=str(folder / "audits"), inventories=str(folder / "inventories"))
        with site.running("prefect", "worker", "start", "--pool", "dtool-ecs"):
            yield site


FORMS = {
    "archive/archive-now": (
        "source_base_uri",
        "a folder that the worker can read",
        "The bucket that they go into.",
        "The source holds",
        "Only these datasets",
        "Only older than so many days",
        "Afterwards",
        "Marker file",
        "Minutes without a change",
        "Dry run",
        "README, tags and annotations that differ in the bucket",
        "Datasets at once",
    ),
    "retrieve/retrieve": (
        "datasets",
        "Names, UUIDs or URIs",
        "destination_base_uri",
        "Only items that fit",
        "Only items with this overlay",
        "Dry run",
        "Datasets at once",
    ),
    "mirror/mirror": (
        "Nothing is changed in it.",
        "The bucket that becomes the mirror",
        "Only names that fit",
        "Datasets at most",
        "Other buckets",
    ),
    "inventory/inventory": (
        "The bucket to look into. Nothing is written to it.",
        "Folder that the worker can write",
        "Which files are written",
        "File it at",
        "Read everything anew",
    ),
    "audit/audit-daily": (
        "The bucket to audit. Nothing is written to it.",
        "Folder that the worker can write",
        "In how many days everything is read",
        "File the report at",
        "Slice to read",
        "Datasets at once",
    ),
    "expire/expire": (
        "Tags that a dataset must have to be deleted",
        "Days since it was frozen",
        "Folder with what audits of this bucket found",
        "Datasets at most",
        "Hours to wait for an answer",
    ),
    "publish/publish": (
        "folder",
        "Name of the new dataset",
        "README",
        "Tags",
        "Derived from",
        "Creator",
        "Readable by",
        "Days that a signed URL lasts",
    ),
}


@pytest.mark.parametrize("deployment", FORMS)
def test_a_form_can_be_read_by_somebody_who_has_never_seen_the_code(site: Site, page: Page, deployment: str) -> None:
    """Every parameter has its description, options have titles, and no markup or schema shows through."""
    identifier = ask(site, f"deployments/name/{deployment}")["id"]
    page.goto(f"{site.url}/v2/deployments/deployment/{identifier}/run")
    for text in FORMS[deployment]:
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_role("button", name="Add", exact=True).first).to_be_visible()
    shown = page.inner_text("body")
    for leak in ("`", "Args:", "anyOf", "NoneType", "[object"):
        assert leak not in shown
    keep(page, f"form-{deployment.partition('/')[0]}")


def test_an_inventory_is_asked_for_in_the_form_and_read_as_a_table(
    site: Site, page: Page, settings: BucketSettings, tmp_path: Path
) -> None:
    """Somebody chooses the bucket, presses Submit, and finds the table of the bucket's datasets."""
    (tmp_path / "a.txt").write_text("a")
    create_dataset("seen-in-the-browser", settings.base_uri, files={"a.txt": tmp_path / "a.txt"}, settings=settings)
    identifier = ask(site, "deployments/name/inventory/inventory")["id"]

    page.goto(f"{site.url}/v2/deployments/deployment/{identifier}/run")
    page.get_by_role("button", name=re.compile("Select a block")).or_(page.get_by_role("combobox").first).first.click()
    page.get_by_role("option", name="archive").click()
    keep(page, "inventory-filled-in")
    with page.expect_response(re.compile("create_flow_run")) as answer:
        page.get_by_role("button", name="Submit").click()
    assert answer.value.ok, answer.value.text()

    page.goto(f"{site.url}/v2/deployments/deployment/{identifier}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    keep(page, "inventory-run")
    (table,) = ask(site, "artifacts/latest/filter", {"artifacts": {"key": {"any_": [f"inventory-{settings.bucket}"]}}})
    page.goto(f"{site.url}/v2/artifacts/artifact/{table['latest_id']}")
    expect(page.get_by_text("seen-in-the-browser").first).to_be_visible()
    expect(page.get_by_text("1 dataset").first).to_be_visible()
    keep(page, "inventory-table")


def test_an_archive_leaves_a_report_that_reads_well(site: Site, page: Page, tmp_path: Path) -> None:
    """The report of a night with a failure starts with what failed, and hostile names do no harm."""
    source, files = tmp_path / "source", tmp_path / "files"
    source.mkdir()
    files.mkdir()
    hostile = "<img src=x onerror=alert(1)> | [x](javascript:alert(1)) `b`.txt"
    (files / hostile).write_text("a")
    create_dataset("sound", f"file://{source}", directory=files)
    create_dataset("spoilt", f"file://{source}", directory=files)
    (source / "spoilt" / "data" / hostile).write_text("damaged")
    dialogs: list[str] = []

    def note(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)

    command = ("prefect", "deployment", "run", "archive/archive-nightly", f'--param=source_base_uri="file://{source}"')
    site.run(*command)
    identifier = ask(site, "deployments/name/archive/archive-nightly")["id"]
    page.goto(f"{site.url}/v2/deployments/deployment/{identifier}")
    expect(page.get_by_text("Failed").first).to_be_visible()

    (report,) = [each for each in ask(site, "artifacts/latest/filter", {}) if each["key"].startswith("archive-")]
    page.goto(f"{site.url}/v2/artifacts/artifact/{report['latest_id']}")
    expect(page.get_by_role("heading", name="Failed")).to_be_visible()
    expect(page.get_by_text("sound").first).to_be_visible()
    assert "onerror=alert" in page.inner_text("body")
    assert page.locator("table td a, table td img").count() == 0
    keep(page, "archive-report")
    page.goto(f"{site.url}/artifacts/artifact/{report['latest_id']}")
    expect(page.get_by_text("sound").first).to_be_visible()
    keep(page, "archive-report-v1")
    assert not dialogs


def test_row_23_the_cancel_button(site: Site, page: Page, rclone: S3Server, tmp_path: Path) -> None:
    """Somebody cancels a large copy on the page of its run: it stops within seconds, and the page says Cancelled."""
    with large_copy(site, rclone, tmp_path) as copy:
        page.goto(f"{site.url}/v2/runs/flow-run/{copy.run}")
        expect(page.get_by_text("Running").first).to_be_visible()
        keep(page, "cancel-before")
        page.get_by_role("button", name="Open menu").last.click()
        page.get_by_role("menuitem", name="Cancel").click()
        keep(page, "cancel-asked")
        page.get_by_role("button", name="Cancel Flow Run").click()

        assert copy.outcome() == "Cancelled"
        expect(page.get_by_text("Cancelled").first).to_be_visible()
        keep(page, "cancelled")
        assert copy.seconds_to_stop() < SOON
        copy.finish()


def test_what_expires_is_deleted_when_somebody_presses_resume(
    site: Site, page: Page, settings: BucketSettings, tmp_path: Path
) -> None:
    """The run waits as Paused; its form shows the datasets, and the answer of the browser decides."""
    (tmp_path / "a.txt").write_text("a")
    made = create_dataset(
        "scratch", settings.base_uri, files={"a.txt": tmp_path / "a.txt"}, tags=["scratch"], settings=settings
    )
    raw = Raw(settings)
    raw.edit_json(f"{made.uuid}/dtool", lambda admin: admin.update(frozen_at=1.5e9))
    by_name = {"$ref": {"block_document_slug": "ecs-bucket/archive"}}
    given = {"bucket": by_name, "tags": ["scratch"], "older_than_days": 30}
    site.run("prefect", "deployment", "run", "expire/expire", "--params", json.dumps(given))
    identifier = ask(site, "deployments/name/expire/expire")["id"]
    page.goto(f"{site.url}/v2/deployments/deployment/{identifier}")
    expect(page.get_by_text("Paused").first).to_be_visible()
    (run,) = ask(site, "flow_runs/filter", {"deployments": {"id": {"any_": [identifier]}}})

    page.goto(f"{site.url}/v2/runs/flow-run/{run['id']}")
    page.get_by_role("button", name="Open menu").last.click()
    page.get_by_role("menuitem", name="Resume").click()
    expect(page.get_by_text("Delete these datasets for good").first).to_be_visible()
    keep(page, "expire-asked")
    expect(page.get_by_text("would be deleted").first).to_be_visible()
    page.get_by_role("dialog").get_by_role("switch").first.click()
    page.get_by_role("dialog").get_by_role("textbox").first.fill("Curator")
    keep(page, "expire-answered")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    keep(page, "expired")
    assert not raw.listed(f"{made.uuid}/")
    (report,) = ask(site, "artifacts/latest/filter", {"artifacts": {"key": {"any_": [f"expire-{settings.bucket}"]}}})
    assert "Approved by Curator" in report["data"]
