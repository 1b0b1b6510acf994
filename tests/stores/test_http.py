"""What is published over HTTP: read by dtool-http and by a browser, and copied in from there."""

from __future__ import annotations

import html
import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import DatasetError, NotADatasetError, StoreError, TransferError
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed, everything_said
from tests.independent import CONTENTS, MIB, Raw, disk_dataset, everything, identifier, noise
from tests.proxy import proxied
from tests.stores.conftest import killed_copy

Buckets = Callable[[], BucketSettings]

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dtool's cache."""
    monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


def publish(uri: str, bucket: BucketSettings, seconds: int | None = None) -> str:
    """Publish a dataset, for ever or for some seconds, as `dtool publish` does; return its URL."""
    with active(changed(bucket, publish_expiry=seconds)):
        return str(dtoolcore.DataSet.from_uri(uri)._storage_broker.http_enable())


@pytest.mark.shows("http", "from", "items overlays annotations tags README verify publish signed")
@pytest.mark.parametrize("seconds", [None, 600], ids=["public", "signed"])
def test_a_published_dataset_is_copied_into_another_bucket(ecs: Buckets, tmp_path: Path, seconds: int | None) -> None:
    """All of it comes by URL: items with any name and a large one, overlays, annotations, tags, README."""
    contents = {**CONTENTS, "large.bin": noise(9 * MIB)}
    source = disk_dataset(tmp_path / "in", contents, overlays={"colour": {"empty": 1}})
    bucket = ecs()
    url = publish(copy_dataset(source, bucket.base_uri).uri, bucket, seconds)

    report = copy_dataset(url, ecs().base_uri)

    assert (report.copied_items, report.verified) == (len(contents), "content")
    assert verify_dataset(url).findings == ()
    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(report.uri, str(tmp_path / "out")).uri) == everything(source)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_dtool_http_reads_what_was_published(ecs: Buckets, tmp_path: Path) -> None:
    """Public or signed, with the plugin and dtoolcore alone."""
    bucket = ecs()
    source = disk_dataset(tmp_path / "in", {"größe.txt": b"1"}, overlays={"colour": {"größe.txt": "red"}})
    uri = copy_dataset(source, bucket.base_uri).uri
    for seconds in (600, None):
        dataset = dtoolcore.DataSet.from_uri(publish(uri, bucket, seconds))
        assert Path(dataset.item_content_abspath(identifier("größe.txt"))).read_bytes() == b"1"
        assert dataset.get_readme_content() == "---\ndescription: of Größe\n"
        assert dataset.get_overlay("colour") == {identifier("größe.txt"): "red"}
        assert sorted(dataset.list_tags()) == ["raw", "v1.2"]
        assert dataset.get_annotation("v1.2") == "dotted"
        shutil.rmtree(tmp_path / "cache")


def test_a_browser_shows_what_was_published(ecs: Buckets, tmp_path: Path) -> None:
    """The README with its letters, and the list of all URLs, from which each item opens."""
    chromium: str | None = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        assert not os.environ.get("CI"), "no Chromium: apt-get install chromium"
        pytest.skip("no Chromium: apt-get install chromium")

    def shown(url: str) -> str:
        options = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
        )
        done = subprocess.run([str(chromium), *options, url], capture_output=True, text=True, check=True, timeout=200)
        return html.unescape(done.stdout)

    bucket = ecs()
    source = disk_dataset(tmp_path / "in", {"größe.txt": b"1", "table.csv": b"a,b\n"})
    url = publish(copy_dataset(source, bucket.base_uri).uri, bucket)
    page = shown(f"{url}/http_manifest.json")
    listed = json.loads(page[page.index("{") : page.rindex("}") + 1])
    assert listed["admin_metadata"]["name"] == "penguins"
    assert "description: of Größe" in shown(listed["readme_url"])
    assert set(listed["item_urls"]) == {identifier("größe.txt"), identifier("table.csv")}


def test_a_signature_ends_with_its_time_and_is_never_shown(
    ecs: Buckets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Afterwards it is an error, which names the dataset and not what was signed; a report names it neither."""
    for name in ("dtool_ecs_flows", "dtool_http", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    bucket = ecs()
    uri = copy_dataset(disk_dataset(tmp_path / "in", {"a": b"1"}), bucket.base_uri).uri
    report = copy_dataset(publish(uri, bucket, 600), ecs().base_uri)
    url = publish(uri, bucket, 1)
    time.sleep(2.1)

    with pytest.raises(StoreError, match=r"the plugin for http failed.*403") as caught:
        copy_dataset(url, ecs().base_uri)

    with pytest.raises(NotADatasetError, match="cannot list") as unlisted:
        list_datasets(url)
    logged = [record.getMessage() for record in caplog.records]
    said = f"{everything_said(caught.value)}{everything_said(unlisted.value)}{report.model_dump_json()}{logged}"
    signature = re.search("Signature=([^&]+)", url)
    assert signature is not None
    assert any("Signature=…" in line for line in logged)
    assert signature[1] not in said
    assert not re.search("Signature=(?!…)", said)
    assert report.source_uri == url.partition("?")[0]


def test_what_is_derived_from_a_signed_url_does_not_keep_the_signature(ecs: Buckets, tmp_path: Path) -> None:
    """The origin stands in the annotations without it: they last, and others read them."""
    bucket = ecs()
    url = publish(copy_dataset(disk_dataset(tmp_path / "in", {"a": b"1"}), bucket.base_uri).uri, bucket, 60)
    (tmp_path / "b").write_bytes(b"2")

    made = create_dataset("derived", bucket.base_uri, files={"b": tmp_path / "b"}, derived_from=[url])

    raw = Raw(bucket)
    assert "Signature" in url
    assert not [key for key in raw.listed() if key.startswith(made.uuid) and b"Signature" in raw.get(key)]
    (origin,) = raw.json(f"{made.uuid}/annotations/derived_from.json")
    assert origin["uri"] == url.partition("?")[0]


@pytest.mark.shows("http", "from", "resume")
def test_a_copy_from_http_that_was_killed_is_taken_up(ecs: Buckets, tmp_path: Path) -> None:
    """What arrived stays; what did not comes with the same call again."""
    bucket, target = ecs(), ecs()
    contents = {f"{n}.txt": b"x" * (n + 1) for n in range(40)}
    url = publish(copy_dataset(disk_dataset(tmp_path / "in", contents), bucket.base_uri).uri, bucket)

    killed = killed_copy(url, target.base_uri, after=20)
    report = copy_dataset(url, target.base_uri)

    assert killed.returncode == -9, killed.stderr
    assert report.skipped >= 19
    assert report.copied_items + report.skipped == 40
    assert verify_dataset(report.uri).findings == ()


def test_an_item_that_is_gone_does_not_keep_the_others_back(ecs: Buckets, tmp_path: Path) -> None:
    """It is named, the dataset is not frozen; when it is there again, it alone is fetched."""
    bucket, target = ecs(), ecs()
    contents = {f"{n}.txt": b"x" * (n + 1) for n in range(40)}
    uri = copy_dataset(disk_dataset(tmp_path / "in", contents), bucket.base_uri).uri
    with proxied(bucket.endpoint) as proxy:
        url = publish(uri, changed(bucket, endpoint=proxy.endpoint))
        proxy.on("GetObject", key=f"*/data/{identifier('7.txt')}").answer(404, "NoSuchKey")
        with pytest.raises(TransferError, match=r"1 of 40 items failed.*'7\.txt' cannot be fetched.*404"):
            copy_dataset(url, target.base_uri)
        proxy.calm()
        report = copy_dataset(url, target.base_uri)
    assert (report.copied_items, report.skipped) == (1, 39)


def test_a_server_that_is_gone_is_told_apart_from_damage(ecs: Buckets, tmp_path: Path) -> None:
    """Every item is "not verified", none is "corrupt"; after a while the rest is not even tried."""
    bucket = ecs()
    contents = {f"{n:03}.txt": b"x" for n in range(120)}
    uri = copy_dataset(disk_dataset(tmp_path / "in", contents), bucket.base_uri).uri
    with proxied(bucket.endpoint) as proxy:
        url = publish(uri, changed(bucket, endpoint=proxy.endpoint))
        proxy.on("GetObject", key="*/data/*").reset()
        findings = verify_dataset(url, concurrency=4).findings
        asked = len(proxy.seen("GetObject", key="*/data/*"))
    assert {finding.kind for finding in findings} == {"not verified"}
    assert len(findings) == 120
    assert any("not tried" in finding.message for finding in findings)
    assert asked < 120  # each that was tried was tried twice


@pytest.mark.parametrize("operation", ["write", "list"])
def test_http_is_for_reading_one_dataset(tmp_path: Path, operation: str) -> None:
    """Nothing can be written there, nor listed: the error says so before anything is asked."""
    if operation == "write":
        with pytest.raises(DatasetError, match=r"only reads.*publish it from a bucket"):
            copy_dataset(disk_dataset(tmp_path / "in", {"a": b"1"}), "http://127.0.0.1:9/datasets")
    else:
        with pytest.raises(NotADatasetError, match="cannot list"):
            list_datasets("http://127.0.0.1:9/datasets")
