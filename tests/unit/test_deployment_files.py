"""What deployments/ brings besides prefect.yaml: units, a compose file, a container. `make lint` reads them too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.units import ENVIRONMENT_FILES, PROGRAMS, ROOT, UNITS, environment_file, service

COMPOSE = ROOT / "deployments" / "compose"


def test_each_unit_starts_a_program_of_ours_with_files_that_are_shipped() -> None:
    """Who copies the folder and edits what says so has all that the units name."""
    assert len(UNITS) == 2
    for unit in UNITS:
        found = service(unit.name, "1")
        assert found.command[0] == "prefect"
        assert found.files
        assert found.environment["PREFECT_HOME"].startswith("/var/lib/dtool-ecs/")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    """No misspelt key, no unknown value, no command that is none."""
    program = tmp_path / "prefect"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copies = [tmp_path / unit.name for unit in UNITS]
    for unit, copy in zip(UNITS, copies, strict=True):
        copy.write_text(unit.read_text(encoding="utf-8").replace(PROGRAMS, f"{tmp_path}/"), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_compose_asks_for_nothing_that_its_example_does_not_show() -> None:
    """Each variable without a default is in example.env; each file that is named is shipped, or said to be a secret."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    document = YAML(typ="safe").load(text)
    must = set(re.findall(r"\$\{(\w+):\?", text))
    assert must == set(environment_file(COMPOSE / "example.env"))
    assert (COMPOSE / document["services"]["server"]["env_file"]).resolve() == ENVIRONMENT_FILES["server.env"]
    said = text.partition("\nname:")[0]
    assert all(secret["file"] in said for secret in document["secrets"].values())
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for name in [".env", *(secret["file"] for secret in document["secrets"].values())]:
        assert f"deployments/compose/{name}" in ignored


def test_the_container_is_built_of_what_its_context_lets_through() -> None:
    """What the Dockerfile copies is there, and the .dockerignore, which keeps secrets out, keeps none of it."""
    through = re.findall(r"^!(.*)$", (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copies = re.findall(r"^COPY (.*) \S+$", (COMPOSE / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    copied = {name for line in copies for name in line.split()}
    assert copied == set(through)
    assert all((ROOT / name).exists() for name in copied)


def test_the_variables_of_prefect_are_those_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt one would be ignored without a word."""
    from prefect.settings import Settings

    compose = YAML(typ="safe").load(COMPOSE / "compose.yaml")["services"]
    said = {name: value for service in compose.values() for name, value in service.get("environment", {}).items()}
    for path in ENVIRONMENT_FILES.values():
        said |= environment_file(path)
    said = {name: value for name, value in said.items() if name.startswith("PREFECT_")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert said.keys() <= Settings().to_environment_variables(exclude_unset=True).keys()
    assert len(said) > 8
