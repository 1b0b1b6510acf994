"""Expire: nothing is deleted but what a person has seen and approved, and what is still what was shown."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import resume_flow_run

from dtool_ecs_flows import BucketSettings, audit_bucket, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.artifacts import audit_headline, audit_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets import expire_dataset, list_expiring
from dtool_ecs_flows.datasets.choosing import Filter
from dtool_ecs_flows.errors import DatasetDiffersError, NotADatasetError, SettingsError
from dtool_ecs_flows.flows import expire as expiring
from dtool_ecs_flows.flows.expire import ExpireOptions, expire
from tests.flows.conftest import PrefectApi, block_of
from tests.independent import Raw

DAY = 24 * 3600.0
OLD = Filter(tags=("scratch",), older_than_days=30)
PATIENT = ExpireOptions(wait_hours=0.05)  # three minutes: a person who does not come must not hold up the tests
Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def block(rclone_bucket: BucketSettings) -> EcsBucket:
    """The block of a bucket with two old datasets to go, and three to stay."""
    for name, tags, days in (
        ("old", ["scratch"], 40),
        ("older", ["scratch", "raw"], 50),
        ("young", ["scratch"], 1),
        ("kept", ["raw"], 60),
        ("untagged", [], 70),
    ):
        make(rclone_bucket, name, tags, days)
    return block_of(rclone_bucket)


def make(settings: BucketSettings, name: str, tags: list[str], days: float) -> str:
    """Make a dataset that was frozen so many days ago."""
    with_file = {"a.txt": __file__}
    report = create_dataset(name, settings.base_uri, files=with_file, tags=tags, settings=settings)
    raw = Raw(settings)
    raw.edit_json(f"{report.uuid}/dtool", lambda admin: admin.update(frozen_at=time.time() - days * DAY))
    return report.uri


def names(block: EcsBucket) -> list[str]:
    return [info.name for info in list_datasets(block.base_uri, settings=block.settings()).datasets]


@contextmanager
def a_person(answer: Answer) -> Iterator[None]:
    """Somebody who waits for the run to ask, looks at the form and answers it; None answers nothing."""
    failures: list[Exception] = []

    def attend() -> None:
        try:
            until = time.monotonic() + 120
            while True:
                with get_client(sync_client=True) as client:
                    paused: list[dict[str, Any]] = client.request(
                        "POST", "/flow_runs/filter", json={"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
                    ).json()
                    asked = [run for run in paused if (form := _form(client, run["id"])) is not None]
                if asked:
                    break
                assert time.monotonic() < until, "nobody is asked"
                time.sleep(0.2)
            with get_client(sync_client=True) as client:
                form = _form(client, asked[0]["id"])
            assert form is not None
            resume_flow_run(asked[0]["id"], run_input=answer(form))
        except Exception as error:  # noqa: BLE001  # raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=attend)
    thread.start()
    try:
        yield
    finally:
        thread.join(150)
    assert not failures, failures[0]


def _form(client: Any, run: str) -> dict[str, Any] | None:
    """The form that a run asks with, once it is all there."""
    inputs = client.request("POST", f"/flow_runs/{run}/input/filter", json={"prefix": "paused-", "limit": 50}).json()
    found = {each["key"].rpartition("-")[2]: each["value"] for each in inputs}
    if not {"schema", "description"} <= found.keys():
        return None
    return {"schema": json.loads(found["schema"]), "description": found["description"]}


def lines(form: dict[str, Any]) -> list[str]:
    default: list[str] = form["schema"]["properties"]["datasets"]["default"]
    return default


def test_what_a_person_approves_is_deleted_and_nothing_else(block: EcsBucket, api: PrefectApi, tmp_path: Path) -> None:
    """The table and the form show the two old ones with the tag; one line is taken out, and only the other goes.

    An audit is told who approved, and why, so that it misses nothing.
    """
    audits = str(tmp_path / "audits")
    audit_bucket(block.base_uri, slices=1, history=audits, settings=block.settings())
    seen: list[str] = []

    def answer(form: dict[str, Any]) -> dict[str, Any]:
        seen.extend(lines(form))
        assert "2 datasets" in form["description"]
        make(block.settings(), "new", ["scratch"], 90)  # while the person reads
        return {"delete": True, "approved_by": "Curator", "datasets": lines(form)[:1]}

    with a_person(answer):
        report = expire(block, ["scratch"], 30, audits, PATIENT)
    assert [line.split()[1] for line in seen] == ["older,", "old,"]
    assert [(each.name, each.outcome) for each in report.datasets] == [("older", "deleted"), ("old", "kept")]
    assert report.approved_by == "Curator"
    assert names(block) == ["kept", "new", "old", "untagged", "young"]
    assert "older" in api.artifact(f"expiring-{block.bucket}")["data"]
    shown = api.artifact(f"expire-{block.bucket}")
    assert "Approved by Curator" in shown["data"]
    assert shown["description"] == "2 datasets: 1 deleted, 1 kept"
    audited = audit_bucket(block.base_uri, slices=1, history=audits, settings=block.settings())
    assert audited.ok
    (deleted,) = audited.deleted
    assert (deleted.name, deleted.by) == ("older", "Curator")
    assert re.fullmatch(r"flow expire, run \S+ \([0-9a-f-]{36}\): tags scratch, older than 30 days", deleted.reason)
    assert audit_headline(audited).endswith(", 1 deleted on purpose")
    assert f"| `older` | `{deleted.uuid}` |" in audit_markdown(audited)


ANSWERS: dict[str, Answer] = {
    "no": lambda form: {"delete": False, "approved_by": "Curator", "datasets": lines(form)},
    "without a name": lambda form: {"delete": True, "approved_by": " ", "datasets": lines(form)},
    "without an answer": lambda _: None,
    "none of them": lambda _: {"delete": True, "approved_by": "Curator", "datasets": []},
    "others": lambda _: {"delete": True, "approved_by": "Curator", "datasets": ["kept", "untagged", ""]},
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_other_answer_deletes_nothing(block: EcsBucket, answer: str) -> None:
    """A no, a form without a name, a bare resume, an empty list: all datasets stay."""
    before = names(block)
    with a_person(ANSWERS[answer]):
        report = expire(block, ["scratch"], 30, options=PATIENT)
    assert {each.outcome for each in report.datasets} == {"kept"}
    assert names(block) == before


def test_what_was_not_shown_is_not_deleted_whatever_the_answer(block: EcsBucket) -> None:
    """UUIDs that somebody adds to the form are not looked at, though they are those of datasets with tag and age."""
    listed = {info.name: info.uuid for info in list_datasets(block.base_uri, settings=block.settings()).datasets}

    def answer(form: dict[str, Any]) -> dict[str, Any]:
        return {"delete": True, "approved_by": "Curator", "datasets": [*lines(form), listed["old"], listed["kept"]]}

    with a_person(answer):
        report = expire(block, ["scratch"], 30, options=ExpireOptions(at_most=1, wait_hours=PATIENT.wait_hours))
    assert [(each.name, each.outcome) for each in report.datasets] == [("older", "deleted")]
    assert {"old", "kept"} <= set(names(block))


def test_without_an_answer_in_time_nothing_is_deleted(block: EcsBucket, api: PrefectApi) -> None:
    """The run fails, says that nobody answered, and all is there."""
    before = names(block)
    with pytest.raises(FlowPauseTimeout):
        expire(block, ["scratch"], 30, options=ExpireOptions(wait_hours=0.0003))
    assert names(block) == before
    assert "nobody approved in time" in api.artifact(f"expire-{block.bucket}")["data"]


def test_where_nothing_has_expired_nobody_is_asked(block: EcsBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list ends the run at once."""
    monkeypatch.setattr(expiring, "pause_flow_run", pytest.fail)
    assert expire(block, ["scratch"], 3000).datasets == ()
    assert expire(block, ["scratch"], 30, options=ExpireOptions(name_patterns=["nothing-*"])).datasets == ()
    for tags in ([], [" "]):
        with pytest.raises(SettingsError, match="Name a tag"):
            expire(block, tags, 30)


def test_a_history_that_is_no_folder_is_told_before_anybody_is_asked(
    block: EcsBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that is not mounted, or the bucket itself: the run ends at once, and all datasets stay."""
    before = names(block)
    monkeypatch.setattr(expiring, "pause_flow_run", pytest.fail)
    for place in (str(tmp_path / "not" / "there"), block.base_uri):
        with pytest.raises(SettingsError, match="the history"):
            expire(block, ["scratch"], 30, place)
    assert names(block) == before


CHANGES: dict[str, Callable[[Any], object]] = {
    "a tag was taken off": lambda dataset: dataset.delete_tag("scratch"),
    "a tag was added": lambda dataset: dataset.put_tag("keep"),
    "it was renamed": lambda dataset: dataset.update_name("precious"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_since_it_was_shown_stays(rclone_bucket: BucketSettings, change: str) -> None:
    """Each dataset is looked at again before it is deleted: whoever takes the tag off in time has saved it."""
    uri = make(rclone_bucket, "old", ["scratch"], 40)
    (shown,) = list_expiring(rclone_bucket.base_uri, OLD, at_most=10, settings=rclone_bucket).datasets
    assert (shown.items, shown.bytes) == (1, Path(__file__).stat().st_size)
    with block_of(rclone_bucket).active():
        CHANGES[change](dtoolcore.DataSet.from_uri(uri))
    with pytest.raises(DatasetDiffersError, match="is kept"):
        expire_dataset(shown.info, OLD, settings=rclone_bucket)
    assert verify_dataset(uri, settings=rclone_bucket).ok


def test_a_deletion_that_was_cut_short_goes_on(rclone_bucket: BucketSettings) -> None:
    """A store that goes down in the middle leaves a proto dataset, which a second call deletes; a third finds none."""
    make(rclone_bucket, "old", ["scratch"], 40)
    (shown,) = list_expiring(rclone_bucket.base_uri, OLD, at_most=10, settings=rclone_bucket).datasets
    raw, uuid = Raw(rclone_bucket), shown.info.uuid
    raw.edit_json(f"{uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    raw.delete(*raw.listed(f"{uuid}/tags/"), *raw.listed(f"{uuid}/data/"))
    expire_dataset(shown.info, OLD, settings=rclone_bucket)
    assert not raw.listed()
    with pytest.raises(NotADatasetError, match="gone already"):
        expire_dataset(shown.info, OLD, settings=rclone_bucket)
