"""The task that shares a dataset by URL. A signed URL goes from the store into a Secret block, and nowhere else."""

from __future__ import annotations

from prefect.blocks.system import Secret

from dtool_ecs_flows import datasets
from dtool_ecs_flows.models import ShareReport
from dtool_ecs_flows.tasks.running import Buckets, StopSignal, operation, settings_of, told
from dtool_ecs_flows.words import human_time


@operation("share", "uri")
def share_dataset(
    uri: str, *, expiry: int | None = None, buckets: Buckets = (), config_path: str | None = None
) -> ShareReport:
    """Make a dataset readable over HTTP: by everyone, or by who has a signed URL.

    A signed URL is in no log, result or artifact. It becomes the value of a block of type Secret, whose name is in the
    report; `Secret.load(report.secret_block).get()` gives it to whoever may read blocks.

    Args:
        uri: URI of a frozen dataset in a bucket.
        expiry: Seconds that the signed URL lasts, at most 604800; without it the dataset becomes public, for good.
        buckets: Block of the bucket.
        config_path: Path of a dtool.json in place of the default one.

    Returns:
        The public URL, or the name of the block that has the signed one, and until when it works.
    """
    with told(f"Sharing {uri}") as logger:
        report, url = datasets.share_dataset(
            uri, expiry=expiry, settings=settings_of(buckets), config_path=config_path, stop=StopSignal()
        )
        if report.expires_at is not None:
            name = f"signed-url-{report.uuid.lower()}"
            Secret(value=url.get_secret_value()).save(name, overwrite=True)
            report = report.model_copy(update={"secret_block": name})
    if report.expires_at is None:
        logger.info("Readable by everyone: %s", report.url)
    else:
        logger.info("The signed URL, until %s UTC, is in %s", human_time(report.expires_at), report.secret_block)
    return report
