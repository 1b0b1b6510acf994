"""The command with a bucket: Ctrl-C, what is listed last, and the statuses of a store."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dtool_ecs_flows import BucketSettings, CopyReport
from dtool_ecs_flows.cli import main
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import Interrupt, changed, environment
from tests.independent import MIB, Raw, bucket_dataset, disk_dataset, identifier, noise
from tests.proxy import Proxy, Request, proxied
from tests.servers import S3Server


@pytest.fixture
def proxy(rclone: S3Server) -> Iterator[Proxy]:
    """A proxy before rclone, for what goes wrong on the way."""
    with proxied(rclone) as proxy:
        yield proxy


@pytest.fixture
def bucket(rclone_bucket: BucketSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> BucketSettings:
    """A bucket behind the proxy, which the environment names."""
    settings = changed(rclone_bucket, endpoint=proxy.endpoint)
    for key, value in environment(settings).items():
        monkeypatch.setenv(key, value)
    return settings


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert "Traceback" not in result.output
    return result


def test_after_ctrl_c_the_same_copy_goes_on(
    bucket: BucketSettings, proxy: Proxy, interrupt: Interrupt, tmp_path: Path
) -> None:
    """It ends in good order, says what to do, and what was sent is not sent again."""
    source = disk_dataset(tmp_path, {f"{number}.csv": noise(1000, number) for number in range(60)})
    proxy.on("PutObject", key="*/data/*", nth=10).call(interrupt)

    stopped = run("copy", source, bucket.base_uri, "--quiet", "--concurrency", "2")
    again = CopyReport.model_validate_json(run("copy", source, bucket.base_uri, "--json").stdout)

    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr.splitlines()[-1] == "Error: stopped; the same command goes on where this one ended"
    assert again.skipped >= 9
    assert again.skipped + again.copied_items == 60


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_ctrl_c_ends_what_only_reads(bucket: BucketSettings, proxy: Proxy, interrupt: Interrupt, command: str) -> None:
    """With the same status; nothing has to be taken up again."""
    uuid = bucket_dataset(Raw(bucket), {str(number): b"1" for number in range(100)})
    uri = bucket.base_uri if command == "ls" else f"{bucket.base_uri}/{uuid}"
    proxy.on(nth=1).call(interrupt)

    result = run(command, uri)

    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Error: stopped; nothing was changed"


def test_a_second_ctrl_c_waits_for_nothing(bucket: BucketSettings, proxy: Proxy) -> None:
    """Where the store hangs, the first is heard at once and the second ends the process."""
    uuid = bucket_dataset(Raw(bucket), {"a": b"1"})
    asked, gone = threading.Event(), threading.Event()

    def hang(_: Request) -> None:
        asked.set()
        gone.wait()

    proxy.on("GetObject").call(hang)
    command = [sys.executable, "-m", "dtool_ecs_flows.cli", "verify", f"{bucket.base_uri}/{uuid}"]

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        asked.wait()
        process.send_signal(signal.SIGINT)
        heard = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        status = process.wait()
        gone.set()

    assert (heard[:9], status) == ("stopping;", 130)


def test_orphans_come_last(bucket: BucketSettings) -> None:
    """A registration without a dataset, and a dataset that cannot be read, are in the listing."""
    raw, orphan = Raw(bucket), "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10"
    good, bad = (bucket_dataset(raw, {"a": b"1"}, name=name) for name in ("good", "bad"))
    raw.put(f"dtool-{orphan}", b"")
    raw.put(f"{bad}/dtool", b"{")

    result = run("ls", bucket.base_uri)

    head, *rows, count, last = result.stdout.splitlines()
    assert head.split()[-1] == "PROBLEM"
    assert {row.split()[0] for row in rows if "unreadable" in row and bad in row} == {bad}
    assert [row.split()[:3] for row in rows if good in row] == [["good", good, "frozen"]]
    assert count == f"2 datasets in {bucket.base_uri}"
    assert last == f"orphan: {orphan} is registered, and there is no dataset"
    assert result.exit_code == 0


def test_what_cannot_be_read_now_is_no_damage(
    bucket: BucketSettings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that goes down while a dataset is verified: status 3, and `not verified`; damage is 1."""
    monkeypatch.setattr(failures, "BUDGET", 0.0)
    raw = Raw(bucket)
    uri = f"{bucket.base_uri}/{(uuid := bucket_dataset(raw, {'a': b'1', 'b': b'2'}))}"
    proxy.on("GetObject", key="*/data/*").answer(500, "InternalError")

    unread = run("verify", uri, "--quiet")
    proxy.calm()
    raw.replace(f"{uuid}/data/{identifier('a')}", b"3")
    damaged = run("verify", uri, "--quiet")

    assert (unread.exit_code, damaged.exit_code) == (3, 1)
    assert "not verified" in unread.stdout
    assert "corrupt" in damaged.stdout


def test_a_large_item_is_shown_as_it_goes(bucket: BucketSettings, tmp_path: Path) -> None:
    """Progress goes to stderr, so that stdout is the result alone."""
    source = disk_dataset(tmp_path, {"large": noise(9 * MIB)})

    result = run("copy", source, bucket.base_uri)

    assert result.stderr.startswith(f"copy to {bucket.base_uri}: 1 item, 9.4 MB, in ")
    assert result.stdout.splitlines()[1] == "1 item copied, 9.4 MB, each byte hashed"
