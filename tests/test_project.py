"""The distribution and the repository: what is shipped, what it says of itself, what must not be in it."""

from __future__ import annotations

import re
import subprocess
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

from dtool_ecs_flows.plugins import EXTRAS

ROOT = Path(__file__).parents[1]

# Built from parts, so that this file does not hold what it forbids.
REGISTRIES = ("pypi" + ".org", "python" + "hosted.org", "npmjs" + ".org", "debian" + ".org", "anaconda" + ".org")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "work|root|home|opt|Users" + r")/\w+")


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel."""
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="session")
def wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says of itself."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


@pytest.fixture(scope="session")
def tracked() -> dict[str, str]:
    """The text files of the repository, by path."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = {}
    for name in filter(None, listing.split("\0")):
        try:
            texts[name] = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, or removed and not committed yet
    return texts


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Flows and types are installed with the package; tests, demo and the site's own pipelines are not."""
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"dtool_ecs_flows"}
    assert "dtool_ecs_flows/py.typed" in names
    assert {
        f"dtool_ecs_flows/flows/{flow}.py"
        for flow in ("archive", "audit", "expire", "retrieve", "inventory", "mirror", "publish")
    } <= set(names)


def test_the_wheel_holds_every_module(wheel: zipfile.ZipFile) -> None:
    """What works in the repository works when installed: no file is left behind."""
    parts = (".py", ".html", ".css", ".js")
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dtool_ecs_flows").rglob("*") if path.suffix in parts}
    assert here == {name for name in wheel.namelist() if name.endswith(parts)}


def test_the_sdist_builds_the_same_wheel_and_has_its_papers(distributions: Path, wheel: zipfile.ZipFile) -> None:
    """Whoever packages it further finds licence and changelog, and all that README and pages lead to."""
    (unpacked,) = [path for path in distributions.iterdir() if path.is_dir()]
    assert {path.name for path in unpacked.iterdir()} == {
        "dtool_ecs_flows", "docs", "deployments", "flows", "benchmarks",
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE",
        "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip  # rows for folders, papers and what builds it
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    for page in [unpacked / "README.md", *unpacked.glob("docs/*.md"), *unpacked.glob("deployments/*.md")]:
        links = re.findall(r"\]\((?!https?:|#)([^)\s#]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
        assert not [link for link in links if not (page.parent / link).exists()], page


def test_nothing_of_a_machine_is_in_the_distributions(distributions: Path, wheel: zipfile.ZipFile) -> None:
    """No cache, no compiled file and nothing that git does not know is given to users."""
    (unpacked,) = [path for path in distributions.iterdir() if path.is_dir()]
    known = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    )
    given = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()} - {"PKG-INFO"}
    assert given <= known
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} <= known


def test_a_page_of_an_index_shows_the_readme(wheel_metadata: Message) -> None:
    """What an index shows of the package is its README, as Markdown, with its licence, its Pythons and its summary."""
    assert wheel_metadata["Description-Content-Type"] == "text/markdown"
    assert wheel_metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert (wheel_metadata["License-Expression"], wheel_metadata["Requires-Python"]) == ("MIT", ">=3.10")
    assert wheel_metadata["Summary"]


def test_dtool_prefect_and_a_shell_find_the_package(wheel: zipfile.ZipFile) -> None:
    """dtoolcore finds the broker, Prefect the block, a person the command."""
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    lines = wheel.read(name).decode().split("\n")
    assert {
        "[console_scripts]",
        "dtool-ecs-flows = dtool_ecs_flows.cli:main",
        "decs = dtool_ecs_flows.cli:main",
        "[dtool.storage_brokers]",
        "ecs = dtool_ecs_flows.broker:ECSStorageBroker",
        "[prefect.collections]",
        "dtool_ecs_flows = dtool_ecs_flows.blocks",
    } <= set(lines)


@pytest.mark.parametrize("group", ["console_scripts", "dtool.storage_brokers", "prefect.collections"])
def test_each_entry_point_loads(group: str) -> None:
    """What the metadata names is there."""
    mine = [entry for entry in metadata.distribution("dtool-ecs-flows").entry_points if entry.group == group]
    assert mine
    for entry in mine:
        entry.load()


def test_what_is_known_to_break_is_excluded(wheel_metadata: Message) -> None:
    """A plain install has no fastapi and no sqlalchemy on which Prefect's server fails, no setuptools without dtool."""
    required = wheel_metadata.get_all("Requires-Dist", [])
    assert {"fastapi<0.151", "sqlalchemy<2.1", "setuptools<80.9,>=75.8.2", "dtoolcore>=3.18.3"} <= set(required)
    plain = [each for each in required if "extra ==" not in each]
    assert not [each for each in plain if each.startswith(("dtool-ecs", "dtool-s3"))]


def test_other_stores_are_extras(wheel_metadata: Message) -> None:
    """A plain install brings no plugin of another store; each has an extra, as errors and docs name it."""
    assert set(wheel_metadata.get_all("Provides-Extra", [])) == {"http", "s3", "azure", "smb", "irods", "all"} | {
        "dask",
        "parquet",
    }
    assert {extra for extra, _ in EXTRAS.values()} == {"http", "s3", "azure", "smb", "irods"}
    for extra, package in EXTRAS.values():
        needed = [line for line in wheel_metadata.get_all("Requires-Dist", []) if line.startswith(f"{package}>=")]
        assert {line.partition("; ")[2] for line in needed} == {f"extra == '{extra}'", "extra == 'all'"}


def test_the_version_is_in_the_changelog(wheel_metadata: Message) -> None:
    """A release that nobody described is not built."""
    version = re.escape(wheel_metadata["Version"])
    assert re.search(rf"^## \[?{version}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_readme_begins_with_the_two_commands() -> None:
    """The first screen says what to type."""
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:50])
    assert "make demo" in first_screen
    assert "make test" in first_screen


def test_each_room_is_held_to_what_it_may_import() -> None:
    """A new module is in the list of layers or the linter fails; here it is also told whether it may know boto3."""
    told = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = told.partition("layers = [")[2].partition("]")[0]
    rooms = set(re.findall(r"\w+", layers)) - {"store"}
    without_boto3 = told.partition("Only the store knows boto3")[2].partition("]")[0]
    assert set(re.findall(r"dtool_ecs_flows\.(\w+)", without_boto3)) == rooms
    without_prefect = told.partition("Nothing below the blocks")[2].partition("]")[0]
    above = set(re.findall(r"\w+", layers.partition('"datasets"')[0]))
    assert set(re.findall(r"dtool_ecs_flows\.(\w+)", without_prefect)) == rooms - above | {"store"}


def test_constraints_are_versions_and_nothing_else(tracked: dict[str, str]) -> None:
    """The constraints hold anywhere: no address, no path, no range."""
    for line in tracked["constraints.txt"].splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+(?: ; .+)?", line), line


def test_no_file_names_a_registry_or_somebodys_machine(tracked: dict[str, str]) -> None:
    """The repository works for everybody, from any mirror and in any folder."""
    found = [
        f"{name}: {match}"
        for name, text in tracked.items()
        for match in [*(each for each in REGISTRIES if each in text), *MACHINE_PATH.findall(text)]
    ]
    assert not found


def test_no_python_file_has_outgrown_its_room(tracked: dict[str, str]) -> None:
    """A file that passes 400 lines is a folder that has not been made yet."""
    assert not [name for name, text in tracked.items() if name.endswith(".py") and text.count("\n") > 400]
