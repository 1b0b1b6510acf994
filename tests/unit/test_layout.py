"""Names, keys and handles: pure functions, so most of this is said of every input there is."""

from __future__ import annotations

import base64
import os
import uuid as uuids
from pathlib import Path

import dtoolcore.utils
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import UnsafeNameError
from dtool_ecs_flows.layout import DatasetKeys

UUID = "5ac3b3a1-6e0f-4c7e-9c2b-0d7a9d1d6e42"
KEYS = DatasetKeys("u/olssont/", UUID)

IDENTIFIER = "09a62d2dcd900b1d2da88021afb07884731b8656"  # sha1sum of a/b.txt
ROOT = f"u/olssont/{UUID}"
TABLE = {
    KEYS.registration: f"dtool-{UUID}",
    KEYS.admin_metadata: f"{ROOT}/dtool",
    KEYS.readme: f"{ROOT}/README.yml",
    KEYS.readme_backup(1.5e9): f"{ROOT}/README.yml-1500000000.0",
    KEYS.dtool_readme: f"{ROOT}/README.txt",
    KEYS.structure: f"{ROOT}/structure.json",
    KEYS.manifest: f"{ROOT}/manifest.json",
    KEYS.item(layout.identifier_of("a/b.txt")): f"{ROOT}/data/{IDENTIFIER}",
    KEYS.fragment(IDENTIFIER, "v1.2"): f"{ROOT}/fragments/{IDENTIFIER}.v1.2.json",
    KEYS.overlay("v1.2"): f"{ROOT}/overlays/v1.2.json",
    KEYS.annotation("v1.2"): f"{ROOT}/annotations/v1.2.json",
    KEYS.tag("v1.2"): f"{ROOT}/tags/v1.2",
    KEYS.http_manifest: f"{ROOT}/http_manifest.json",
}
"""Each key as the code makes it, and as the format's table has it."""

ANY_TEXT = st.text(st.characters(), max_size=60)
"""Any code points at all: surrogates, NUL and line ends too."""

PATH_LIKE = st.lists(
    st.sampled_from(["/", "\\", "..", ".", "a", "é", "e\u0301", " ", "\n", "..a", "C:", "\0", "🐧", "dtool"]),
    max_size=8,
).map("".join)


class TestUris:
    @pytest.mark.parametrize(
        ("uri", "parts"),
        [
            ("ecs://my-bucket", ("my-bucket", "")),
            ("ecs://my-bucket/", ("my-bucket", "")),
            (f"ecs://my-bucket/{UUID}", ("my-bucket", UUID)),
            (f"ecs://my-bucket/{UUID}/", ("my-bucket", UUID)),
            (f"ecs://My_Bucket.2024/{UUID.upper()}", ("My_Bucket.2024", UUID.upper())),
        ],
    )
    def test_a_uri_is_a_bucket_and_a_uuid(self, uri: str, parts: tuple[str, str]) -> None:
        """Bucket names keep their capitals, dots and underscores; a slash at the end changes nothing."""
        assert layout.parse_uri(uri) == parts

    @pytest.mark.parametrize("path", ["folder", "u/olssont", f"u/{UUID}", f"{UUID}/data", f"{UUID}x", "..", "dtool-x"])
    def test_a_path_in_a_base_uri_is_refused_and_the_setting_named(self, path: str) -> None:
        """What other clients drop in silence is an error that says where a prefix belongs."""
        with pytest.raises(UnsafeNameError, match="DTOOL_ECS_DATASET_PREFIX_my-bucket"):
            layout.parse_uri(f"ecs://my-bucket/{path}")

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "my-bucket",
            "s3://my-bucket",
            "ecs://",
            f"ecs:///{UUID}",
            "ecs://user:secret@my-bucket",
            "ecs://my-bucket:9020",
            "ecs://my-bucket?x=1",
            "ecs://my-bucket#x",
            "ecs://my bucket",
            "ecs://my-bück",
            "ecs://-bucket",
            "ecs://[my-bucket",
            "ecs://my-buck\net",
            f"ecs://my-bucket/{UUID}\n",
        ],
    )
    def test_anything_else_is_refused(self, uri: str) -> None:
        """A URI that would be read as another bucket, or with credentials in it, is no URI."""
        with pytest.raises(UnsafeNameError):
            layout.parse_uri(uri)

    @given(st.one_of(ANY_TEXT, ANY_TEXT.map("ecs://".__add__), PATH_LIKE.map("ecs://bucket/".__add__)))
    def test_no_text_makes_it_fail_in_another_way(self, uri: str) -> None:
        """Either the parts come back, fit to be used as they are, or the one error that is promised."""
        try:
            bucket, uuid = layout.parse_uri(uri)
        except UnsafeNameError:
            return
        assert layout.parse_uri(layout.dataset_uri(bucket, uuid) if uuid else layout.base_uri(bucket)) == (bucket, uuid)
        assert uri.rstrip("/").endswith(uuid or bucket)

    @given(st.uuids())
    def test_what_is_made_is_read(self, uuid: uuids.UUID) -> None:
        """URIs and registration keys of any UUID lead back to it."""
        assert layout.parse_uri(layout.dataset_uri("b", str(uuid))) == ("b", str(uuid))
        assert layout.registered_uuid(layout.registration_key(str(uuid))) == str(uuid)


class TestRegistrationKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "dtool-",
            "dtool",
            "dtool-readme.txt",
            f"dtool-{UUID}/",
            f"dtool-{UUID}x",
            f"xdtool-{UUID}",
            UUID,
            f"dtool-{UUID}\n",
        ],
    )
    def test_only_dtool_and_a_uuid_counts(self, key: str) -> None:
        """Other people's keys may start with dtool as well."""
        assert layout.registered_uuid(key) is None


class TestKeys:
    def test_the_table_of_the_format(self) -> None:
        """Every key is where every other dtool client looks for it."""
        assert {key: key for key in TABLE} == TABLE

    def test_a_prefix_is_taken_verbatim(self) -> None:
        """Whatever a registration key of an older client says is glued to the UUID as it stands."""
        assert DatasetKeys("u/olssont", UUID).manifest == f"u/olssont{UUID}/manifest.json"
        assert DatasetKeys("", UUID).manifest == f"{UUID}/manifest.json"

    def test_the_registration_key_stands_at_the_top(self) -> None:
        """Listing one prefix of the bucket finds all datasets, wherever they are."""
        assert KEYS.registration == DatasetKeys("", UUID).registration

    def test_all_keys_of_a_dataset_are_known_as_such_and_no_other(self) -> None:
        """Deleting a dataset leaves alone what no dtool client has written."""
        assert all(KEYS.is_known(key) for key in TABLE if key != KEYS.registration)
        assert not KEYS.is_known(f"{KEYS.root}notes.txt")
        assert not KEYS.is_known(f"{KEYS.root}dtool.bak")
        assert not KEYS.is_known("data/of-another-program")
        assert not KEYS.is_known("manifest.json")

    @given(st.from_regex(r"[0-9a-zA-Z_.-]{1,80}", fullmatch=True))
    def test_any_name_comes_back_from_its_key(self, name: str) -> None:
        """One known suffix is stripped and no more: `v1.2` and `x.json` come back as they are."""
        identifier = layout.identifier_of("a")
        assert layout.name_from_key(KEYS.overlay(name), KEYS.overlays, ".json") == name
        assert layout.name_from_key(KEYS.annotation(name), KEYS.annotations, ".json") == name
        assert layout.name_from_key(KEYS.tag(name), KEYS.tags) == name
        assert layout.fragment_from_key(KEYS.fragment(identifier, name), KEYS.fragments) == (identifier, name)

    @pytest.mark.parametrize("name", ["", ".json", "folder/x.json", "x.txt", "x"])
    def test_what_no_client_writes_has_no_name(self, name: str) -> None:
        """A marker of the folder, a key below it and another suffix are no overlay."""
        assert layout.name_from_key(KEYS.overlays + name, KEYS.overlays, ".json") is None

    @pytest.mark.parametrize("name", ["", "x", "x.json", "x..json", ".json", "a/b.c.json"])
    def test_what_is_no_fragment_is_passed_over(self, name: str) -> None:
        """Metadata of an item has an identifier and a name."""
        assert layout.fragment_from_key(KEYS.fragments + name, KEYS.fragments) is None


class TestNames:
    @pytest.mark.parametrize("name", ["a", "v1.2", "A_b-c", "x" * 80])
    def test_what_dtool_allows_is_allowed(self, name: str) -> None:
        """Letters, digits, dash, underscore and dot."""
        assert layout.check_name(name, "tag") == name

    @pytest.mark.parametrize("name", ["", "x" * 81, "a b", "a/b", "Größe", "a\n", "a\0"])
    def test_what_it_does_not_is_refused_by_name(self, name: str) -> None:
        """The message says what the name is of, and what may be in one."""
        with pytest.raises(UnsafeNameError, match="tag") as caught:
            layout.check_name(name, "tag")
        assert repr(name) in str(caught.value)


class TestRelpaths:
    @pytest.mark.parametrize(
        ("relpath", "says"),
        [
            ("", "empty"),
            ("/etc/passwd", "absolute"),
            ("../x", "leaves"),
            ("a/../../x", "leaves"),
            ("a/..", "leaves"),
            ("a\\..\\x", "leaves"),
            ("..\\x", "leaves"),
            ("a\0b", "NUL"),
            ("\ud800", "UTF-8"),
            ("é" * 751, "1502 bytes"),
        ],
    )
    def test_what_must_not_be_stored_is_refused_with_its_reason(self, relpath: str, says: str) -> None:
        """The message names the relpath and what is wrong with it, and can itself be printed."""
        with pytest.raises(UnsafeNameError, match=says) as caught:
            layout.check_relpath(relpath)
        assert repr(relpath) in str(caught.value)
        str(caught.value).encode("utf-8")

    @pytest.mark.parametrize(
        "relpath", ["..a", "a..", "a/...", " a ", ".hidden", "a\nb", "🐧", "x" * 1500, "a//b", "C:x"]
    )
    def test_what_is_merely_odd_is_allowed(self, relpath: str) -> None:
        """A bucket holds any name; what a disk cannot hold is refused on the way to that disk."""
        assert layout.check_relpath(relpath) == relpath

    @given(st.one_of(ANY_TEXT, PATH_LIKE))
    @example("a/b\\..")
    @example("é" * 750)
    def test_what_passes_comes_back_exactly_and_stays_inside(self, relpath: str) -> None:
        """Through the metadata of an object and back, and joined to a folder on a POSIX disk or a Windows one."""
        try:
            layout.check_relpath(relpath)
        except UnsafeNameError:
            return
        identifier = layout.identifier_of(relpath)
        metadata = layout.item_metadata(relpath, "0" * 32)
        assert layout.relpath_from_handle(metadata["handle"], identifier) == relpath
        assert all(value.isascii() and value.isprintable() for value in metadata.values())
        assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
        assert Path(os.path.normpath(f"/folder/{relpath}")).is_relative_to("/folder")
        assert ".." not in relpath.replace("\\", "/").split("/")


class TestHandles:
    @given(st.text(min_size=1, max_size=40))
    def test_plain_and_base64_are_both_read(self, relpath: str) -> None:
        """The right reading is the one whose sha1 is the key's identifier, whoever wrote it."""
        identifier = layout.identifier_of(relpath)
        encoded = base64.b64encode(relpath.encode()).decode()
        assert layout.relpath_from_handle(relpath, identifier) == relpath
        assert layout.relpath_from_handle(encoded, identifier) == relpath

    def test_a_plain_name_that_looks_like_base64_stays_what_it_is(self) -> None:
        """`YWJj` may be a file of this name, or `abc`: only the identifier knows."""
        assert layout.relpath_from_handle("YWJj", layout.identifier_of("YWJj")) == "YWJj"
        assert layout.relpath_from_handle("YWJj", layout.identifier_of("abc")) == "abc"

    @given(ANY_TEXT)
    def test_a_handle_of_another_item_is_no_handle(self, handle: str) -> None:
        """Whatever stands there, only what the identifier proves is taken, and nothing makes it fail."""
        assert layout.relpath_from_handle(handle, "0" * 40) is None


def test_an_extension_never_makes_a_file_name_too_long() -> None:
    """A cached or staged file keeps the extension that programs go by, unless no disk could hold its name."""
    assert layout.extension_of("a.b/table.tar.gz") == ".gz"
    assert layout.extension_of("a.b/README") == ""
    assert layout.extension_of("x." + "ü" * 100) == ""


def test_keys_of_names_that_dtool_allows_fit_into_an_ecs() -> None:
    """Some versions take 255 characters: a prefix may have 82 of them, whatever overlays and annotations are called."""
    name, item = "n" * dtoolcore.utils.MAX_NAME_LENGTH, "0" * 40
    keys = DatasetKeys("p" * 81 + "/", UUID)
    made = [keys.fragment(item, name), keys.overlay(name), keys.annotation(name), keys.tag(name), keys.item(item)]
    assert max(map(len, made)) == 255
