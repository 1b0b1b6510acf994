"""Each block of code in README and docs is run, or read by what it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest
from prefect import flow
from ruamel.yaml import YAML

from dtool_ecs_flows import create_dataset
from dtool_ecs_flows.blocks import EcsBucket
from tests.docs.pages import PAGES, README, ROOT, SHELLS, Block, blocks, each_page
from tests.docs.reader import Reader, is_run_elsewhere, programs
from tests.interop.environments import environment

TUTORIAL = ROOT / "docs" / "first-archive.md"


def is_of_dtool(block: Block) -> bool:
    """Whether a block needs the `dtool` command, which has an environment of its own."""
    return block.language in SHELLS and "dtool" in programs(block)


def is_of_a_site(block: Block) -> bool:
    """Whether a block sets up a Prefect server and workers, or talks to them."""
    return block.language in SHELLS and bool({"prefect", "dtool-ecs-flows"} & programs(block))


def is_plain(block: Block) -> bool:
    """Whether a block is Python, or has commands of none of these two kinds."""
    if block.language not in SHELLS:
        return block.language == "python"
    return bool(programs(block)) and not (is_run_elsewhere(block) or is_of_dtool(block) or is_of_a_site(block))


def with_blocks(wanted: Callable[[Block], bool]) -> pytest.MarkDecorator:
    """Give a test each page that has such blocks, but for the tutorial, which has a test of its own."""
    pages = [page for page in PAGES if page != TUTORIAL and any(map(wanted, blocks(page)))]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


@with_blocks(is_plain)
def test_pages_are_followed(page: Path, reader: Reader, prefect_server: str) -> None:
    """Who types what stands in a page, from top to bottom, meets no error and sees what it shows."""
    reader.terminal.environment["PREFECT_API_URL"] = prefect_server
    reader.follow(page, is_plain)


@pytest.mark.slow
def test_the_tutorial_is_followed(reader: Reader, prefect_server: str) -> None:
    """Who has never seen any of it has an archive, finds the damage and has the files back, as the page shows it."""
    reader.own["prefect --no-prompt server start"] = "true"  # one runs already
    reader.own["http://127.0.0.1:4200/api"] = prefect_server
    reader.follow(TUTORIAL)
    assert not (reader.folder / "first-archive").exists()


@pytest.mark.interop
@pytest.mark.timeout(900)  # the environment is made in the first
@with_blocks(is_of_dtool)
def test_dtool_commands_run(page: Path, reader: Reader) -> None:
    """Who types the `dtool` commands of a page, as they stand, meets no error."""
    reader.terminal.environment["PATH"] = f"{environment('dtool-3.27', with_package=True)}:/usr/bin:/bin"
    reader.follow(page, is_of_dtool)
    if page == README:
        assert [path.name for path in reader.folder.glob("back/*/data/*")] == ["energies.csv"]


@each_page
def test_documents_can_be_read(page: Path) -> None:
    """What a reader pastes into a file is valid there."""
    for block in blocks(page, "json"):
        assert json.loads(block.text)
    for block in blocks(page, "yaml"):
        assert YAML(typ="safe").load(block.text)


@each_page
def test_each_block_says_what_it_is(page: Path) -> None:
    """No block is passed over by the tests above because they do not know its language."""
    known = {"python", *SHELLS, "json", "yaml"}
    assert {block.language for block in blocks(page)} <= known


@pytest.mark.usefixtures("prefect_server")
def test_the_first_example_is_short_and_does_what_is_said_of_it(reader: Reader) -> None:
    """At most 12 lines publish a step's outputs, and who opens the dataset finds where it came from."""
    assert blocks(README, "python")[0].text.count("\n") <= 12
    simulate = reader.follow(README, lambda block: block.language == "python")["simulate"]
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
