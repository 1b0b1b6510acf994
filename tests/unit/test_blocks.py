"""The Prefect block EcsBucket: its form, its way to a server and back, and flows that are given one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import dtoolcore
import pytest
from prefect import flow, get_client, task
from prefect.blocks.core import Block
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from pydantic import ValidationError

from dtool_ecs_flows.blocks import EcsBucket, block_name_for, block_names
from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings import BucketSettings, resolve
from tests.servers import S3Server, start
from tests.unit.machine import SECRET, Machine, keys, record

pytestmark = pytest.mark.usefixtures("machine")


def block(bucket: str = "my-bucket", **more: Any) -> EcsBucket:
    """Return a complete block that is not saved."""
    complete = {
        "bucket": bucket,
        "endpoint": "https://ecs.example.org:9021",
        "access_key_id": "olssont",
        "secret_access_key": SECRET,
    }
    return EcsBucket(**complete | more)


class TestPrefectsStandards(BlockStandardTestSuite):
    """Prefect's own tests for blocks, those that its registry of integrations asks for."""

    @pytest.fixture
    def block(self) -> type[Block]:
        return EcsBucket

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """The logo is a picture of the right size; asked of its host, so only where there is a way to it."""
        pytest.importorskip("PIL", reason="Prefect's suite looks at the picture with Pillow")
        assert block._logo_url is not None
        try:
            socket.create_connection((str(block._logo_url.host), 443), timeout=3).close()
        except OSError:
            pytest.skip("no way to the logo's host from here")
        super().test_has_a_valid_image(block)


class TestTheForm:
    def test_it_has_the_fields_of_the_settings_in_their_order(self) -> None:
        """What can be set in dtool.json can be set in the form."""
        assert list(EcsBucket.model_fields) == list(BucketSettings.model_fields)

    def test_four_fields_are_needed_and_the_rest_has_the_same_defaults(self) -> None:
        """A form that is filled in as little as possible gives the settings that code would get."""
        needed = [name for name, field in EcsBucket.model_fields.items() if field.is_required()]

        assert needed == ["bucket", "endpoint", "access_key_id", "secret_access_key"]
        assert block().settings() == record()

    def test_every_field_is_simple(self) -> None:
        """No field has tabs for "none or a value", each has a title, and the secret is hidden while typed."""
        properties = EcsBucket.model_json_schema()["properties"]

        assert all("anyOf" not in field and field["title"] for field in properties.values())
        assert properties["secret_access_key"]["format"] == "password"

    def test_prefect_finds_it_in_the_installed_package(self) -> None:
        """`prefect block register -m dtool_ecs_flows.blocks`, and Prefect's own start, load one block."""
        (entry,) = [one for one in entry_points(group="prefect.collections") if "ecs" in one.name]

        module = entry.load()

        found = [one for one in vars(module).values() if Block.is_block_class(one) and one is not Block]
        assert found == [EcsBucket]


class TestSettingsOfABlock:
    def test_all_values_arrive(self, tmp_path: Path) -> None:
        """What is empty or 0 means dtool's own folder, no limit, no expiry, and everything else is taken over."""
        bundle = tmp_path / "ca.pem"
        bundle.touch()
        more: dict[str, Any] = {
            "dataset_prefix": "u/olssont",
            "namespace": "ns1",
            "ca_bundle": str(bundle),
            "verify_tls": False,
            "concurrency": 3,
            "max_requests_per_second": 20.5,
            "max_bytes_per_second": "1.5 GiB",
            "connect_timeout": 1.5,
            "read_timeout": 2.5,
            "cache_directory": "/scratch",
            "publish_expiry": 60,
        }

        assert block(**more).settings() == record(**more)
        assert block().base_uri == "ecs://my-bucket"

    def test_a_wrong_value_names_the_block(self) -> None:
        """Values are looked at where the flow runs: a CA bundle is a path on that machine."""
        with pytest.raises(SettingsError) as caught:
            block(endpoint="nas:9020", ca_bundle="/nowhere.pem").settings()

        assert str(caught.value) == (
            "endpoint of bucket 'my-bucket' (block EcsBucket (not saved)): 'nas:9020' has no scheme; "
            "write http://host:port or https://host:port; "
            "ca_bundle of bucket 'my-bucket' (block EcsBucket (not saved)): '/nowhere.pem' is no file on this "
            "machine; name a PEM file with the certificates to trust"
        )

    def test_a_misspelt_field_is_noticed(self) -> None:
        """Prefect lets a block hold any field; a prefix that would silently not be used is an error here."""
        with pytest.raises(SettingsError, match="there is no setting 'dataset_prefx'"):
            block(dataset_prefx="u/me").settings()

    def test_the_secret_is_not_shown(self) -> None:
        """Neither by the block, nor by pydantic's complaint about another field of it."""
        shown = block()
        with pytest.raises(ValidationError) as caught:
            EcsBucket.model_validate({"secret_access_key": SECRET, "concurrency": 1000})

        texts = [repr(shown), str(shown), shown.model_dump_json(), str(caught.value), repr(caught.value)]
        assert all(SECRET not in text for text in texts)


class TestFromDtoolJson:
    def test_what_the_file_says_becomes_the_block(self, machine: Machine) -> None:
        """A block from a dtool.json has the same settings as the file gives."""
        machine.file(
            keys(
                "my-bucket",
                **{
                    "DTOOL_ECS_DATASET_PREFIX_my-bucket": "u/me",
                    "DTOOL_ECS_MAX_BYTES_PER_SECOND_my-bucket": "50 MiB",
                    "DTOOL_ECS_PUBLISH_EXPIRY": 60,
                },
            )
        )

        made = EcsBucket.from_dtool_json("my-bucket")

        said = record(dataset_prefix="u/me", max_bytes_per_second="50 MiB", publish_expiry=60)
        assert made.settings() == resolve("my-bucket") == said

    def test_the_environment_does_not_slip_in(self, machine: Machine) -> None:
        """A variable that was set for one run does not end up in a block for all."""
        machine.file(keys("my-bucket"))
        machine.environment({"DTOOL_ECS_ENDPOINT_my-bucket": "http://other", "DTOOL_ECS_NAMESPACE_my-bucket": "x"})

        assert EcsBucket.from_dtool_json("my-bucket").settings() == record()

    def test_the_cache_folder_of_this_machine_stays_here(self, machine: Machine) -> None:
        """What the file does not say is decided where the flow runs."""
        machine.file(keys("my-bucket"))

        assert EcsBucket.from_dtool_json("my-bucket").cache_directory == ""

    def test_another_file_can_be_named(self, tmp_path: Path) -> None:
        """An incomplete one is told of with its path."""
        other = tmp_path / "other.json"
        other.write_text("{}")

        with pytest.raises(SettingsError, match=r"DTOOL_ECS_ENDPOINT_my-bucket, .* looked in .*other\.json$"):
            EcsBucket.from_dtool_json("my-bucket", other)


class TestConfigured:
    def test_it_is_what_the_machine_would_use(self, machine: Machine) -> None:
        """A flow that was given no block works with what dtool is configured with here, the environment first."""
        machine.file(keys("my-bucket"))
        machine.environment({"DTOOL_ECS_NAMESPACE_my-bucket": "ns1"})

        assert EcsBucket.configured("my-bucket").settings() == record(namespace="ns1")

    def test_settings_that_are_active_come_first(self) -> None:
        """Inside another block of the same bucket it is that block's."""
        with block(concurrency=3, publish_expiry=0).active():
            assert EcsBucket.configured("my-bucket").settings() == record(concurrency=3)


class TestNames:
    @pytest.mark.parametrize(
        ("bucket", "name"),
        [("my-bucket", "my-bucket"), ("My.Bucket_1", "my-bucket-1"), ("a..b--c_", "a-b-c"), ("ID_x", "id-x")],
    )
    def test_a_block_is_called_like_its_bucket(self, bucket: str, name: str) -> None:
        """In the letters that Prefect allows."""
        assert block_name_for(bucket) == name

    def test_two_buckets_that_would_share_a_block_are_refused(self) -> None:
        """Both are named, and nothing is silently overwritten."""
        with pytest.raises(SettingsError, match=r"'my\.bucket' and 'my-bucket' would both become block 'my-bucket'"):
            block_names(["my.bucket", "other", "my-bucket"])
        assert block_names(["a.b", "c", "c"]) == {"a.b": "a-b", "c": "c"}


@pytest.mark.usefixtures("prefect_server")
class TestOnAServer:
    def test_a_saved_block_comes_back_and_says_its_name(self) -> None:
        """Values and secret are the same, and errors will name the document they come from."""
        block(dataset_prefix="u/me").save("saved-block")

        loaded = cast(EcsBucket, EcsBucket.load("saved-block"))

        assert loaded.settings() == record(dataset_prefix="u/me")
        assert loaded.settings().origin("endpoint") == "block EcsBucket saved-block"

    def test_the_server_hides_the_secret(self) -> None:
        """Who lists blocks sees that there is one, and no more."""
        block().save("hiding")
        with get_client(sync_client=True) as client:
            document = client.read_block_document_by_name("hiding", "ecs-bucket", include_secrets=False)

        assert SECRET not in str(document.data)

    def test_its_threads_find_the_settings(self) -> None:
        """Task threads started inside find the block's settings, whatever the machine has; nobody else does."""

        @task
        def endpoint_of(bucket: str) -> str:
            return resolve(bucket).endpoint

        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2)

        @flow(task_runner=runner)
        def nightly(bucket: EcsBucket) -> list[str]:
            with bucket.active():
                futures = [endpoint_of.submit(bucket.bucket) for _ in range(4)]
                found = [future.result() for future in futures]
            with pytest.raises(SettingsError):
                resolve(bucket.bucket)
            return found

        assert nightly(block(endpoint="http://mine:9020")) == ["http://mine:9020"] * 4

    def test_a_reference_to_a_saved_block_is_enough_for_a_flow(self) -> None:
        """As a deployment passes it: the flow's parameter arrives as the block, and no secret was in the parameter."""
        identifier = block().save("by-reference")

        @flow
        def nightly(bucket: EcsBucket) -> str:
            with bucket.active() as settings:
                return f"{settings.origin('endpoint')}: {resolve('my-bucket').endpoint}"

        # As a deployment's parameter has it; the type says what the flow gets.
        reference = cast(EcsBucket, {"$ref": {"block_document_id": str(identifier)}})
        assert nightly(reference) == "block EcsBucket by-reference: https://ecs.example.org:9021"


class TestActive:
    def test_two_blocks_in_one_flow_nested(self) -> None:
        """Copying from one store into another needs both at once."""
        with block("source", endpoint="http://one").active(), block("target", endpoint="http://two").active():
            assert resolve("source").endpoint == "http://one"
            assert resolve("target").endpoint == "http://two"

    def test_two_blocks_of_one_bucket_name_in_two_threads(self) -> None:
        """Buckets of one name in two namespaces work at the same time, each in its own thread."""
        both_inside = threading.Barrier(2, timeout=60)

        def work(endpoint: str) -> str:
            with block(endpoint=endpoint).active():
                both_inside.wait()
                seen = resolve("my-bucket").endpoint
                both_inside.wait()
                return seen

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, ["http://one", "http://two"])) == ["http://one", "http://two"]

    def test_a_block_with_a_wrong_value_changes_nothing(self) -> None:
        """The error comes before anything is active."""
        with pytest.raises(SettingsError), block(endpoint="nas").active():
            pass
        with pytest.raises(SettingsError, match=r"are not set"):
            resolve("my-bucket")


@pytest.fixture(scope="module")
def two_stores() -> Iterator[tuple[S3Server, S3Server]]:
    with ExitStack() as stack:
        yield stack.enter_context(start("rclone")), stack.enter_context(start("rclone"))


class TestDtoolcoreInsideABlock:
    """dtoolcore's own calls, on a machine without dtool.json and without any environment variable."""

    @staticmethod
    def block_on(server: S3Server, bucket: str) -> EcsBucket:
        return EcsBucket(
            bucket=bucket,
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )

    @staticmethod
    def make(name: str, base_uri: str) -> str:
        """Make a dataset with dtoolcore alone; return its URI."""
        with dtoolcore.DataSetCreator(name, base_uri) as creator:
            Path(creator.prepare_staging_abspath_promise("name.txt")).write_text(name)
            return str(creator.uri)

    @staticmethod
    def names(base_uri: str) -> list[str]:
        return sorted(dataset.name for dataset in dtoolcore.iter_datasets_in_base_uri(base_uri))

    def test_a_dataset_goes_from_one_store_to_the_other(self, two_stores: tuple[S3Server, S3Server]) -> None:
        """Created, copied between two endpoints, listed and read by dtoolcore, with two blocks active at once."""
        for server, bucket in zip(two_stores, ("here", "there"), strict=True):
            server.make_bucket(bucket)
        here, there = self.block_on(two_stores[0], "here"), self.block_on(two_stores[1], "there")

        with here.active(), there.active():
            uri = self.make("crystals", here.base_uri)
            copied = dtoolcore.DataSet.from_uri(dtoolcore.copy(uri, there.base_uri))
            (item,) = copied.identifiers
            assert Path(copied.item_content_abspath(item)).read_text() == "crystals"
            assert self.names(there.base_uri) == ["crystals"]

    def test_one_bucket_name_on_two_stores_at_once(self, two_stores: tuple[S3Server, S3Server]) -> None:
        """Two threads work in buckets of the same name on different endpoints, and neither sees the other's data."""
        both_inside = threading.Barrier(2, timeout=60)
        for server in two_stores:
            server.make_bucket("shared")

        def work(server: S3Server, name: str) -> list[str]:
            with self.block_on(server, "shared").active():
                both_inside.wait()
                self.make(name, "ecs://shared")
                both_inside.wait()
                return self.names("ecs://shared")

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, two_stores, ["one", "two"])) == [["one"], ["two"]]
