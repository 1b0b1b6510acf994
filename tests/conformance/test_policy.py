"""The access policy that goes with a prefix: read everything, write registration keys and below one's own prefix."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import (
    BucketSettings,
    Progress,
    copy_dataset,
    create_dataset,
    delete_dataset,
    list_datasets,
    new_dataset,
    verify_dataset,
)
from dtool_ecs_flows.errors import AccessDeniedError, StoppedError
from dtool_ecs_flows.settings import active
from tests.conformance.helpers import changed
from tests.independent import CONTENTS, MIB, Raw, bucket_dataset, disk_dataset, everything, identifier, noise
from tests.policies import as_user, set_policy
from tests.proxy import Answer, proxied
from tests.servers import S3Server


@pytest.fixture(scope="module")
def user(rgw: S3Server) -> str:
    """A user of the gateway who is not the owner of the bucket."""
    name = f"olssont-{uuid.uuid4().hex[:8]}"
    rgw.add_user(name, name, "user-secret")
    return name


@pytest.fixture(params=["with comforts", "without comforts"])
def mine(request: pytest.FixtureRequest, rgw_bucket: BucketSettings, user: str) -> BucketSettings:
    """The bucket as this user sees it, under the shipped policy, with and without its three multipart comforts."""
    set_policy(rgw_bucket, user, comforts=request.param == "with comforts")
    return as_user(rgw_bucket, user)


@pytest.fixture
def bare(rgw_bucket: BucketSettings, user: str) -> BucketSettings:
    """The same without the comforts only."""
    set_policy(rgw_bucket, user, comforts=False)
    return as_user(rgw_bucket, user)


def test_the_policy_binds(rgw_bucket: BucketSettings, bare: BucketSettings) -> None:
    """What the other tests rest on: with plain boto3 this user reads everything, and writes where it may."""
    owner, raw = Raw(rgw_bucket), Raw(bare)
    owner.put("elsewhere", b"1")

    assert raw.get("elsewhere") == b"1"
    raw.put(f"{bare.dataset_prefix}mine", b"1")
    with pytest.raises(raw.client.exceptions.ClientError, match="AccessDenied"):
        raw.put("elsewhere", b"2")


def test_a_user_does_a_days_work_below_the_prefix(
    rgw_bucket: BucketSettings, mine: BucketSettings, tmp_path: Path
) -> None:
    """Create, copy in, list, verify, describe better, tag, copy out, delete: all of it works, large items included."""
    owner, raw = (
        Raw(rgw_bucket),
        Raw(mine),
    )  # an object belongs to who wrote it: the owner may only list it
    (tmp_path / "large").write_bytes(noise(20 * MIB))
    source = disk_dataset(tmp_path / "in", CONTENTS, name="copied")

    made = create_dataset("made", mine.base_uri, files={"large": tmp_path / "large"}, settings=mine)
    copied = copy_dataset(source, mine.base_uri, settings=mine)

    for report in (made, copied):
        assert raw.is_frozen(report.uuid, mine.dataset_prefix)
        assert raw.get(f"dtool-{report.uuid}").decode() == mine.dataset_prefix
        assert verify_dataset(report.uri, settings=mine).ok
    listed = list_datasets(mine.base_uri, settings=mine, tags=True).datasets
    assert [(info.name, info.type, info.tags) for info in listed] == [
        ("copied", "dataset", ("raw", "v1.2")),
        ("made", "dataset", ()),
    ]

    with active(mine):
        dataset = dtoolcore.DataSet.from_uri(copied.uri)
        dataset.put_readme("---\ndescription: better\n")
        dataset.put_tag("described")
        dataset.put_annotation("grant", 3)
    root = f"{mine.dataset_prefix}{copied.uuid}"
    assert raw.get(f"{root}/README.yml") == b"---\ndescription: better\n"
    assert len(owner.listed(f"{root}/README.yml-")) == 1
    assert f"{root}/tags/described" in owner.listed(f"{root}/tags/")

    (tmp_path / "out").mkdir()
    back = everything(copy_dataset(made.uri, str(tmp_path / "out"), settings=mine).uri)
    assert back["bytes"] == {identifier("large"): noise(20 * MIB)}

    for report in (made, copied):
        delete_dataset(report.uri, report.name, settings=mine)
    assert owner.listed() == []
    assert owner.uploads() == []


@pytest.mark.parametrize("prefix", ["", "u/somebody-else/", "top/"])
@pytest.mark.parametrize("how", ["copy", "create", "writer", "dtoolcore", "DataSetCreator", "dtoolcore.copy"])
def test_writing_elsewhere_is_refused_and_leaves_nothing_behind(
    rgw_bucket: BucketSettings, bare: BucketSettings, tmp_path: Path, prefix: str, how: str
) -> None:
    """The error names the key and the policy and the setting to correct; not even a registration key is left."""
    astray = bare.model_copy(update={"dataset_prefix": prefix})
    owner = Raw(rgw_bucket)
    bucket_dataset(owner, {"a": b"1"}, prefix=prefix)
    state = owner.state()
    source = disk_dataset(tmp_path, {"a": b"1"})

    with active(astray), pytest.raises(AccessDeniedError) as caught:  # noqa: PT012  # many ways to do the same
        if how == "copy":
            copy_dataset(source, astray.base_uri, settings=astray)
        elif how == "create":
            create_dataset("penguins", astray.base_uri, directory=tmp_path, settings=astray)
        elif how == "dtoolcore":
            dtoolcore.create_proto_dataset("penguins", astray.base_uri, "---\n")
        elif how == "DataSetCreator":
            with dtoolcore.DataSetCreator("penguins", astray.base_uri):
                pass
        elif how == "dtoolcore.copy":
            dtoolcore.copy(source, astray.base_uri)
        else:
            with new_dataset("penguins", astray.base_uri, settings=astray) as dataset:
                dataset.put_bytes(b"1", "a")

    message = str(caught.value)
    assert f"policy of bucket {rgw_bucket.bucket!r}" in message
    assert f"key '{prefix}" in message
    assert f"DTOOL_ECS_DATASET_PREFIX_{rgw_bucket.bucket}" in message
    assert "user-secret" not in message
    assert owner.state() == state


@pytest.mark.parametrize("kind", ["dataset", "protodataset"])
def test_what_is_somebody_elses_is_read_and_not_changed(
    rgw_bucket: BucketSettings, bare: BucketSettings, tmp_path: Path, kind: str
) -> None:
    """It can be listed, and copied out when it is frozen; neither copying over it, nor deleting it, touches one key."""
    owner = Raw(rgw_bucket)
    theirs = copy_dataset(
        disk_dataset(tmp_path / "in", CONTENTS),
        rgw_bucket.base_uri,
        settings=rgw_bucket.model_copy(update={"dataset_prefix": "u/somebody-else/"}),
    )
    source = f"file://{tmp_path}/in/penguins"
    dtoolcore.DataSet.from_uri(source).put_readme("---\ndescription: hostile\n")
    owner.edit_json(f"u/somebody-else/{theirs.uuid}/dtool", lambda admin: admin.update(type=kind))
    state = owner.state()

    assert [info.type for info in list_datasets(bare.base_uri, settings=bare).datasets] == [kind]
    if kind == "dataset":
        (tmp_path / "out").mkdir()
        assert copy_dataset(theirs.uri, str(tmp_path / "out"), settings=bare).items == len(CONTENTS)
    with pytest.raises(AccessDeniedError, match="somebody-else"):
        copy_dataset(source, bare.base_uri, settings=bare, update_metadata=True)
    with pytest.raises(AccessDeniedError, match="somebody-else"):
        delete_dataset(theirs.uri, "penguins", settings=bare)

    assert owner.state() == state


@pytest.mark.parametrize("comforts", [True, False])
def test_a_large_item_that_was_stopped_is_sent_again(
    rgw_bucket: BucketSettings, user: str, tmp_path: Path, comforts: bool
) -> None:
    """Where the policy lets nobody look for its parts they stay behind, and the same call again works all the same."""
    set_policy(rgw_bucket, user, comforts=comforts)
    mine = as_user(rgw_bucket, user)
    source = disk_dataset(tmp_path / "in", {"large": noise(40 * MIB), "small": b"1"})
    stop = threading.Event()

    def when_the_small_one_is_there(progress: Progress) -> None:
        if progress.items_done:
            stop.set()

    with proxied(mine.endpoint) as proxy:
        proxy.on("UploadPart").call(lambda _: None if stop.wait(50) else Answer(400, "TooLate"))
        through = changed(mine, endpoint=proxy.endpoint)
        with pytest.raises(StoppedError):
            copy_dataset(
                source, mine.base_uri, settings=through, concurrency=2, progress=when_the_small_one_is_there, stop=stop
            )

    report = copy_dataset(source, mine.base_uri, settings=mine)

    raw = Raw(mine)
    assert report.skipped >= 1
    assert raw.is_frozen(report.uuid, mine.dataset_prefix)
    assert raw.get(f"{mine.dataset_prefix}{report.uuid}/data/{identifier('large')}") == noise(40 * MIB)


def test_what_may_not_be_read_does_not_hide_the_rest(rgw_bucket: BucketSettings, user: str) -> None:
    """A dataset below a prefix that is closed to this user is listed with its problem, the others as ever."""
    owner = Raw(rgw_bucket)
    set_policy(rgw_bucket, user, comforts=False, deny="u/secret/*")
    secret = bucket_dataset(owner, {"a": b"1"}, prefix="u/secret/")
    free = bucket_dataset(owner, {"a": b"1"}, prefix="u/free/")

    listed = list_datasets(rgw_bucket.base_uri, settings=as_user(rgw_bucket, user)).datasets

    problems = {info.uuid: info.problem for info in listed}
    assert problems[free] == ""
    assert "does not allow s3:GetObject" in problems[secret]
