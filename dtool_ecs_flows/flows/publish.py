"""The flow `publish`: a folder becomes a dataset in a bucket, with its provenance."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict, Field

from dtool_ecs_flows.artifacts import artifact_key, published_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.models import CreateReport
from dtool_ecs_flows.provenance import provenance
from dtool_ecs_flows.tasks import create_dataset

__all__ = ["Description", "publish"]

DESCRIPTION = """\
Makes a frozen dataset of the files in a folder, straight in the bucket.

Which run made it, with which parameters and which versions, and from which datasets it was derived, is recorded in
annotations. Each run makes a **new** dataset, also of the same folder.
"""


class Description(BaseModel):
    """What the dataset says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    readme: str = Field(
        default="",
        title="README",
        description="Descriptive metadata of the dataset, as YAML.",
        json_schema_extra={"position": 0},
    )
    tags: list[str] = Field(
        default=[],
        title="Tags",
        description="Short words to find it by.",
        json_schema_extra={"position": 1},
    )
    derived_from: list[str] = Field(
        default=[],
        title="Derived from",
        description="URIs of the datasets that the files were made from.",
        json_schema_extra={"position": 2},
    )
    creator: str = Field(
        default="",
        title="Creator",
        description="User name of who made it. Empty takes the one that dtool is configured with on the worker.",
        json_schema_extra={"position": 3},
    )


NOTHING = Description()


@flow(name="publish", description=DESCRIPTION)
def publish(folder: str, name: str, bucket: EcsBucket, description: Description = NOTHING) -> CreateReport:
    """Make a dataset of a folder's files, with provenance.

    Args:
        folder: Path of the folder, where the worker can read it.
        name: Name of the new dataset: letters, digits, dashes, underscores and dots.
        bucket: The bucket that it goes into.
        description: What the dataset says about itself.

    Returns:
        The dataset that was made.
    """
    report = create_dataset(
        name,
        bucket.base_uri,
        directory=Path(folder).expanduser(),
        readme=description.readme,
        tags=description.tags,
        annotations=provenance(),
        derived_from=description.derived_from,
        creator_username=description.creator or None,
        buckets=bucket,
    )
    create_markdown_artifact(
        published_markdown(report, tags=description.tags, derived_from=description.derived_from),
        key=artifact_key("publish", bucket.bucket),
        description=f"{report.name}: {report.uri}",
    )
    return report
