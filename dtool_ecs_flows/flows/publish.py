"""The flow `publish`: a folder becomes a dataset in a bucket, with its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from dtool_ecs_flows import layout
from dtool_ecs_flows.artifacts import artifact_key, published_markdown
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import DatasetError, EcsFlowsError
from dtool_ecs_flows.flows.options import Options
from dtool_ecs_flows.models import CreateReport, ShareReport
from dtool_ecs_flows.provenance import provenance
from dtool_ecs_flows.tasks import create_dataset, share_dataset

__all__ = ["Description", "Sharing", "publish"]

DESCRIPTION = """\
Makes a frozen dataset of the files in a folder, straight in the bucket.

- Which run made it, with which parameters and which versions, and from which datasets it was derived, is recorded in
  annotations. Each run makes a **new** dataset, also of the same folder.
- It can be made readable over HTTP: by **everyone**, for good, or by who has a **signed URL**, for some days. A signed
  URL is a key: it goes into a block of type Secret, and the report names the block.
"""


class Description(Options):
    """What the dataset says about itself."""

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
    other_buckets: list[EcsBucket] = Field(
        default=[],
        title="Other buckets",
        description="Blocks of further buckets that those datasets are in.",
        json_schema_extra={"position": 3},
    )
    creator: str = Field(
        default="",
        title="Creator",
        description="User name of who made it. Empty takes the one that dtool is configured with on the worker.",
        json_schema_extra={"position": 4},
    )
    links_out: Literal["fail", "follow"] = Field(
        default="fail",
        title="Symbolic links that lead out of the folder",
        description="Fail, or publish the files that they lead to. The worker may read files that whoever made the "
        "link may not.",
        json_schema_extra={"position": 5},
    )


class Sharing(Options):
    """Who can read it over HTTP, besides who can read the bucket."""

    readable_by: Literal["nobody else", "everyone", "who has the signed URL"] = Field(
        default="nobody else",
        title="Readable by",
        description="Everyone can read it for good once it is public. A signed URL is kept in a block of type Secret.",
        json_schema_extra={"position": 0},
    )
    days: float = Field(
        default=7,
        gt=0,
        le=7,
        title="Days that a signed URL lasts",
        description="At most 7. To share it for longer, sign it anew.",
        json_schema_extra={"position": 1},
    )


NOTHING = Description()
NOBODY = Sharing()


@flow(name="publish", description=DESCRIPTION)
def publish(
    folder: str,
    name: str,
    bucket: EcsBucket,
    description: Description = NOTHING,
    sharing: Sharing = NOBODY,
) -> CreateReport:
    """Make a dataset of a folder's files, with provenance.

    Args:
        folder: Path of the folder, where the worker can read it.
        name: Name of the new dataset: letters, digits, dashes, underscores and dots.
        bucket: The bucket that it goes into.
        description: What the dataset says about itself.
        sharing: Who can read it over HTTP.

    Returns:
        The dataset that was made.

    Raises:
        UnsafeNameError: No folder is named; it would be the worker's own.
    """
    report = create_dataset(
        name,
        bucket.base_uri,
        directory=Path(layout.check_given(folder)).expanduser(),
        readme=description.readme,
        tags=description.tags,
        annotations=provenance(),
        derived_from=description.derived_from,
        creator_username=description.creator or None,
        follow_out=description.links_out == "follow",
        buckets=[bucket, *description.other_buckets],
    )
    shared: ShareReport | None = None
    failure: EcsFlowsError | None = None
    if sharing.readable_by != "nobody else":
        try:
            shared = share_dataset(report.uri, expiry=_seconds(sharing), buckets=bucket)
        except EcsFlowsError as error:
            failure = error
    create_markdown_artifact(
        published_markdown(
            report,
            tags=description.tags,
            derived_from=description.derived_from,
            shared=shared,
            not_shared=str(failure or ""),
        ),
        key=artifact_key("publish", bucket.bucket),
        description=f"{report.name}: {report.uri}",
    )
    if failure:
        raise DatasetError(f"{report.uri} was made, and could not be shared: {failure}") from failure
    return report


def _seconds(sharing: Sharing) -> int | None:
    return None if sharing.readable_by == "everyone" else max(1, int(sharing.days * 24 * 3600))
