"""The reports: what Prefect, scripts and people read is what comes back."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dtool_ecs_flows import errors
from dtool_ecs_flows.models import (
    CopyReport,
    CreateReport,
    DatasetInfo,
    DatasetList,
    DeleteReport,
    Finding,
    Item,
    VerifyReport,
)

WHICH = {"uri": "ecs://b/u", "uuid": "u", "name": "Größe"}
INFO = DatasetInfo(**WHICH, type="dataset", creator_username="Jörg", created_at=1.5, frozen_at=2.25, tags=("a", "b"))
FINDING = Finding(kind="corrupt", subject="日本語\n", message="m", expected="e", actual="a")
REPORTS: list[BaseModel] = [
    CopyReport(
        **WHICH,
        source_uri="file:///x",
        items=2,
        bytes=2**40,
        copied_items=1,
        copied_bytes=5,
        skipped=1,
        already_there=False,
        verified="content",
        differences=("README.yml", "tags/raw"),
        updated=("tags/raw",),
        seconds=0.125,
    ),
    CreateReport(**WHICH, items=2, bytes=3, seconds=0.5),
    INFO,
    DatasetInfo(uri="ecs://b/u", uuid="u", problem="unreadable"),
    DatasetList(base_uri="ecs://b", datasets=(INFO, DatasetInfo(**WHICH)), orphans=("o",), seconds=1.0),
    DatasetList(base_uri="ecs://b", datasets=(), seconds=1.0),
    FINDING,
    VerifyReport(**WHICH, items=1, bytes=2, bytes_read=2, content_read=True, findings=(FINDING,), seconds=1.0),
    VerifyReport(**WHICH, items=1, bytes=2, bytes_read=0, content_read=False, findings=(), seconds=1.0),
    DeleteReport(**WHICH, deleted=7, left=("x/thesis.tex",), seconds=1.0),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_comes_back_from_json(report: BaseModel) -> None:
    """Written as JSON and read again it is equal, tuples and None included; as Python data too."""
    kind = type(report)

    assert kind.model_validate_json(report.model_dump_json()) == report
    assert kind.model_validate(json.loads(report.model_dump_json())) == report
    assert kind.model_validate(report.model_dump()) == report
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_cannot_be_changed(report: BaseModel) -> None:
    """What happened has happened."""
    with pytest.raises(ValidationError):
        setattr(report, next(iter(type(report).model_fields)), "other")


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_takes_no_unknown_fields(report: BaseModel) -> None:
    """A field that another version wrote is noticed, not dropped."""
    document = {**json.loads(report.model_dump_json()), "surprise": 1}

    with pytest.raises(ValidationError, match="surprise"):
        type(report).model_validate(document)
    with pytest.raises(ValidationError, match="surprise"):
        type(report).model_validate_json(json.dumps(document))


def test_ok_is_in_the_json_and_follows_from_the_findings() -> None:
    """Who reads the JSON alone sees whether all is well; a value that contradicts the findings does not count."""
    bad, good = (report for report in REPORTS if isinstance(report, VerifyReport))

    assert (bad.ok, json.loads(bad.model_dump_json())["ok"]) == (False, False)
    assert (good.ok, json.loads(good.model_dump_json())["ok"]) == (True, True)
    forged: dict[str, Any] = {**json.loads(bad.model_dump_json()), "ok": True}
    assert not VerifyReport.model_validate(forged).ok
    assert not VerifyReport.model_validate_json(json.dumps(forged)).ok


def test_a_listing_has_a_length_and_its_datasets() -> None:
    """`len` counts them."""
    listing = next(report for report in REPORTS if isinstance(report, DatasetList))

    assert len(listing) == 2
    assert listing.datasets[0] == INFO


def test_an_item_is_slim_and_cannot_be_changed() -> None:
    """There may be a million of them."""
    item = Item("i", "relpath", 1, "h", 0.5)

    assert not hasattr(item, "__dict__")
    with pytest.raises(AttributeError):
        item.size = 2  # type: ignore[misc]  # that is the point
    assert pickle.loads(pickle.dumps(item)) == item


def test_errors_survive_the_way_to_another_process() -> None:
    """A Prefect task runs elsewhere: what failed, and which items, must still be told here."""
    corrupt = errors.CorruptItemError("Größe.txt", expected="1", actual="2", where="ecs://b/u")
    failed = errors.TransferError("2 items failed", [("Größe.txt", corrupt), ("b", FileNotFoundError(2, "no", "b"))])

    again = pickle.loads(pickle.dumps(failed))

    assert (str(again), [relpath for relpath, _ in again.failures]) == ("2 items failed", ["Größe.txt", "b"])
    first = again.failures[0][1]
    assert isinstance(first, errors.CorruptItemError)
    assert (str(first), first.relpath, first.expected, first.actual, first.where) == (
        str(corrupt),
        "Größe.txt",
        "1",
        "2",
        "ecs://b/u",
    )


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name not in ("CorruptItemError", "TransferError")])
def test_every_error_is_of_one_family_and_survives_pickling(name: str) -> None:
    """One base to catch all that is raised on purpose."""
    error = getattr(errors, name)("what went wrong")

    assert isinstance(error, errors.EcsFlowsError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), "what went wrong")
