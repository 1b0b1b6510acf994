"""How other stores are used: their cache, their threads, names that they cannot hold, what fails in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.cli import main
from dtool_ecs_flows.errors import SettingsError, StoreError, UnsafeNameError
from dtool_ecs_flows.models import Progress
from tests.independent import disk_dataset, everything, identifier
from tests.proxy import proxied
from tests.servers import S3Server
from tests.stores.conftest import Other

Buckets = Callable[[], BucketSettings]


def test_items_are_taken_out_of_the_cache_unless_they_were_there(
    place: Callable[[str], Other], ecs: Buckets, tmp_path: Path
) -> None:
    """No more of them lie there than are being read. What the user had fetched stays; where it is wrong, it goes."""
    contents = {f"{n:02}.txt": b"%02d" % n for n in range(40)}
    source = disk_dataset(tmp_path / "in", contents)
    uri = copy_dataset(source, place("smb").base_uri).uri
    cache = tmp_path / "cache" / uri.rpartition("/")[2]
    cache.mkdir(parents=True)
    kept, wrong = cache / f"{identifier('00.txt')}.txt", cache / f"{identifier('01.txt')}.txt"
    kept.write_bytes(b"00")
    wrong.write_bytes(b"xx")
    most = 0

    def look(_: Progress) -> None:
        nonlocal most
        most = max(most, len(list(cache.iterdir())))

    copy_dataset(uri, ecs().base_uri, concurrency=4, progress=look)

    assert list(cache.iterdir()) == [kept]
    assert most <= 2 + 2 * 4  # each may have a file under its temporary name, too


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a:b"], r"'a:b' cannot be in smb://.*a name on a share has none of"),
        (["line\nbreak"], "no control character"),
        (["folder./a"], "does not end with a space or a dot"),
        (["Table.csv", "table.csv"], "'Table.csv' and 'table.csv' would be one item"),
    ],
)
def test_names_that_a_share_cannot_have_are_refused_before_the_start(
    place: Callable[[str], Other], tmp_path: Path, names: list[str], reason: str
) -> None:
    """The error names them; nothing was written."""
    other = place("smb")
    source = disk_dataset(tmp_path / "in", dict.fromkeys(names, b"1"))

    with pytest.raises(UnsafeNameError, match=reason):
        copy_dataset(source, other.base_uri)
    with pytest.raises(Exception, match="is not a dataset"):
        verify_dataset(f"{other.base_uri}/{source.rpartition('/')[2]}")


def test_names_that_a_plugin_misreads_are_told_of(place: Callable[[str], Other], tmp_path: Path) -> None:
    """They are right in the manifest; only what dtool lists without it is not."""
    source = disk_dataset(tmp_path / "in", {"a:b": b"1", "plain": b"2"})

    other, told = place("irods"), "1 items have names that the plugin lists otherwise; the manifest has them right"

    said = CliRunner().invoke(main, ["copy", source, other.base_uri])

    assert told in said.output.splitlines()
    (info,) = list_datasets(other.base_uri).datasets
    assert verify_dataset(info.uri).findings == ()


def test_a_plugin_that_ends_the_process_is_an_error(place: Callable[[str], Other], tmp_path: Path) -> None:
    """dtool-irods calls `sys.exit` where a command fails."""
    other = place("irods")
    uri = copy_dataset(disk_dataset(tmp_path / "in", {"a": b"1"}), other.base_uri).uri
    command = tmp_path / "icommands" / "iget"
    command.write_text("#!/bin/sh\necho 'the grid is down' >&2\nexit 3\n")

    with pytest.raises(StoreError, match="the plugin for irods failed: SystemExit: 3"):
        verify_dataset(uri)


def test_a_frozen_dataset_is_not_written_over_while_its_store_is_down(
    rgw: S3Server, place: Callable[[str], Other], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dtool-s3 says that there is nothing where it is refused; that is no reason to begin anew."""
    other = place("s3")
    bucket = other.base_uri.rpartition("/")[2]
    source = disk_dataset(tmp_path / "in", {"a": b"1"})
    uri = copy_dataset(source, other.base_uri).uri
    with proxied(rgw.endpoint) as proxy:
        monkeypatch.setenv(f"DTOOL_S3_ENDPOINT_{bucket}", proxy.endpoint)
        proxy.on("GetObject", key="*/dtool").answer(403, "AccessDenied")
        with pytest.raises(StoreError, match=r"the plugin for s3 failed.*AccessDenied"):
            copy_dataset(source, other.base_uri)
        assert proxy.seen("PUT") == []
    monkeypatch.setenv(f"DTOOL_S3_ENDPOINT_{bucket}", rgw.endpoint)
    assert verify_dataset(uri).ok


def test_a_setting_that_is_missing_is_named(place: Callable[[str], Other], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the plugin names it; the command ends as with any other wrong setting."""
    other = place("smb")
    share = other.base_uri.rpartition("/")[2]
    monkeypatch.delenv(f"DTOOL_SMB_DOMAIN_{share}")

    with pytest.raises(SettingsError, match=f"DTOOL_SMB_DOMAIN_{share}"):
        copy_dataset(f"{other.base_uri}/b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10", ".")
    result = CliRunner().invoke(main, ["ls", other.base_uri])
    assert (result.exit_code, f"DTOOL_SMB_DOMAIN_{share}" in result.output) == (2, True)


def test_the_command_copies_between_any_two_stores(place: Callable[[str], Other], tmp_path: Path) -> None:
    """`decs copy`, `decs ls` and `decs verify` take any base URI; here no bucket takes part at all."""
    share, zone = place("smb"), place("azure")
    source = disk_dataset(tmp_path / "in", {"größe": b"1"})
    uri = source
    for base_uri in (share.base_uri, zone.base_uri, f"{tmp_path}"):
        copied = CliRunner().invoke(main, ["copy", "--quiet", uri, base_uri])
        assert copied.exit_code == 0, copied.output
        uri = copied.output.strip()
        assert CliRunner().invoke(main, ["verify", uri]).exit_code == 0
        listed = CliRunner().invoke(main, ["ls", "--json", base_uri])
        assert uri in [each["uri"] for each in json.loads(listed.output)["datasets"]]
    assert everything(uri) == everything(source)


def test_buckets_of_dtool_s3_may_lie_on_several_endpoints(
    place: Callable[[str], Other], rgw: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own settings; one without any is where boto3's own configuration says."""
    uri = copy_dataset(disk_dataset(tmp_path / "in", {"größe": b"1"}), place("s3").base_uri).uri
    with proxied(rgw.endpoint) as proxy, proxied(rgw.endpoint) as another:
        elsewhere, aws = f"elsewhere-{uuid4()}", f"aws-{uuid4()}"
        for bucket in (elsewhere, aws):
            rgw.make_bucket(bucket)
        for name, value in {
            f"DTOOL_S3_ENDPOINT_{elsewhere}": proxy.endpoint,
            f"DTOOL_S3_ACCESS_KEY_ID_{elsewhere}": rgw.access_key_id,
            f"DTOOL_S3_SECRET_ACCESS_KEY_{elsewhere}": rgw.secret_access_key,
            "AWS_ENDPOINT_URL": another.endpoint,
            "AWS_ACCESS_KEY_ID": rgw.access_key_id,
            "AWS_SECRET_ACCESS_KEY": rgw.secret_access_key,
        }.items():
            monkeypatch.setenv(name, value)

        for bucket in (elsewhere, aws):
            uri = copy_dataset(uri, f"s3://{bucket}").uri
            assert verify_dataset(uri).findings == ()

        assert proxy.seen("PUT", key="*/data/*")
        assert another.seen("PUT", key="*/data/*")


def test_a_dataset_of_links_is_a_source(ecs: Buckets, tmp_path: Path) -> None:
    """`symlink:` of dtool-symlink, whose items are files of the user: they are read where they lie, and stay."""
    import dtoolcore

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "größe.txt").write_bytes(b"1")
    (tmp_path / "links").mkdir()
    admin = dtoolcore.generate_admin_metadata("linked", "olssont")
    proto = dtoolcore.generate_proto_dataset(admin, f"symlink:{tmp_path}/links")
    proto._storage_broker.symlink_path = str(tmp_path / "data")
    proto.create()
    proto.put_readme("---\n")
    proto.freeze()

    report = copy_dataset(proto.uri, ecs().base_uri)

    assert (report.items, report.verified) == (1, "content")
    assert verify_dataset(proto.uri).findings == ()
    assert (tmp_path / "data" / "größe.txt").read_bytes() == b"1"


def test_a_dataset_is_made_straight_in_another_store(other: Other, tmp_path: Path) -> None:
    """`create_dataset` puts files there from many threads, in folders of their own, with metadata of items."""
    files = {}
    for number in range(6):
        files[f"run {number}/größe.txt"] = tmp_path / f"{number}"
        files[f"run {number}/größe.txt"].write_bytes(b"%d" % number)

    report = create_dataset(
        "made", other.base_uri, files=files, tags=["raw"], item_metadata={path: {"n": 1} for path in files}
    )

    assert verify_dataset(report.uri).findings == ()
    back = everything(copy_dataset(report.uri, str(tmp_path)).uri)
    assert sorted(back["bytes"].values()) == [b"%d" % number for number in range(6)]
    assert back["overlays"] == {"n": dict.fromkeys(map(identifier, files), 1)}
    assert back["tags"] == ["raw"]
