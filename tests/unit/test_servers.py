"""The servers and the proxy that other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import botocore.exceptions
import dtoolcore.utils
import pytest

from dtool_ecs_flows.settings import BucketSettings
from tests.conftest import ServerStarter, new_bucket
from tests.proxy import CountingProxy
from tests.servers import CAPABILITIES, S3Server, ServerUnavailableError, start
from tests.servers.supervisor import ROOT, find_executable

Counter = Callable[[S3Server | str], CountingProxy]


def test_a_server_keeps_what_it_is_given(server: S3Server, bucket: BucketSettings) -> None:
    """What is put under a key comes back under it, with its MD5 as ETag."""
    client = server.client()
    client.put_object(Bucket=bucket.bucket, Key="a/b", Body=b"hello")
    answer = client.get_object(Bucket=bucket.bucket, Key="a/b")
    assert answer["Body"].read() == b"hello"
    assert answer["ETag"].strip('"') == "5d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize("kind", sorted(CAPABILITIES))
def test_a_servers_capabilities_are_what_it_does(start_server: ServerStarter, kind: str) -> None:
    """A test that asks for a capability can rely on it, and one that is not claimed is really missing."""
    server = start_server(kind)
    client, name = server.client(), new_bucket(server).bucket

    def refusal(operation: str, **arguments: object) -> str:
        try:
            getattr(client, operation)(Bucket=name, **arguments)
        except botocore.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    client.put_object(Bucket=name, Key="k", Body=b"one")
    url = client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"}, ExpiresIn=60)
    with urllib.request.urlopen(url) as response:
        signed = response.read()
    part = client.get_object(Bucket=name, Key="k", Range="bytes=1-1")
    found = {
        "presign": signed == b"one",
        "range": part["ResponseMetadata"]["HTTPStatusCode"] == 206,
        "conditional_put": refusal("put_object", Key="k", Body=b"two", IfNoneMatch="*") == "PreconditionFailed",
        "odd_keys": refusal("put_object", Key="a//b \xf6") == "",
        "policy": refusal("get_bucket_policy") == "NoSuchBucketPolicy",
        "acl": not refusal("put_object_acl", Key="k", ACL="public-read")
        and _is_readable(f"{server.endpoint}/{name}/k"),
    }
    assert {capability for capability, there in found.items() if there} == server.capabilities


def test_a_second_user_of_the_gateway_is_bound_by_its_policy(rgw: S3Server, rgw_bucket: BucketSettings) -> None:
    """Access tests can add users, who see nothing that no policy gives them."""
    uid = f"user-{os.urandom(4).hex()}"
    rgw.add_user(uid, f"{uid}-key", "secret")
    client = rgw.client(access_key_id=f"{uid}-key", secret_access_key="secret")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket=rgw_bucket.bucket)


def test_rclone_says_that_it_has_one_user(rclone: S3Server) -> None:
    """A test that forgot to ask for the capability is told so."""
    with pytest.raises(NotImplementedError, match="one user"):
        rclone.add_user("a", "b", "c")


def test_a_server_ends_with_its_caller_even_if_that_is_killed() -> None:
    """No server outlives a test run that was shot."""
    code = "from tests.servers import start\nwith start('rclone') as s: print(s.to_json(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as caller:
        assert caller.stdout
        server = S3Server.from_json(caller.stdout.readline())
        assert server.directory.exists()
        caller.send_signal(signal.SIGKILL)
    _wait_until(lambda: not server.directory.exists())
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(server.endpoint)


def test_a_server_started_by_hand_stops_on_ctrl_c() -> None:
    """`python -m tests.servers rclone` says where it listens, and cleans up after itself."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers", "rclone"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert "rclone listens on http://127.0.0.1:" in process.stdout.readline()
        directory = Path([process.stdout.readline() for _ in range(3)][-1].split()[-1])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert not directory.exists()


def test_a_program_that_is_missing_is_named() -> None:
    """Whoever lacks a server's program learns how to get it."""
    with pytest.raises(ServerUnavailableError, match="no-such-program is not installed: buy it"):
        find_executable("no-such-program", "buy it")


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason reaches the caller of `start`, across the process between them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerUnavailableError, match="ceph is not installed: on Debian"), start("rgw"):
        pass


def test_the_proxy_counts_requests_and_changes_none(
    server: S3Server, bucket: BucketSettings, request_counter: Counter
) -> None:
    """Signed requests pass, bodies of any size come through as they are, and each answer is on record."""
    proxy = request_counter(server)
    client, name, body = server.client(endpoint=proxy.endpoint), bucket.bucket, os.urandom(3 * 2**20)
    client.put_object(Bucket=name, Key="k", Body=body)
    assert client.get_object(Bucket=name, Key="k")["Body"].read() == body
    client.head_object(Bucket=name, Key="k")
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=name, Key="none")
    client.list_objects_v2(Bucket=name, Prefix="k")
    client.delete_object(Bucket=name, Key="k")
    assert [(each.method, each.target, each.status) for each in proxy.requests[:4]] == [
        ("PUT", f"/{name}/k", 200),
        ("GET", f"/{name}/k", 200),
        ("HEAD", f"/{name}/k", 200),
        ("GET", f"/{name}/none", 404),
    ]
    listing, deletion = proxy.requests[4:]
    assert listing.method == "GET"
    assert "prefix=k" in listing.target
    assert (deletion.method, deletion.target, deletion.status) == ("DELETE", f"/{name}/k", 204)
    proxy.clear()
    assert proxy.requests == []


def test_the_proxy_passes_on_that_a_server_is_gone(request_counter: Counter) -> None:
    """A dead backend is a closed connection, not a hang."""
    proxy = request_counter("http://127.0.0.1:1")
    with pytest.raises(OSError, match=r"closed|reset|Remote"):
        urllib.request.urlopen(proxy.endpoint, timeout=60)


def test_a_test_has_a_home_of_its_own(home: Path) -> None:
    """No test reads the developer's dtool.json, and none writes into the developer's cache."""
    assert Path.home() == home
    assert dtoolcore.utils.DEFAULT_CONFIG_PATH.startswith(str(home))
    assert dtoolcore.utils.DEFAULT_CACHE_PATH.startswith(str(home))
    assert not list(home.iterdir())
    assert not [name for name in os.environ if name.startswith(("DTOOL_", "AWS_"))]


def _is_readable(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
