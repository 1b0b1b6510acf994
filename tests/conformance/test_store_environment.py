"""What the environment says to clients of AWS is not for this store: not where bytes go, nor how they are signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtool_ecs_flows.errors import StoreError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, failures
from tests.conformance.helpers import changed
from tests.independent import Raw, md5
from tests.proxy import proxied
from tests.servers import bypass_proxy

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


def test_the_proxy_of_a_site_is_used_by_both_lanes(
    rclone_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items and documents go by HTTP_PROXY; where NO_PROXY names the host, by name or by domain, neither does."""
    behind = changed(rclone_bucket, endpoint="http://store.invalid:9020", connect_timeout=1)
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.1)
    with proxied(rclone_bucket.endpoint) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        store = Store(behind)
        store.put_item("item", b"123", md5(b"123"), {})
        store.put("document", b"456")
        boto3 = {put.key: "Boto3" in put.headers.get("user-agent", "") for put in proxy.seen("PutObject")}
        assert boto3 == {"item": False, "document": True}

        for name in ("store.invalid", "elsewhere,.invalid"):
            proxy.clear()
            monkeypatch.setenv("NO_PROXY", name)
            monkeypatch.setenv("no_proxy", name)
            with pytest.raises(StoreError, match=r"store\.invalid"):
                Store(behind).put_item("item", b"123", md5(b"123"), {})
            assert proxy.requests == []


def test_servers_of_the_tests_are_asked_past_the_proxy(bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a site with a proxy, the tests do not send what is for this machine there."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    store = Store(bucket)
    store.put_item("item", b"123", md5(b"123"), {})
    store.put("document", b"456")
    assert sorted(Raw(bucket).listed()) == ["document", "item"]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.org, b.org", "no_proxy": "b.org,localhost"}, "a.org,b.org,localhost,127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_what_goes_past_the_proxy_already_still_does(
    told: dict[str, str], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine is added to what the site has set, under both spellings of the variable."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, told.get(name, ""))
    bypass_proxy()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == kept
