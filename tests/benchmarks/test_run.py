"""The benchmark works: all of it, with next to no data. How fast anything is says nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.clients import CLIENTS
from benchmarks.measuring import ROOT
from benchmarks.plot import SHOWN
from benchmarks.running import versions
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import TARGETS
from tests.servers import S3Server

MINUTES = 30  # of which most goes into the environments of peers that are not there yet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(MINUTES * 60)]


@pytest.fixture(scope="module")
def results(rgw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `python -m benchmarks --quick` stored."""
    versions(
        SCENARIOS, "rgw"
    )  # makes the environments of the peers, with the settings of pip that are outside of tests
    folder = tmp_path_factory.mktemp("results")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--output", str(folder), "--scratch", str(folder / "scratch")],
        cwd=ROOT,
        env={**os.environ, "TEST_RGW": rgw.to_json()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def found(results: Path) -> dict[str, Any]:
    """What it stored as JSON."""
    loaded: dict[str, Any] = json.loads((results / "latest.json").read_text(encoding="utf-8"))
    return loaded


def test_every_client_does_everything_that_it_can(found: dict[str, Any]) -> None:
    """No line of the table is missing, and none is there because a client failed."""
    for scenario, result in zip(SCENARIOS, found["scenarios"], strict=True):
        assert result["name"] == scenario.name
        measured = {(each["client"], each["operation"]) for each in result["outcomes"]}
        assert measured == {
            (client, operation)
            for client in scenario.clients
            for operation in scenario.operations
            if CLIENTS[client].can(operation)
        }
        assert [each["failures"] for each in result["outcomes"] if each["failures"]] == []


def test_every_result_says_what_it_cost(found: dict[str, Any]) -> None:
    """Rate with its range, ratio, CPU time, memory and requests are there for each client, round by round."""
    for result in found["scenarios"]:
        for operation in {each["operation"] for each in result["outcomes"]}:
            outcomes = [each for each in result["outcomes"] if each["operation"] == operation]
            assert [each["our_ratio"] is None for each in outcomes] == [True] + [False] * (len(outcomes) - 1)
            for each in outcomes:
                assert each["requests"] > 0
                assert each["rate"]["low"] <= each["rate"]["median"] <= each["rate"]["high"]
                assert each["cpu"]["median"] >= 0
                for name in ("seconds", "process_seconds", "process_cpu_seconds", "peak_rss"):
                    assert len(each[name]) == found["rounds"] == 1
                    assert min(each[name]) > 0


def test_a_run_says_where_and_with_what_it_was_made(found: dict[str, Any]) -> None:
    """Somebody else can tell why their numbers differ."""
    assert set(found["versions"]) == {*CLIENTS, "server rgw", "server sink"}
    assert {"processor", "cores", "memory", "kernel", "python"} <= set(found["machine"])
    assert len(found["targets"]) == sum(len(operations) for _, operations, _, _ in TARGETS)


def test_the_page_and_the_picture_show_the_scenarios(results: Path) -> None:
    """What the README shows is made by the same run."""
    page = (results / "latest.md").read_text(encoding="utf-8")
    picture = ET.fromstring((results / "latest.svg").read_text(encoding="utf-8"))
    drawn = " ".join(picture.itertext())
    for scenario in SCENARIOS:
        assert scenario.title in page
        assert (scenario.title in drawn) == (scenario.name in SHOWN)
