"""What a systemd unit of deployments/ says, read far enough to do the same without systemd."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "deployments" / "systemd").glob("*.service"))
ENVIRONMENT_FILES = {path.name: path for path in (ROOT / "deployments").glob("**/*.env")}
PROGRAMS = "/srv/dtool-ecs/venv/bin/"
"""Where the units expect the environment with the package."""


@dataclass(frozen=True)
class Service:
    """A unit, for one instance where it is a template."""

    command: tuple[str, ...]
    environment: dict[str, str]
    """Of its `Environment=` lines."""
    files: dict[str, str]
    """Of its `EnvironmentFile=` lines, as they are shipped."""


def service(name: str, instance: str = "") -> Service:
    """Return what the unit of this name would start."""
    text = (ROOT / "deployments" / "systemd" / name).read_text(encoding="utf-8").replace("%i", instance)
    lines = [line.split("=", 1) for line in text.splitlines() if line and line[0] not in "[#"]
    (command,) = [value for key, value in lines if key == "ExecStart"]
    variables = [value.split("=", 1) for key, value in lines if key == "Environment"]
    files = [Path(value).name for key, value in lines if key == "EnvironmentFile"]
    program, *words = shlex.split(command)
    assert program.startswith(PROGRAMS)
    return Service(
        (program.removeprefix(PROGRAMS), *words),
        dict(variables),
        {name: value for file in files for name, value in environment_file(ENVIRONMENT_FILES[file]).items()},
    )


def environment_file(path: Path) -> dict[str, str]:
    """Return the variables of a file that systemd and Docker read alike."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return dict(pairs)
