"""Items that were fetched: their files in the cache."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows.errors import CorruptItemError, StoreError
from dtool_ecs_flows.settings import BucketSettings, active
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import Files, changed, environment
from tests.independent import Raw, identifier
from tests.proxy import CountingProxy

pytestmark = pytest.mark.usefixtures("configured")


class TestCache:
    @pytest.fixture
    def dataset(self, base_uri: str, files: Files) -> Any:
        with dtoolcore.DataSetCreator("penguins", base_uri) as creator:
            creator.put_item(files(b"a,b\n"), "folder/table.tar.gz")
            creator.put_item(files(b"none"), "folder.d/README")
        return dtoolcore.DataSet.from_uri(creator.uri)

    def test_a_file_keeps_its_extension(self, dataset: Any) -> None:
        """Programs that go by it can read an item; a dot in a folder's name is no extension."""
        assert dataset.item_content_abspath(identifier("folder/table.tar.gz")).endswith(".gz")
        assert dataset.item_content_abspath(identifier("folder.d/README")).endswith(identifier("folder.d/README"))

    def test_what_was_cut_short_is_fetched_again(self, dataset: Any) -> None:
        """By a crash of this program or of another one that shares the cache."""
        path = Path(dataset.item_content_abspath(identifier("folder/table.tar.gz")))
        path.write_bytes(b"a")
        assert Path(dataset.item_content_abspath(identifier("folder/table.tar.gz"))).read_bytes() == b"a,b\n"

    @pytest.mark.parametrize("damage", [b"a,B\n", b"a,b", b"a,b\n\n", b""])
    def test_what_is_damaged_in_the_bucket_never_reaches_it(self, dataset: Any, raw: Raw, damage: bytes) -> None:
        """Whatever its size: an error at once that names the item, and no file that could be taken for it."""
        raw.replace(f"{dataset.uuid}/data/{identifier('folder/table.tar.gz')}", damage)
        began = time.monotonic()
        with pytest.raises(CorruptItemError, match=r"folder/table\.tar\.gz"):
            dataset.item_content_abspath(identifier("folder/table.tar.gz"))
        assert time.monotonic() - began < 60 < failures.BUDGET
        assert not [path for path in Path(dtoolcore.utils.DEFAULT_CACHE_PATH).rglob("*") if path.is_file()]

    def test_a_disk_that_is_full_is_named(
        self, base_uri: str, files: Files, small_disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the setting that takes the cache elsewhere; nothing stays of the item."""
        monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(small_disk / "cache"))
        with dtoolcore.DataSetCreator("penguins", base_uri) as creator:
            creator.put_item(files(bytes(9 * 1024**2)), "large")

        with pytest.raises(StoreError, match=rf"cache {small_disk}/cache/.* is full.*DTOOL_CACHE_DIRECTORY"):
            dtoolcore.DataSet.from_uri(creator.uri).item_content_abspath(identifier("large"))
        assert not [path for path in small_disk.rglob("*") if path.is_file()]

    def test_an_item_that_is_not_there_is_a_key_error(self, dataset: Any) -> None:
        """As from other brokers."""
        with pytest.raises(KeyError):
            dataset.item_content_abspath("0" * 40)

    def test_the_folder_can_be_chosen(self, dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By DTOOL_CACHE_DIRECTORY, as for other brokers."""
        monkeypatch.setenv("DTOOL_CACHE_DIRECTORY", str(tmp_path / "scratch"))
        path = dtoolcore.DataSet.from_uri(dataset.uri).item_content_abspath(identifier("folder.d/README"))
        assert Path(path).is_relative_to(tmp_path / "scratch")

    def test_many_fetches_of_one_item_at_once_share_no_file(self, dataset: Any) -> None:
        """Each has a temporary file of its own; all get the whole item, and nothing else stays."""
        barrier = threading.Barrier(8)

        def fetch(_: int) -> bytes:
            mine = dtoolcore.DataSet.from_uri(dataset.uri)
            barrier.wait()
            return Path(mine.item_content_abspath(identifier("folder/table.tar.gz"))).read_bytes()

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(fetch, range(8))) == {b"a,b\n"}
        names = [path.name for path in Path(dtoolcore.utils.DEFAULT_CACHE_PATH).rglob("*") if path.is_file()]
        assert names == [identifier("folder/table.tar.gz") + ".gz"]

    def test_two_processes_fetch_at_once(self, dataset: Any, shared_bucket: BucketSettings, home: Path) -> None:
        """Both get the item, and neither meets the other's half of it."""
        script = (
            "import sys, dtoolcore; dataset = dtoolcore.DataSet.from_uri(sys.argv[1]);"
            "sys.stdin.readline(); print(open(dataset.item_content_abspath(sys.argv[2])).read(), end='')"
        )
        command = [sys.executable, "-c", script, dataset.uri, identifier("folder/table.tar.gz")]
        variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environment(shared_bucket)}
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=240)[0] for process in processes] == ["a,b\n"] * 3
        names = [path.name for path in (home / ".cache" / "dtool").rglob("*") if path.is_file()]
        assert names == [identifier("folder/table.tar.gz") + ".gz"]


def test_many_items_are_fetched_with_one_request_each(
    shared_bucket: BucketSettings, files: Files, request_counter: Callable[[str], CountingProxy]
) -> None:
    """dtoolcore asks for one item after the other: what the manifest says is not asked for each time."""
    with dtoolcore.DataSetCreator("penguins", shared_bucket.base_uri) as creator:
        for number in range(20):
            creator.put_item(files(b"1"), f"{number}")
    proxy = request_counter(shared_bucket.endpoint)
    with active(changed(shared_bucket, endpoint=proxy.endpoint)):
        dataset = dtoolcore.DataSet.from_uri(creator.uri)
        for each in dataset.identifiers:
            dataset.item_content_abspath(each)
        for each in dataset.identifiers:
            dataset.item_content_abspath(each)
    assert len(proxy.requests) <= 20 + 8
