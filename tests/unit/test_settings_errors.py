"""What a user is told when a setting is missing or wrong, and what nobody is ever shown."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from typing import Any

import pytest
from pydantic import ValidationError

from dtool_ecs_flows.errors import EcsFlowsError, SettingsError
from dtool_ecs_flows.settings import BucketSettings, configured_buckets, from_dtool_json, resolve
from tests.unit.machine import SECRET, Machine, assert_no_secret, keys, record

pytestmark = pytest.mark.usefixtures("machine")


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
            ("MAX_REQUESTS_PER_SECOND", -1, "a number of at least 0 (0: no limit)"),
            ("MAX_REQUESTS_PER_SECOND", "inf", "a number of at least 0"),
            ("MAX_BYTES_PER_SECOND", "50 MiBs", "a number of bytes, also with a unit as 50 MiB"),
            ("MAX_BYTES_PER_SECOND", -1, "a number of bytes"),
            ("MAX_BYTES_PER_SECOND", True, "a number of bytes"),
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
        assert "endpoint of bucket 'b-1' (the caller): 'nas:9020' has no scheme" in message
        assert "there is no setting 'dataset_prefx'" in message

    def test_it_can_be_caught_as_what_one_expects(self) -> None:
        """It is one of ours, and a ValueError."""
        with pytest.raises(EcsFlowsError):
            BucketSettings()
        with pytest.raises(ValueError, match="are not set"):
            BucketSettings()


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
