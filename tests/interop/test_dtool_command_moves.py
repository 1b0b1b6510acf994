"""The `dtool` command: copying, comparing, verifying and publishing; and what it says when something is wrong."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from dtoolcore.utils import generate_identifier

from dtool_ecs_flows.settings import BucketSettings
from tests.conftest import new_bucket
from tests.independent import Raw
from tests.interop import story
from tests.interop.command import Dtool, Said
from tests.interop.environments import environment
from tests.interop.peers.read import read_dataset
from tests.interop.peers.write import write_dataset
from tests.policies import as_user, set_policy
from tests.servers import S3Server

CSV = generate_identifier("readings.csv")


def test_a_dataset_goes_in_and_comes_back(dtool: Dtool, shared: BucketSettings, tmp_path: Path) -> None:
    """cp from disk, cp to disk, diff -f: the same dataset in three places; a second cp is refused by the command."""
    source = story.on_disk(tmp_path, non_ascii=True)
    (inside,) = dtool("cp", "-q", source.uri, shared.base_uri).lines
    story.assert_is_whole(read_dataset(inside), non_ascii=True)
    assert dtool("diff", "-f", inside, source.uri).status == 0
    assert dtool("diff", "-f", source.uri, inside).status == 0

    back = tmp_path / "back"
    back.mkdir()
    said = dtool("cp", inside, back)
    assert "Dataset copied to:" in said.out
    story.assert_is_whole(read_dataset(said.lines[-1]), non_ascii=True)

    said = dtool.run("cp", source.uri, shared.base_uri)
    assert (said.status, said.err.splitlines()[-1]) == (2, f"Error: Dataset already exists: {inside}")


def test_the_bar_of_a_copy_fills(dtool: Dtool, shared: BucketSettings, tmp_path: Path) -> None:
    """At a terminal, cp into a bucket moves dtool's own bar a step for each item, and once more for the manifest."""
    source = story.on_disk(tmp_path)
    drawn = dtool.at_a_terminal("cp", source.uri, shared.base_uri)
    percents = [int(percent) for percent in re.findall(r"(\d+)%", drawn)]
    assert percents == sorted(percents)
    assert len(set(percents)) == 2 * len(story.ITEMS) + 1
    assert (percents[0], percents[-1]) == (0, 100)
    assert "Dataset copied to:" in drawn


def test_an_interrupted_copy_is_resumed(dtool: Dtool, shared: BucketSettings, tmp_path: Path) -> None:
    """cp --resume finishes a proto dataset of the same UUID, and gives it the time at which the source was frozen."""
    source = story.on_disk(tmp_path)
    half = write_dataset({
        "base_uri": shared.base_uri, "name": "to-and-fro", "freeze": False,
        "admin": {**source._admin_metadata, "type": "protodataset"},
        "items": {"readings.csv": base64.b64encode(story.ITEMS["readings.csv"]).decode()},
    })  # fmt: skip  # three lines less
    assert dtool("cp", "--resume", "-q", source.uri, shared.base_uri).lines == [half["uri"]]
    read = read_dataset(half["uri"])
    story.assert_is_whole(read)
    assert read["admin"]["frozen_at"] == source._admin_metadata["frozen_at"]


def test_a_dataset_goes_from_bucket_to_bucket(dtool: Dtool, frozen: str, shared: BucketSettings, rgw: S3Server) -> None:
    """cp between two buckets with settings of their own, in one command."""
    other = new_bucket(rgw)
    key = f"_{other.bucket}"
    dtool.configure(shared, **{
        f"DTOOL_ECS_ENDPOINT{key}": other.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID{key}": other.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY{key}": other.secret_access_key.get_secret_value(),
        f"DTOOL_ECS_DATASET_PREFIX{key}": "u/olssont",
    })  # fmt: skip  # one line less
    (copied,) = dtool("cp", "-q", frozen, other.base_uri).lines
    assert dtool("diff", "-f", frozen, copied).status == 0
    assert dtool("ls", "-q", other.base_uri).lines == [copied]
    keys = [entry["Key"] for entry in rgw.client().list_objects_v2(Bucket=other.bucket)["Contents"]]
    assert all(name.startswith(("dtool-", "u/olssont/")) for name in keys)


def test_different_datasets_differ(dtool: Dtool, frozen: str, shared: BucketSettings) -> None:
    """diff gives the status that says in what: 1 for the items, 2 for sizes, 3 for content."""
    changed = dict(story.request()["items"])
    changed["readings.csv"] = base64.b64encode(story.ITEMS["readings.csv"].replace(b"1", b"7")).decode()
    other = write_dataset({**story.request(items=changed), "base_uri": shared.base_uri})["uri"]
    assert dtool("diff", frozen, other).status == 0
    said = dtool.run("diff", "-f", other, frozen)
    assert said.status == 3
    assert CSV in said.out


def test_verify_finds_what_is_wrong(dtool: Dtool, frozen: str, shared: BucketSettings, rgw: S3Server) -> None:
    """verify tells items that are missing, unknown, or of another size; verify -f reads the bytes themselves."""
    assert dtool("verify", frozen).lines == ["All good :)"]
    assert dtool("verify", "-f", frozen).lines == ["All good :)"]

    client, start = rgw.client(), f"{frozen.rsplit('/', 1)[1]}/data/"
    content = story.ITEMS["readings.csv"]
    metadata = {
        "handle": base64.b64encode(b"readings.csv").decode(), "checksum": hashlib.md5(content).hexdigest(),
    }  # fmt: skip  # one line less
    damaged = b"T" + content[1:]
    client.put_object(Bucket=shared.bucket, Key=start + CSV, Body=damaged, Metadata=metadata)
    assert dtool("verify", frozen).lines == ["All good :)"]
    said = dtool.run("verify", "-f", frozen)
    assert (said.status, said.lines) == (1, [f"Altered item hash: {CSV} readings.csv"])

    client.put_object(Bucket=shared.bucket, Key=start + CSV, Body=b"short", Metadata=metadata)
    client.delete_object(Bucket=shared.bucket, Key=start + generate_identifier("empty.txt"))
    unknown = {"handle": base64.b64encode(b"new.txt").decode(), "checksum": hashlib.md5(b"new").hexdigest()}
    client.put_object(Bucket=shared.bucket, Key=start + generate_identifier("new.txt"), Body=b"new", Metadata=unknown)
    said = dtool.run("verify", frozen)
    assert said.status == 1
    assert sorted(said.lines) == [
        f"Altered item size: {CSV} readings.csv",
        f"Missing item: {generate_identifier('empty.txt')} empty.txt",
        f"Unknown item: {generate_identifier('new.txt')} new.txt",
    ]


def test_a_published_dataset_opens_over_http(dtool: Dtool, frozen: str, tmp_path: Path) -> None:
    """publish gives a URL that dtool itself opens, without credentials: it lists, fetches and copies from there."""
    (url,) = dtool("publish", "-q", frozen).lines
    assert dtool("publish", frozen).lines == [f"Dataset accessible at {url}"]
    dtool.config.unlink()
    assert dtool("ls", "-q", url).lines == sorted(story.ITEMS)
    assert dtool("tag", "ls", url).lines == list(story.TAGS)
    (fetched,) = dtool("item", "fetch", url, CSV).lines
    assert Path(fetched).read_bytes() == story.ITEMS["readings.csv"]
    (copied,) = dtool("cp", "-q", url, tmp_path).lines
    story.assert_is_whole(read_dataset(copied))


def test_a_dataset_can_be_published_for_a_time(dtool: Dtool, frozen: str, shared: BucketSettings) -> None:
    """With DTOOL_ECS_PUBLISH_EXPIRY the URL is signed; a value that is no number of seconds is refused by name."""
    dtool.configure(shared, DTOOL_ECS_PUBLISH_EXPIRY="60")
    (url,) = dtool("publish", "-q", frozen).lines
    place, _, signature = url.partition("?")
    with urllib.request.urlopen(f"{place}/http_manifest.json?{signature}", timeout=30) as answer:
        assert b'"to-and-fro"' in answer.read()
    dtool.configure(shared, DTOOL_ECS_PUBLISH_EXPIRY="soon")
    said = dtool.run("publish", frozen)
    assert "DTOOL_ECS_PUBLISH_EXPIRY" in said_in_one_line(said)


def test_what_was_published_for_a_time_opens_over_http(dtool: Dtool, frozen: str, shared: BucketSettings) -> None:
    """dtool-http 0.5.2 opens a signed URL; that of dtool 3.27 appends to it, behind the signature, and is refused."""
    dtool.configure(shared, DTOOL_ECS_PUBLISH_EXPIRY="600")
    (url,) = dtool("publish", "-q", frozen).lines
    newer = environment("dtool-http-0.5.2") / "dtool"

    def over_http(*arguments: str) -> list[str]:
        done = subprocess.run([newer, *arguments], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout.splitlines()

    assert over_http("ls", "-q", url) == sorted(story.ITEMS)
    (fetched,) = over_http("item", "fetch", url, CSV)
    assert Path(fetched).read_bytes() == story.ITEMS["readings.csv"]
    refused = dtool.run("ls", "-q", url)
    assert (refused.status, refused.out) == (1, "")
    assert "HTTPError: 403" in refused.err


# --- what is wrong is said ---


def said_in_one_line(said: Said) -> str:
    """Return the line in which an error is said; before it come click's usage and a line per retry at the most."""
    *before, line = said.err.splitlines()
    assert said.status != 0
    assert line.startswith("Error: ")
    for other in before:
        assert not other or other.startswith(("Usage: ", "Try ")) or "; trying again in " in other
    return line


@pytest.mark.parametrize("command", [("ls",), ("create", "a-name"), ("inventory",)], ids=lambda command: command[0])
def test_a_missing_setting_is_named(command: tuple[str, ...], dtool: Dtool, shared: BucketSettings) -> None:
    """One line names the key that is missing and the places looked at."""
    key = f"DTOOL_ECS_ENDPOINT_{shared.bucket}"
    dtool.configure(shared, **{key: ""})
    line = said_in_one_line(dtool.run(*command, shared.base_uri))
    assert f"{key} is not set" in line
    assert str(dtool.config) in line


@pytest.mark.parametrize("wrong", ["secret", "bucket", "endpoint"])
def test_a_wrong_setting_is_said_in_one_line(wrong: str, dtool: Dtool, shared: BucketSettings) -> None:
    """One line names the setting that is wrong, or the bucket, and where it came from; it shows no secret."""
    base_uri, named = shared.base_uri, f"DTOOL_ECS_ENDPOINT_{shared.bucket}"
    if wrong == "secret":
        named = f"DTOOL_ECS_SECRET_ACCESS_KEY_{shared.bucket}"
        dtool.configure(shared, **{named: "not-the-secret"})
    elif wrong == "endpoint":
        dtool.configure(shared, **{named: "http://127.0.0.1:9"})
    else:
        missing = shared.model_copy(update={"bucket": shared.bucket + "-not"})
        base_uri, named = missing.base_uri, missing.bucket
        dtool.configure(missing)
    for command in (("create", "a-name"), ("ls",)):
        line = said_in_one_line(dtool.run(*command, base_uri))
        assert named in line
        assert "not-the-secret" not in line


def test_creating_where_the_policy_does_not_allow_it_leaves_nothing(
    dtool: Dtool, shared: BucketSettings, rgw: S3Server
) -> None:
    """One line names key, policy and setting; not even the registration key stays."""
    name = f"olssont-{shared.bucket}"
    rgw.add_user(name, name, "user-secret")
    set_policy(shared, name, comforts=False)
    dtool.configure(as_user(shared, name))  # without the prefix, which `dtool config` does not write
    line = said_in_one_line(dtool.run("create", "a-name", shared.base_uri))
    assert f"policy of bucket {shared.bucket!r}" in line
    assert f"DTOOL_ECS_DATASET_PREFIX_{shared.bucket}" in line
    assert "/structure.json" in line
    assert "user-secret" not in line
    assert Raw(shared).listed() == []


def test_what_is_not_there_is_said(dtool: Dtool, shared: BucketSettings) -> None:
    """A dataset that is not there is told from a URI that cannot be one."""
    nowhere = f"{shared.base_uri}/3e8f7f5c-0d1b-4d0e-9b0a-2f3a4b5c6d7e"
    line = said_in_one_line(dtool.run("status", nowhere))
    assert line.endswith(f"URI is not a dataset: {nowhere}")
    line = said_in_one_line(dtool.run("create", "a-name", f"{shared.base_uri}/below"))
    assert f"DTOOL_ECS_DATASET_PREFIX_{shared.bucket}" in line


def test_a_second_package_for_ecs_is_noticed() -> None:
    """Beside dtool-ecs, which serves `ecs` too, a warning names both packages, and the one that dtoolcore takes."""
    program = "import dtoolcore; print(dtoolcore._generate_storage_broker_lookup()['ecs'].__module__)"
    (packages,) = environment("dtool-ecs-0.5").parent.glob("lib/*/site-packages")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    taken = "dtool-ecs-flows" if done.stdout.startswith("dtool_ecs_flows") else "dtool-ecs"
    assert "the packages dtool-ecs, dtool-ecs-flows all serve ecs:// URIs" in done.stderr
    assert f"dtoolcore takes {taken}." in done.stderr
