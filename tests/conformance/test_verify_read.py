"""What a verification says that it has read: all of that, and no more."""

from __future__ import annotations

from dtool_ecs_flows import BucketSettings, verify_dataset
from tests.conformance.helpers import changed
from tests.independent import CONTENTS, Raw, bucket_dataset, identifier
from tests.proxy import proxied

TOTAL = sum(map(len, CONTENTS.values()))


def test_without_reading_it_says_that_it_did_not(bucket: BucketSettings) -> None:
    """Damage that shows only in the bytes is not found then, and the report claims nothing about them."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    raw.replace(f"{uuid}/data/{identifier('table.csv')}", b"A,b\n1,2\n")

    report = verify_dataset(f"{bucket.base_uri}/{uuid}", read=False, settings=bucket)

    assert (report.content_read, report.bytes_read, report.ok) == (False, 0, True)


def test_what_goes_between_the_listing_and_the_reading_was_not_read(bucket: BucketSettings) -> None:
    """The item is corrupt, since nobody can read it any more, and its bytes are not counted."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, CONTENTS)
    key = f"{uuid}/data/{identifier('table.csv')}"

    with proxied(bucket.endpoint) as proxy:
        proxy.on("GetObject", key=key).call(lambda _: raw.delete(key))
        report = verify_dataset(f"{bucket.base_uri}/{uuid}", settings=changed(bucket, endpoint=proxy.endpoint))

    assert [(each.kind, each.subject) for each in report.findings] == [("corrupt", "table.csv")]
    assert report.bytes_read == TOTAL - len(CONTENTS["table.csv"])
