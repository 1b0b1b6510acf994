"""The `dtool` command of dtool 3.27 works on `ecs://` as on any other store: making a dataset, asking about it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dtoolcore.utils import generate_identifier

from dtool_ecs_flows.settings import BucketSettings
from tests.interop import story
from tests.interop.command import Dtool

CSV = generate_identifier("readings.csv")


def test_a_dataset_is_made_at_the_terminal(dtool: Dtool, shared: BucketSettings, tmp_path: Path) -> None:
    """create, add item, add metadata, readme, name, status, freeze: from nothing to a frozen dataset."""
    folder = story.files(tmp_path / "plain")

    said = dtool("create", "first-name", shared.base_uri)
    assert said.out.startswith(f"Created proto dataset {shared.base_uri}/")
    uri = said.lines[0].split()[-1]
    assert dtool("create", "-q", "another", shared.base_uri + "/").out.startswith(f"{shared.base_uri}/")

    dtool("add", "item", folder / "readings.csv", uri)
    dtool("add", "item", folder / "readings.csv", uri, "größe/2.csv")
    for relpath in ("readings.csv", "größe/2.csv"):
        dtool("add", "metadata", uri, relpath, "unit.v2", "mm")

    assert dtool("readme", "show", uri).out.strip() == ""
    dtool("readme", "write", uri, "-", stdin="description: by hand\n")
    assert "description: by hand" in dtool("readme", "show", uri).out
    assert "All good" in dtool("readme", "validate", uri).out

    assert dtool("name", uri).lines == ["first-name"]
    assert dtool("name", uri, "second-name").lines == ["second-name"]
    assert dtool("status", uri).lines == ["proto"]
    assert "*second-name" in dtool("ls", shared.base_uri).lines
    said = dtool.run("ls", uri)
    assert (said.status, said.err) == (1, "Cannot list the items of a proto dataset\n")

    assert dtool("freeze", uri).lines[-1] == f"Dataset frozen {uri}"
    assert dtool("status", uri).lines == ["frozen"]
    assert dtool("ls", "-q", uri).lines == ["größe/2.csv", "readings.csv"]
    assert dtool("item", "overlay", "unit.v2", uri, CSV).lines == ["mm"]

    said = dtool.run("freeze", uri)
    assert said.status == 2
    assert "It looks like a frozen dataset" in said.err
    assert dtool("name", uri, "third-name").lines == ["third-name"]
    dtool("readme", "write", uri, "-", stdin="description: later\n")
    assert "description: later" in dtool("readme", "show", uri).out


def test_a_dataset_tells_of_itself(dtool: Dtool, frozen: str) -> None:
    """uri, uuid, summary, identifiers and ls of a dataset."""
    assert dtool("uri", frozen).lines == [frozen]
    assert dtool("uuid", frozen).lines == [frozen.rsplit("/", 1)[1]]
    summary = dtool("summary", frozen).out
    assert f"number_of_items: {len(story.ITEMS)}" in summary
    assert "creator_username: olssont" in summary
    as_json = json.loads(dtool("summary", "-f", "json", frozen).out)
    assert (as_json["name"], as_json["number_of_items"]) == ("to-and-fro", len(story.ITEMS))
    assert as_json["size_in_bytes"] == sum(map(len, story.ITEMS.values()))
    assert isinstance(as_json["frozen_at"], float)
    assert set(dtool("identifiers", frozen).lines) == set(map(generate_identifier, story.ITEMS))
    assert dtool("ls", "-q", frozen).lines == sorted(story.ITEMS)
    assert f"{CSV}\treadings.csv" in dtool("ls", frozen).lines
    assert "readings.csv" in dtool("ls", "-v", frozen).out


def test_a_bucket_tells_of_its_datasets(dtool: Dtool, frozen: str, shared: BucketSettings) -> None:
    """ls and inventory of a bucket, in all their forms."""
    assert dtool("ls", shared.base_uri).lines == ["to-and-fro", f"  {frozen}"]
    assert dtool("ls", "-q", shared.base_uri + "/").lines == [frozen]
    assert dtool("ls", "-v", shared.base_uri).lines[-1].split()[0] == "olssont"
    assert "olssont" in dtool("inventory", shared.base_uri).lines[0].split()
    for name, separator in (("csv", ","), ("tsv", "\t")):
        header, line = dtool("inventory", "-f", name, shared.base_uri).lines
        told = dict(zip(header.split(separator), line.split(separator), strict=True))
        assert (told["name"], told["num_items"], told["uri"]) == ("to-and-fro", str(len(story.ITEMS)), frozen)
    assert frozen in dtool("inventory", "-f", "html", shared.base_uri).out


def test_an_item_is_looked_at(dtool: Dtool, frozen: str) -> None:
    """item properties, relpath, fetch and overlay; what is not there is said with the status that dtool gives it."""
    told = json.loads(dtool("item", "properties", frozen, CSV).out)
    content = story.ITEMS["readings.csv"]
    assert (told["relpath"], told["size_in_bytes"]) == ("readings.csv", len(content))
    assert told["hash"] == hashlib.md5(content).hexdigest()
    assert dtool("item", "relpath", frozen, CSV).lines == ["readings.csv"]
    (fetched,) = dtool("item", "fetch", frozen, CSV).lines
    assert fetched.endswith(".csv")
    assert fetched.startswith(str(dtool.home / "cache"))
    assert Path(fetched).read_bytes() == content
    assert dtool("item", "fetch", frozen, CSV).lines == [fetched]
    assert dtool("item", "overlay", "length", frozen, CSV).lines == [str(len(content))]
    assert dtool.run("item", "properties", frozen, "none").status == 20
    assert dtool.run("item", "overlay", "none", frozen, CSV).status == 4
    assert dtool.run("item", "overlay", "length", frozen, "none").status == 5


def test_tags_and_annotations_are_kept(dtool: Dtool, frozen: str) -> None:
    """annotation set, get and ls with every type, tag set, ls and delete; names may hold dots."""
    dtool("annotation", "set", frozen, "lot.no", "A-7")
    for kind, text, value in (
        ("int", "3", "3"),
        ("float", "2.5", "2.5"),
        ("bool", "f", "False"),
        ("json", "[1]", "[1]"),
    ):
        dtool("annotation", "set", "-t", kind, frozen, f"a-{kind}", text)
        assert dtool("annotation", "get", frozen, f"a-{kind}").lines == [value]
    assert dtool("annotation", "get", frozen, "lot.no").lines == ["A-7"]
    listed = dtool("annotation", "ls", frozen).lines
    assert "lot.no\tA-7" in listed
    assert len(listed) == 5 + len(story.ANNOTATIONS)
    said = dtool.run("annotation", "get", frozen, "none")
    assert (said.err, said.status & 0xFF) == ("No annotation named: 'none'\n", 401 & 0xFF)

    dtool("tag", "set", frozen, "v1.2")
    assert dtool("tag", "ls", frozen).lines == sorted([*story.TAGS, "v1.2"])
    dtool("tag", "delete", frozen, "v1.2")
    dtool("tag", "delete", frozen, "never-set")
    assert dtool("tag", "ls", frozen).lines == list(story.TAGS)


def test_overlays_are_made_from_templates(dtool: Dtool, frozen: str, tmp_path: Path) -> None:
    """overlays template, write and show, from a file and from a pipe."""
    template = tmp_path / "template.csv"
    template.write_text(dtool("overlays", "template", "glob", frozen, "is_csv", "*.csv").out)
    dtool("overlays", "write", frozen, template)
    parsed = dtool("overlays", "template", "parse", frozen, "{stem}.{ending}").out
    dtool("overlays", "write", frozen, "-", stdin=parsed)
    header, *lines = dtool("overlays", "show", frozen).lines
    assert header == "identifiers,checked,ending,is_csv,length,stem,relpaths"
    assert f"{CSV},True,csv,True,23,readings,readings.csv" in lines


def test_the_command_knows_where_the_bucket_is(dtool: Dtool, frozen: str, shared: BucketSettings) -> None:
    """config ecs writes and shows the settings that this broker reads, and lists the buckets."""
    name = shared.bucket
    dtool.config.unlink()
    dtool("config", "ecs", "endpoint", name, shared.endpoint)
    dtool("config", "ecs", "access-key-id", name, shared.access_key_id)
    dtool("config", "ecs", "secret-access-key", name, shared.secret_access_key.get_secret_value())
    assert dtool("config", "ecs", "ls").lines == [shared.base_uri]
    assert dtool("config", "ecs", "endpoint", name).lines == [shared.endpoint]
    assert dtool("ls", "-q", shared.base_uri).lines == [frozen]


def test_the_command_names_this_package(dtool: Dtool) -> None:
    """`dtool --version` says which package serves `ecs`."""
    assert any(line.startswith("ecs, dtool-ecs-flows, version ") for line in dtool("--version").lines)
