"""Sharing by URL: whoever has one needs nothing but an HTTP client. The client here is urllib."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dtoolcore
import pytest

from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.errors import NotADatasetError, SettingsError, UnsafeNameError
from dtool_ecs_flows.settings import BucketSettings, active
from tests.conformance.helpers import changed
from tests.conftest import new_bucket
from tests.independent import CONTENTS, Raw, identifier, md5
from tests.servers import S3Server


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        return bytes(response.read())


def send(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    request = urllib.request.Request(url, data=body, method="PUT", headers=dict(headers or {}))
    request.add_unredirected_header("Content-Type", "")  # urllib would add one of forms
    urllib.request.urlopen(request, timeout=20).close()


def status_of(url: str) -> int:
    try:
        fetch(url)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def below(url: str, name: str) -> str:
    """What a client that follows an access URL asks for: a name below its path, with the same signature."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path}/{name}"))


def query(url: str) -> str:
    return urlsplit(url).query


@pytest.fixture(scope="module")
def settings(rgw: S3Server) -> BucketSettings:
    return new_bucket(rgw, dataset_prefix="u/olssont/")


@pytest.fixture
def raw(settings: BucketSettings) -> Raw:
    return Raw(settings)


@pytest.fixture
def dataset(settings: BucketSettings, tmp_path: Path) -> Any:
    """A frozen dataset with everything in it; a new one for each test."""
    with active(settings):
        with dtoolcore.DataSetCreator("penguins", settings.base_uri, "---\nü: 1\n") as creator:
            for relpath, data in CONTENTS.items():
                (tmp_path / "file").write_bytes(data)
                creator.put_item(str(tmp_path / "file"), relpath)
                creator.add_item_metadata(relpath, "v1.2", len(data))
            creator.put_annotation("a.b", {"ü": 1})
            creator.put_tag("v1.2")
        return dtoolcore.DataSet.from_uri(creator.uri)


@pytest.fixture
def broker(dataset: Any) -> ECSStorageBroker:
    found = dataset._storage_broker
    assert isinstance(found, ECSStorageBroker)
    return found


class TestSignedUrls:
    def test_an_object_is_read(self, broker: ECSStorageBroker) -> None:
        """For as long as was said; nothing of the dataset is public."""
        key = broker.get_readme_key()
        url = broker.generate_signed_read_url(key, 60)
        assert fetch(url).decode() == "---\nü: 1\n"
        assert status_of(url.partition("?")[0]) == 403

    def test_a_url_reads_one_object_and_writes_none(self, broker: ECSStorageBroker, raw: Raw) -> None:
        """It is no key to anything else."""
        url = broker.generate_signed_read_url(broker.get_readme_key())
        assert status_of(url.replace("README.yml", "manifest.json")) == 403
        with pytest.raises(urllib.error.HTTPError, match="403"):
            send(url, b"changed")
        assert raw.get(broker.get_readme_key()).decode() == "---\nü: 1\n"

    def test_it_ends(self, broker: ECSStorageBroker) -> None:
        """After its time it is worth nothing."""
        url = broker.generate_signed_read_url(broker.get_readme_key(), 1)
        time.sleep(2.1)
        assert status_of(url) == 403

    @pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1])
    def test_a_time_that_cannot_be_signed_is_refused(self, broker: ECSStorageBroker, seconds: int) -> None:
        """No URL is handed out that would not work."""
        key = broker.get_readme_key()
        for call in (
            lambda: broker.generate_signed_read_url(key, seconds),
            lambda: broker.generate_signed_write_url(key, seconds),
            lambda: broker.generate_signed_item_write_url("a", md5(b""), seconds),
            lambda: broker.generate_dataset_signed_urls(seconds),
        ):
            with pytest.raises(SettingsError, match=f"604800 seconds, not {seconds}"):
                call()

    def test_an_object_is_written(self, broker: ECSStorageBroker, raw: Raw) -> None:
        """As a README by someone without credentials."""
        send(broker.generate_signed_write_url(broker.get_readme_key()), "---\nnew: ü\n".encode())
        assert raw.get(broker.get_readme_key()) == "---\nnew: ü\n".encode()
        assert broker.get_readme_content() == "---\nnew: ü\n"

    @pytest.mark.parametrize("relpath", ["a", "Größe/µ 日本語.txt", "a+b%20c&d"])
    def test_an_item_is_written_with_all_that_makes_it_one(
        self, settings: BucketSettings, raw: Raw, relpath: str
    ) -> None:
        """By someone without credentials: handle and checksum are there, and the dataset freezes."""
        with active(settings):
            proto = dtoolcore.create_proto_dataset("signed", settings.base_uri, "---\n")
            broker = proto._storage_broker
            url, headers = broker.generate_signed_item_write_url(relpath, md5(b"abc"))
            send(url, b"abc", headers)
            assert raw.metadata(broker.dataset.keys.item(identifier(relpath)))["checksum"] == md5(b"abc")
            proto.freeze()
            dataset = dtoolcore.DataSet.from_uri(proto.uri)
        properties = dataset.item_properties(identifier(relpath))
        assert (properties["relpath"], properties["hash"]) == (relpath, md5(b"abc"))

    def test_other_content_or_another_name_is_refused(self, broker: ECSStorageBroker, raw: Raw) -> None:
        """What was signed is one item with one content: the store itself refuses anything else."""
        url, headers = broker.generate_signed_item_write_url("a", md5(b"abc"))
        wrong = [
            (b"abd", headers),
            (b"abc", {name: value for name, value in headers.items() if name != "Content-MD5"}),
            (b"abc", {**headers, "x-amz-meta-handle": "Yg=="}),
            (b"abc", {name: value for name, value in headers.items() if name != "x-amz-meta-handle"}),
        ]
        for body, sent in wrong:
            with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error 40[03]"):
                send(url, body, sent)
        assert identifier("a") not in "".join(raw.listed(broker.dataset.keys.data))

    @pytest.mark.parametrize("relpath", ["../x", "/x", ""])
    def test_an_item_that_must_not_be_stored_gets_no_url(self, broker: ECSStorageBroker, relpath: str) -> None:
        """Names are checked for those who upload by themselves, too."""
        with pytest.raises(UnsafeNameError):
            broker.generate_signed_item_write_url(relpath, md5(b""))

    def test_a_whole_dataset_is_read(self, broker: ECSStorageBroker, dataset: Any) -> None:
        """Every part has its URL, in the form that dtool servers hand on."""
        urls = broker.generate_dataset_signed_urls(60)
        assert json.loads(fetch(urls["admin_metadata_url"]))["uuid"] == dataset.uuid
        assert json.loads(fetch(urls["manifest_url"])) == broker.get_manifest()
        assert fetch(urls["readme_url"]).decode() == "---\nü: 1\n"
        assert {i: fetch(url) for i, url in urls["item_urls"].items()} == {identifier(r): CONTENTS[r] for r in CONTENTS}
        assert {n: json.loads(fetch(u)) for n, u in urls["overlay_urls"].items()} == {
            "v1.2": broker.get_overlay("v1.2")
        }
        assert {n: json.loads(fetch(u)) for n, u in urls["annotation_urls"].items()} == {"a.b": {"ü": 1}}
        assert urls["tags"] == ["v1.2"]

    def test_no_url_holds_the_secret(self, broker: ECSStorageBroker, settings: BucketSettings) -> None:
        """A signature is made with it, and does not tell it."""
        urls = json.dumps(broker.generate_dataset_signed_urls()) + broker.generate_signed_write_url("k")
        assert settings.secret_access_key.get_secret_value() not in urls


class TestPublishing:
    def check(self, manifest: dict[str, Any], dataset: Any) -> None:
        """All that dtool-http reads is there, and can be read without credentials."""
        assert manifest["admin_metadata"]["uuid"] == dataset.uuid
        assert manifest["admin_metadata"]["type"] == "dataset"
        assert json.loads(fetch(manifest["manifest_url"])) == dataset._manifest
        assert fetch(manifest["readme_url"]).decode() == "---\nü: 1\n"
        items = {i: fetch(url) for i, url in manifest["item_urls"].items()}
        assert items == {identifier(relpath): data for relpath, data in CONTENTS.items()}
        assert {n: json.loads(fetch(u)) for n, u in manifest["overlays"].items()} == {
            "v1.2": dataset.get_overlay("v1.2")
        }
        assert {n: json.loads(fetch(u)) for n, u in manifest["annotations"].items()} == {"a.b": {"ü": 1}}
        assert manifest["tags"] == ["v1.2"]

    def test_for_everyone(self, dataset: Any, settings: BucketSettings) -> None:
        """Who knows the access URL reads everything in the dataset, and nothing else in the bucket."""
        access = dataset._storage_broker.http_enable()
        assert access == f"{settings.endpoint}/{settings.bucket}/{settings.dataset_prefix}{dataset.uuid}"
        manifest = json.loads(fetch(f"{access}/http_manifest.json"))
        self.check(manifest, dataset)
        assert not any(query(url) for url in manifest["item_urls"].values())
        assert status_of(f"{access}/dtool") == 403
        assert status_of(f"{settings.endpoint}/{settings.bucket}/dtool-{dataset.uuid}") == 403
        assert status_of(f"{settings.endpoint}/{settings.bucket}") == 403

    def test_for_a_time(self, dataset: Any, settings: BucketSettings) -> None:
        """With an expiry nothing becomes public: all URLs are signed, and end."""
        with active(changed(settings, publish_expiry=60)):
            access = dtoolcore.DataSet.from_uri(dataset.uri)._storage_broker.http_enable()
        manifest = json.loads(fetch(below(access, "http_manifest.json")))
        self.check(manifest, dataset)
        urls = [access, manifest["readme_url"], manifest["manifest_url"], *manifest["item_urls"].values()]
        assert all("X-Amz-Expires=60" in query(url) for url in urls)
        for url in (*urls[1:], below(access, "http_manifest.json")):
            assert status_of(url.partition("?")[0]) == 403

    def test_the_time_is_a_setting_of_the_environment(
        self, dataset: Any, settings: BucketSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """DTOOL_ECS_PUBLISH_EXPIRY in seconds, as users of the published plugins know it."""
        monkeypatch.setenv("DTOOL_ECS_PUBLISH_EXPIRY", "1")
        monkeypatch.setenv(f"DTOOL_ECS_ENDPOINT_{settings.bucket}", settings.endpoint)
        monkeypatch.setenv(f"DTOOL_ECS_ACCESS_KEY_ID_{settings.bucket}", settings.access_key_id)
        secret = settings.secret_access_key.get_secret_value()
        monkeypatch.setenv(f"DTOOL_ECS_SECRET_ACCESS_KEY_{settings.bucket}", secret)
        access = below(ECSStorageBroker(dataset.uri).http_enable(), "http_manifest.json")
        assert "X-Amz-Expires=1" in query(access)
        time.sleep(2.1)
        assert status_of(access) == 403

    def test_what_is_published_again_is_up_to_date(self, dataset: Any) -> None:
        """A tag and an annotation that came later are there after the next publication."""
        first = dataset._storage_broker.http_enable()
        dataset.put_tag("later")
        dataset.put_annotation("later", 1)
        assert dataset._storage_broker.http_enable() == first
        manifest = json.loads(fetch(f"{first}/http_manifest.json"))
        assert manifest["tags"] == ["later", "v1.2"]
        assert json.loads(fetch(manifest["annotations"]["later"])) == 1

    def test_a_dataset_without_a_readme_is_published(self, settings: BucketSettings) -> None:
        """Nobody wrote one; that is no reason to fail half way."""
        with active(settings):
            proto = dtoolcore.generate_proto_dataset(dtoolcore.generate_admin_metadata("bare"), settings.base_uri)
            proto.create()
            proto.freeze()
            access = proto._storage_broker.http_enable()
        manifest = json.loads(fetch(f"{access}/http_manifest.json"))
        assert fetch(manifest["readme_url"]) == b""

    def test_a_proto_dataset_is_not_published(self, settings: BucketSettings, raw: Raw) -> None:
        """What can still change is not handed out, and nothing of it became public."""
        with active(settings):
            proto = dtoolcore.create_proto_dataset("half", settings.base_uri, "---\n")
            with pytest.raises(NotADatasetError, match="not been frozen"):
                proto._storage_broker.http_enable()
        readme = proto._storage_broker.get_readme_key()
        assert status_of(f"{settings.endpoint}/{settings.bucket}/{readme}") == 403
        assert not [key for key in raw.listed() if proto.uuid in key and "http_manifest" in key]
