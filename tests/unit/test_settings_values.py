"""What becomes of a value, and how settings are passed on to code that was not given them."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from dtool_ecs_flows.errors import SettingsError
from dtool_ecs_flows.settings import BucketSettings, active, resolve
from tests.unit.machine import SECRET, Machine, keys, record

pytestmark = pytest.mark.usefixtures("machine")


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
            pytest.warns(UserWarning, match="the caller"),
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
            "the caller",
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
        both_inside = threading.Barrier(2, timeout=60)

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
