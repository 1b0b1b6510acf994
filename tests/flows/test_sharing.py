"""Publish: who can read the new dataset over HTTP, and where a signed URL is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client

from dtool_ecs_flows import BucketSettings, list_datasets, share_dataset
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.errors import DatasetError, NotADatasetError, SettingsError, UnsafeNameError
from dtool_ecs_flows.flows.publish import Description, Sharing, publish
from tests.conformance.helpers import changed
from tests.conformance.test_signing import below, fetch, status_of
from tests.flows.conftest import PrefectApi, block_of
from tests.proxy import proxied
from tests.servers import S3Server


@pytest.fixture
def files(tmp_path: Path) -> str:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "energies.csv").write_text("300,450\n")
    return str(folder)


def what_is_read(url: str) -> tuple[str, list[bytes]]:
    """The name of a shared dataset, and the bytes of its items, as dtool-http reads them."""
    manifest: dict[str, Any] = json.loads(fetch(below(url, "http_manifest.json")))
    return manifest["admin_metadata"]["name"], [fetch(item) for item in manifest["item_urls"].values()]


def test_published_for_everyone_the_report_has_the_url(rgw_bucket: BucketSettings, files: str, api: PrefectApi) -> None:
    """Who opens the URL of the report reads the dataset; others in the bucket stay closed."""
    block = block_of(rgw_bucket, publish_expiry=60)  # which says something else, and does not count here
    closed = publish(files, "closed", block)
    made = publish(files, "open", block, sharing=Sharing(readable_by="everyone"))
    shown = api.artifact(f"publish-{rgw_bucket.bucket}")["data"]
    url = f"{rgw_bucket.endpoint}/{rgw_bucket.bucket}/{made.uuid}"
    assert f"`{url}`" in shown
    assert what_is_read(url) == ("open", [b"300,450\n"])
    assert status_of(f"{rgw_bucket.endpoint}/{rgw_bucket.bucket}/{closed.uuid}/manifest.json") == 403


def test_a_link_that_leads_out_of_the_folder_is_followed_only_when_asked_for(
    block: EcsBucket, files: str, tmp_path: Path
) -> None:
    """Nobody publishes what only the worker may read by leaving a link to it; a link within the folder is a file."""
    (tmp_path / "private").write_text("only the worker may read this")
    (tmp_path / "results" / "within").symlink_to("energies.csv")
    assert publish(files, "within", block).items == 2
    (tmp_path / "results" / "out").symlink_to(tmp_path / "private")
    with pytest.raises(UnsafeNameError, match="leads out of"):
        publish(files, "out", block)
    listed = list_datasets(block.base_uri, settings=block.settings()).datasets
    assert [info.name for info in listed] == ["within"]
    assert publish(files, "out", block, Description(links_out="follow")).items == 3


def test_the_workers_own_folder_is_not_published_where_none_is_named(
    block: EcsBucket, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a variable that is not set."""
    monkeypatch.chdir(files)
    with pytest.raises(UnsafeNameError, match="names no place"):
        publish("", "mine", block)
    assert not len(list_datasets(block.base_uri, settings=block.settings()))


def test_a_signed_url_is_in_a_secret_block_and_nowhere_else(
    rgw_bucket: BucketSettings, files: str, api: PrefectApi
) -> None:
    """Who may read blocks gets it by the name in the report; log, artifact and result do not tell it."""
    made = publish(
        files, "signed", block_of(rgw_bucket), sharing=Sharing(readable_by="who has the signed URL", days=0.5)
    )
    shown = api.artifact(f"publish-{rgw_bucket.bucket}")["data"]
    assert f"`signed-url-{made.uuid}`" in shown
    assert "X-Amz-Signature" not in api.text()
    with get_client(sync_client=True) as client:
        documents = client.request("POST", "/block_documents/filter", json={}).text
    assert made.uuid in documents
    assert "X-Amz-Signature" not in documents

    secret = Secret.load(f"signed-url-{made.uuid}")
    assert isinstance(secret, Secret)
    assert "X-Amz" not in repr(secret)
    url = str(secret.get())
    assert "X-Amz-Expires=43200" in urlsplit(url).query
    assert what_is_read(url) == ("signed", [b"300,450\n"])
    assert status_of(below(url, "http_manifest.json").partition("?")[0]) == 403


def test_where_it_may_not_be_shared_the_dataset_is_there_all_the_same(
    rgw: S3Server, rgw_bucket: BucketSettings, files: str, api: PrefectApi
) -> None:
    """The run fails, and its report says what was made and what was not."""
    with proxied(rgw) as proxy:
        proxy.on("PutObjectAcl").answer(403, "AccessDenied")
        block = block_of(changed(rgw_bucket, endpoint=proxy.endpoint))
        with pytest.raises(DatasetError, match="was made, and could not be shared"):
            publish(files, "half-way", block, sharing=Sharing(readable_by="everyone"))
    (made,) = list_datasets(rgw_bucket.base_uri, settings=rgw_bucket).datasets
    assert made.type == "dataset"
    shown = api.artifact(f"publish-{rgw_bucket.bucket}")["data"]
    assert "Not shared" in shown
    assert made.uuid in shown


def test_sharing_needs_no_prefect(rgw_bucket: BucketSettings, files: str) -> None:
    """The operation gives report and URL apart, and no text made of them tells it."""
    made = publish(files, "apples", block_of(rgw_bucket))
    before = time.time()
    report, url = share_dataset(made.uri, expiry=60, settings=rgw_bucket)
    assert what_is_read(url.get_secret_value())[0] == "apples"
    assert "X-Amz" not in f"{report} {report.model_dump_json()} {url} {url!r}"
    assert report.expires_at is not None
    assert before + 60 <= report.expires_at <= time.time() + 60
    with pytest.raises(SettingsError, match="604800"):
        share_dataset(made.uri, expiry=604801, settings=rgw_bucket)
    with pytest.raises(NotADatasetError):
        share_dataset(rgw_bucket.base_uri, expiry=60, settings=rgw_bucket)
