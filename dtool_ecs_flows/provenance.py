"""Where a dataset came from, as annotations: flow run, task run, parameters, versions, commit and source datasets.

Secrets are left out where they can be known: blocks and `SecretStr` are replaced by what they are, and parameters whose
name speaks of a password, a key or a token by stars. A secret in plain text under another name is recorded. Outside of
a run there is no run to tell of; the rest is recorded all the same.
"""

from __future__ import annotations

import math
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import date, datetime, timedelta
from enum import Enum
from importlib import metadata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.context import FlowRunContext, TaskRunContext
from prefect.runtime import deployment, flow_run, task_run
from prefect.utilities.urls import url_for
from pydantic import BaseModel, SecretBytes, SecretStr

from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.datasets import new_dataset
from dtool_ecs_flows.events import published
from dtool_ecs_flows.rollback import may_leave_unfinished

if TYPE_CHECKING:
    from dtool_ecs_flows.datasets import DatasetWriter

__all__ = ["provenance", "publish_dataset"]

MAX_TEXT = 1000
"""Characters of one recorded value."""

MAX_ENTRIES = 100
"""Entries of one recorded list or mapping."""

_HIDDEN = "**********"
_SECRET_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|api_?key|access_?key|private_?key", re.IGNORECASE
)
_URL_SECRETS = re.compile(
    r"(?<=://)[^/@\s]+(?=@)|(?<=[?&])(X-Amz-[^=&\s]*|[^=&\s]*(?:sig|token|key)[^=&\s]*)=[^&\s]*", re.IGNORECASE
)


@contextmanager
def publish_dataset(
    name: str,
    bucket: EcsBucket | str,
    *,
    readme: str = "",
    tags: Sequence[str] = (),
    annotations: Mapping[str, Any] | None = None,
    derived_from: Sequence[str] = (),
    creator_username: str | None = None,
) -> Iterator[DatasetWriter]:
    """Make a dataset of what a step puts into it, with the step's provenance as annotations.

    The dataset is frozen on leaving. On an exception it stays a proto dataset, and a retry makes a new one.
    Within it the bucket's settings are active, so that dtoolcore reads source datasets of the same bucket.

    Args:
        name: Name of the new dataset.
        bucket: Block of the bucket, or the base URI of a bucket (or another dtool base URI) that is configured.
        readme: Descriptive metadata, YAML.
        tags: Tags of the dataset.
        annotations: Annotations beside those of provenance; of two with one name, these are taken.
        derived_from: URIs of the datasets that it was made from.
        creator_username: Who made it; by default as dtool is configured.

    Yields:
        A writer: put files, bytes or a staged path, add metadata; afterwards `uri` and `report`.
    """
    base_uri = bucket if isinstance(bucket, str) else bucket.base_uri
    settings = () if isinstance(bucket, str) else (bucket.settings(),)
    with (
        nullcontext() if isinstance(bucket, str) else bucket.active(),
        may_leave_unfinished(settings) as begun,
        new_dataset(
            name,
            base_uri,
            readme=readme,
            tags=tags,
            annotations={**provenance(), **(annotations or {})},
            derived_from=derived_from,
            creator_username=creator_username,
        ) as writer,
    ):
        begun(writer.uri)
        yield writer
    published(writer.report, derived_from=derived_from)


def provenance() -> dict[str, Any]:
    """Return annotations that tell which run, with which parameters and which code, makes a dataset now.

    Source datasets are recorded by `derived_from` of `create_dataset`, `new_dataset` and `publish_dataset`.

    Returns:
        JSON values by annotation name. Names of what there is nothing to tell of are left out.
    """
    told: dict[str, Any] = {
        "prefect_flow_run": _flow_run(),
        "prefect_task_run": _task_run(),
        "git_commit": _git_commit(_code_file()),
        "software": _software(),
    }
    return {name: value for name, value in told.items() if value}


def _flow_run() -> dict[str, Any]:
    if not flow_run.id:
        return {}
    return _without_empty(
        {
            "id": str(flow_run.id),
            "name": flow_run.name,
            "flow": flow_run.flow_name,
            "deployment": deployment.name,
            "url": url_for("flow-run", flow_run.id),
            "parameters": _recordable(flow_run.parameters),
        }
    )


def _task_run() -> dict[str, Any]:
    if TaskRunContext.get() is None:
        return {}
    return _without_empty(
        {
            "id": str(task_run.id),
            "name": task_run.name,
            "task": task_run.task_name,
            "attempt": task_run.run_count,
            "parameters": _recordable(task_run.parameters),
        }
    )


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", {})}


def _software() -> dict[str, Any]:
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda package: package[0].lower())),
    }


def _code_file() -> Path | None:
    """Return the file with the code that runs: of the flow, else of the task, else the script."""
    run, step = FlowRunContext.get(), TaskRunContext.get()
    function = getattr(getattr(run, "flow", None), "fn", None) or getattr(getattr(step, "task", None), "fn", None)
    code = getattr(function, "__code__", None)
    name = code.co_filename if code else getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(name) if name else None
    return path.resolve() if path and path.is_file() else None


def _git_commit(file: Path | None) -> dict[str, Any]:
    """Return the commit of the work tree that the file is in; nothing where it is in none, or is ignored there."""
    if file is None or _git(file, "check-ignore", "--quiet", file.name) is not None:
        return {}
    commit = _git(file, "rev-parse", "HEAD")
    if not commit:
        return {}
    # An untracked script is no part of the commit, other untracked files do not matter.
    changed = _git(file, "status", "--porcelain", "--untracked-files=no", "--", ":/")
    untracked = _git(file, "ls-files", "--error-unmatch", "--", file.name) is None
    return _without_empty(
        {
            "commit": commit,
            "dirty": bool(changed) or untracked,
            "file": _git(file, "ls-files", "--full-name", "--", file.name) or file.name,
            "repository": _recordable(_git(file, "config", "--get", "remote.origin.url")),
        }
    )


def _git(file: Path, *arguments: str) -> str | None:
    """Return what git says, or None where it fails or is not there."""
    command = ["git", "-C", str(file.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _recordable(value: Any) -> Any:
    """Return a value as JSON that tells no secret and is not long."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Block):
        return f"block {value.get_block_type_slug()}/{getattr(value, '_block_document_name', None) or 'not saved'}"
    if isinstance(value, BaseModel):
        return _mapping({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _sequence(list(value))
    return _other(value)


def _text(value: str) -> str:
    text = _URL_SECRETS.sub(_HIDDEN, value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"


def _other(value: Any) -> Any:
    if isinstance(value, (SecretStr, SecretBytes)):
        return _HIDDEN
    if isinstance(value, Enum):
        return _recordable(value.value)
    if isinstance(value, (PurePath, UUID, date, datetime, timedelta)):
        return str(value)
    # Anything else might show a secret when it prints itself.
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _mapping(values: Mapping[Any, Any]) -> dict[str, Any]:
    entries = list(values.items())[:MAX_ENTRIES]
    told = {str(name): _HIDDEN if _is_secret(str(name), value) else _recordable(value) for name, value in entries}
    if len(values) > MAX_ENTRIES:
        told["…"] = f"{len(values) - MAX_ENTRIES} more"
    return told


def _is_secret(name: str, value: Any) -> bool:
    return bool(value) and not isinstance(value, bool) and bool(_SECRET_NAME.search(name))


def _sequence(values: list[Any]) -> list[Any]:
    told = [_recordable(value) for value in values[:MAX_ENTRIES]]
    return [*told, f"… {len(values) - MAX_ENTRIES} more"] if len(values) > MAX_ENTRIES else told
