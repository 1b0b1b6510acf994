"""What other programs and older plugins have left in other stores: it is read all the same."""

from __future__ import annotations

import base64
import functools
import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import TransferError
from tests.independent import Raw, disk_dataset, everything, identifier, md5
from tests.servers import S3Server
from tests.stores import icommands
from tests.stores.conftest import Other

Buckets = Callable[[], BucketSettings]
UUID = "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10"


class Web(http.server.SimpleHTTPRequestHandler):
    """A web server that compresses what it sends, where it may."""

    def do_GET(self) -> None:
        path = Path(self.directory, self.path.lstrip("/"))
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A web server over a folder: the folder, and its URL."""
    monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Web, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_an_old_client_published_is_read(site: tuple[Path, str], ecs: Buckets) -> None:
    """No tags and annotations, which came later; times as text, a hash in capitals, and a server that compresses."""
    folder, url = site
    (folder / UUID).mkdir()
    data = b"a,b\n1,2\n" * 100
    entry = {"relpath": "table.csv", "size_in_bytes": len(data), "hash": md5(data).upper(), "utc_timestamp": "1.5e9"}
    (folder / UUID / "data").write_bytes(data)
    (folder / UUID / "README.yml").write_bytes("Größe\n".encode())
    manifest = {"items": {identifier("table.csv"): entry}, "hash_function": "md5sum_hexdigest"}
    (folder / UUID / "manifest.json").write_text(json.dumps(manifest))
    admin = {"uuid": UUID, "name": "old", "type": "dataset", "creator_username": "olssont", "frozen_at": "1500000000.5"}
    published = {
        "admin_metadata": admin,
        "item_urls": {identifier("table.csv"): f"{url}/{UUID}/data"},
        "readme_url": f"{url}/{UUID}/README.yml",
        "manifest_url": f"{url}/{UUID}/manifest.json",
    }
    (folder / UUID / "http_manifest.json").write_text(json.dumps(published))
    bucket = ecs()

    report = copy_dataset(f"{url}/{UUID}", bucket.base_uri)

    assert report.copied_items == 1
    assert verify_dataset(report.uri).findings == ()
    raw = Raw(bucket)
    assert raw.get(f"{UUID}/data/{identifier('table.csv')}") == data
    assert raw.json(f"{UUID}/dtool")["frozen_at"] == 1500000000.5
    assert raw.json(f"{UUID}/manifest.json")["items"][identifier("table.csv")]["utc_timestamp"] == 1.5e9
    assert raw.get(f"{UUID}/README.yml").decode() == "Größe\n"


def test_azure_tells_times_as_text(place: Callable[[str], Other], ecs: Buckets, tmp_path: Path) -> None:
    """Where the document is missing, and only the container's metadata is there, they come out as numbers."""
    other = place("azure")
    source = disk_dataset(tmp_path / "in", {"größe": b"1"})
    uri = copy_dataset(source, other.base_uri).uri
    uuid, service = uri.rpartition("/")[2], azure_service(other)
    told = service.get_container_metadata(uuid)
    assert isinstance(told["frozen_at"], str)
    service.delete_blob(uuid, "dtool")
    bucket = ecs()

    copy_dataset(uri, bucket.base_uri)

    admin, expected = Raw(bucket).json(f"{uuid}/dtool"), everything(source)["admin"]
    assert (admin["created_at"], admin["frozen_at"]) == (expected["created_at"], expected["frozen_at"])
    (info,) = [info for info in list_datasets(other.base_uri).datasets if info.uuid == uuid]
    assert (info.created_at, info.frozen_at) == (expected["created_at"], expected["frozen_at"])


def test_azure_has_items_without_a_hash(place: Callable[[str], Other], ecs: Buckets, tmp_path: Path) -> None:
    """As old versions of its plugin left large ones: the report says so. A hash in base64 is one."""
    other = place("azure")
    contents = {"a": b"1", "b": b"22", "c": b"333"}
    uri = copy_dataset(disk_dataset(tmp_path / "in", contents), other.base_uri).uri
    uuid, service = uri.rpartition("/")[2], azure_service(other)
    manifest = json.loads(service.get_blob_to_text(uuid, "manifest.json").content)
    manifest["items"][identifier("a")]["hash"] = None
    manifest["items"][identifier("b")]["hash"] = base64.b64encode(bytes.fromhex(md5(b"22"))).decode()
    service.create_blob_from_text(uuid, "manifest.json", json.dumps(manifest))

    report = copy_dataset(uri, ecs().base_uri)

    assert report.notes == ("1 items have no hash in the source's manifest: only their sizes were compared",)
    assert verify_dataset(report.uri).findings == ()
    assert [(f.kind, f.subject) for f in verify_dataset(uri).findings] == [("not verified", "a")]
    service.create_blob_from_text(uuid, identifier("b"), "23", metadata={"relpath": "b", "type": "item"})
    with pytest.raises(TransferError, match="'b' is corrupt"):
        copy_dataset(uri, ecs().base_uri)


def azure_service(other: Other) -> Any:
    """The client that the plugin would use."""
    import dtool_azure.storagebroker

    return dtool_azure.storagebroker.get_blob_service(other.base_uri.rpartition("/")[2], None)


def test_irods_has_hashes_of_another_function(place: Callable[[str], Other], ecs: Buckets, tmp_path: Path) -> None:
    """SHA-256 in hex, or as iRODS itself tells it; what comes out has MD5s. Damage is told with the hash it has."""
    other = place("irods")
    source = disk_dataset(tmp_path / "in", {"a": b"1", "b": b"22"})
    uri = copy_dataset(source, other.base_uri).uri
    manifest = tmp_path / "irods" / icommands.ZONE.strip("/") / uri.rpartition("/")[2] / ".dtool" / "manifest.json"
    document = json.loads(manifest.read_text())
    assert document["hash_function"] == "sha256sum_hexdigest"
    told = document["items"][identifier("a")]
    told["hash"] = f"sha2:{base64.b64encode(bytes.fromhex(told['hash'])).decode()}"
    manifest.write_text(json.dumps(document))

    back = copy_dataset(uri, ecs().base_uri)

    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(back.uri, str(tmp_path / "out")).uri) == everything(source)
    (manifest.parent.parent / "data" / identifier("a")).write_bytes(b"2")
    assert [(f.kind, f.subject) for f in verify_dataset(uri).findings] == [("corrupt", "a")]


def test_what_is_there_of_a_killed_copy_from_irods_is_believed_for_its_bytes_alone(
    place: Callable[[str], Other], ecs: Buckets, tmp_path: Path
) -> None:
    """Other bytes of the same size, or of another, are sent again; what is right is not, large or small."""
    contents = {"a": b"1", "b": b"22", "c": b"333", "large": bytes(9 * 1024**2)}
    source = disk_dataset(tmp_path / "in", contents)
    uri, bucket = copy_dataset(source, place("irods").base_uri).uri, ecs()
    there, raw = copy_dataset(uri, bucket.base_uri), Raw(bucket)
    raw.edit_json(f"{there.uuid}/dtool", lambda admin: (admin.update(type="protodataset"), admin.pop("frozen_at")))
    raw.replace(f"{there.uuid}/data/{identifier('b')}", b"xx")
    raw.replace(f"{there.uuid}/data/{identifier('c')}", b"4444")

    again = copy_dataset(uri, bucket.base_uri)

    assert (again.copied_items, again.skipped) == (2, 2)
    (tmp_path / "out").mkdir()
    assert everything(copy_dataset(again.uri, str(tmp_path / "out")).uri) == everything(source)


def test_a_dataset_of_dtool_s3_before_0_4_is_read(place: Callable[[str], Other], rgw: S3Server, ecs: Buckets) -> None:
    """Names as they are in the metadata, no structure.json, and what describes the dataset in metadata alone."""
    other, data = place("s3"), b"a,b\n1,2\n"
    keys = {"access_key_id": rgw.access_key_id, "secret_access_key": rgw.secret_access_key}
    raw = Raw(BucketSettings(bucket=other.base_uri.rpartition("/")[2], endpoint=rgw.endpoint, **keys))
    admin = {"uuid": UUID, "name": "old", "type": "dataset", "creator_username": "olssont", "frozen_at": "1500000000.5"}
    entry = {"relpath": "table.csv", "size_in_bytes": len(data), "hash": md5(data), "utc_timestamp": 1.5e9}
    manifest = {
        "items": {identifier("table.csv"): entry},
        "hash_function": "md5sum_hexdigest",
        "dtoolcore_version": "2",
    }
    raw.put(f"dtool-{UUID}", b"")
    raw.put(f"{UUID}/dtool", b"", admin)
    raw.put(f"{UUID}/README.yml", b"---\n")
    raw.put(f"{UUID}/manifest.json", json.dumps(manifest).encode())
    raw.put(f"{UUID}/data/{identifier('table.csv')}", data, {"handle": "table.csv", "checksum": md5(data)})
    bucket = ecs()

    report = copy_dataset(f"{other.base_uri}/{UUID}", bucket.base_uri)

    assert (report.copied_items, report.verified) == (1, "content")
    assert verify_dataset(report.uri).findings == ()
    assert Raw(bucket).json(f"{UUID}/dtool")["frozen_at"] == 1500000000.5
