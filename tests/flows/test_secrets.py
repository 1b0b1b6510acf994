"""A secret key is nowhere but where it was put, and a signed URL only with whoever asked for it."""

from __future__ import annotations

import json
import logging
import os
import pickle
import stat
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dtoolcore
import pytest
from click.testing import CliRunner
from prefect import flow

from dtool_ecs_flows import (
    BucketSettings,
    copy_dataset,
    create_dataset,
    delete_dataset,
    list_datasets,
    verify_dataset,
)
from dtool_ecs_flows.blocks import EcsBucket
from dtool_ecs_flows.cli import main
from dtool_ecs_flows.errors import EcsFlowsError
from dtool_ecs_flows.flows.archive import archive
from dtool_ecs_flows.flows.inventory import inventory
from dtool_ecs_flows.flows.publish import Sharing, publish
from dtool_ecs_flows.flows.retrieve import retrieve
from dtool_ecs_flows.settings import active, resolve
from dtool_ecs_flows.store import failures
from dtool_ecs_flows.tasks import copy_dataset as copying
from tests.conformance.helpers import changed
from tests.flows.conftest import MakeDataset, PrefectApi, block_of
from tests.proxy import Proxy, proxied
from tests.servers import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECRET = f"s3cr3t{uuid.uuid4().hex}"
SIGNATURE = "X-Amz-Signature"
OURS = ("dtool_ecs_flows", "prefect", "stamina")


@dataclass
class Ears(logging.Handler):
    """Hears every record of every logger, whatever its level, and all that stands in it."""

    heard: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.DEBUG)

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        said = [record.getMessage(), repr(record.args)]
        if record.exc_info and record.exc_info[1]:
            said += traceback.format_exception(record.exc_info[1])
        self.heard.append((record.name, "\n".join(said)))


@pytest.fixture(autouse=True)
def ears(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ears]:
    """All loggers at DEBUG, those that keep their records to themselves too."""
    handler = Ears()
    names = ["", *(name for name in logging.root.manager.loggerDict if name.startswith(OURS))]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        if logger is logging.root or not logger.propagate:
            logger.addHandler(handler)
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]  # levels were set behind its back
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def settings(rgw: S3Server) -> BucketSettings:
    """The bucket of a user of the gateway whose secret can be told from all other text."""
    key, bucket = f"key-{uuid.uuid4().hex[:8]}", f"test-{uuid.uuid4()}"
    rgw.add_user(key, key, SECRET)
    rgw.client(access_key_id=key, secret_access_key=SECRET).create_bucket(Bucket=bucket)
    return BucketSettings(bucket=bucket, endpoint=rgw.endpoint, access_key_id=key, secret_access_key=SECRET)


def assert_nowhere(ears: Ears, api: PrefectApi, folder: Path, *, but: tuple[str, ...] = ()) -> None:
    """Check that neither secret nor signature is in a log, in what Prefect keeps, or in a file but those named."""
    assert any(name.startswith("dtool_ecs_flows") for name, _ in ears.heard)
    assert not [(name, said) for name, said in ears.heard if SECRET in said]
    assert not [(name, said) for name, said in ears.heard if SIGNATURE in said and name.startswith(OURS)]
    kept = api.text()
    assert SECRET not in kept
    assert SIGNATURE not in kept
    for path in [*folder.rglob("*"), *Path(os.environ["PREFECT_HOME"]).rglob("*")]:
        if path.is_file() and path.name not in but:
            body = path.read_bytes()
            assert SECRET.encode() not in body, path
            assert SIGNATURE.encode() not in body, path


def assert_not_in(*things: Any) -> None:
    """Check that no text and no pickle made of these holds the secret."""
    for thing in things:
        texts = [repr(thing), str(thing), f"{thing}", pickle.dumps(thing).decode("latin-1")]
        texts += [thing.model_dump_json(), str(thing.model_dump())] if hasattr(thing, "model_dump") else []
        assert all(SECRET not in text and SIGNATURE not in text for text in texts)


@pytest.fixture
def nowhere(ears: Ears, api: PrefectApi, tmp_path: Path) -> Callable[..., None]:
    """Checks that the secret is in none of the places where a test looks."""
    return lambda *but: assert_nowhere(ears, api, tmp_path, but=but)


def test_what_succeeds_leaves_no_secret_behind(
    settings: BucketSettings, make: MakeDataset, source: str, tmp_path: Path, nowhere: Callable[..., None]
) -> None:
    """Create, copy in and out, list, verify, publish by signed URL, delete; then the flows: only reports are left."""
    out = tmp_path / "out"
    out.mkdir()
    files = tmp_path / "made"
    files.mkdir()
    (files / "a.txt").write_text("a")
    signing = changed(settings, publish_expiry=60)
    made = make("apples")
    with active(signing):
        created = create_dataset("pears", signing.base_uri, directory=files)
        copied = copy_dataset(made.uri, signing.base_uri)
        back = copy_dataset(copied.uri, str(out))
        listed, verified = list_datasets(signing.base_uri, tags=True), verify_dataset(copied.uri)
        dataset = dtoolcore.DataSet.from_uri(copied.uri)
        assert SIGNATURE in dataset._storage_broker.http_enable()
        dataset.item_content_abspath(next(iter(dataset.identifiers)))
        deleted = [delete_dataset(created.uri, "pears"), delete_dataset(copied.uri, "apples")]
    assert_not_in(created, copied, back, listed, verified, *deleted)

    block = block_of(settings)
    archived = archive(source, block)
    listing = inventory(block)
    (out / "retrieved").mkdir()
    retrieved = retrieve([made.uuid], block, str(out / "retrieved"))
    published = publish(str(files), "plums", block)
    signed = publish(str(files), "figs", block, sharing=Sharing(readable_by="who has the signed URL", days=1))
    assert_not_in(archived, listing, retrieved, published, signed)

    for thing in (settings, block):
        assert SECRET not in repr(thing) + str(thing) + thing.model_dump_json() + str(thing.model_dump())
    nowhere()


def test_what_the_command_saves_is_a_secret_to_everybody_else(
    settings: BucketSettings, home: Path, api: PrefectApi, nowhere: Callable[..., None]
) -> None:
    """`blocks import` reads the one file that holds it, prints nothing of it, and the server shows stars."""
    path = home / ".config" / "dtool" / "dtool.json"
    path.parent.mkdir(parents=True)
    named = {"ENDPOINT": settings.endpoint, "ACCESS_KEY_ID": settings.access_key_id, "SECRET_ACCESS_KEY": SECRET}
    path.write_text(json.dumps({f"DTOOL_ECS_{name}_{settings.bucket}": value for name, value in named.items()}))
    path.chmod(0o600)
    list_datasets(settings.base_uri)

    said = [CliRunner().invoke(main, ["blocks", "import", *more]) for more in (["--dry-run"], [], ["--overwrite"])]

    assert [each.exit_code for each in said] == [0, 0, 0], said[1].output
    assert all(SECRET not in each.output for each in said)
    assert SECRET not in str(api.records("block_documents"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    logging.getLogger("dtool_ecs_flows").debug("what the ears can hear")
    nowhere("dtool.json")


# --- runs that fail ---


@dataclass
class Misfortune:
    """What a run that fails has to hand."""

    proxy: Proxy
    good: BucketSettings
    folder: Path
    uri: str

    def through(self, **changes: Any) -> BucketSettings:
        return changed(self.good, endpoint=self.proxy.endpoint, **changes)

    def do(self, **changes: Any) -> None:
        """Copy a dataset in."""
        copy_dataset(self.uri, self.good.base_uri, settings=self.through(**changes))

    def dtool_json(self, **values: Any) -> None:
        """Work with a dtool.json with other values than the right ones."""
        named = {"ENDPOINT": self.good.endpoint, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": SECRET, **values}
        text = json.dumps({f"DTOOL_ECS_{name}_{self.good.bucket}": value for name, value in named.items()})
        self.write(text)

    def write(self, text: str) -> None:
        path = self.folder / "dtool.json"
        path.write_text(text)
        path.chmod(0o600)
        resolve(self.good.bucket, config_path=path)

    def publish(self) -> None:
        """Publish a dataset by signed URL."""
        settings = self.through(publish_expiry=60)
        made = create_dataset("figs", settings.base_uri, files={"a": self.folder / "a"}, settings=settings)
        self.proxy.on("PutObject", key="*/http_manifest.json").answer(403, "AccessDenied")
        with active(settings):
            dtoolcore.DataSet.from_uri(made.uri)._storage_broker.http_enable()

    def sign(self, seconds: int) -> None:
        """Ask for a signed URL."""
        with active(self.good):
            made = create_dataset("dates", self.good.base_uri, files={"a": self.folder / "a"})
            broker = dtoolcore.DataSet.from_uri(made.uri)._storage_broker
            broker.generate_signed_read_url(broker.get_readme_key(), seconds)


Run = Callable[[Misfortune], Any]


def fails_with(**fault: Any) -> Run:
    """Copy, where the proxy answers so."""

    def run(now: Misfortune) -> None:
        now.proxy.on().answer(**fault)
        now.do()

    return run


def breaks(how: str) -> Run:
    """Copy, where connections break."""

    def run(now: Misfortune) -> None:
        getattr(now.proxy.on(), how)()
        now.do()

    return run


def clock_is_off(now: Misfortune) -> None:
    now.proxy.offset = 3600
    now.do()


def untrusted(now: Misfortune) -> None:
    with proxied(now.good.endpoint, tls=True) as proxy:
        list_datasets(now.good.base_uri, settings=changed(now.good, endpoint=proxy.endpoint))


def in_a_flow(now: Misfortune) -> None:
    @flow
    def theirs(bucket: EcsBucket) -> None:
        with bucket.active() as settings:
            list_datasets(bucket.base_uri)
            raise RuntimeError(f"in the middle of it, with {bucket!r} and {settings}")

    theirs(block_of(now.good))


def from_a_signed_url(now: Misfortune) -> None:
    @flow
    def theirs() -> None:
        url = f"http://127.0.0.1:9/{uuid.uuid4()}?{SIGNATURE}={SECRET}"
        copying.with_options(retries=0)(url, now.good.base_uri, buckets=block_of(now.good))

    theirs()


def archive_with(**changes: Any) -> Run:
    return lambda now: archive(f"file://{now.folder.parent / 'source'}", block_of(now.good, **changes))


RUNS: dict[str, Run] = {
    "wrong secret": lambda now: now.do(secret_access_key=SECRET + "x"),
    "wrong key": lambda now: now.do(access_key_id="nobody"),
    "no such bucket": lambda now: list_datasets("ecs://nowhere", settings=now.through(bucket="nowhere")),
    "no settings": lambda _: list_datasets("ecs://nowhere"),
    "nobody listens": lambda now: list_datasets(
        now.good.base_uri, settings=changed(now.good, endpoint="http://127.0.0.1:9")
    ),
    "denied": fails_with(status=403, code="AccessDenied"),
    "errors of the store": fails_with(status=500, code="InternalError"),
    "busy": fails_with(status=503, code="SlowDown"),
    "another server": fails_with(status=404, body=b"<html>", content_type="text/html"),
    "nonsense": fails_with(status=200, body=b"\x00nonsense"),
    "dropped": breaks("reset"),
    "closed": breaks("close"),
    "answers lost": breaks("lose_answer"),
    "clock": clock_is_off,
    "certificate": untrusted,
    "http for https": lambda now: now.do(endpoint=now.proxy.endpoint.replace("http:", "https:")),
    "no JSON": lambda now: now.write(f'{{"DTOOL_ECS_SECRET_ACCESS_KEY_{now.good.bucket}": "{SECRET}"'),
    "a list": lambda now: now.dtool_json(SECRET_ACCESS_KEY=[SECRET]),
    "two lines": lambda now: now.dtool_json(SECRET_ACCESS_KEY=f"{SECRET}\nx"),
    "in the URL": lambda now: now.dtool_json(ENDPOINT=f"https://me:{SECRET}@ecs.example.org"),
    "no number": lambda now: now.dtool_json(CONCURRENCY="many"),
    "too long": lambda now: now.sign(7 * 24 * 3600 + 1),
    "publishing denied": Misfortune.publish,
    "a flow's own": in_a_flow,
    "signed URL": from_a_signed_url,
    "wrong secret of a block": archive_with(secret_access_key=SECRET + "y"),
    "wrong block": archive_with(endpoint=f"https://me:{SECRET}@ecs.example.org"),
}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all that it came from, hidden or not."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__cause__, one.__context__]
            left += [cause for _, cause in getattr(one, "failures", ())]


@contextmanager
def misfortune(settings: BucketSettings, uri: str, folder: Path) -> Iterator[Misfortune]:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text("a")
    with proxied(settings.endpoint) as proxy:
        yield Misfortune(proxy, settings, folder, uri)


def test_what_fails_leaves_no_secret_behind(
    settings: BucketSettings,
    make: MakeDataset,
    tmp_path: Path,
    nowhere: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two dozen ways to fail: no error, none that it came from, no traceback and no pickle tells the secret."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.5)
    monkeypatch.setattr(failures, "BUDGET", 0.5)
    uri = make("apples").uri
    for name, run in RUNS.items():
        with misfortune(settings, uri, tmp_path / "folder") as now, pytest.raises(Exception) as caught:  # noqa: PT011
            run(now)
        for error in chain(caught.value):
            said = [str(error), repr(error), repr(error.args), repr(getattr(error, "__dict__", {}))]
            said += traceback.format_exception(error)
            assert not [text for text in said if SECRET in text or SIGNATURE in text], name
        if isinstance(caught.value, EcsFlowsError):
            assert SECRET.encode() not in pickle.dumps(caught.value), name
    nowhere("dtool.json")
