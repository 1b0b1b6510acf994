"""The flow `audit`: what an operator sees of it, on a good day and on a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import AuditReport, BucketSettings, DatasetAudit, Finding
from dtool_ecs_flows.artifacts import audit_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.flows.audit import AuditOptions, audit
from dtool_ecs_flows.outcomes import AuditFailedError
from dtool_ecs_flows.store import failures
from tests.flows.conftest import PrefectApi, block_of
from tests.independent import Raw, bucket_dataset, identifier
from tests.proxy import Answer, Request, proxied

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(range(256))}


@pytest.fixture
def raw(rclone_bucket: BucketSettings) -> Raw:
    """The bucket of the block, through plain boto3."""
    return Raw(rclone_bucket)


def test_a_good_day_leaves_a_report_and_a_history(
    block: EcsBucket, raw: Raw, source: str, tmp_path: Path, api: PrefectApi
) -> None:
    """Each dataset was read in a task run of its name; the report is drawn, and filed as a dataset elsewhere."""
    made = {name: bucket_dataset(raw, FILES, name=name) for name in ("apples", "pears")}
    state = raw.state()

    report = audit(block, str(tmp_path / "audits"), 1, AuditOptions(report_base_uri=source))

    assert report.ok
    assert [(each.name, each.content_read) for each in report.datasets] == [("apples", True), ("pears", True)]
    assert raw.state() == state
    told = api.artifact(f"audit-{block.bucket}")
    assert told["description"] == "2 datasets: 2 read in full (528 B)"
    assert "2 of 2 frozen datasets were read in full so far" in told["data"]
    rows = json.loads(api.artifact(f"audit-datasets-{block.bucket}")["data"])
    assert [(row["Name"], row["State"], row["UUID"]) for row in rows] == [
        (name, "good", uuid) for name, uuid in made.items()
    ]
    runs = {each["name"] for each in api.task_runs()}
    assert {f"look at {block.base_uri}", *(f"audit {name} {uuid}" for name, uuid in made.items())} <= runs
    (filed,) = dtoolcore.iter_datasets_in_base_uri(source)
    assert filed.name.startswith(f"audit-{block.bucket}-20")
    assert filed.get_annotation("prefect_flow_run")["flow"] == "audit"
    paths = {filed.item_properties(each)["relpath"]: filed.item_content_abspath(each) for each in filed.identifiers}
    assert AuditReport.model_validate_json(Path(paths["report.json"]).read_bytes()) == report
    assert Path(paths["report.md"]).read_text().startswith("# Audit of")


def test_damage_fails_the_run_and_says_what_to_do(
    block: EcsBucket, raw: Raw, source: str, tmp_path: Path, api: PrefectApi
) -> None:
    """The others are read all the same; artifacts, the filed report and an event tell of what is damaged."""
    good, bad, holey = (bucket_dataset(raw, FILES, name=name) for name in ("good", "spoilt", "holey"))
    raw.replace(f"{bad}/data/{identifier('a.csv')}", bytes(8))
    raw.delete(f"{holey}/data/{identifier('b.bin')}")

    with pytest.raises(AuditFailedError, match="2 of 3 datasets are damaged, the first holey") as failure:
        audit(block, str(tmp_path / "audits"), 1, AuditOptions(report_base_uri=source))

    assert "then delete the dataset here and copy it again" in str(failure.value)
    assert "not be verified" not in str(failure.value)
    report = failure.value.report
    assert {each.uuid for each in report.damaged} == {bad, holey}
    assert {each.uuid for each in report.datasets if each.content_read} == {good, bad, holey}
    told = api.artifact(f"audit-{block.bucket}")
    assert told["description"] == "3 datasets: 3 read in full (536 B), 2 damaged"
    assert "## Damaged" in told["data"]
    assert "| `spoilt` |" in told["data"]
    rows = json.loads(api.artifact(f"audit-datasets-{block.bucket}")["data"])
    assert [(row["Name"], row["Findings"]) for row in rows] == [
        ("holey", "missing"),
        ("spoilt", "corrupt"),
        ("good", ""),
    ]
    assert len(list(dtoolcore.iter_datasets_in_base_uri(source))) == 1
    (event,) = api.events("dtool-ecs-flows.dataset.corrupt", f"dtool-ecs-flows.dataset.{bad}")
    assert event["payload"]["items"] == ["a.csv"]
    assert any(each["prefect.resource.id"].startswith("prefect.flow-run.") for each in event["related"])


def test_the_state_of_a_run_tells_the_operator(block: EcsBucket, raw: Raw, tmp_path: Path) -> None:
    """Failed, with the reason, where something is damaged; completed where there are leftovers alone."""
    raw.put("dtool-00000000-0000-4000-8000-000000000000", b"")
    bucket_dataset(raw, FILES, admin={"type": "protodataset"})
    options = AuditOptions(stale_after_days=0)
    completed = audit(block, str(tmp_path / "audits"), 1, options, return_state=True)
    bad = bucket_dataset(raw, FILES, name="spoilt")
    raw.put(f"{bad}/data/{identifier('late')}", b"")
    failed = audit(block, str(tmp_path / "audits"), 1, options, return_state=True)

    assert completed.is_completed()
    assert failed.is_failed()
    assert "1 of 3 datasets are damaged, the first spoilt (extra)" in str(failed.message)


@pytest.mark.slow
def test_an_outage_is_told_as_one(
    rclone_bucket: BucketSettings, raw: Raw, tmp_path: Path, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails, says that this is no damage, and does not begin what there is no use in beginning."""
    monkeypatch.setattr(failures, "BUDGET", 0.5)
    names = [f"{rclone_bucket.bucket[-8:]}-{number}" for number in range(6)]
    for name in names:
        bucket_dataset(raw, FILES, name=name)
    down = False

    def go_down(request: Request) -> Answer | None:
        nonlocal down
        down = down or "/data/" in request.key
        return Answer(500, "InternalError") if down else None

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(go_down)
        block = block_of(rclone_bucket, endpoint=proxy.endpoint)
        with pytest.raises(AuditFailedError, match="6 of 6 datasets could not be verified now") as failure:
            audit(block, str(tmp_path / "audits"), 1, AuditOptions(at_once=1))

    assert "That is no damage" in str(failure.value)
    assert not failure.value.report.damaged
    assert "## Damaged" not in api.artifact(f"audit-{block.bucket}")["data"]
    begun = [each for each in api.task_runs() if each["name"].startswith(f"audit {rclone_bucket.bucket[-8:]}")]
    assert len(begun) == 1


def test_a_report_cannot_be_filed_in_the_bucket(block: EcsBucket, raw: Raw, tmp_path: Path) -> None:
    """An audit never writes to what it audits: refused before anything is looked at."""
    for options in (AuditOptions(report_base_uri=block.base_uri), AuditOptions(report_base_uri=f"{block.base_uri}/")):
        with pytest.raises(SettingsError, match="never writes to its bucket"):
            audit(block, str(tmp_path / "audits"), 1, options)
    assert raw.listed() == []


def test_the_form_says_what_is_what_and_refuses_what_cannot_be() -> None:
    """Each field has a description without markup, and a bound where there is one."""
    schema = audit.parameters.model_dump()
    texts = [schema["properties"][name]["description"] for name in ("bucket", "history", "slices")]
    options = AuditOptions.model_json_schema()["properties"]
    texts += [field["description"] for field in options.values()]
    assert all(text and "`" not in text for text in texts)
    assert all("title" in field and "position" in field for field in options.values())
    assert schema["properties"]["slices"]["minimum"] == 1
    assert options["at_once"]["maximum"] == 32


def test_hostile_names_do_no_harm_in_the_report() -> None:
    """What strangers wrote into a bucket stays in its cell."""
    name = "<img src=x> | [x](javascript:alert(1))\n`b`"
    finding = Finding(kind="corrupt", subject=name, message=name)
    dataset = DatasetAudit(uri="ecs://b/u", uuid="u", name=name, type="dataset", at=1.5, findings=(finding,))
    report = AuditReport(base_uri="ecs://b", slices=1, slice_number=1, begun=1.5, datasets=(dataset,), seconds=1)

    (row,) = [line for line in audit_markdown(report).splitlines() if "ecs://b/u" in line]

    assert row.replace("\\|", "").count("|") == 6
    assert "<img" not in row
    assert "[x](" not in row
