"""The storage broker is found, finds its settings, and keeps to itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid as uuids
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows.broker import ECSStorageBroker
from dtool_ecs_flows.errors import SettingsError, StoreError
from dtool_ecs_flows.settings import BucketSettings, active
from tests.conformance.helpers import content, environment, proto_dataset
from tests.conftest import new_bucket
from tests.independent import Raw
from tests.proxy import proxied
from tests.servers import S3Server


class TestSettings:
    def write(self, path: Path, settings: BucketSettings) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(environment(settings)))
        path.chmod(0o600)
        return str(path)

    def test_dtool_json_is_enough(self, shared_bucket: BucketSettings, home: Path) -> None:
        """Where every dtool program looks for it."""
        self.write(home / ".config" / "dtool" / "dtool.json", shared_bucket)
        uri = proto_dataset(shared_bucket.base_uri).uri
        assert dtoolcore.ProtoDataSet.from_uri(uri).name == "penguins"

    def test_a_file_of_ones_own_is_enough(self, shared_bucket: BucketSettings, tmp_path: Path) -> None:
        """Given as config_path, also to a broker itself."""
        path = self.write(tmp_path / "mine.json", shared_bucket)
        admin = dtoolcore.generate_admin_metadata("penguins")
        proto = dtoolcore.generate_proto_dataset(admin, shared_bucket.base_uri, config_path=path)
        proto.create()
        assert dtoolcore.ProtoDataSet.from_uri(proto.uri, config_path=path).name == "penguins"
        assert proto.uri in ECSStorageBroker.list_dataset_uris(shared_bucket.base_uri, path)

    def test_active_settings_are_enough_and_stay_with_what_was_opened(self, shared_bucket: BucketSettings) -> None:
        """dtoolcore finds them inside the block; a dataset that was opened there works afterwards as well."""
        with active(shared_bucket):
            proto = proto_dataset(shared_bucket.base_uri)
        proto.put_readme("---\nlater: 1\n")
        assert proto.get_readme_content() == "---\nlater: 1\n"
        with pytest.raises(SettingsError):
            dtoolcore.ProtoDataSet.from_uri(proto.uri)

    def test_what_is_missing_is_named(self, shared_bucket: BucketSettings) -> None:
        """Building a broker never fails; the first use says which keys are not set and where they were looked for."""
        broker = ECSStorageBroker(f"{shared_bucket.base_uri}/{uuids.uuid4()}")
        for use in (broker.has_admin_metadata, broker.get_manifest, broker.list_tags, broker.get_readme_key):
            with pytest.raises(SettingsError, match=rf"DTOOL_ECS_ENDPOINT_{shared_bucket.bucket}.*environment"):
                use()
        with pytest.raises((SettingsError, StoreError), match="DTOOL_ECS_ENDPOINT_"):
            broker.create_structure()

    def test_two_buckets_on_two_endpoints_work_at_once(self, rgw: S3Server, rclone: S3Server, tmp_path: Path) -> None:
        """In two threads with settings of their own each, and in one with both."""
        (tmp_path / "file").write_bytes(b"1")
        buckets = [new_bucket(each) for each in (rgw, rclone)]
        barrier = threading.Barrier(2)

        def work(bucket: BucketSettings) -> str:
            with active(bucket):
                barrier.wait()
                proto = proto_dataset(bucket.base_uri)
                for number in range(5):
                    proto.put_item(str(tmp_path / "file"), f"{number}")
                proto.freeze()
            return str(proto.uri)

        with ThreadPoolExecutor(2) as threads:
            uris = list(threads.map(work, buckets))
        with active(*buckets):
            for uri, bucket in zip(uris, buckets, strict=True):
                assert len(content(dtoolcore.DataSet.from_uri(uri))) == 5
                assert len(Raw(bucket).listed("dtool-")) == 1


def test_building_a_broker_makes_no_request() -> None:
    """dtoolcore builds several for each command, for datasets and for base URIs: nobody is even connected to."""
    keys = {"access_key_id": "somebody", "secret_access_key": "something"}
    with (
        proxied("http://127.0.0.1:9") as proxy,
        active(BucketSettings(bucket="bucket", endpoint=proxy.endpoint, **keys)),
    ):
        for uri in (f"ecs://bucket/{uuids.uuid4()}", "ecs://bucket/", "ecs://bucket"):
            broker = ECSStorageBroker(uri)
            assert broker.supports_signing()
            assert broker.generate_uri("name", str(uuids.UUID(int=1)), "ecs://bucket/").startswith("ecs://bucket/0")
        assert ECSStorageBroker("ecs://bucket").has_admin_metadata() is False
        assert proxy.connected == 0


def test_no_broker_has_state_that_another_one_sees() -> None:
    """Nothing that can change belongs to the class."""
    values = {name: value for name, value in vars(ECSStorageBroker).items() if not name.startswith("__")}
    assert [name for name, value in values.items() if isinstance(value, dict | list | set | bytearray)] == []


def test_the_dtool_command_finds_the_broker() -> None:
    """By its entry point, under the key that dtoolcore looks for."""
    assert dtoolcore._generate_storage_broker_lookup()["ecs"] is ECSStorageBroker
    assert (ECSStorageBroker.key, ECSStorageBroker.hasher.name) == ("ecs", "md5sum_hexdigest")


OTHER_PACKAGE = {
    "METADATA": "Metadata-Version: 2.1\nName: dtool-ecs\nVersion: 0.5.0\n",
    "entry_points.txt": "[dtool.storage_brokers]\nECSStorageBroker=other_broker:ECSStorageBroker\n",
}


@pytest.mark.parametrize("first", [True, False], ids=["found first", "found last"])
def test_another_package_that_serves_ecs_is_told_of(tmp_path: Path, first: bool) -> None:
    """dtoolcore takes the one that it meets last, in silence: a warning names both, and the one that really serves."""
    folder = tmp_path / "dtool_ecs-0.5.0.dist-info"
    folder.mkdir()
    for name, text in OTHER_PACKAGE.items():
        (folder / name).write_text(text)
    (tmp_path / "other_broker.py").write_text("class ECSStorageBroker:\n    key = 'ecs'\n")
    script = (
        f"import sys; sys.path.insert({0 if first else 'len(sys.path)'}, {str(tmp_path)!r})\n"
        "import dtoolcore\n"
        "print(dtoolcore._generate_storage_broker_lookup()['ecs'].__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    serves = {"other_broker": "dtool-ecs", "dtool_ecs_flows.broker": "dtool-ecs-flows"}[done.stdout.strip()]
    assert "dtool-ecs" in done.stderr
    assert "dtool-ecs-flows" in done.stderr
    assert f"dtoolcore takes {serves}." in done.stderr
