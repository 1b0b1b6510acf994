"""What README and docs say holds: their commands exist, their tables and numbers are those of the code."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
from prefect import Flow

import dtool_ecs_flows
from dtool_ecs_flows import BucketSettings, datasets, events, flows
from dtool_ecs_flows.cli import ends, main
from dtool_ecs_flows.datasets.behind import BEHIND
from dtool_ecs_flows.layout import MAX_HANDLE_BYTES
from dtool_ecs_flows.settings.sources import _KEYS
from dtool_ecs_flows.store.failures import BUDGET, FIRST_BUDGET
from dtool_ecs_flows.transfer import MAX_PARTS, MEMORY, SINGLE_PUT, part_size
from tests.docs.pages import README, ROOT, SHELLS, blocks, commands, each_page, tables

POLICIES = ROOT / "deployments" / "policies"

# --- commands --------------------------------------------------------------------------------------------------------


def check_own_command(words: list[str]) -> None:
    command: click.Command = main
    for word in words:
        if isinstance(command, click.Group) and not word.startswith("-"):
            command = command.commands[word]
        elif word.startswith("-"):
            assert word in {option for each in command.params for option in each.opts} | {"--help"}, words


def check_prefect(words: list[str]) -> None:
    if words[0] != "cloud":
        return  # run by test_site.py
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


def check_files(words: list[str]) -> None:
    """What an administrator installs is in deployments/."""
    for word in words:
        if words[0] == "install" and word.endswith((".env", ".service")):
            assert (ROOT / "deployments" / word).is_file(), word


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "dtool-ecs-flows": check_own_command,
    "decs": check_own_command,
    "prefect": check_prefect,
    "make": check_make,
    "pip": check_pip,
    "sudo": check_files,
}
"""What can be told of commands that are not run, or in `make test-all` only. All others are run: `test_followed.py`."""


@each_page
def test_commands_exist(page: Path) -> None:
    """Each command in a page, and each of its options, is there."""
    for block in blocks(page, *SHELLS):
        for program, *words in commands(block):
            if program in CHECKS:
                CHECKS[program](words)


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
    (said,) = re.findall(r"((?:`\w+`(?:,| and)?\s+)+)take `progress`", README.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(\w+)`", said)) == {
        name for name in datasets.__all__ if "progress" in inspect.signature(getattr(datasets, name)).parameters
    }


def test_the_reference_has_all_that_is_public() -> None:
    """Whoever looks for a name that can be imported, or for a flow, finds it in the reference."""
    reference = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.rst"))
    said = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", reference, re.MULTILINE))
    # EcsFlowsError is with all errors, on the page of their module.
    assert said >= set(dtool_ecs_flows.__all__) - {"EcsFlowsError"}
    modules = [import_module(f"dtool_ecs_flows.flows.{each.name}") for each in iter_modules(flows.__path__)]
    with_flows = {each.__name__ for each in modules if any(isinstance(value, Flow) for value in vars(each).values())}
    assert with_flows <= set(re.findall(r"^\.\. automodule:: (\S+)$", reference, re.MULTILINE))


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
