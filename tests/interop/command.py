"""The real `dtool` command, in an environment of its own in which this package is installed as a user has it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dtool_ecs_flows.settings import BucketSettings
from tests.interop.environments import environment


@dataclass(frozen=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Both streams."""
        return self.out + self.err

    @property
    def lines(self) -> list[str]:
        """The lines of the output, without their ends."""
        return [line.rstrip() for line in self.out.splitlines()]


@dataclass(frozen=True)
class Dtool:
    """Runs `dtool` with a home of its own; its settings are in that home's dtool.json."""

    home: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.home / ".config" / "dtool" / "dtool.json"

    def configure(self, bucket: BucketSettings, **changes: str) -> None:
        """Write the settings of a bucket; the keywords are further keys."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        values = {
            f"DTOOL_ECS_ENDPOINT_{bucket.bucket}": bucket.endpoint,
            f"DTOOL_ECS_ACCESS_KEY_ID_{bucket.bucket}": bucket.access_key_id,
            f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket.bucket}": bucket.secret_access_key.get_secret_value(),
            "DTOOL_CACHE_DIRECTORY": str(self.home / "cache"),
            **changes,
        }
        self.config.write_text(json.dumps({name: value for name, value in values.items() if value}))
        self.config.chmod(0o600)  # as `dtool config` leaves it

    def run(self, *arguments: object, stdin: str = "") -> Said:
        """Run a command, whatever comes of it."""
        done = subprocess.run(
            self._command(arguments),
            input=stdin,
            env=self._environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def at_a_terminal(self, *arguments: object) -> str:
        """Run a command that must succeed at a terminal, and return all that it drew there."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            self._command(arguments), env=self._environment(), cwd=self.home, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            drawn = b""
            with open(ours, "rb", buffering=0) as terminal, suppress(OSError):  # the end of a terminal is an error
                while some := terminal.read(65536):
                    drawn += some
        assert process.returncode == 0, drawn.decode()
        return drawn.decode()

    def _command(self, arguments: Iterable[object]) -> list[str]:
        return [str(environment("dtool-3.27", with_package=True) / "dtool"), *map(str, arguments)]

    def _environment(self) -> dict[str, str]:
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("DTOOL_", "AWS_"))}
        return {**variables, "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def __call__(self, *arguments: object, stdin: str = "") -> Said:
        """Run a command that must succeed, and have nothing to complain of."""
        said = self.run(*arguments, stdin=stdin)
        assert (said.status, said.err) == (0, ""), f"dtool {' '.join(map(str, arguments))}\n{said.all}"
        return said
