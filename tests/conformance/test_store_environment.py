"""What the environment says to clients of AWS is not for this store: not where bytes go, nor how they are signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store
from tests.conformance.helpers import changed
from tests.independent import Raw, md5
from tests.proxy import proxied

ELSEWHERE = {
    "AWS_ACCESS_KEY_ID": "another",
    "AWS_SECRET_ACCESS_KEY": "another",
    "AWS_SESSION_TOKEN": "of-another-store",
    "AWS_PROFILE": "not-there",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_REQUEST_PAYER": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


@pytest.mark.parametrize("more", [{}, {"AWS_CHECKSUM_ALGORITHM": "sha256", "AWS_SERVER_SIDE_ENCRYPTION": "AES256"}])
def test_settings_of_another_store_change_nothing(
    bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    """Items and documents reach the bucket's own endpoint, signed as its user, each body checked by the server."""
    raw = Raw(bucket)
    for name, value in {**ELSEWHERE, **more}.items():
        monkeypatch.setenv(name, value)

    with proxied(bucket.endpoint) as proxy:
        store = Store(changed(bucket, endpoint=proxy.endpoint))
        store.put_item("item", b"123", md5(b"123"), {"checksum": md5(b"123")})
        store.put("document", b"456")
        assert bytes(store.read("item", 0, 3, 3)) == b"123"

    assert sorted(raw.listed()) == ["document", "item"]
    puts = proxy.seen("PUT")
    assert len(puts) == 2
    for put in puts:
        assert f"Credential={bucket.access_key_id}/" in put.headers["authorization"]
        checked = "content-md5" in put.headers or len(put.headers["x-amz-content-sha256"]) == 64
        assert checked
        ours = {"x-amz-date", "x-amz-content-sha256", "x-amz-meta-checksum"}
        assert {name for name in put.headers if name.startswith("x-amz-")} <= ours


def test_files_of_the_aws_command_line_are_not_read(bucket: BucketSettings, home: Path) -> None:
    """A user's ~/.aws may hold anything."""
    raw = Raw(bucket)
    (home / ".aws").mkdir()
    wild = "[default]\nendpoint_url = http://127.0.0.1:9\ns3 =\n  use_accelerate_endpoint = true\n  broken\n"
    (home / ".aws" / "config").write_text(wild)
    (home / ".aws" / "credentials").write_text("neither is this")

    Store(bucket).put("document", b"456")

    (home / ".aws" / "config").unlink()
    (home / ".aws" / "credentials").unlink()
    assert raw.listed() == ["document"]
