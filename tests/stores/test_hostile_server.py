"""A web server that means harm, with dtool-http as its client: nothing is written but in the cache and the dataset."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import copy_dataset, verify_dataset
from dtool_ecs_flows.datasets.others import manners
from dtool_ecs_flows.errors import ManifestError, StoreError, UnsafeNameError
from tests.independent import everything, identifier, md5

UUID = "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10"


class Site:
    """A dataset with one item, as `http_manifest.json` tells of it; a test changes it."""

    def __init__(self, server: http.server.HTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.moved_to = ""
        self.silent_at = ""
        self.closing = threading.Event()
        self.admin = {"uuid": UUID, "name": "penguins", "type": "dataset", "frozen_at": 1.0}
        self.said: dict[str, Any] = {"tags": [], "annotations": {}, "overlays": {}}

    def answer(self, path: str) -> bytes:
        """Return what is at a path."""
        if path.endswith("/http_manifest.json"):
            own = {
                "admin_metadata": self.admin,
                "item_urls": {identifier("a.desktop"): f"{self.url}/item"},
                "readme_url": f"{self.url}/readme",
                "manifest_url": f"{self.url}/manifest",
            }
            return json.dumps(own | self.said).encode()
        if path == "/manifest":
            entry = {"relpath": "a.desktop", "size_in_bytes": 4, "hash": md5(b"evil"), "utc_timestamp": 1.0}
            return json.dumps({"items": {identifier("a.desktop"): entry}, "hash_function": "md5sum_hexdigest"}).encode()
        return {"/item": b"evil", "/value": b'"evil"'}.get(path, b"")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server, on loopback."""
    monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(tmp_path / "cache"))

    class Web(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == told.silent_at:
                told.closing.wait(100)
            moved = told.moved_to if self.path == f"/{UUID}" else ""
            body = b"" if moved else told.answer(self.path)
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", moved)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        told = Site(server)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield told
        told.closing.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "said",
    [
        {"tags": ["../../../outside"]},
        {"annotations": {"../../../outside": "/value"}},
        {"overlays": {"../../../outside": "/value"}},
    ],
    ids=lambda said: next(iter(said)),
)
def test_names_are_no_paths(site: Site, tmp_path: Path, said: dict[str, Any]) -> None:
    """Neither in a first copy nor where the documents of one that is there are brought up to date."""
    base = tmp_path / "disk" / "base"
    base.mkdir(parents=True)
    uri = copy_dataset(f"{site.url}/{UUID}", str(base)).uri
    before = everything(uri)
    site.said |= {
        key: names if isinstance(names, list) else {name: site.url + path for name, path in names.items()}
        for key, names in said.items()
    }

    with pytest.raises(UnsafeNameError, match="outside"):
        copy_dataset(f"{site.url}/{UUID}", str(base), update_metadata=True)
    (tmp_path / "disk" / "other").mkdir()
    with pytest.raises(UnsafeNameError, match="outside"):
        copy_dataset(f"{site.url}/{UUID}", str(tmp_path / "disk" / "other"))

    assert everything(uri) == before
    assert list(tmp_path.rglob("*outside*")) == []


def test_a_redirect_does_not_lead_out_of_the_cache(site: Site, tmp_path: Path) -> None:
    """The plugin takes its folder there from the URL that it was sent to."""
    outside = tmp_path / "autostart"
    outside.mkdir()
    site.moved_to = f"{site.url}/{outside}"
    with pytest.raises(UnsafeNameError, match="outside of the cache"):
        verify_dataset(f"{site.url}/{UUID}")
    assert list(outside.iterdir()) == []


def test_a_uuid_does_not_lead_out_of_the_cache(site: Site, tmp_path: Path) -> None:
    """What lies in a folder that it names is neither looked at nor removed."""
    site.admin["uuid"] = "../outside"
    with pytest.raises(ManifestError, match="no UUID"):
        verify_dataset(f"{site.url}/{UUID}")


@pytest.mark.parametrize("path", [f"/{UUID}", f"/{UUID}/http_manifest.json", "/manifest", "/item"])
def test_a_server_that_says_nothing_is_not_waited_for(site: Site, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first request on, which the plugin makes as soon as it is given the URI, and without any limit."""
    monkeypatch.setattr(manners, "_TIMEOUTS", (5.0, 1.0))
    site.silent_at = path
    try:
        findings = verify_dataset(f"{site.url}/{UUID}").findings
    except StoreError as error:
        told = str(error)
    else:
        told = findings[0].message
    assert "Read timed out" in told
