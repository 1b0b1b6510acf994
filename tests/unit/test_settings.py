"""Where a bucket's settings come from, what wins, and what a user is told when something is wrong."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dtoolcore.utils
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from dtool_ecs_flows.errors import EcsFlowsError, SettingsError
from dtool_ecs_flows.settings import BucketSettings, active, configured_buckets, from_dtool_json, resolve

SECRET = "do/not+show=me"


class Machine:
    """A user's machine: a home of its own, an environment without settings, and no dtool.json yet."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.home = home
        self.config = home / ".config" / "dtool" / "dtool.json"
        self.config.parent.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr(dtoolcore.utils, "DEFAULT_CONFIG_PATH", str(self.config))
        monkeypatch.setattr(dtoolcore.utils, "DEFAULT_CACHE_PATH", str(home / "cache"))
        for key in [key for key in os.environ if key.startswith("DTOOL_")]:
            monkeypatch.delenv(key)

    def environment(self, values: dict[str, str]) -> None:
        """Set environment variables."""
        for key, value in values.items():
            self._monkeypatch.setenv(key, value)

    def file(self, values: Any, *, mode: int = 0o600) -> Path:
        """Write dtool.json; text is written as it stands."""
        self.config.write_text(values if isinstance(values, str) else json.dumps(values))
        self.config.chmod(mode)
        return self.config


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def keys(bucket: str, **more: Any) -> dict[str, Any]:
    """Return what makes a bucket complete, in the manner of dtool.json."""
    return {
        f"DTOOL_ECS_ENDPOINT_{bucket}": "https://ecs.example.org:9021",
        f"DTOOL_ECS_ACCESS_KEY_ID_{bucket}": "olssont",
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket}": SECRET,
        **more,
    }


def record(bucket: str = "my-bucket", **more: Any) -> BucketSettings:
    """Return complete settings, as a caller would pass them."""
    return BucketSettings(
        **{
            "bucket": bucket,
            "endpoint": "https://ecs.example.org:9021",
            "access_key_id": "olssont",
            "secret_access_key": SECRET,
            **more,
        }
    )


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

    def test_another_file_can_be_named(self, machine: Machine, tmp_path: Path) -> None:
        """A config_path replaces dtool's own file, and ~ in it is the home."""
        machine.file(keys("my-bucket", **{"DTOOL_ECS_NAMESPACE_my-bucket": "of-the-default-file"}))
        other = tmp_path / "other.json"
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
        assert (found.connect_timeout, found.read_timeout) == (10.0, 60.0)
        assert found.cache_directory == str(machine.home / "cache")
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
    @hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


class TestErrors:
    def test_a_missing_value_names_its_key_and_where_it_was_looked_for(self, machine: Machine) -> None:
        """The message can be acted on without reading any documentation."""
        machine.file({key: value for key, value in keys("my-bucket").items() if "ENDPOINT" not in key})

        with pytest.raises(SettingsError) as caught:
            resolve("my-bucket")

        assert str(caught.value) == (
            f"DTOOL_ECS_ENDPOINT_my-bucket is not set: looked in the environment and in {machine.config}"
        )

    def test_all_that_is_missing_is_named_at_once(self, machine: Machine) -> None:
        """Nobody has to run three times to learn of three keys; that there is no file is said, too."""
        with pytest.raises(SettingsError) as caught:
            resolve("my-bucket")

        assert str(caught.value) == (
            "DTOOL_ECS_ENDPOINT_my-bucket, DTOOL_ECS_ACCESS_KEY_ID_my-bucket, "
            "DTOOL_ECS_SECRET_ACCESS_KEY_my-bucket are not set: "
            f"looked in the environment and in {machine.config} (there is no such file)"
        )

    def test_missing_and_wrong_are_told_together(self, machine: Machine) -> None:
        """One message has everything that must be mended."""
        machine.environment(
            {"DTOOL_ECS_ENDPOINT_b-1": "nas:9020", "DTOOL_ECS_CONCURRENCY_b-1": "many"},
        )

        with pytest.raises(SettingsError) as caught:
            resolve("b-1")

        message = str(caught.value)
        assert "DTOOL_ECS_ACCESS_KEY_ID_b-1, DTOOL_ECS_SECRET_ACCESS_KEY_b-1 are not set" in message
        assert "(environment variable DTOOL_ECS_ENDPOINT_b-1): 'nas:9020' has no scheme" in message
        assert "(environment variable DTOOL_ECS_CONCURRENCY_b-1): 'many' must be a whole number" in message

    @pytest.mark.parametrize(
        ("setting", "value", "says"),
        [
            ("ENDPOINT", "ecs.example.org:9021", "has no scheme; write http://host:port or https://host:port"),
            ("ENDPOINT", "ftp://ecs.example.org", "must start with http:// or https://"),
            ("ENDPOINT", "https://", "is no URL"),
            ("ENDPOINT", "https://host:port", "is no URL"),
            ("ENDPOINT", "https://host:99999", "is no URL"),
            ("ENDPOINT", "https://[::1", "is no URL"),
            ("ENDPOINT", "https://a b", "is no URL"),
            ("ENDPOINT", "https://host?x=1", "must not have a query"),
            ("ENDPOINT", 9021, "must be text"),
            ("ACCESS_KEY_ID", ["a"], "must be text"),
            ("ACCESS_KEY_ID", "ol\nssont", "holds characters that no key has"),
            ("SECRET_ACCESS_KEY", {"a": 1}, "must be text"),
            ("DATASET_PREFIX", "u/../other", "'..' segment"),
            ("DATASET_PREFIX", "u/./me", "'.' or '..' segment"),
            ("DATASET_PREFIX", "u//me", "has an empty"),
            ("DATASET_PREFIX", "u/\x00", "control character"),
            ("DATASET_PREFIX", "u/a\nb", "control character"),
            ("DATASET_PREFIX", 7, "must be text"),
            ("NAMESPACE", "ns 1", "x-emc-namespace"),
            ("NAMESPACE", "ns\r\nx-evil: 1", "x-emc-namespace"),
            ("CA_BUNDLE", "/nowhere/ca.pem", "is no file on this machine"),
            ("CA_BUNDLE", "/", "is no file on this machine"),
            ("CONCURRENCY", 0, "a whole number from 1 to 256"),
            ("CONCURRENCY", 257, "a whole number from 1 to 256"),
            ("CONCURRENCY", 2.5, "a whole number from 1 to 256"),
            ("CONCURRENCY", True, "a whole number from 1 to 256"),
            ("CONNECT_TIMEOUT", 0, "a number of seconds above 0"),
            ("CONNECT_TIMEOUT", "inf", "a number of seconds above 0"),
            ("READ_TIMEOUT", "nan", "a number of seconds above 0"),
            ("READ_TIMEOUT", -1, "a number of seconds above 0"),
            ("VERIFY_TLS", "perhaps", "must be true or false"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_origin(
        self, machine: Machine, setting: str, value: object, says: str
    ) -> None:
        """The setting, the file and key that it came from, and what would be right."""
        machine.file(keys("b-1") | {f"DTOOL_ECS_{setting}_b-1": value})

        with pytest.raises(SettingsError) as caught:
            resolve("b-1")

        message = str(caught.value)
        assert message.startswith(f"{setting.lower()} of bucket 'b-1' ({machine.config}: DTOOL_ECS_{setting}_b-1)")
        assert says in message
        assert "\n" not in message

    @pytest.mark.parametrize("value", ["0", "-5", "604801", "1.5", "soon", True])
    def test_an_expiry_longer_than_a_signature_lasts_is_refused(self, machine: Machine, value: object) -> None:
        """No URL would be valid for more than 7 days, so none is promised."""
        machine.file(keys("b-1", DTOOL_ECS_PUBLISH_EXPIRY=value))

        with pytest.raises(SettingsError, match=r"DTOOL_ECS_PUBLISH_EXPIRY.*from 1 to 604800"):
            resolve("b-1")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{"DTOOL_ECS_SECRET_ACCESS_KEY_b-1": "' + SECRET + '",', "is not JSON: .* in line 1, column"),
            ("", "is not JSON"),
            ('["' + SECRET + '"]', "must hold one JSON object"),
            ("null", "must hold one JSON object"),
            ("9" * 5000, "must hold one JSON object|is not JSON that can be read"),
            ("[" * 200_000, "is not JSON"),
        ],
    )
    def test_a_broken_file_is_named(self, machine: Machine, text: str, says: str) -> None:
        """A broken dtool.json is an error that names the file, even where the environment has all values."""
        machine.environment(keys("b-1"))
        machine.file(text)

        for call in (lambda: resolve("b-1"), configured_buckets, lambda: from_dtool_json("b-1")):
            with pytest.raises(SettingsError, match=says) as caught:
                call()
            assert str(caught.value).startswith(str(machine.config))
            assert_no_secret(caught.value)

    def test_a_file_that_cannot_be_read_is_named(self, machine: Machine) -> None:
        """A folder in the file's place, or bytes that are no text, are errors that name the file."""
        machine.config.mkdir()
        with pytest.raises(SettingsError, match=r"dtool\.json cannot be read: Is a directory"):
            resolve("b-1")
        machine.config.rmdir()
        machine.config.write_bytes(b'{"a": "\xff"}')
        with pytest.raises(SettingsError, match=r"dtool\.json is not UTF-8 text"):
            resolve("b-1")

    def test_a_caller_who_passes_something_wrong_is_told_so(self) -> None:
        """Building settings in code gives the same kind of error, which says who passed the value."""
        with pytest.raises(SettingsError) as caught:
            BucketSettings(bucket="b-1", endpoint="nas:9020", concurrency=0, dataset_prefx="u")

        message = str(caught.value)
        assert message.startswith("access_key_id, secret_access_key are not set for bucket 'b-1'; ")
        assert "endpoint of bucket 'b-1' (passed by the caller): 'nas:9020' has no scheme" in message
        assert "there is no setting 'dataset_prefx'" in message

    def test_it_can_be_caught_as_what_one_expects(self) -> None:
        """It is one of ours, and a ValueError."""
        with pytest.raises(EcsFlowsError):
            BucketSettings()
        with pytest.raises(ValueError, match="are not set"):
            BucketSettings()


def assert_no_secret(error: BaseException) -> None:
    """Nothing that a log, a crash report or a debugger's traceback shows of an error holds the secret."""
    seen = traceback.TracebackException.from_exception(error)
    assert SECRET not in "".join(seen.format())
    assert error.__context__ is None
    assert error.__cause__ is None


class TestSecrets:
    def test_no_text_made_from_settings_shows_the_secret(self) -> None:
        """Not repr, str, a dump, JSON, nor the record of where values come from."""
        settings = record()

        texts = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
        texts += [settings.origin(field) for field in BucketSettings.model_fields]

        assert all(SECRET not in text for text in texts)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"DTOOL_ECS_SECRET_ACCESS_KEY_b-1": [SECRET]},
            {"DTOOL_ECS_SECRET_ACCESS_KEY_b-1": SECRET + "\nsecond line"},
            {"DTOOL_ECS_ENDPOINT_b-1": f"https://olssont:{SECRET}@ecs.example.org"},
            {"DTOOL_ECS_ENDPOINT_b-1": ""},
            {"DTOOL_ECS_CONCURRENCY_b-1": "many"},
        ],
    )
    def test_no_error_shows_the_secret(self, machine: Machine, wrong: dict[str, Any]) -> None:
        """Whatever is wrong, neither the message nor what is chained to it holds the secret."""
        machine.file(keys("b-1") | wrong)

        with pytest.raises(SettingsError) as caught:
            resolve("b-1")

        assert_no_secret(caught.value)

    def test_local_variables_in_a_traceback_do_not_show_it(self, machine: Machine) -> None:
        """Crash reporters and test runners print them: in our frames the secret is wrapped."""
        machine.file(keys("b-1") | {"DTOOL_ECS_CONCURRENCY_b-1": "many"})

        with pytest.raises(SettingsError) as caught:
            resolve("b-1")

        frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        ours = [frame for frame in frames if "dtool_ecs_flows" in frame.filename and frame.locals]
        assert ours
        assert all(SECRET not in value for frame in ours for value in (frame.locals or {}).values())

    def test_pydantic_cannot_be_made_to_show_it(self) -> None:
        """Validated in pydantic's own way, inside of a user's model for example, its error has no input either."""
        with pytest.raises(ValidationError) as caught:
            BucketSettings.model_validate({"bucket": "b-1", "secret_access_key": SECRET})

        assert SECRET not in str(caught.value)
        assert "endpoint, access_key_id are not set for bucket 'b-1'" in str(caught.value)

    def test_debugging_pydantic_settings_does_not_show_it(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """pydantic-settings can log what its sources return: the secret is wrapped before that."""
        monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
        machine.environment(keys("b-1"))

        with caplog.at_level(logging.DEBUG):
            resolve("b-1")

        assert SECRET not in caplog.text

    def test_a_file_with_a_secret_that_others_can_read_is_warned_of(self, machine: Machine) -> None:
        """The warning names the file and the command that mends it."""
        machine.file(keys("b-1"), mode=0o640)

        with pytest.warns(UserWarning, match="chmod 600") as warned:
            resolve("b-1")

        assert [str(warning.message) for warning in warned] == [
            f"{machine.config} holds a secret and is open to others: chmod 600 {machine.config}"
        ]

    @pytest.mark.parametrize("mode", [0o600, 0o700, 0o400])
    def test_a_closed_file_is_not_warned_of(self, machine: Machine, mode: int) -> None:
        """Also not the mode 700 that dtool itself gives to the file."""
        machine.file(keys("b-1"), mode=mode)

        assert resolve("b-1") == record("b-1")

    def test_an_open_file_without_secret_is_not_warned_of(self, machine: Machine) -> None:
        """An endpoint is no secret."""
        machine.file({"DTOOL_ECS_ENDPOINT_b-1": "http://x"}, mode=0o644)

        assert configured_buckets() == ["b-1"]

    def test_each_file_is_warned_of_once(self, machine: Machine) -> None:
        """A program that resolves a hundred buckets says it once, by Python's own rules."""
        machine.file(keys("b-1") | keys("b-2"), mode=0o644)
        program = "from dtool_ecs_flows.settings import resolve\nfor b in ('b-1', 'b-2') * 5: resolve(b)"

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
        )

        assert done.stderr.count("chmod 600") == 1


class TestValues:
    @pytest.mark.parametrize(
        ("given_", "becomes"),
        [("", ""), ("/", ""), ("u/me", "u/me/"), ("/u/me/", "u/me/"), ("//u//", "u/"), ("Ü b/c", "Ü b/c/")],
    )
    def test_a_prefix_has_one_trailing_slash_and_no_leading_one(self, given_: str, becomes: str) -> None:
        """So that the documented access policy covers what is written under it."""
        assert record(dataset_prefix=given_).dataset_prefix == becomes

    @pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", True, 1])
    def test_ways_to_say_yes(self, machine: Machine, text: object) -> None:
        """As JSON or as text."""
        machine.file(keys("b-1") | {"DTOOL_ECS_VERIFY_TLS_b-1": text})
        assert resolve("b-1").verify_tls is True

    @pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off", False, 0])
    def test_ways_to_say_no(self, machine: Machine, text: object) -> None:
        """Turning the check off works, and is warned of with the place that turned it off."""
        machine.file(keys("b-1") | {"DTOOL_ECS_VERIFY_TLS_b-1": text})

        with pytest.warns(UserWarning, match="is not checked .*DTOOL_ECS_VERIFY_TLS_b-1.*CA bundle"):
            assert resolve("b-1").verify_tls is False

    def test_settings_passed_without_verification_are_warned_of_as_well(self) -> None:
        """Who passes the settings does not matter; without TLS there is nothing to check."""
        with (
            active(record("b-1", verify_tls=False)),
            pytest.warns(UserWarning, match="passed by the caller"),
        ):
            resolve("b-1")
        with active(record("b-1", verify_tls=False, endpoint="http://x")):
            resolve("b-1")

    def test_endpoints_lose_white_space_and_trailing_slashes(self) -> None:
        """A line end that came along from a file does no harm."""
        settings = record(endpoint=" https://ecs:9021//\n", access_key_id="olssont\n", secret_access_key=f"{SECRET}\n")

        assert settings.endpoint == "https://ecs:9021"
        assert settings == record(endpoint="https://ecs:9021")

    @pytest.mark.parametrize("endpoint", ["http://[::1]:9020", "https://host/path", "http://10.0.0.1", "HTTPS://x"])
    def test_other_urls_that_work(self, endpoint: str) -> None:
        """IPv6, a path, no port."""
        assert record(endpoint=endpoint).endpoint == endpoint

    def test_paths_may_be_path_objects(self, tmp_path: Path) -> None:
        """The cache folder need not exist; a CA bundle must."""
        bundle = tmp_path / "ca.pem"
        bundle.touch()

        settings = record(ca_bundle=bundle, cache_directory=tmp_path / "new")

        assert (settings.ca_bundle, settings.cache_directory) == (str(bundle), str(tmp_path / "new"))

    def test_settings_are_values(self) -> None:
        """Equal and hashable by content; where the content came from does not matter; they cannot be changed."""
        passed, from_block = record(), BucketSettings.from_origin("block EcsBucket x", dict(record()))

        assert passed == from_block
        assert hash(passed) == hash(from_block)
        assert passed != record(concurrency=1)
        assert passed != "my-bucket"
        assert (passed.origin("endpoint"), from_block.origin("endpoint")) == (
            "passed by the caller",
            "block EcsBucket x",
        )
        with pytest.raises(ValidationError):
            passed.endpoint = "http://x"  # type: ignore[misc]

    @pytest.mark.parametrize(
        "travel", [copy.copy, copy.deepcopy, lambda settings: pickle.loads(pickle.dumps(settings))]
    )
    def test_settings_travel_with_their_origin(self, travel: Callable[[BucketSettings], BucketSettings]) -> None:
        """To another process, for example."""
        settings = BucketSettings.from_origin("block EcsBucket x", dict(record()))

        arrived = travel(settings)

        assert arrived == settings
        assert arrived.origin("endpoint") == "block EcsBucket x"
        assert arrived.secret_access_key == SecretStr(SECRET)

    def test_only_settings_have_an_origin(self) -> None:
        """Asking for the origin of something else is a mistake."""
        with pytest.raises(KeyError):
            record().origin("endpont")


class TestActive:
    def test_they_win_whole(self, machine: Machine) -> None:
        """Nothing from the environment or the file is mixed into settings that a caller passed."""
        machine.file(keys("b-1", **{"DTOOL_ECS_DATASET_PREFIX_b-1": "u/file"}))
        machine.environment({"DTOOL_ECS_NAMESPACE_b-1": "of-the-environment", "DTOOL_CACHE_DIRECTORY": "/else"})
        mine = record("b-1", endpoint="http://mine")

        with active(mine):
            assert resolve("b-1") is mine
        assert resolve("b-1").endpoint == "https://ecs.example.org:9021"

    def test_they_need_no_file(self, machine: Machine) -> None:
        """A broken dtool.json is not even read."""
        machine.file("broken")

        with active(record("b-1")):
            assert resolve("b-1", config_path="/nowhere") == record("b-1")

    def test_only_their_own_bucket_is_affected(self, machine: Machine) -> None:
        """Other buckets are looked up as always."""
        machine.environment(keys("b-2"))

        with active(record("b-1")):
            assert resolve("b-2").origin("endpoint").startswith("environment")

    def test_nested_ones_add_and_override(self) -> None:
        """Inside both are there, the inner one winning; on leaving the outer ones are back."""
        outer, inner, other = record("b-1"), record("b-1", concurrency=1), record("b-2")

        with active(outer):
            with active(inner, other):
                assert resolve("b-1") is inner
                assert resolve("b-2") is other
            assert resolve("b-1") is outer
            with pytest.raises(SettingsError):
                resolve("b-2")
        with pytest.raises(SettingsError):
            resolve("b-1")

    def test_an_exception_puts_the_outer_ones_back(self) -> None:
        """Also one that is no Exception."""
        with active(record("b-1")):
            with pytest.raises(KeyboardInterrupt), active(record("b-1", concurrency=1)):
                raise KeyboardInterrupt
            assert resolve("b-1").concurrency == 16

    def test_two_that_contradict_each_other_are_refused(self) -> None:
        """Two buckets of one name in two namespaces cannot be told apart by a URI; twice the same is fine."""
        with active(record("b-1"), record("b-1")):
            pass
        with (
            pytest.raises(SettingsError, match="two different settings were passed for bucket 'b-1'"),
            active(record("b-1"), record("b-1", namespace="other")),
        ):
            pass

    def test_a_thread_in_a_copied_context_sees_them_and_no_other(self) -> None:
        """Work handed to a thread with the context finds the settings; a thread of somebody else does not."""

        def look() -> str:
            try:
                return resolve("b-1").endpoint
            except SettingsError:
                return "nothing"

        with active(record("b-1", endpoint="http://mine")), ThreadPoolExecutor(1) as pool:
            with_context = pool.submit(contextvars.copy_context().run, look).result()
            without = pool.submit(look).result()

        assert (with_context, without) == ("http://mine", "nothing")

    def test_two_threads_use_one_bucket_name_with_different_stores(self) -> None:
        """At the same time, and neither sees the other's."""
        both_inside = threading.Barrier(2, timeout=10)

        def work(endpoint: str) -> str:
            with active(record("b-1", endpoint=endpoint)):
                both_inside.wait()
                seen = resolve("b-1").endpoint
                both_inside.wait()
                return seen

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, ["http://one", "http://two"])) == ["http://one", "http://two"]

    def test_coroutines_do_not_see_each_others(self) -> None:
        """Tasks of one event loop that take turns keep to their own settings."""

        async def work(endpoint: str) -> str:
            with active(record("b-1", endpoint=endpoint)):
                await asyncio.sleep(0.01)
                return resolve("b-1").endpoint

        async def both() -> list[str]:
            return list(await asyncio.gather(work("http://one"), work("http://two")))

        assert asyncio.run(both()) == ["http://one", "http://two"]
