"""Documents, names and settings from somebody who means harm, read by pure functions: refused in our words, or good."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dtool_ecs_flows import documents, layout
from dtool_ecs_flows.datasets.copy import open_destination
from dtool_ecs_flows.datasets.sources import open_source
from dtool_ecs_flows.errors import EcsFlowsError, ManifestError, NoSuchKeyError, StoreError
from dtool_ecs_flows.models import DatasetInfo, Finding
from dtool_ecs_flows.settings import configured_buckets, resolve
from tests.hostile import ESCAPES, FORGED, TEXTS, assert_harmless, refused_or_done, spoiled
from tests.unit.machine import SECRET, Machine, keys

UUID = "5ac3b3a1-6e0f-4c7e-9c2b-0d7a9d1d6e42"
ADMIN = {
    "uuid": UUID,
    "dtoolcore_version": "3.19.0",
    "name": "penguins",
    "type": "dataset",
    "creator_username": "olssont",
    "created_at": 1500000000.25,
    "frozen_at": 1500000001.5,
}
MANIFEST = {
    "items": {
        layout.identifier_of(relpath): {
            "relpath": relpath,
            "size_in_bytes": 3,
            "hash": "0" * 32,
            "utc_timestamp": 1.5e9,
        }
        for relpath in ("a.txt", "deep/b.csv")
    },
    "dtoolcore_version": "3.19.0",
    "hash_function": "md5sum_hexdigest",
}
WHERE = "bucket/key"


def manifest_of(relpath: str, **changes: Any) -> bytes:
    """A manifest of one item whose identifier is right, whatever it is called."""
    entry = {"relpath": relpath, "size_in_bytes": 3, "hash": "0" * 32, "utc_timestamp": 1.5e9, **changes}
    return json.dumps({**MANIFEST, "items": {layout.identifier_of(relpath): entry}}).encode()


many = settings(max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck))


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


class TestDocuments:
    @many
    @given(spoiled(MANIFEST))
    @example(manifest_of("a.\0"))
    @example(manifest_of("a.\\..\\x"))
    @example(manifest_of(f"a.{ESCAPES}"))
    @example(manifest_of("a", hash="\ud800"))
    @example(manifest_of("a", size_in_bytes=10**4299 * 9))
    @example(manifest_of("a", size_in_bytes="9" * 4300))
    def test_a_manifest_is_good_or_refused(self, body: bytes) -> None:
        """What passes can be written again, and its items can be counted, hashed and asked for like any others."""
        manifest = refused_or_done(lambda: documents.parse_manifest(body, WHERE))
        if manifest is None:
            return
        assert documents.parse_manifest(documents.dump_manifest(manifest), WHERE) == manifest
        str(10 * sum(item.size for item in manifest.items.values()))
        for item in manifest.items.values():
            refused_or_done(lambda item=item: layout.check_relpath(item.relpath))  # type: ignore[misc]
            name = item.identifier + layout.extension_of(item.relpath)
            assert name.isprintable()
            assert not set("/\\\0") & set(name)
            assert len(name.encode()) <= 255
            Finding(kind="missing", subject=item.relpath, message="m", expected=item.hash).model_dump_json()

    @many
    @given(spoiled(ADMIN), st.dictionaries(st.sampled_from(list(ADMIN)), st.text(max_size=5), max_size=3))
    def test_administrative_metadata_is_good_or_refused(self, body: bytes, metadata: dict[str, str]) -> None:
        """What passes can be written again, as a body and in headers that nobody has slipped a line into."""
        admin = refused_or_done(lambda: documents.parse_admin(body, metadata, WHERE))
        if admin is None:
            return
        json.dumps(admin)
        for name, value in documents.admin_as_user_metadata(admin).items():
            assert (name + value).isascii()
            assert name.replace("-", "").replace("_", "").isalnum()
            assert value.isprintable()

    @many
    @given(spoiled({"grant": {"n": 1, "list": [None, 2.5, "x"]}}))
    def test_any_other_document_can_be_written_again_or_is_refused(self, body: bytes) -> None:
        """An annotation or an overlay that can be read can be copied."""
        document = refused_or_done(lambda: [documents.parse_json(body, WHERE)])
        if document is not None:
            documents.dump(document)
            assert document[0] is not document

    @pytest.mark.parametrize("depth", [101, 200, 500, *range(900, 1000, 7), 100_000])
    def test_nesting_without_end_is_refused_at_any_depth(self, depth: int) -> None:
        """Also at the depths that Python's parser takes and its writer does not."""
        with pytest.raises(ManifestError, match=r"nested too deeply|is no JSON"):
            documents.parse_json(nested(depth), WHERE)
        with pytest.raises(ManifestError, match=r"nested too deeply|no JSON"):
            documents.parse_admin(b'{"type": "dataset", "created_at": %b}' % nested(depth), {}, WHERE)
        with pytest.raises(ManifestError, match="manifest unreadable"):
            documents.parse_manifest(b'{"items": {}, "hash_function": %b}' % nested(depth), WHERE)

    def test_a_document_may_be_nested_as_people_nest(self) -> None:
        """A hundred levels are more than anybody means."""
        assert documents.dump(documents.parse_json(nested(100), WHERE))

    @many
    @given(st.one_of(st.binary(max_size=40), st.sampled_from(TEXTS).map(lambda t: t.encode("utf-8", "surrogatepass"))))
    @example(b"../other-bucket/")
    @example(b"a/../../other-bucket/u")
    @example(b"./")
    @example("u/\x9b31m/".encode())
    def test_a_registration_key_leads_to_keys_of_this_bucket_alone(self, body: bytes) -> None:
        """No part of the prefix is a step to another folder, which some servers would take."""
        prefix = refused_or_done(lambda: documents.parse_prefix(body, WHERE))
        if prefix is not None:
            key = layout.DatasetKeys(prefix, UUID).manifest
            assert not {".", ".."} & set(key.split("/"))
            assert_harmless(key)

    @many
    @given(st.one_of(st.sampled_from(TEXTS), st.text(st.characters(), max_size=20)), st.booleans())
    def test_a_handle_is_what_its_key_says_or_nothing(self, text: str, encoded: bool) -> None:
        """Whatever an item says that it is called, only the name that its identifier proves is taken."""
        handle = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode() if encoded else text
        assert layout.relpath_from_handle(handle, layout.identifier_of("a.txt")) is None


class TestNames:
    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_a_uri_is_refused_in_our_words(self, text: str) -> None:
        """Whether it comes as a bucket, a dataset, a base URI or a whole URI."""
        for uri in (text, f"ecs://{text}", f"ecs://bucket/{text}", f"file://[{text}", f"ecs://[{text}"):
            refused_or_done(lambda uri=uri: layout.parse_uri(uri))  # type: ignore[misc]
            refused_or_done(lambda uri=uri: open_source(uri), also=OSError)  # type: ignore[misc]  # too long for a file
            if not uri.startswith(("file:", "~", "/")) and "\0" not in uri:
                refused_or_done(lambda uri=uri: open_destination(uri, ADMIN, None))  # type: ignore[misc]

    @pytest.mark.parametrize(
        "text", [ESCAPES, FORGED, "\x85\x9b31m\u2028\u202egnp.exe", "\ud800", "x" * 10**7], ids=range(5)
    )
    def test_no_error_and_no_report_passes_commands_on_to_a_terminal(self, text: str) -> None:
        """Whatever a message is made of: it is one line of moderate length, and still says what is wrong at its end."""
        for kind in (EcsFlowsError, StoreError, NoSuchKeyError, ManifestError):
            error = kind(f"key {text} is wrong; do this")
            assert_harmless(str(error))
            assert_harmless(error.format_message())
            assert_harmless(error.args[0])
            assert str(error).startswith("key ")
            assert str(error).endswith("is wrong; do this")
        if text.isascii():
            problem = DatasetInfo(uri="u", uuid="u", problem=text[:1000]).problem
            message = Finding(kind="extra", subject="s", message=text[:1000]).message
            assert_harmless(problem + message)


class TestSettings:
    @settings(many, max_examples=150)
    @given(spoiled(keys("b-1", **{"DTOOL_ECS_CONCURRENCY_b-1": 4, "DTOOL_ECS_DATASET_PREFIX_b-1": "u/x"})))
    def test_a_dtool_json_is_good_or_refused(self, tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
        """It may come from a template of somebody else: no form of it fails in another way, nor shows the secret."""
        path = tmp_path_factory.mktemp("config") / "dtool.json"
        path.write_bytes(body)
        path.chmod(0o600)

        def told() -> Any:
            for bucket in configured_buckets(path):
                resolve(bucket, config_path=path)
            return resolve("b-1", config_path=path)

        assert SECRET not in repr(refused_or_done(told))

    @pytest.mark.parametrize("depth", range(850, 1000, 5))
    @pytest.mark.parametrize("field", ["ENDPOINT_b-1", "CONCURRENCY_b-1", "SECRET_ACCESS_KEY_b-1"])
    def test_a_value_that_is_nested_without_end_is_refused(self, machine: Machine, field: str, depth: int) -> None:
        """At the depths that can be read and not be shown, too."""
        text = json.dumps(keys("b-1") | {f"DTOOL_ECS_{field}": "@"})
        machine.file(text.replace('"@"', nested(depth).decode()))
        with pytest.raises(EcsFlowsError) as caught:
            resolve("b-1")
        assert_harmless(str(caught.value))


def test_the_strategies_reach_what_they_are_made_for() -> None:
    """Much of what they make is refused, and much is not: neither kind is all there is."""
    outcomes = []

    @settings(many, max_examples=200, database=None)
    @given(spoiled(MANIFEST))
    def look(body: bytes) -> None:
        outcomes.append(refused_or_done(lambda: documents.parse_manifest(body, WHERE)) is None)

    look()
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.95
