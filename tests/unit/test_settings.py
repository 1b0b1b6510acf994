"""Where a bucket's settings come from, and what wins."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings import configured_buckets, from_dtool_json, resolve
from tests.conftest import SLOW_IS_FINE
from tests.unit.machine import SECRET, Machine, keys, record

pytestmark = pytest.mark.usefixtures("machine")


class TestWhereTheyComeFrom:
    def test_a_dtool_json_is_enough(self, machine: Machine) -> None:
        """A user's dtool.json, as the published plugin reads it, is all that is needed."""
        machine.file(keys("my-bucket", **{"DTOOL_ECS_DATASET_PREFIX_my-bucket": "u/olssont"}))

        found = resolve("my-bucket")

        assert found.endpoint == "https://ecs.example.org:9021"
        assert found.access_key_id == "olssont"
        assert found.secret_access_key.get_secret_value() == SECRET
        assert found.dataset_prefix == "u/olssont/"
        assert found.base_uri == "ecs://my-bucket"

    def test_the_environment_is_enough(self, machine: Machine) -> None:
        """Without any dtool.json, environment variables of the same names do."""
        machine.environment(keys("my-bucket"))

        assert resolve("my-bucket") == record()

    def test_the_environment_beats_the_file_value_by_value(self, machine: Machine) -> None:
        """Each value comes from the first place that has it, and says from which."""
        machine.file(keys("my-bucket", **{"DTOOL_ECS_CONCURRENCY_my-bucket": 4}))
        machine.environment({"DTOOL_ECS_ENDPOINT_my-bucket": "http://other:9020"})

        found = resolve("my-bucket")

        assert (found.endpoint, found.concurrency) == ("http://other:9020", 4)
        assert found.origin("endpoint") == "environment variable DTOOL_ECS_ENDPOINT_my-bucket"
        assert found.origin("concurrency") == f"{machine.config}: DTOOL_ECS_CONCURRENCY_my-bucket"
        assert found.origin("read_timeout") == "default"

    def test_another_file_can_be_named(self, machine: Machine) -> None:
        """A config_path replaces dtool's own file, and ~ in it is the home."""
        machine.file(keys("my-bucket", **{"DTOOL_ECS_NAMESPACE_my-bucket": "of-the-default-file"}))
        other = machine.home / "other.json"
        other.write_text(json.dumps(keys("my-bucket")))
        other.chmod(0o600)

        assert resolve("my-bucket", config_path=other).namespace == ""
        assert resolve("my-bucket", config_path="~/other.json").origin("endpoint").startswith(str(other))
        assert resolve("my-bucket").namespace == "of-the-default-file"

    def test_every_setting_has_a_key(self, machine: Machine) -> None:
        """All settings can be written into the environment, as text."""
        bundle = machine.home / "ca.pem"
        bundle.write_text("certificates")
        machine.environment(
            keys(
                "b-1",
                **{
                    "DTOOL_ECS_DATASET_PREFIX_b-1": "/u/me/",
                    "DTOOL_ECS_NAMESPACE_b-1": "ns1",
                    "DTOOL_ECS_CA_BUNDLE_b-1": "~/ca.pem",
                    "DTOOL_ECS_VERIFY_TLS_b-1": "yes",
                    "DTOOL_ECS_CONCURRENCY_b-1": " 32 ",
                    "DTOOL_ECS_MAX_REQUESTS_PER_SECOND_b-1": "0.5",
                    "DTOOL_ECS_MAX_BYTES_PER_SECOND_b-1": " 50 MiB ",
                    "DTOOL_ECS_CONNECT_TIMEOUT_b-1": "2.5",
                    "DTOOL_ECS_READ_TIMEOUT_b-1": "300",
                    "DTOOL_CACHE_DIRECTORY": "/scratch/dtool",
                    "DTOOL_ECS_PUBLISH_EXPIRY": "3600",
                },
            )
        )

        assert resolve("b-1") == record(
            "b-1",
            dataset_prefix="u/me",
            namespace="ns1",
            ca_bundle=str(bundle),
            verify_tls=True,
            concurrency=32,
            max_requests_per_second=0.5,
            max_bytes_per_second=50 * 1024**2,
            connect_timeout=2.5,
            read_timeout=300,
            cache_directory="/scratch/dtool",
            publish_expiry=3600,
        )

    def test_defaults(self, machine: Machine) -> None:
        """Only endpoint and keys are needed; the cache is dtool's own."""
        found = record()

        assert (found.dataset_prefix, found.namespace, found.ca_bundle) == ("", "", "")
        assert (found.verify_tls, found.concurrency) == (True, 16)
        assert (found.max_requests_per_second, found.max_bytes_per_second) == (0, 0)
        assert (found.connect_timeout, found.read_timeout) == (10.0, 60.0)
        assert found.cache_directory == str(machine.home / ".cache" / "dtool")
        assert found.publish_expiry is None

    @pytest.mark.parametrize("empty", ["", None])
    def test_an_empty_value_counts_as_not_set(self, machine: Machine, empty: str | None) -> None:
        """An endpoint, key, number or switch that is empty (or null) is looked for further on."""
        names = ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "CONCURRENCY", "VERIFY_TLS")
        machine.file(
            keys("b-1") | {f"DTOOL_ECS_{name}_b-2": empty for name in names} | {"DTOOL_ECS_PUBLISH_EXPIRY": ""}
        )
        machine.environment({f"DTOOL_ECS_{name}_b-1": "" for name in names})

        assert resolve("b-1") == record("b-1")
        with pytest.raises(SettingsError, match=r"DTOOL_ECS_ENDPOINT_b-2, .*are not set"):
            resolve("b-2")

    def test_an_empty_prefix_in_the_environment_means_no_prefix(self, machine: Machine) -> None:
        """Prefix, namespace and CA bundle of the file can be switched off for one run."""
        machine.file(keys("b-1", **{"DTOOL_ECS_DATASET_PREFIX_b-1": "u/me", "DTOOL_ECS_NAMESPACE_b-1": "ns1"}))
        machine.environment({"DTOOL_ECS_DATASET_PREFIX_b-1": "", "DTOOL_ECS_NAMESPACE_b-1": ""})

        assert (resolve("b-1").dataset_prefix, resolve("b-1").namespace) == ("", "")

    def test_the_environment_can_be_left_out(self, machine: Machine) -> None:
        """What is read from a dtool.json alone is not changed by the environment, and is not completed by it."""
        machine.file(keys("b-1"))
        machine.environment({"DTOOL_ECS_ENDPOINT_b-1": "http://other:9020", **keys("b-2")})

        assert from_dtool_json("b-1") == record("b-1")
        with pytest.raises(SettingsError) as caught:
            from_dtool_json("b-2")
        assert "the environment" not in str(caught.value)

    def test_a_folder_that_may_not_be_entered_counts_as_no_file(self, machine: Machine) -> None:
        """A container whose user may not look into HOME works with its environment alone."""
        if os.geteuid() == 0:
            pytest.skip("root may enter every folder")
        machine.environment(keys("b-1"))
        machine.config.parent.chmod(0)
        try:
            assert resolve("b-1") == record("b-1")
        finally:
            machine.config.parent.chmod(0o700)


class TestBucketNames:
    @given(bucket=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{2,60}", fullmatch=True))
    @hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, *SLOW_IS_FINE])
    def test_dots_dashes_underscores_and_capitals_work(self, machine: Machine, bucket: str) -> None:
        """Whatever a bucket is called, its own keys are found, and it is listed under its name."""
        machine.file(keys(bucket))

        assert resolve(bucket) == record(bucket)
        assert configured_buckets() == [bucket]

    def test_names_are_case_sensitive(self, machine: Machine) -> None:
        """Two buckets that differ in case only are two buckets."""
        machine.environment(keys("Data") | {"DTOOL_ECS_ENDPOINT_data": "http://lower"})

        assert resolve("Data").endpoint == "https://ecs.example.org:9021"
        with pytest.raises(SettingsError, match="DTOOL_ECS_ACCESS_KEY_ID_data"):
            resolve("data")

    @pytest.mark.parametrize("bucket", ["", "a/b", "..", "a b", "a\nb", "-a", "a:80", "ü", "x" * 256, None])
    def test_what_is_no_bucket_name_is_refused(self, bucket: Any) -> None:
        """A name that would change a URL is refused before anything is looked up."""
        with pytest.raises(SettingsError, match="is no bucket name"):
            resolve(bucket)
        with pytest.raises(SettingsError):
            record(bucket)

    def test_buckets_of_different_stores_work_side_by_side(self, machine: Machine) -> None:
        """Each bucket has its own endpoint, user and namespace."""
        machine.file(
            keys("b-1", **{"DTOOL_ECS_NAMESPACE_b-1": "physics"})
            | keys("b-2", **{"DTOOL_ECS_NAMESPACE_b-2": "biology"})
            | {"DTOOL_ECS_ENDPOINT_b-2": "http://two:9020", "DTOOL_ECS_ACCESS_KEY_ID_b-2": "lindbergk"}
        )

        one, two = resolve("b-1"), resolve("b-2")

        assert (one.namespace, one.access_key_id) == ("physics", "olssont")
        assert (two.namespace, two.access_key_id, two.endpoint) == ("biology", "lindbergk", "http://two:9020")

    def test_all_buckets_of_environment_and_file_are_listed(self, machine: Machine) -> None:
        """Whatever has an endpoint or a key is listed once, sorted; empty values and other keys are not buckets."""
        machine.file(
            keys("z.last")
            | {"DTOOL_ECS_ENDPOINT_half": "http://x", "DTOOL_ECS_ENDPOINT_empty": "", "DTOOL_USER_EMAIL": "a@b"}
            | {"DTOOL_ECS_ENDPOINT_": "http://x", "DTOOL_S3_ENDPOINT_other": "http://x", "DTOOL_ECS_TAGS": []}
        )
        machine.environment({**keys("A_first"), "DTOOL_ECS_ENDPOINT_half": ""})

        assert configured_buckets() == ["A_first", "half", "z.last"]
        assert configured_buckets(environment=False) == ["half", "z.last"]
        assert configured_buckets(machine.home / "nowhere.json") == ["A_first"]


class TestTheMisspeltKey:
    """dtool-ecs's README once said DTOOL_ECS_ACCESS_KEY_<bucket>, without _ID."""

    def misspelt(self, bucket: str, **more: str) -> dict[str, str]:
        both = keys(bucket)
        both[f"DTOOL_ECS_ACCESS_KEY_{bucket}"] = both.pop(f"DTOOL_ECS_ACCESS_KEY_ID_{bucket}")
        return both | more

    def test_it_works_and_the_user_is_told(self, machine: Machine) -> None:
        """It is accepted, and a warning names the place and the right key."""
        machine.file(self.misspelt("b-1"))

        with pytest.warns(UserWarning, match="misspelt") as warned:
            found = resolve("b-1")

        assert found == record("b-1")
        assert [str(warning.message) for warning in warned] == [
            f"{machine.config}: DTOOL_ECS_ACCESS_KEY_b-1 is misspelt: call it DTOOL_ECS_ACCESS_KEY_ID_b-1"
        ]
        assert configured_buckets() == ["b-1"]

    def test_the_right_key_wins_in_the_same_place(self, machine: Machine) -> None:
        """With both keys in one file the right one is used, and there is nothing to warn of."""
        machine.file(keys("b-1", **{"DTOOL_ECS_ACCESS_KEY_b-1": "somebody-else"}))

        assert resolve("b-1").access_key_id == "olssont"

    def test_a_right_key_in_the_environment_beats_a_misspelt_one_in_the_file(self, machine: Machine) -> None:
        """The environment's is used; that the file has it wrong is said all the same."""
        machine.file(self.misspelt("b-1", **{"DTOOL_ECS_ACCESS_KEY_b-1": "of-the-file"}))
        machine.environment({"DTOOL_ECS_ACCESS_KEY_ID_b-1": "of-the-environment"})

        with pytest.warns(UserWarning, match="misspelt"):
            found = resolve("b-1")
        assert found.access_key_id == "of-the-environment"

    def test_a_misspelt_key_in_the_environment_beats_a_right_one_in_the_file(self, machine: Machine) -> None:
        """The earlier place wins, however the key is spelt there: that is what a user who sets a variable expects."""
        machine.file(keys("b-1"))
        machine.environment({"DTOOL_ECS_ACCESS_KEY_b-1": "of-the-environment"})

        with pytest.warns(UserWarning, match="environment variable DTOOL_ECS_ACCESS_KEY_b-1 is misspelt"):
            found = resolve("b-1")
        assert found.access_key_id == "of-the-environment"

    def test_a_key_is_never_sent_for_another_bucket(self, machine: Machine) -> None:
        """DTOOL_ECS_ACCESS_KEY_ID_x belongs to bucket x, and is not tried as a misspelt key of a bucket ID_x."""
        machine.environment(keys("xyz") | keys("ID_xyz"))
        os.environ.pop("DTOOL_ECS_ACCESS_KEY_ID_ID_xyz")

        assert resolve("xyz").access_key_id == "olssont"
        with pytest.raises(SettingsError, match="DTOOL_ECS_ACCESS_KEY_ID_ID_xyz is not set"):
            resolve("ID_xyz")
        assert configured_buckets() == ["ID_xyz", "xyz"]

    def test_a_key_without_a_bucket_is_no_bucket_called_id(self, machine: Machine) -> None:
        """DTOOL_ECS_ACCESS_KEY_ID alone names nothing."""
        machine.environment({"DTOOL_ECS_ACCESS_KEY_ID": "olssont"})

        assert configured_buckets() == []
