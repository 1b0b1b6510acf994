"""What the reports look like in the Prefect UI."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.settings import PREFECT_API_URL, temporary_settings

from dtool_ecs_flows import Inventory, InventoryEntry
from dtool_ecs_flows.artifacts import (
    TaskProgress,
    artifact_key,
    code,
    inventory_rows,
    inventory_summary,
    literal,
    run_headline,
    run_markdown,
    verify_markdown,
)
from dtool_ecs_flows.artifacts import progress as shown
from dtool_ecs_flows.models import Finding, Progress, VerifyReport
from dtool_ecs_flows.outcomes import DatasetOutcome, RunReport
from dtool_ecs_flows.words import human_bytes, human_seconds, human_time, one_line
from tests.flows.conftest import PrefectApi

HOSTILE = [
    "a|b",
    "line\nbreak",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://example.org/pixel.png)",
    "`code`",
    "back\\slash|",
    "\u202egnp.exe",
    "\x1b[31mred",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_in_its_cell(name: str) -> None:
    """No name from a dataset can break a table, become markup, or hide what it is."""
    outcome = DatasetOutcome(source_uri=f"file:///{name}", outcome="failed", name=name, message=name)
    text = run_markdown(
        "Archive", RunReport(source="s", destination="d", dry_run=False, datasets=(outcome,), seconds=1)
    )
    (row,) = [line for line in text.splitlines() if "file:///" in line]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 4
    assert "<script" not in row
    for drawn in (code(name), literal(name)):
        unquoted = "" if drawn.startswith("`") and drawn.count("`") == 2 else drawn
        assert "![x](" not in unquoted
        assert "[click](" not in unquoted
    assert row.isprintable()


def test_what_cannot_be_seen_is_spelled_out_and_what_is_long_is_cut() -> None:
    """A newline is shown as such, and a name of a megabyte does not fill the page."""
    assert one_line("a\nb") == "a\\nb"
    assert len(one_line("x" * 10**6)) == 300


def test_keys_are_what_prefect_allows() -> None:
    """Bucket names with dots and capitals become lower case letters, digits and dashes."""
    assert artifact_key("archive", "My.Bucket_1") == "archive-my-bucket-1"
    assert artifact_key("…") == "report"


def test_sizes_and_times_are_written_as_people_write_them() -> None:
    """Nobody has to count digits."""
    assert [human_bytes(size) for size in (0, 999, 1500, 2.5e9, 3e18)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 GB",
        "3000.0 PB",
    ]
    assert [human_seconds(seconds) for seconds in (0.04, 61, 3725)] == ["0.0 s", "1 min 01 s", "1 h 02 min"]


def test_failures_come_first_and_the_headline_counts() -> None:
    """A reader sees what failed before what worked."""
    outcomes = [
        DatasetOutcome(source_uri="file:///a", outcome="copied", name="a", copied_bytes=1500),
        DatasetOutcome(source_uri="file:///b", outcome="failed", name="b", message="disk on fire"),
        DatasetOutcome(source_uri="file:///c", outcome="already there", name="c"),
    ]
    report = RunReport(source="s", destination="d", dry_run=False, datasets=tuple(outcomes), seconds=61)
    assert run_headline(report) == "3 datasets: 1 copied (1.5 kB), 1 already there, 1 failed"
    text = run_markdown("Archive", report)
    assert text.index("disk on fire") < text.index("## Datasets")
    nothing = RunReport(source="s", destination="d", dry_run=False, datasets=(), seconds=0)
    assert run_headline(nothing) == "0 datasets: nothing to do"


def test_an_inventory_of_many_is_cut_and_says_so() -> None:
    """A bucket of ten thousand datasets makes a table that a browser can show; the flow's result has all."""
    entry = InventoryEntry(uri="ecs://b/u", uuid="u", name="n", type="dataset", created_at=0.0, items=2, bytes=1500)
    taken = Inventory(base_uri="ecs://b", at=0, datasets=(entry,) * 10_000, orphans=("o",), changed=3, seconds=1)
    rows = inventory_rows(taken)
    assert len(rows) == 1000
    assert rows[0] == {
        "Name": "n",
        "UUID": "u",
        "State": "frozen",
        "Items": "2",
        "Size": "1.5 kB",
        "Created (UTC)": "1970-01-01 00:00:00",
        "URI": "ecs://b/u",
    }
    summary = inventory_summary(taken)
    assert "10,000 datasets; 20,000 items, 15.0 MB; 1 registered without a dataset" in summary
    assert "3 new or changed" in summary
    assert "first 1,000" in summary
    assert "`o`" in summary


def test_findings_of_a_verification_are_a_table() -> None:
    """Kind, item, expected and found, one line each."""
    finding = Finding(kind="corrupt", subject="a.csv", message="hash differs", expected="aa", actual="bb")
    report = VerifyReport(
        uri="ecs://b/u",
        uuid="u",
        name="n",
        items=1,
        bytes=5,
        bytes_read=5,
        content_read=True,
        findings=(finding,),
        seconds=1,
    )
    assert "| corrupt | `a.csv` | hash differs | `aa` | `bb` |" in verify_markdown(report)
    assert "`n` has 1 finding" in verify_markdown(report)
    assert "`u` has 1 finding" in verify_markdown(report.model_copy(update={"name": ""}))  # nothing tells its name


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Every progress that is sent to the server, as it is sent."""
    sent: list[tuple[float, str]] = []

    def creating(percent: float, key: str, description: str, **how: Any) -> Any:
        sent.append((percent, description))
        return create_progress_artifact(percent, key, description, **how)

    def updating(artifact: Any, percent: float, description: str, **how: Any) -> Any:
        sent.append((percent, description))
        return update_progress_artifact(artifact, percent, description, **how)

    monkeypatch.setattr(shown, "create_progress_artifact", creating)
    monkeypatch.setattr(shown, "update_progress_artifact", updating)
    return sent


def test_progress_is_a_handful_of_updates(api: PrefectApi, updates: list[tuple[float, str]]) -> None:
    """A thousand items make at most a dozen, whatever the time; the last says 100 %."""

    @flow
    def work() -> None:
        progress = TaskProgress("copy Äpfel", logging.getLogger(__name__), pause=0)
        for done in range(1001):
            progress(Progress(done, 1000, done * 10, 10_000, bytes_per_second=5000, seconds_left=(1000 - done) / 500))
        progress.finish(done=True)

    work()
    assert 2 <= len(updates) <= 12
    assert [percent for percent, _ in updates] == sorted(percent for percent, _ in updates)
    assert updates[0] == (0, "`copy Äpfel`: 0 of 1,000 items, 0 B of 10.0 kB, 5.0 kB/s, 2 s left")
    assert updates[-1] == (100, "`copy Äpfel`: 1,000 items, 10.0 kB, 5.0 kB/s")
    shown = api.artifact("progress-copy-pfel")
    assert (shown["type"], shown["data"], shown["description"]) == ("progress", *updates[-1])


def test_what_ends_early_says_so(updates: list[tuple[float, str]]) -> None:
    """A copy that failed half way does not promise to be done in two seconds."""

    @flow
    def work() -> None:
        progress = TaskProgress("copy pears", logging.getLogger(__name__))
        progress(Progress(500, 1000, 5000, 10_000, bytes_per_second=5000, seconds_left=2))
        progress.finish(done=False)

    work()
    assert updates[-1] == (50, "`copy pears`: ended after 500 of 1,000 items, 5.0 kB of 10.0 kB")


def test_what_was_done_at_once_has_no_progress(updates: list[tuple[float, str]]) -> None:
    """A thousand datasets that were there already make no artifact."""

    @flow
    def work() -> None:
        progress = TaskProgress("copy plums", logging.getLogger(__name__))
        progress(Progress(1000, 1000, 10_000, 10_000, seconds_left=0))
        progress.finish(done=True)

    work()
    assert updates == []


@pytest.mark.filterwarnings("ignore:Artifact creation outside of a flow:FutureWarning")  # a run would need the API
def test_progress_that_cannot_be_shown_does_not_stop_the_work(caplog: pytest.LogCaptureFixture) -> None:
    """Where the API is gone, the work goes on without a display, and the log says it once."""
    progress = TaskProgress("nobody sees it", logging.getLogger(__name__), pause=0)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        for done in range(10):
            progress(Progress(done, 10, 0, 0))
        progress.finish(done=True)
    assert [record.message for record in caplog.records if "not shown" in record.message] == [
        "The progress is not shown: ConnectError: [Errno 111] Connection refused"
    ]


def test_an_artifact_of_a_thousand_rows_is_accepted(api: PrefectApi) -> None:
    """The server takes what we draw at most."""
    outcomes = tuple(
        DatasetOutcome(source_uri="file:///" + "x" * 280, outcome="failed", message="y" * 300) for _ in range(1200)
    )
    report = RunReport(source="s", destination="d", dry_run=False, datasets=outcomes, seconds=1)

    @flow
    def draw() -> None:
        create_markdown_artifact(run_markdown("Large", report), key="large")

    draw()
    assert "and 200 more" in api.artifact("large")["data"]


@pytest.mark.parametrize("seconds", [1e18, -1e300, float("inf")])
def test_a_time_that_no_calendar_has_is_shown_as_it_is(seconds: float) -> None:
    """Anybody can write any number into a dataset; one such dataset must not end an inventory."""
    assert "e+" in human_time(seconds) or "inf" in human_time(seconds)
