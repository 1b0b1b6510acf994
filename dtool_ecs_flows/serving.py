"""The deployments of a site in one process: read from a `prefect.yaml`, or all flows as they are, and served.

What a work pool needs besides (`pull`, `build`, `work_pool` ...) is passed over, so the file of a site that grows stays
the same. `declared` and `all_flows` import no flow and ask no server: Prefect, once it is imported, does not see a
server that is started afterwards.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.words import visible

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner

__all__ = ["Declared", "When", "all_flows", "declared", "serve"]

_FLOWS = "dtool_ecs_flows.flows"  # by name, as every entrypoint is: this room knows none of them
_PLACEHOLDER = re.compile(
    r"\{\{\s*(?:prefect\.variables\.(?P<variable>\w+)|\$(?P<environment>\w+)|(?P<other>.*?))\s*\}\}"
)
_BLOCKS = "ecs-bucket/"


class When(BaseModel):
    """One schedule of a deployment, as `prefect.yaml` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str | None = None
    rrule: str | None = None
    interval: float | None = Field(default=None, gt=0)
    """Seconds."""
    timezone: str | None = None
    day_or: bool = True
    active: bool = True
    slug: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_them(self) -> When:
        if sum(each is not None for each in (self.cron, self.rrule, self.interval)) != 1:
            raise ValueError("a schedule has one of cron, interval and rrule")
        return self

    def __str__(self) -> str:
        """Return it as a person reads it."""
        when = self.cron or self.rrule or f"every {timedelta(seconds=self.interval or 0)}"
        zone = f" {self.timezone}" if self.timezone else ""
        return when + zone + ("" if self.active else " (not active)")


class Declared(BaseModel):
    """One deployment, as `prefect.yaml` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    entrypoint: str = Field(pattern=r"^[\w.]+\.\w+$")
    """Module and name of a flow: `dtool_ecs_flows.flows.archive.archive`."""
    description: str | None = None
    version: str | None = None
    tags: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[When] = Field(default_factory=list)
    schedule: When | None = None
    concurrency_limit: int | dict[str, Any] | None = None
    enforce_parameter_schema: bool = True
    paused: bool | None = None
    # What a work pool needs, and a process that serves does not.
    work_pool: Any = None
    build: Any = None
    push: Any = None
    pull: Any = None

    @property
    def when(self) -> tuple[When, ...]:
        """All schedules."""
        return (*self.schedules, *([self.schedule] if self.schedule else []))

    @property
    def full_name(self) -> str:
        """Flow and deployment, as `prefect deployment run` takes them; the flows of this package are called as here."""
        return f"{self.entrypoint.rpartition('.')[2].replace('_', '-')}/{self.name}"


def declared(file: str | os.PathLike[str]) -> list[Declared]:
    """Return the deployments of a `prefect.yaml`.

    Raises:
        SettingsError: it is not there or no YAML, or something in it is not understood, which is named.
    """
    import yaml  # noqa: PLC0415  # nobody else needs it

    try:
        document = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{os.fspath(file)} cannot be read: {visible(' '.join(str(error).split()))}") from None
    entries = document.get("deployments") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{os.fspath(file)} has no list of deployments")
    found = [_declared(entry, number, file) for number, entry in enumerate(entries, start=1)]
    names = [each.full_name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"{os.fspath(file)} has two deployments {', '.join(twice)}")
    return found


def _declared(entry: Any, number: int, file: str | os.PathLike[str]) -> Declared:
    try:
        return Declared.model_validate(entry)
    except ValidationError as error:
        name = entry.get("name", number) if isinstance(entry, dict) else number
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:3]
        )
        raise SettingsError(f"{os.fspath(file)}, deployment {name}: {visible(faults)}") from None


def all_flows() -> list[Declared]:
    """Return a deployment for each flow of this package, without parameters and schedules: for people, in the UI."""
    names = importlib.import_module(_FLOWS).NAMES
    return [Declared(name=name, entrypoint=f"{_FLOWS}.{name}.{name}", tags=["dtool"]) for name in names]


# --- with a server ---


def serve(deployments: Sequence[Declared], ready: Callable[[], None], *, at_once: int | None = None) -> None:
    """Serve deployments until the process is told to stop; needs a Prefect server.

    The type of the block is registered, so that the forms in the UI work, and the blocks that parameters name are
    looked for before anything is served.

    Args:
        deployments: what is served.
        ready: called when they are, and SIGINT and SIGTERM end it in good order.
        at_once: flow runs at the same time at most, by default as Prefect is configured (5).

    Raises:
        SettingsError: a flow, a variable or a block that is named is not there.
    """
    from prefect.runner import Runner  # noqa: PLC0415  # only this needs it, and it takes its time

    from dtool_ecs_flows.blocks import EcsBucket  # noqa: PLC0415

    EcsBucket.register_type_and_schema()
    runner = Runner(limit=at_once)
    for each in deployments:
        runner.add_deployment(_built(each))
    asyncio.run(_until_stopped(runner, ready))


async def _until_stopped(runner: Runner, ready: Callable[[], None]) -> None:
    """Run it. What Prefect itself does at a SIGTERM leaves the runs under way for ever "running" in its records."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if not stopping:
            stopping.append(loop.create_task(runner.astop()))

    serving = loop.create_task(runner.start())
    while not (runner.started or serving.done()):  # noqa: ASYNC110  # which sets no event
        await asyncio.sleep(0.05)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if runner.started:
        ready()
    await serving
    for task in stopping:
        await task


def _built(each: Declared) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig  # noqa: PLC0415
    from prefect.flows import Flow  # noqa: PLC0415
    from prefect.types.entrypoint import EntrypointType  # noqa: PLC0415

    module, _, name = each.entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SettingsError(f"deployment {each.name}: {each.entrypoint} cannot be imported: {error}") from None
    if not isinstance(found, Flow):
        raise SettingsError(f"deployment {each.name}: {each.entrypoint} is no flow")
    filled = _filled(each.parameters, each.name)
    for block in _blocks(filled):
        _check_block(block, each.name)
    limit = each.concurrency_limit
    try:
        return cast(
            "RunnerDeployment",
            found.to_deployment(
                each.name,
                schedules=[_schedule(when, each.name) for when in each.when],
                paused=each.paused,
                concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
                parameters=filled,
                description=each.description,
                tags=each.tags,
                version=each.version,
                enforce_parameter_schema=each.enforce_parameter_schema,
                entrypoint_type=EntrypointType.MODULE_PATH,
            ),
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"deployment {each.name}: {visible(' '.join(str(error).split()))}") from None


def _schedule(when: When, name: str) -> Any:
    from prefect.schedules import Schedule  # noqa: PLC0415

    values = when.model_dump(exclude={"interval", "parameters"})
    interval = None if when.interval is None else timedelta(seconds=when.interval)
    return Schedule(**values, interval=interval, parameters=_filled(when.parameters, name))


def _filled(value: Any, name: str) -> Any:
    """Put variables of the server and of the environment into parameters, as `prefect deploy` does."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, name) for inner in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    if whole := _PLACEHOLDER.fullmatch(value):
        return _looked_up(whole, name)
    return _PLACEHOLDER.sub(lambda match: str(_looked_up(match, name)), value)


def _looked_up(match: re.Match[str], name: str) -> Any:
    from prefect.variables import Variable  # noqa: PLC0415

    if match["other"] is not None:
        hint = "; a block is given as $ref, which stores no secret" if "prefect.blocks" in match["other"] else ""
        raise SettingsError(f"deployment {name}: {match.group()} is not understood{hint}")
    if match["environment"]:
        found = os.environ.get(match["environment"])
    else:
        found = Variable.get(match["variable"], _sync=True)  # type: ignore[call-overload]  # async_dispatch
    if found is None:
        raise SettingsError(f"deployment {name}: {match.group()} has no value: there is no such variable")
    return found


def _blocks(value: Any) -> Iterator[str]:
    """Yield the slugs of the blocks that parameters name."""
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, Mapping) and "block_document_slug" in reference:
            yield str(reference["block_document_slug"])
        for inner in value.values():
            yield from _blocks(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _blocks(inner)


def _check_block(slug: str, name: str) -> None:
    from dtool_ecs_flows.blocks import EcsBucket  # noqa: PLC0415

    if slug.startswith(_BLOCKS):
        try:
            EcsBucket.load(slug.removeprefix(_BLOCKS))
        except ValueError:  # what Prefect raises where there is none of this name
            raise SettingsError(
                f"deployment {name}: there is no block {slug}; decs blocks import makes one of each of dtool.json"
            ) from None
