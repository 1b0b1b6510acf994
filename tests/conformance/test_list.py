"""Listing the datasets of a bucket, or of a folder."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from dtool_ecs_flows import BucketSettings, iter_datasets, list_datasets
from dtool_ecs_flows.errors import NoSuchBucketError, NotADatasetError, SettingsError, StoppedError, UnsafeNameError
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset, disk_dataset, disk_path
from tests.proxy import Request, proxied

NOBODY = "00000000-0000-0000-0000-000000000000"


def test_a_line_tells_what_there_is_to_know(bucket: BucketSettings) -> None:
    """Name, UUID, URI, type, creator, and when, as numbers; tags are not asked for."""
    uuid = bucket_dataset(Raw(bucket), {"a": b"1"}, admin={"creator_username": "Jörg"})

    listed = list_datasets(bucket.base_uri, settings=bucket)

    (info,) = listed.datasets
    assert (info.name, info.uuid, info.uri) == ("penguins", uuid, f"{bucket.base_uri}/{uuid}")
    assert (info.type, info.creator_username, info.problem) == ("dataset", "Jörg", "")
    assert (info.created_at, info.frozen_at) == (1700000000.5, 1700000001.25)
    assert info.tags is None
    assert (listed.base_uri, listed.orphans, len(listed)) == (bucket.base_uri, (), 1)


def test_an_empty_bucket_has_no_datasets(bucket: BucketSettings) -> None:
    """Nothing there is no error."""
    assert list_datasets(bucket.base_uri, settings=bucket).datasets == ()


def test_tags_are_listed_when_asked_for(bucket: BucketSettings) -> None:
    """Sorted, with their dots; a dataset without any has an empty tuple."""
    raw = Raw(bucket)
    bucket_dataset(raw, name="a", tags=["v1.2", "raw"])
    bucket_dataset(raw, name="b", prefix="u/")

    listed = list_datasets(bucket.base_uri, settings=bucket, tags=True)

    assert [info.tags for info in listed.datasets] == [("raw", "v1.2"), ()]


def test_datasets_come_sorted_by_name(bucket: BucketSettings) -> None:
    """The same listing each time: by name, and by UUID where names are the same."""
    raw = Raw(bucket)
    for name in ("b", "a", "c", "b"):
        bucket_dataset(raw, name=name)

    found = [(info.name, info.uuid) for info in list_datasets(bucket.base_uri, settings=bucket).datasets]

    assert [name for name, _ in found] == ["a", "b", "b", "c"]
    assert found == sorted(found)


def test_prefixes_are_read_as_they_stand(bucket: BucketSettings) -> None:
    """Whatever prefix a registration key says, odd ones of other clients included, there the dataset is."""
    raw = Raw(bucket)
    prefixes = ["", "u/olssont/", "u/olssont", "u/örsted/", "a b+c%20/", "u/hartley/"]
    for number, prefix in enumerate([*prefixes, *prefixes]):
        bucket_dataset(raw, {"a": b"1"}, name=f"{number:02}", prefix=prefix)
    mine = bucket.model_copy(update={"dataset_prefix": "u/olssont/"})

    for settings in (bucket, mine):
        listed = list_datasets(bucket.base_uri, settings=settings)
        assert [info.name for info in listed.datasets] == [f"{number:02}" for number in range(12)]
        assert {info.problem for info in listed.datasets} == {""}


def test_a_proto_dataset_is_told_apart(bucket: BucketSettings) -> None:
    """It has no time of freezing, even where another client's copy carried one along."""
    bucket_dataset(Raw(bucket), admin={"type": "protodataset"})

    (info,) = list_datasets(bucket.base_uri, settings=bucket).datasets

    assert (info.type, info.frozen_at) == ("protodataset", None)


def test_a_registration_without_dataset_is_an_orphan(bucket: BucketSettings) -> None:
    """It is told apart from datasets, and keeps none of them from being listed."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw)
    raw.put(f"dtool-{NOBODY}", b"")
    raw.put(f"dtool-{NOBODY[:-1]}1", b"u/gone/")

    listed = list_datasets(bucket.base_uri, settings=bucket, tags=True)

    assert [info.uuid for info in listed.datasets] == [uuid]
    assert listed.orphans == (NOBODY, f"{NOBODY[:-1]}1")


@pytest.mark.parametrize(
    "body",
    [b"", b"no JSON", b"[]", b"{}", b'{"name": "penguins", "uuid": 7}', b'{"type": 7}', b"\xff\xfe", b"[" * 100000],
    ids=repr,
)
def test_metadata_that_cannot_be_read_is_a_problem_of_one_line(bucket: BucketSettings, body: bytes) -> None:
    """The dataset is listed with what is wrong with it, and the others as ever."""
    raw = Raw(bucket)
    good, bad = bucket_dataset(raw), bucket_dataset(raw)
    raw.put(f"{bad}/dtool", body)

    listed = list_datasets(bucket.base_uri, settings=bucket)

    problems = {info.uuid: info.problem for info in listed.datasets}
    assert problems[good] == ""
    assert "unreadable" in problems[bad]
    assert bad in problems[bad]


def test_a_type_that_does_not_exist_is_a_problem_too(rclone_bucket: BucketSettings) -> None:
    """Neither frozen nor proto: nobody should take it for either."""
    bucket_dataset(Raw(rclone_bucket), admin={"type": "datasett"})

    (info,) = list_datasets(rclone_bucket.base_uri, settings=rclone_bucket).datasets

    assert (info.type, "datasett" in info.problem) == ("", True)


@pytest.mark.parametrize("body", [b"\xff", b"u/\0/", b"x" * 5000, b"a\nb"], ids=lambda body: repr(body[:9]))
def test_a_registration_that_holds_no_prefix_is_a_problem_of_one_line(bucket: BucketSettings, body: bytes) -> None:
    """Whatever someone wrote into a registration key, the others are listed."""
    raw = Raw(bucket)
    good = bucket_dataset(raw)
    raw.put(f"dtool-{NOBODY}", body)

    listed = list_datasets(bucket.base_uri, settings=bucket)

    assert {info.uuid: bool(info.problem) for info in listed.datasets} == {good: False, NOBODY: True}


def test_other_keys_of_the_bucket_are_not_looked_at(bucket: BucketSettings) -> None:
    """Only `dtool-` and a UUID is a registration key."""
    raw = Raw(bucket)
    uuid = bucket_dataset(raw, prefix="dtool-things/")
    others = ["dtool", "dtool-", "dtool-notes.txt", f"dtool-{NOBODY}.bak", f"dtool-{NOBODY[:-1]}", f"dtool-x{NOBODY}"]
    for key in [*others, f"dtool-{NOBODY}/nested", f"other-dtool-{NOBODY}", "dtool_ecs", f"x/dtool-{NOBODY}"]:
        raw.put(key, b"")

    listed = list_datasets(bucket.base_uri, settings=bucket)

    assert [info.uuid for info in listed.datasets] == [uuid]
    assert listed.orphans == ()


def test_metadata_of_old_and_odd_clients_is_read(bucket: BucketSettings) -> None:
    """Times as text, and metadata beside an empty body, as older clients and gateways left it."""
    raw = Raw(bucket)
    as_text = bucket_dataset(raw, name="a", admin={"created_at": "1700000000.5", "frozen_at": "1700000001.25"})
    outside = bucket_dataset(raw, name="b")
    admin = {key: str(value) for key, value in raw.json(f"{outside}/dtool").items()}
    raw.put(f"{outside}/dtool", b"", {**admin, "name": "b"})

    listed = list_datasets(bucket.base_uri, settings=bucket).datasets

    assert [(info.uuid, info.created_at, info.frozen_at, info.problem) for info in listed] == [
        (as_text, 1700000000.5, 1700000001.25, ""),
        (outside, 1700000000.5, 1700000001.25, ""),
    ]


def test_a_dataset_that_is_deleted_meanwhile_hides_no_other(rclone_bucket: BucketSettings) -> None:
    """Between the page that names it and the look into its registration key somebody may delete it."""
    raw = Raw(rclone_bucket)
    uuids = sorted(bucket_dataset(raw, prefix="u/somebody/") for _ in range(4))
    gone: list[str] = []

    def delete_first(request: Request) -> None:
        if "/dtool-" in request.target:
            gone.append(request.target.rpartition("/dtool-")[2])
            raw.delete(*[key for key in raw.listed() if gone[0] in key])

    with proxied(rclone_bucket.endpoint) as proxy:
        proxy.on().call(delete_first)
        listed = list_datasets(rclone_bucket.base_uri, settings=changed(rclone_bucket, endpoint=proxy.endpoint))

    assert gone
    assert sorted(info.uuid for info in listed.datasets) == [uuid for uuid in uuids if uuid != gone[0]]


@pytest.mark.parametrize("form", ["{base}", "{base}/"])
def test_a_base_uri_may_end_with_a_slash(rclone_bucket: BucketSettings, form: str) -> None:
    """Both forms name the bucket, and the report has the plain one."""
    bucket_dataset(Raw(rclone_bucket))

    listed = list_datasets(form.format(base=rclone_bucket.base_uri), settings=rclone_bucket)

    assert (len(listed), listed.base_uri) == (1, rclone_bucket.base_uri)


def test_what_is_no_base_uri_is_refused(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """The URI of a dataset, a path in a bucket, an unknown scheme, missing settings, a missing bucket: each is told."""
    base = rclone_bucket.base_uri
    uuid = bucket_dataset(Raw(rclone_bucket))
    with pytest.raises(NotADatasetError, match="URI of a dataset"):
        list_datasets(f"{base}/{uuid}", settings=rclone_bucket)
    with pytest.raises(UnsafeNameError, match="DATASET_PREFIX"):
        list_datasets(f"{base}/u/olssont", settings=rclone_bucket)
    with pytest.raises(NotADatasetError, match="gopher"):
        list_datasets("gopher://hole")
    with pytest.raises(SettingsError, match=f"DTOOL_ECS_ENDPOINT_{rclone_bucket.bucket}"):
        list_datasets(base)
    missing = rclone_bucket.model_copy(update={"bucket": "missing"})
    with pytest.raises(NoSuchBucketError, match="'missing'"):
        list_datasets("ecs://missing", settings=missing)


# --- folders ---


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "{path}/"])
def test_the_datasets_of_a_folder_are_listed_alike(tmp_path: Path, form: str) -> None:
    """Frozen and not, with their tags; what is no dataset is passed over."""
    folder = tmp_path / "datasets"
    frozen = disk_dataset(folder, {"a": b"1"}, name="a", tags=["raw"])
    disk_dataset(folder, {"a": b"1"}, name="b", freeze=False, tags=[])
    (folder / "notes").mkdir()

    listed = list_datasets(form.format(path=folder), tags=True)

    first, second = listed.datasets
    assert (first.uri, first.name, first.type, first.tags, first.creator_username) == (
        frozen,
        "a",
        "dataset",
        ("raw",),
        "Jörg",
    )
    assert first.frozen_at is not None
    assert first.uuid == json.loads((disk_path(frozen) / ".dtool" / "dtool").read_text())["uuid"]
    assert (second.name, second.type, second.tags, second.frozen_at) == ("b", "protodataset", (), None)


def test_a_broken_dataset_in_a_folder_is_a_problem_of_one_line(tmp_path: Path) -> None:
    """The others are listed as ever."""
    disk_dataset(tmp_path, {"a": b"1"}, name="good")
    for number, body in enumerate(["", "[]", "{}", '{"type": "dataset"}', "null"]):
        broken = disk_path(disk_dataset(tmp_path, {"a": b"1"}, name=f"broken{number}"))
        (broken / ".dtool" / "dtool").write_text(body)

    listed = list_datasets(str(tmp_path), tags=True)

    assert [info.name for info in listed.datasets if not info.problem] == ["good"]
    assert len(listed) == 6


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It is not taken for an empty one; who forgot the scheme of a bucket is told."""
    with pytest.raises(NotADatasetError, match=r"nowhere$"):
        list_datasets(str(tmp_path / "nowhere"))
    with pytest.raises(NotADatasetError, match=r"is ecs://my-bucket$"):
        list_datasets("my-bucket")


def test_a_listing_can_be_stopped(rclone_bucket: BucketSettings, tmp_path: Path) -> None:
    """Of a bucket and of a folder; half a listing is none."""
    bucket_dataset(Raw(rclone_bucket))
    disk_dataset(tmp_path, {"a": b"1"})
    stop = threading.Event()
    stop.set()

    for base_uri in (rclone_bucket.base_uri, str(tmp_path)):
        with pytest.raises(StoppedError):
            list_datasets(base_uri, settings=rclone_bucket, stop=stop)


def test_one_after_the_other_they_are_those_of_the_list(bucket: BucketSettings, tmp_path: Path) -> None:
    """Without the UUIDs that stand alone, in whatever order; a folder too."""
    raw = Raw(bucket)
    for name in ("a", "b", "c"):
        bucket_dataset(raw, name=name, prefix="u/", tags=["raw"])
    raw.put(f"dtool-{NOBODY}", b"")
    disk_dataset(tmp_path, {"a": b"1"})

    for base_uri in (bucket.base_uri, str(tmp_path)):
        found = list(iter_datasets(base_uri, settings=bucket, tags=True))
        assert found
        assert sorted(found, key=str) == sorted(list_datasets(base_uri, settings=bucket, tags=True).datasets, key=str)


def test_what_is_left_early_is_not_read(rclone_bucket: BucketSettings) -> None:
    """A program that has found what it looks for closes the iteration; a few datasets are read ahead of it."""
    raw = Raw(rclone_bucket)
    for number in range(20):
        bucket_dataset(raw, name=f"{number}")

    with proxied(rclone_bucket.endpoint) as proxy:
        settings = changed(rclone_bucket, endpoint=proxy.endpoint)
        found = iter_datasets(settings.base_uri, settings=settings, concurrency=2)
        assert next(found).type == "dataset"
        found.close()

        assert len(proxy.requests) <= 1 + 2 * 2 + 2
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("dtool-ecs-item")]


def test_a_wrong_base_uri_is_told_before_the_first_is_asked_for(rclone_bucket: BucketSettings) -> None:
    """Where it was called, not somewhere in a loop."""
    with pytest.raises(NotADatasetError):
        iter_datasets(f"{rclone_bucket.base_uri}/{NOBODY}", settings=rclone_bucket)
