"""The JSON documents of a dataset: what is written is what others read, and nothing that others wrote is trusted."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from dtoolcore.utils import generate_identifier
from hypothesis import example, given
from hypothesis import strategies as st

from dtool_ecs_flows import documents
from dtool_ecs_flows.errors import ManifestError
from dtool_ecs_flows.models import Item

UUID = "5ac3b3a1-6e0f-4c7e-9c2b-0d7a9d1d6e42"
ADMIN = {
    "uuid": UUID,
    "dtoolcore_version": "3.19.0",
    "name": "penguins",
    "type": "dataset",
    "creator_username": "Jörg Müller\n",
    "created_at": 1500000000.25,
    "frozen_at": 1500000001.5,
}

HUGE = 10**400
"""JSON allows such a number, a float does not."""

NUMBERS = st.one_of(st.integers(), st.sampled_from([HUGE, -HUGE]), st.floats())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "relpath": st.one_of(st.just("a"), JSON),
        "size_in_bytes": st.one_of(NUMBERS, JSON),
        "hash": st.one_of(st.just("0" * 32), JSON),
        "utc_timestamp": st.one_of(NUMBERS, JSON),
    },
)
ALMOST_A_MANIFEST = st.fixed_dictionaries(
    {"items": st.dictionaries(st.one_of(st.just(generate_identifier("a")), st.text(max_size=5)), ENTRY, max_size=2)}
)
"""Documents that come close to being a manifest, so that every check is reached."""


def entry(relpath: str, **changes: Any) -> dict[str, Any]:
    return {"relpath": relpath, "size_in_bytes": 1, "hash": "0" * 32, "utc_timestamp": 1.5, **changes}


def manifest_with(relpath: str, **changes: Any) -> dict[str, Any]:
    return {"items": {generate_identifier(relpath): entry(relpath, **changes)}}


class TestManifest:
    @given(
        st.dictionaries(
            st.text(min_size=1, max_size=20),
            st.tuples(st.integers(0, 2**53), st.text("0123456789abcdef", min_size=32, max_size=32), st.floats(0, 1e10)),
            max_size=5,
        )
    )
    def test_what_is_written_is_read(self, files: dict[str, tuple[int, str, float]]) -> None:
        """Items come back equal, through JSON and any name."""
        items = {
            generate_identifier(name): Item(generate_identifier(name), name, *rest) for name, rest in files.items()
        }
        manifest = documents.Manifest(items, "3.19.0")
        body = documents.dump_manifest(manifest)
        assert body == json.dumps(documents.manifest_of(manifest), indent=2, sort_keys=True).encode()
        assert documents.parse_manifest(body, "here") == manifest
        assert documents.manifest_from(json.loads(body), "here") == manifest

    @given(st.one_of(JSON, ALMOST_A_MANIFEST))
    @example(manifest_with("a", size_in_bytes=math.inf))
    @example(manifest_with("a", size_in_bytes=math.nan))
    @example(manifest_with("a", utc_timestamp=HUGE))
    @example(manifest_with("a", size_in_bytes="9" * 5000))
    def test_any_json_is_a_manifest_or_a_manifest_error(self, document: Any) -> None:
        """Whoever can write to a bucket cannot make a reader fail in another way, nor pass a wrong item on."""
        try:
            items = documents.items_of_manifest(document, "here")
        except ManifestError as error:
            str(error).encode("utf-8")
            with pytest.raises(ManifestError, match="manifest unreadable"):
                documents.parse_manifest(json.dumps(document).encode(), "here")
            return
        assert documents.parse_manifest(json.dumps(document).encode(), "here").items == items
        for identifier, item in items.items():
            assert identifier == item.identifier == generate_identifier(item.relpath)
            assert item.size >= 0
            assert math.isfinite(item.utc_timestamp)

    @given(st.binary(max_size=30))
    @example(b"[" * 100_000)
    @example(b'{"items": {}')
    @example("{}".encode("utf-16"))
    @example(b"9" * 5000)
    def test_any_bytes_are_json_or_a_manifest_error(self, body: bytes) -> None:
        """A document cut short, of another encoding or nested without end is named as such."""
        with suppress(ManifestError):
            documents.parse_json(body, "bucket/manifest.json")
        with suppress(ManifestError):
            documents.parse_manifest(body, "bucket/manifest.json")

    def test_what_is_no_json_is_named(self) -> None:
        """The message names the key."""
        with pytest.raises(ManifestError, match=r"bucket/manifest\.json"):
            documents.parse_json(b'{"items": {', "bucket/manifest.json")
        with pytest.raises(ManifestError, match=r"manifest unreadable: bucket/manifest\.json"):
            documents.parse_manifest(b'{"items": {', "bucket/manifest.json")

    @pytest.mark.parametrize(
        ("document", "says"),
        [
            ([], "no items"),
            ({"items": []}, "no items"),
            ({"items": {generate_identifier("a"): {}}}, "incomplete"),
            ({"items": {generate_identifier("a"): "a"}}, "incomplete"),
            (manifest_with("a", size_in_bytes="many"), "incomplete"),
            (manifest_with("a", size_in_bytes=None), "incomplete"),
            (manifest_with("a", hash=None), "incomplete"),
            (manifest_with("a", size_in_bytes=-1), "does not belong"),
            ({"items": {generate_identifier("a"): entry("b")}}, "does not belong"),
            ({"items": {"../../x": entry("a")}}, "does not belong"),
        ],
    )
    def test_what_is_wrong_is_said(self, document: Any, says: str) -> None:
        """The message starts like the one for a manifest that is missing, and names the place."""
        with pytest.raises(ManifestError, match=says) as caught:
            documents.parse_manifest(json.dumps(document).encode(), "bucket/manifest.json")
        assert str(caught.value).startswith("manifest unreadable in bucket/manifest.json")


class TestAdministrativeMetadata:
    def test_the_body_is_the_authority(self) -> None:
        """User metadata is ASCII and may be stale or changed on its way: it is not looked at where the body is JSON."""
        other = {"type": "protodataset", "name": "other", "frozen_at": "1.0"}
        assert documents.parse_admin(json.dumps(ADMIN).encode(), other, "here") == ADMIN

    @pytest.mark.parametrize("body", [b"", b"dtool", b"0.3.0", b"0.3", b"null", b'"text"', b"\xff", b"[" * 100_000])
    def test_where_the_body_is_no_json_object_the_user_metadata_counts(self, body: bytes) -> None:
        """As before dtool-s3 0.4. Times are floats all the same, as `frozen_at` comes back as text."""
        metadata = {"type": "dataset", "name": "penguins", "uuid": UUID, "frozen_at": "1500000001.5", "created_at": "1"}
        admin = documents.parse_admin(body, metadata, "here")
        assert admin == {**metadata, "creator_username": "", "frozen_at": 1500000001.5, "created_at": 1.0}
        assert isinstance(admin["created_at"], float)

    def test_a_body_with_dashed_keys_is_read(self) -> None:
        """A peer that freezes on a RADOS Gateway writes its metadata keys into the body as the gateway spells them."""
        dashed = {key.replace("_", "-"): value for key, value in ADMIN.items()} | {"created-at": "1500000000.25"}
        assert documents.parse_admin(json.dumps(dashed).encode(), {}, "here") == ADMIN

    def test_a_key_in_both_spellings_counts_in_the_right_one(self) -> None:
        """What such a peer left behind does not hide what the format says."""
        both = {"frozen_at": 2.0, "frozen-at": "1.0", "type": "dataset"}
        for order in (both, dict(reversed(both.items()))):
            assert documents.parse_admin(json.dumps(order).encode(), {}, "here")["frozen_at"] == 2.0

    def test_what_a_peer_lost_is_empty_and_not_absent(self) -> None:
        """One dataset without a creator does not end the listing of a whole bucket."""
        admin = documents.parse_admin(b'{"type": "dataset", "name": null}', {}, "here")
        assert (admin["name"], admin["uuid"], admin["creator_username"]) == ("", "", "")

    @given(
        st.one_of(
            JSON,
            st.dictionaries(st.sampled_from([*ADMIN, "frozen-at", "created-at"]), JSON),
            st.fixed_dictionaries({"type": st.just("dataset")}, optional={"frozen_at": NUMBERS, "created_at": NUMBERS}),
        ),
        st.dictionaries(st.sampled_from(list(ADMIN)), st.text(max_size=5)),
    )
    @example({"type": "dataset", "name": "\ud800"}, {})
    @example({"type": "dataset", "frozen_at": HUGE}, {})
    @example({"type": "dataset", "frozen_at": math.nan}, {})
    @example(None, {"type": "dataset", "frozen_at": "inf"})
    def test_any_json_is_metadata_or_a_manifest_error(self, document: Any, metadata: dict[str, str]) -> None:
        """Whatever stands in the bucket, a reader gets a type, text and finite numbers, or the one error."""
        try:
            admin = documents.parse_admin(json.dumps(document).encode(), metadata, "here")
        except ManifestError:
            return
        assert all(isinstance(admin[key], str) for key in ("type", "name", "uuid", "creator_username"))
        admin["name"].encode("utf-8")
        times = [admin[key] for key in ("frozen_at", "created_at") if key in admin]
        assert all(isinstance(time, float) and math.isfinite(time) for time in times)

    @given(st.dictionaries(st.sampled_from(list(ADMIN)), st.one_of(st.text(st.characters(), max_size=20), NUMBERS)))
    def test_as_user_metadata_it_can_be_sent_in_headers(self, admin: dict[str, Any]) -> None:
        """ASCII on one line, no value empty: what every server takes."""
        for value in documents.admin_as_user_metadata(admin).values():
            assert value
            assert value.isascii()
            assert value.isprintable()
            assert value == value.strip()

    @pytest.mark.parametrize("much", ["x" * 5000, "ü" * 600, "日本 " * 500])
    def test_what_does_not_fit_into_user_metadata_is_no_error(self, much: str) -> None:
        """Stores take 2 KB: what older clients read is there, shortened at the worst; other fields are left out."""
        of_others = {"note": much, "größe": "1", "small": "kept"}
        metadata = documents.admin_as_user_metadata({**of_others, **ADMIN, "creator_username": much})
        assert sum(len(key) + len(value) for key, value in metadata.items()) <= 2048
        creator = metadata.pop("creator_username")
        assert len(creator) > 200
        expected = {key: str(value) for key, value in ADMIN.items() if key != "creator_username"}
        assert metadata == {**expected, "small": "kept"}
        everything = documents.admin_as_user_metadata(dict.fromkeys(ADMIN, much))
        assert everything.keys() == ADMIN.keys()

    def test_plain_values_are_user_metadata_as_older_clients_read_them(self) -> None:
        """dtool-s3 up to 0.14 reads nothing but this: names and times as they are, other letters escaped."""
        assert documents.admin_as_user_metadata(ADMIN) == {
            "uuid": UUID,
            "dtoolcore_version": "3.19.0",
            "name": "penguins",
            "type": "dataset",
            "creator_username": r"J\xf6rg M\xfcller",
            "created_at": "1500000000.25",
            "frozen_at": "1500000001.5",
        }


class TestRegistration:
    @pytest.mark.parametrize("prefix", ["", "u/olssont", "u/olssont/", "/u//x/", "Größe/", " "])
    def test_a_prefix_is_read_verbatim(self, prefix: str) -> None:
        """Slashes, spaces and letters of any kind: an older client glued it to the UUID as it stands."""
        assert documents.parse_prefix(prefix.encode(), "here") == prefix

    @pytest.mark.parametrize("body", [b"\xff", b"u/\n", b"u/\0", b"x" * 1025, b"\x1b[2J"])
    def test_what_is_no_prefix_is_an_error_that_names_the_key(self, body: bytes) -> None:
        """Something that is not the start of a key must not be asked for."""
        with pytest.raises(ManifestError, match="bucket/dtool-x"):
            documents.parse_prefix(body, "bucket/dtool-x")


def test_structure_says_that_handles_are_base64() -> None:
    """Readers compare the version with 0.14.0; all values are the key names that dtool-s3 writes."""
    structure = documents.structure(UUID)
    assert tuple(map(int, structure["storage_broker_version"].split("."))) >= (0, 14, 0)
    assert structure["dataset_registration_key"] == f"dtool-{UUID}"
    assert {key: value for key, value in structure.items() if key != "storage_broker_version"} == {
        "dataset_registration_key": f"dtool-{UUID}",
        "data_key_infix": "data",
        "fragment_key_infix": "fragments",
        "overlays_key_infix": "overlays",
        "annotations_key_infix": "annotations",
        "tags_key_infix": "tags",
        "structure_key_suffix": "structure.json",
        "dtool_readme_key_suffix": "README.txt",
        "dataset_readme_key_suffix": "README.yml",
        "manifest_key_suffix": "manifest.json",
        "admin_metadata_key_suffix": "dtool",
        "http_manifest_key": "http_manifest.json",
    }
