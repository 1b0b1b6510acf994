"""`inventory` and `audit` at a terminal, with a bucket."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dtool_ecs_flows import AuditReport, BucketSettings, Inventory
from dtool_ecs_flows.cli import main
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import Interrupt, changed, environment
from tests.independent import Raw, bucket_dataset, identifier
from tests.proxy import Answer, Request, proxied

FILES = {"a.csv": b"a,b\n1,2\n", "b.bin": bytes(256)}
NOBODY = "00000000-0000-0000-0000-000000000000"

Run = Callable[..., Result]


@pytest.fixture
def bucket(rclone_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch) -> BucketSettings:
    """A bucket that the environment names."""
    return named(rclone_bucket, monkeypatch)


def named(settings: BucketSettings, monkeypatch: pytest.MonkeyPatch) -> BucketSettings:
    for key, value in environment(settings).items():
        monkeypatch.setenv(key, value)
    return settings


@pytest.fixture
def raw(bucket: BucketSettings) -> Raw:
    """The bucket through plain boto3."""
    return Raw(bucket)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, arguments)
        assert "Traceback" not in result.output
        assert isinstance(result.exception, (SystemExit, type(None)))
        return result

    return run


class TestInventory:
    def test_it_is_a_table_for_people(self, run: Run, bucket: BucketSettings, raw: Raw) -> None:
        """With what is wrong, the orphans last, and the sum of all."""
        for name in ("pears", "apples"):
            bucket_dataset(raw, FILES, name=name, tags=["raw", "v1.2"], admin={"creator_username": "\x1b[31mred"})
        raw.put(f"dtool-{NOBODY}", b"")

        result = run("inventory", bucket.base_uri)

        head, *rows, count = result.stdout.splitlines()
        assert head.split()[:6] == ["NAME", "UUID", "STATE", "ITEMS", "SIZE", "CREATOR"]
        assert [row.split()[0] for row in rows] == ["apples", "pears", NOBODY]
        assert all(word in rows[0] for word in ("frozen", "264 B", "\\x1b[31mred", "2023-11-14 22:13:21", "raw v1.2"))
        assert "there is no dataset" in rows[2]
        assert count == f"{bucket.base_uri}: 2 datasets, 4 items, 528 B"
        assert result.exit_code == 0

    def test_it_is_json_for_programs(self, run: Run, bucket: BucketSettings, raw: Raw) -> None:
        """The report as the Python function returns it."""
        uuid = bucket_dataset(raw, FILES)

        found = Inventory.model_validate_json(run("inventory", bucket.base_uri, "--json").stdout)

        assert [(entry.uuid, entry.items, entry.bytes) for entry in found.datasets] == [(uuid, 2, 264)]

    def test_files_are_written_by_their_suffix(self, run: Run, bucket: BucketSettings, raw: Raw) -> None:
        """The .json that is there is the memory of the next one, unless everything is to be read anew."""
        bucket_dataset(raw, FILES)
        files = ("i.html", "i.csv", "i.parquet", "i.json")
        outputs = [word for name in files for word in ("-o", name)]

        said = [run("inventory", bucket.base_uri, *outputs, *more).stdout for more in ((), (), ("--anew",))]
        other = run("inventory", bucket.base_uri, "-o", "i.csv", "--previous", "i.json").stdout

        assert said[0].splitlines()[1:] == [f"written: {name}" for name in files]
        assert ["0 new or changed" in each for each in said] == [False, True, False]
        assert "0 new or changed" in other
        assert Path("i.html").read_text().startswith("<!DOCTYPE html>")
        with open("i.csv", newline="") as file:
            assert [row["bytes"] for row in csv.DictReader(file)] == ["264"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["ecs://my-bucket", "-o", "i.xlsx"], "ends with .json, .csv, .parquet, .html"),
            (["ecs://my-bucket", "-o", "no/i.csv"], "there is no folder"),
            (["ecs://my-bucket", "--previous", "nowhere.json"], "does not exist"),
            (["ecs://my-bucket", "--anew", "--previous", "other.json"], "take one of them"),
            (["ecs://my-bucket", "-o", "other.json"], "holds no inventory"),
            ([f"ecs://my-bucket/{NOBODY}"], "is the URI of a dataset"),
            (["file:///data"], "is not of the form ecs://bucket"),
        ],
    )
    def test_a_wrong_command_line_is_2_and_asks_no_bucket(self, run: Run, arguments: list[str], said: str) -> None:
        """A file that somebody keeps for something else is not written over."""
        Path("other.json").write_text("[]")

        result = run("inventory", *arguments)

        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
        assert Path("other.json").read_text() == "[]"

    def test_a_store_that_is_down_is_3_and_a_file_that_cannot_be_written_1(
        self, run: Run, bucket: BucketSettings, raw: Raw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line each, and what was there before stays."""
        bucket_dataset(raw, FILES)
        run("inventory", bucket.base_uri, "-o", "i.json")
        before = Path("i.json").read_bytes()
        unwritten = run("inventory", bucket.base_uri, "-o", "/proc/i.csv")
        monkeypatch.setattr(failures, "FIRST_BUDGET", 0.0)
        named(changed(bucket, endpoint="http://127.0.0.1:9"), monkeypatch)
        down = run("inventory", bucket.base_uri, "-o", "i.json")

        assert [result.exit_code for result in (unwritten, down)] == [1, 3]
        assert unwritten.stderr.startswith("Error: /proc/i.csv could not be written")
        assert "http://127.0.0.1:9" in down.stderr
        assert Path("i.json").read_bytes() == before


class TestAudit:
    def test_a_good_day_is_0(self, run: Run, bucket: BucketSettings, raw: Raw) -> None:
        """It says how much was read; the history is where it was told to be."""
        uuid = bucket_dataset(raw, FILES)

        result = run("audit", bucket.base_uri, "--history", "audits", "--slices", "1")

        assert result.exit_code == 0
        assert result.stdout == f"{bucket.base_uri}: 1 dataset looked at, 1 read in full (264 B), no finding\n"
        assert result.stderr.startswith("1 of 1: penguins: 2 items, 264 B")
        assert list(Path("audits", bucket.bucket, "datasets", uuid).glob("*.json"))

    def test_damage_is_1_and_what_is_left_over_is_told(self, run: Run, bucket: BucketSettings, raw: Raw) -> None:
        """Each finding is a row; a registration without a dataset alone is no damage."""
        raw.put(f"dtool-{NOBODY}", b"")
        left_over = run("audit", bucket.base_uri, "--history", "audits", "--slices", "1", "-q")
        bad = bucket_dataset(raw, FILES, name="spoilt")
        raw.replace(f"{bad}/data/{identifier('a.csv')}", bytes(8))
        damaged = run("audit", bucket.base_uri, "--history", "audits", "--slices", "1", "-q")

        assert (left_over.exit_code, damaged.exit_code) == (0, 1)
        assert "orphan registration" in left_over.stdout
        assert [line.split()[:4] for line in damaged.stdout.splitlines() if bad in line] == [
            ["spoilt", bad, "corrupt", "a.csv"]
        ]
        assert damaged.stdout.splitlines()[-1].endswith("2 findings")
        assert damaged.stderr == ""

    def test_what_could_only_not_be_read_is_3(
        self, run: Run, rclone_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An outage is no damage, and no dataset is begun that the store would not answer for."""
        monkeypatch.setattr(failures, "BUDGET", 0.0)
        for number in range(4):
            bucket_dataset(Raw(rclone_bucket), FILES, name=f"{number}")
        down = False

        def go_down(request: Request) -> Answer | None:
            nonlocal down
            down = down or "/data/" in request.key
            return Answer(500, "InternalError") if down else None

        with proxied(rclone_bucket.endpoint) as proxy:
            proxy.on().call(go_down)
            settings = named(changed(rclone_bucket, endpoint=proxy.endpoint), monkeypatch)
            result = run("audit", settings.base_uri, "--history", "audits", "--slices", "1", "--json")

        report = AuditReport.model_validate_json(result.stdout)
        assert result.exit_code == 3
        assert {finding.kind for each in report.datasets for finding in each.findings} == {"not verified"}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["ecs://my-bucket"], "--history"),
            (["ecs://my-bucket", "--history", "no/audits"], "there is no folder"),
            (["ecs://my-bucket", "--history", "audits", "--slices", "3", "--slice", "4"], "slice"),
            (["ecs://my-bucket", "--history", "ecs://my-bucket"], "never writes to"),
        ],
    )
    def test_a_wrong_command_line_is_2(self, run: Run, arguments: list[str], said: str) -> None:
        """Before any bucket is asked."""
        result = run("audit", *arguments)

        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr

    def test_ctrl_c_keeps_what_was_read(
        self, run: Run, rclone_bucket: BucketSettings, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And ends with the status of all commands. A dataset whose last bytes come right then is read too."""
        for number in range(3):
            bucket_dataset(Raw(rclone_bucket), FILES, name=f"{number}")
        with proxied(rclone_bucket.endpoint) as proxy:
            proxy.on("GetObject", key="*/data/*", nth=3).call(interrupt)
            settings = named(changed(rclone_bucket, endpoint=proxy.endpoint), monkeypatch)
            result = run("audit", settings.base_uri, "--history", "audits", "--slices", "1", "-q")

        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr.splitlines()[-1] == "Error: stopped; what was read until then is remembered"
        kept = [json.loads(file.read_text()) for file in Path("audits").glob("*/datasets/*/*.json")]
        assert [each["content_read"] for each in kept] in ([True], [True, True])
