"""A bucket that somebody else can write to, and means harm: whatever stands in it, a user's machine is left alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dtool_ecs_flows import BucketSettings, copy_dataset, delete_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.settings import active
from tests.conftest import new_bucket
from tests.hostile import ESCAPES, FORGED, TEXTS, assert_harmless, refused_or_done, spoiled
from tests.independent import Raw, bucket_dataset, files_below, identifier, md5
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("impatient")]

few = settings(max_examples=6, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

CANARY = b"the user's own, and nobody else's"
CONTENTS = {"a.txt": b"one", "deep/b.csv": b"two"}
UUID = "5ac3b3a1-6e0f-4c7e-9c2b-0d7a9d1d6e42"

_watching: list[tuple[str, str]] | None = None
_EXECUTES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_TOUCHES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.utime")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is None:
        return
    if event in _EXECUTES:
        _watching.append((event, str(arguments[0])))
    elif event in _TOUCHES:
        _watching.extend((event, os.fsdecode(each)) for each in arguments if isinstance(each, (str, bytes)))


sys.addaudithook(_watch)


@dataclass
class Victim:
    """A user's machine: a home, a folder to copy into beside folders that matter, and a bucket that others write to."""

    bucket: BucketSettings
    other: BucketSettings
    third: BucketSettings
    raw: Raw
    home: Path
    out: Path

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Check that nothing is executed meanwhile, and no file of the user's is looked into or changed."""
        global _watching  # noqa: PLW0603  # an audit hook stays for ever
        allowed = tuple(os.path.realpath(each) + "/" for each in (self.out, self.home / ".cache" / "dtool"))
        mine = os.path.realpath(self.home.parent)
        before = self._mine()
        _watching = []
        try:
            yield
        finally:
            seen, _watching = _watching, None
        events = set(seen)  # a folder 750 deep is touched some thousand times
        assert [event for event in events if event[0] in _EXECUTES] == []
        paths = [(name, os.path.realpath(path)) for name, path in events if name in _TOUCHES and "\0" not in path]
        within = [each for each in paths if each[1].startswith(mine) and not (each[1] + "/").startswith(allowed)]
        # Settings are looked for, and folders made on the way to the cache.
        assert [path for name, path in within if "canary" in path or name not in ("open", "os.mkdir")] == []
        assert not [path for _, path in paths if "escaped" in path and not path.startswith(allowed)]
        assert self._mine() == before

    def _mine(self) -> dict[str, bytes]:
        left_out = (str(self.out.relative_to(self.home.parent)), "home/.cache")
        return {name: body for name, body in files_below(self.home.parent).items() if not name.startswith(left_out)}

    def uses(self, uuid: str, caplog: pytest.LogCaptureFixture) -> None:
        """Do all that a user may do with a dataset; what there is to see of it is harmless."""
        uri = f"{self.bucket.base_uri}/{uuid}"
        both = [self.bucket, self.other]
        caplog.clear()
        Raw(self.other).delete(*Raw(self.other).listed())
        shutil.rmtree(self.out)
        self.out.mkdir()
        with self.untouched():
            listing = refused_or_done(lambda: list_datasets(self.bucket.base_uri, tags=True, settings=both))
            assert listing is not None, "one dataset keeps no other from being listed"
            report = refused_or_done(lambda: verify_dataset(uri, settings=both))
            refused_or_done(lambda: copy_dataset(uri, str(self.out), settings=both))
            refused_or_done(lambda: copy_dataset(uri, self.other.base_uri, settings=both))
            with active(*both):
                refused_or_done(lambda: _read_all(uri), also=dtoolcore.DtoolCoreTypeError)
                refused_or_done(lambda: _freeze(uri), also=dtoolcore.DtoolCoreTypeError)
            name = next((info.name for info in listing.datasets if info.uuid == uuid), "")
            refused_or_done(lambda: delete_dataset(uri, name, settings=both))
        for text in (info.problem for info in listing.datasets if info.problem):
            assert_harmless(text)
        for finding in report.findings if report else ():
            assert_harmless(finding.message)
        for record in caplog.records:
            if record.name.startswith("dtool_ecs_flows"):
                assert_harmless(record.getMessage())
        assert all(CANARY not in body for body in files_below(self.out).values())
        listing.model_dump_json()
        assert report is None or report.model_dump_json()


def _read_all(uri: str) -> None:
    dataset = dtoolcore.DataSet.from_uri(uri)
    dataset.get_readme_content()
    for name in dataset.list_annotation_names():
        dataset.get_annotation(name)
    for name in dataset.list_overlay_names():
        dataset.get_overlay(name)
    dataset.list_tags()
    for each in dataset.identifiers:
        dataset.item_content_abspath(each)


def _freeze(uri: str) -> None:
    proto = dtoolcore.ProtoDataSet.from_uri(uri)
    proto.freeze()


@pytest.fixture
def victim(rgw: S3Server, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Victim:
    """The machine, with canaries everywhere around the folder that is copied into."""
    caplog.set_level("DEBUG")
    for folder in (tmp_path, home, tmp_path / "canary", tmp_path / "work"):
        folder.mkdir(exist_ok=True)
        (folder / "canary.txt").write_bytes(CANARY)
    out = tmp_path / "work" / "out"
    out.mkdir()
    bucket = new_bucket(rgw)
    return Victim(bucket, new_bucket(rgw), new_bucket(rgw), Raw(bucket), home, out)


def plant(raw: Raw, **objects: bytes) -> str:
    """Write a good dataset with an annotation and an overlay, but for these of its documents."""
    raw.delete(*raw.listed())
    uuid = bucket_dataset(raw, CONTENTS, uuid=UUID, tags=["raw"])
    raw.put(f"{uuid}/annotations/grant.json", b'{"n": 1, "list": [null, 2.5]}')
    raw.put(f"{uuid}/overlays/type.json", json.dumps({identifier(relpath): "x" for relpath in CONTENTS}).encode())
    for name, body in objects.items():
        raw.put(f"{uuid}/{name.replace('__', '/')}", body)
    return uuid


ADMIN = {
    "uuid": UUID,
    "dtoolcore_version": "3.19.0",
    "name": "penguins",
    "type": "dataset",
    "creator_username": "olssont",
    "created_at": 1700000000.5,
    "frozen_at": 1700000001.25,
}
MANIFEST = {
    "items": {
        identifier(relpath): {
            "relpath": relpath,
            "size_in_bytes": len(data),
            "hash": md5(data),
            "utc_timestamp": 1.5e9,
        }
        for relpath, data in CONTENTS.items()
    },
    "dtoolcore_version": "3.19.0",
    "hash_function": "md5sum_hexdigest",
}


def manifest_of(relpath: str, **changes: Any) -> bytes:
    entry = {"relpath": relpath, "size_in_bytes": 3, "hash": md5(b"one"), "utc_timestamp": 1.5e9, **changes}
    return json.dumps({**MANIFEST, "items": {identifier(relpath): entry}}).encode()


@few
@given(spoiled(MANIFEST))
@example(manifest_of("a.\0"))
@example(manifest_of("a.txt", hash="\ud800"))
@example(manifest_of("a.txt", size_in_bytes=10**17))
@example(manifest_of("gone.txt", size_in_bytes="9" * 4300))
@example(manifest_of("d/" * 749 + "x"))
@example(manifest_of(ESCAPES + FORGED))
@example(b'{"items": {}, "hash_function": "%s"}' % (b"x" * 500_000))
def test_a_manifest(victim: Victim, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """Whatever it says of names, sizes, hashes and times: listed, verified, copied, opened, deleted, or refused."""
    victim.uses(plant(victim.raw, **{"manifest.json": body}), caplog)


@few
@given(spoiled(ADMIN))
@example(json.dumps({**ADMIN, "a\r\nx-amz-acl: public-read": "1", ESCAPES: 1, "": 1, "ö": 1}).encode())
@example(json.dumps({**ADMIN, "name": ESCAPES, "creator_username": FORGED}).encode())
@example(json.dumps({**ADMIN, "more": "x" * 900_000}).encode())
def test_administrative_metadata(victim: Victim, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """Whatever it says of name, kind, UUID and times, or says besides: no header is slipped in."""
    victim.uses(plant(victim.raw, dtool=body), caplog)


@few
@given(
    st.sampled_from(["structure.json", "annotations/grant.json", "overlays/type.json", "http_manifest.json"]),
    spoiled({"grant": {"n": 1, "list": [None, 2.5, "x"]}}),
)
@example("annotations/grant.json", b"[" * 300 + b"]" * 300)
@example("annotations/grant.json", b"[" * 950 + b"]" * 950)
@example("overlays/type.json", b'{"a":' * 400 + b"1" + b"}" * 400)
def test_any_other_document(victim: Victim, caplog: pytest.LogCaptureFixture, name: str, body: bytes) -> None:
    """Nested without end, of another kind, no JSON at all: found by a verification, and no copy stumbles over it."""
    victim.uses(plant(victim.raw, **{name: body}), caplog)


@few
@example("data/{}", ESCAPES)
@example("data/{}", FORGED)
@example("tags/{}", ESCAPES)
@example("annotations/{}.json", FORGED)
@example("overlays/{}.json", ESCAPES)
@given(
    st.sampled_from(["tags/{}", "annotations/{}.json", "overlays/{}.json", "fragments/{}.json", "data/{}", "{}"]),
    st.sampled_from(TEXTS),
)
def test_a_key(victim: Victim, caplog: pytest.LogCaptureFixture, form: str, text: str) -> None:
    """Names that no dtool client gives to a tag, an overlay, an annotation or an item."""
    uuid = plant(victim.raw)
    try:
        victim.raw.put(f"{uuid}/{form.format(text)}", b"{}")
    except (BotoCoreError, ClientError, UnicodeError):  # no store takes it
        return
    victim.uses(uuid, caplog)


@few
@given(st.one_of(st.sampled_from(TEXTS).map(lambda t: t.encode("utf-8", "surrogatepass")), st.binary(max_size=20)))
@example(b"../{other}/")
@example(b"a/../../{other}/")
def test_a_registration_key(victim: Victim, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """Wherever it says that the dataset is: no other bucket is looked into, and none is deleted from."""
    uuid = plant(victim.raw)
    victim.raw.put(f"dtool-{uuid}", body.replace(b"{other}", victim.third.bucket.encode()))
    third = Raw(victim.third)
    third.put(f"{uuid}/tags/precious", CANARY)
    victim.uses(uuid, caplog)
    assert third.listed() == [f"{uuid}/tags/precious"]


@few
@given(st.sampled_from(TEXTS), st.booleans())
def test_a_handle(victim: Victim, caplog: pytest.LogCaptureFixture, text: str, right: bool) -> None:
    """An item of a proto dataset that claims to be called anything, its identifier right or wrong."""
    admin = {key: value for key, value in ADMIN.items() if key != "frozen_at"} | {"type": "protodataset"}
    uuid = plant(victim.raw, dtool=json.dumps(admin).encode())
    name = text.encode("utf-8", "replace")
    key = identifier(name.decode()) if right else "0" * 40
    metadata = {"handle": base64.b64encode(name).decode(), "checksum": md5(b"1") if right else ESCAPES}
    try:
        victim.raw.put(f"{uuid}/data/{key}", b"1", metadata)
    except (BotoCoreError, ClientError, ValueError):  # too long, or no header
        return
    victim.uses(uuid, caplog)


def test_metadata_that_says_what_a_body_should(victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    """Where the body is no JSON, user metadata counts: with the same care."""
    for name in ("../../escaped", "x" * 1500, r"\x1b[2J", "=?UTF-8?B?G1sySg==?="):
        uuid = plant(victim.raw)
        metadata = {key: str(value) for key, value in ADMIN.items()} | {"name": name, "created_at": "nan"}
        victim.raw.put(f"{uuid}/dtool", b"dtool", metadata)
        victim.uses(uuid, caplog)
