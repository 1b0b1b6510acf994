"""What README and docs say holds: their code runs, their commands exist, their tables are those of the code."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import dtoolcore
import pytest
from prefect import flow

from dtool_ecs_flows import BucketSettings, create_dataset, datasets, events
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.cli import ends, main
from dtool_ecs_flows.datasets.behind import BEHIND
from dtool_ecs_flows.layout import MAX_HANDLE_BYTES
from dtool_ecs_flows.settings.sources import _KEYS
from dtool_ecs_flows.store.failures import BUDGET, FIRST_BUDGET
from dtool_ecs_flows.transfer import MAX_PARTS, MEMORY, SINGLE_PUT, part_size
from tests.conftest import new_bucket
from tests.interop.environments import environment
from tests.servers import S3Server

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
POLICIES = ROOT / "deployments" / "policies"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deployments/**/*.md")])

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    """The number of its first line of content."""
    text: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in some languages."""
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [Block(text.count("\n", 0, each.start()) + 2, each[2]) for each in fences if each[1] in languages]


def tables(page: Path) -> list[list[list[str]]]:
    """Return the tables of a page: rows of cells, the head first."""
    rows = re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines() if "---" not in row]
        for table in rows
    ]


# --- Python ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Somebody who follows a page, with a bucket and the files that it speaks of."""

    bucket: BucketSettings
    folder: Path

    def adapt(self, text: str) -> str:
        """Put the reader's own names in the place of the page's."""
        for of_page, own in (
            ("my-bucket", self.bucket.bucket),
            ("https://ecs.example.org:9021", self.bucket.endpoint),
            ("my-user", self.bucket.access_key_id),
            ("my-secret", self.bucket.secret_access_key.get_secret_value()),
            ("/data/datasets", str(self.folder / "datasets")),
        ):
            text = text.replace(of_page, own)
        return text

    def follow(self, page: Path) -> dict[str, Any]:
        """Run the Python blocks of a page, one after the other; return their names."""
        names: dict[str, Any] = {"__name__": "page"}
        for block in blocks(page, "python"):
            # In a file with the same line numbers, so that a failure shows where in the page it is.
            file = self.folder / f"{page.stem}-{block.line}.py"
            file.write_text("\n" * (block.line - 1) + self.adapt(block.text), encoding="utf-8")
            exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
        return names


@pytest.fixture
def reader(rclone: S3Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader whose dtool.json names a fresh bucket, in a folder with some results and a dataset."""
    bucket = new_bucket(rclone)
    config = home / ".config" / "dtool" / "dtool.json"
    config.parent.mkdir(parents=True)
    config.touch(mode=0o600)
    config.write_text(json.dumps({
        f"DTOOL_ECS_ENDPOINT_{bucket.bucket}": bucket.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{bucket.bucket}": bucket.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket.bucket}": bucket.secret_access_key.get_secret_value(),
    }))  # fmt: skip  # one key a line
    for name in ("results", "restored", "datasets"):
        (tmp_path / name).mkdir()
    (tmp_path / "results" / "energies.csv").write_text("temperature,energy\n300,450\n")
    monkeypatch.chdir(tmp_path)
    create_dataset("measured", "datasets", directory="results")
    return Reader(bucket, tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
@pytest.mark.usefixtures("prefect_server")
def test_python_runs(page: Path, reader: Reader) -> None:
    """Who types what stands in a page, from top to bottom, meets no error."""
    reader.follow(page)


@pytest.mark.usefixtures("prefect_server")
def test_the_first_example_is_short_and_does_what_is_said_of_it(reader: Reader) -> None:
    """At most 12 lines publish a step's outputs, and who opens the dataset finds where it came from."""
    assert blocks(README, "python")[0].text.count("\n") <= 12
    simulate = reader.follow(README)["simulate"]
    source = create_dataset("source", reader.bucket.base_uri, directory="results").uri

    @flow
    def pipeline(bucket: EcsBucket) -> str:
        return str(simulate(300.0, source, bucket))

    dataset = dtoolcore.DataSet.from_uri(pipeline(EcsBucket.configured(reader.bucket.bucket)))

    (identifier,) = dataset.identifiers
    assert Path(dataset.item_content_abspath(identifier)).read_text() == "temperature,energy\n300.0,450.0\n"
    assert dataset.get_overlay("unit") == {identifier: "kJ/mol"}
    run, step = dataset.get_annotation("prefect_flow_run"), dataset.get_annotation("prefect_task_run")
    assert {"id", "name", "parameters"} <= run.keys() & step.keys()
    assert (run["flow"], step["task"], step["parameters"]["temperature"]) == ("pipeline", "simulate", 300.0)
    assert {"prefect", "dtool-ecs-flows"} <= dataset.get_annotation("software")["packages"].keys()
    assert [origin["uri"] for origin in dataset.get_annotation("derived_from")] == [source]
    told = README.read_text(encoding="utf-8").partition("has these annotations:")[2].partition("\n\n")[0]
    said = re.findall(r"`(\w+)`", told)
    # The code of this test is in no repository, that of the reader may be.
    assert {*said, "source_dataset_name", "source_dataset_uri", "source_dataset_uuid"} == {
        *dataset.list_annotation_names(),
        "git_commit",
    }


# --- commands --------------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's shell blocks, each as its words."""
    lines = [line for block in blocks(page, "sh", "bash") for line in block.text.replace("\\\n", "").splitlines()]
    lines += [line[2:] for block in blocks(page, "console") for line in block.text.splitlines() if line[:2] == "$ "]
    found = []
    for line in lines:
        inner = re.sub(r"^\w+=\$\((.*)\)$", r"\1", line)
        for part in re.split(r" \| ", inner):
            words = shlex.split(part, comments=True)
            found += [words] if words else []
    return found


def check_own_command(words: list[str]) -> None:
    command: click.Command = main
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            command = command.commands[word]
        elif word.startswith("-"):
            assert word in {option for each in command.params for option in each.opts} | {"--help"}, words


def check_prefect(words: list[str]) -> None:
    names = itertools.takewhile(re.compile(r"[a-z-]*[a-z]").fullmatch, words)
    said = prefect_help(*(name for name in names if not name.startswith("-")))
    for word in words:
        assert not word.startswith("--") or word in said, (words, said)


@cache
def prefect_help(*names: str) -> str:
    command = [sys.executable, "-m", "prefect", *names, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=280).stdout


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


def check_pip(words: list[str]) -> None:
    assert words[0] in {"install", "uninstall"}


def check_python(words: list[str]) -> None:
    script = next(path for path in (ROOT / "deployments" / words[0], ROOT / words[0]) if path.exists())
    text = script.read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in text, words


def check_files(words: list[str]) -> None:
    """What an administrator installs is in deployments/."""
    for word in words:
        if words[0] == "install" and word.endswith((".env", ".service")):
            assert (ROOT / "deployments" / word).is_file(), word


def check_nothing(_: list[str]) -> None:
    """A shell's own; or `dtool`, which test_dtool_commands_run runs for real."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "dtool-ecs-flows": check_own_command,
    "decs": check_own_command,
    "prefect": check_prefect,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "sudo": check_files,
    **dict.fromkeys(("dtool", "export", "echo", "cd", "docker", "dask"), check_nothing),
}


@each_page
def test_commands_exist(page: Path) -> None:
    """Each command in a page, and each of its options, is there."""
    for program, *words in commands(page):
        CHECKS[program](words)


@pytest.mark.interop
def test_dtool_commands_run(reader: Reader) -> None:
    """Who types the `dtool` commands of the README, as they stand, gets a dataset into the bucket and back."""
    texts = [block.text for block in blocks(README, "sh") if re.search(r"^(URI=\$\()?dtool ", block.text, re.MULTILINE)]
    assert len(texts) == 2
    for text in texts:
        subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", reader.adapt(text)],
            env={"PATH": f"{environment('dtool-3.27', with_package=True)}:/usr/bin:/bin", "HOME": str(Path.home())},
            check=True,
            timeout=300,
        )
    assert [path.name for path in reader.folder.glob("restored/*/data/*")] == ["energies.csv"]


def test_what_the_demo_prints_is_what_is_shown() -> None:
    """The lines of the demo in the README are those that it prints today."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "demo").glob("*.py"))
    shown = next(block.text for block in blocks(README, "console") if "make demo" in block.text)
    steps = re.findall(r"^\d  (\w+(?: \w+)*)  (.*)$", shown, re.MULTILINE)
    assert len(steps) >= 5
    for what, how in steps:
        assert what in source
        assert how.split("(")[0] in source


# --- tables and files ------------------------------------------------------------------------------------------------


def test_the_table_of_settings_is_that_of_the_code() -> None:
    """Each setting is in the README with its key and its default, and no other is."""
    (table,) = [table for table in tables(README) if table[0][0] == "setting"]
    said = {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in table[1:]}
    assert said.keys() == _KEYS.keys() == BucketSettings.model_fields.keys() - {"bucket"}
    for name, (key, default) in said.items():
        field = BucketSettings.model_fields[name]
        assert key == _KEYS[name].format("<bucket>")
        if field.is_required():
            assert default == "must be set"
        elif field.default_factory:
            assert default == "dtool's own"
        else:
            assert default == {"": "none", "None": "none", "True": "true"}.get(str(field.default), str(field.default))


def test_the_table_of_exit_statuses_is_that_of_the_code() -> None:
    """A script that goes by the README is not misled."""
    (table,) = [table for table in tables(README) if table[0][0] == "status"]
    assert {int(status): meaning for status, meaning in table[1:]} == ends.STATUSES


def test_the_table_of_events_is_that_of_the_code() -> None:
    """An automation that goes by the page hears what it waits for."""
    (table,) = [table for table in tables(ROOT / "docs" / "composing.md") if table[0][0] == "event"]
    assert {name.strip("`") for name, *_ in table[1:]} == {events.ARCHIVED, events.PUBLISHED, events.CORRUPT}


def test_the_module_map_is_that_of_the_package() -> None:
    """Each module is in the design's map."""
    (table,) = [table for table in tables(ROOT / "docs" / "design.md") if table[0][0] == "module"]
    said = {name.rstrip("/") for row in table for name in re.findall(r"`([\w./]+)`", row[0])}
    package = ROOT / "dtool_ecs_flows"
    modules = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert said == modules - {"__init__.py"}


def test_numbers_in_the_design_are_those_of_the_code() -> None:
    """Who reckons with the limits that the pages name is not misled."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    mib, mb, gb = 1024**2, 10**6, 10**9
    for said in (
        f"up to\n{SINGLE_PUT // mib} MiB is one request",
        f"in parts of {part_size(SINGLE_PUT + 1) // mib} MiB",
        f"above {MAX_PARTS * part_size(0) / gb:.0f} GB, as large as {MAX_PARTS:,} parts require",
        f"at most {MEMORY / mb:.0f} MB in one operation",
        f"sizes up to {MAX_PARTS * MEMORY / 2 / gb:.0f} GB",
        f"{math.ceil(2 * part_size(10**12) / mb)} MB at 1 TB and {2 * part_size(5 * 1024**4) / gb:.1f} GB at 5 TiB",
        f"`new_dataset` holds up to {BEHIND / mb:.0f} MB besides",
        f"{FIRST_BUDGET:.0f} s in all until a first request has succeeded, then {BUDGET:.0f} s per request",
    ):
        assert said in design
    assert f"A file above {SINGLE_PUT // mib} MiB" in (ROOT / "docs" / "access-policy.md").read_text(encoding="utf-8")
    assert f"at most {MAX_HANDLE_BYTES:,} bytes of UTF-8" in README.read_text(encoding="utf-8")


def test_the_operations_that_tell_their_progress_are_those_that_are_named() -> None:
    """Each of them takes `progress`, and no other does."""
    (said,) = re.findall(r"^(`.*) take `progress`", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == {
        name for name in datasets.__all__ if "progress" in inspect.signature(getattr(datasets, name)).parameters
    }


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file or a heading of this repository has it at its other end."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


# --- policies --------------------------------------------------------------------------------------------------------


def policy(name: str) -> dict[str, dict[str, Any]]:
    """Return the statements of a shipped policy by their names."""
    document = json.loads((POLICIES / f"{name}-policy.json").read_text(encoding="utf-8"))
    return {statement["Sid"]: statement for statement in document["Statement"]}


def test_policies_are_what_the_page_says_of_them() -> None:
    """Names of statements and their actions are the same in the files and in the page; the two differ as it says."""
    (table,) = [table for table in tables(ROOT / "docs" / "access-policy.md") if table[0][0] == "statement"]
    said = {row[0].strip("`"): set(re.findall(r"s3:\w+", row[1])) for row in table[1:]}
    users, buckets = policy("user"), policy("bucket")
    assert {name: set(statement["Action"]) for name, statement in users.items()} == said
    assert said.keys() - buckets.keys() == {"FindBuckets"}
    said["ReadEverything"].add("s3:GetBucketLocation")
    assert all(set(statement["Action"]) == said[name] for name, statement in buckets.items())
    for name, statement in buckets.items():
        assert [each.replace("${aws:username}", "olssont") for each in users[name]["Resource"]] == statement["Resource"]


def test_json_in_pages_is_json() -> None:
    """What a reader pastes into dtool.json is valid there."""
    for page in PAGES:
        for block in blocks(page, "json"):
            assert json.loads(block.text)
