"""One store used from many threads, and from processes that were forked or spawned after it was used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store, open_store
from tests.conformance.helpers import changed, environment
from tests.independent import Raw, md5, noise

PREPARED = """
import multiprocessing, os, sys, threading, time
from dtool_ecs_flows.settings import resolve
from dtool_ecs_flows.store import Store, open_store
from dtool_ecs_flows.store.fast import usable
from dtool_ecs_flows.transfer import md5_of

BUCKET = sys.argv[1]

def use(store, name):
    body = name.encode()
    store.put_item(name, body, md5_of(body), {})
    assert bytes(store.read(name, 0, len(body), len(body))) == body
    assert store.get(name).body == body
    store.put(name + ".json", body)

def use_new(name):
    use(open_store(resolve(BUCKET)), name)
    use(Store(resolve(BUCKET)), name + "-own")
    return name

def fork_and_use(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if __name__ == "__main__":
    store = open_store(resolve(BUCKET))
"""

STORIES = {
    "a child uses the store of its parent": """
    use(store, "parent")
    assert fork_and_use(lambda: use(store, "child")) == 0
    use(store, "parent-again")
""",
    "a child makes a store of its own": """
    use(store, "parent")
    assert fork_and_use(lambda: use_new("child")) == 0
    use(store, "parent-again")
""",
    "a grandchild does": """
    use(store, "parent")
    def child():
        assert fork_and_use(lambda: use(store, "grandchild")) == 0
        use(store, "child")
    assert fork_and_use(child) == 0
    use(store, "parent-again")
""",
    "a child of a parent that has not used it is as fast as its parent": """
    assert fork_and_use(lambda: (use(store, "child"), os._exit(0 if usable(store.settings) else 3))) == 0
    use(store, "parent")
    assert usable(store.settings)
""",
    "a child is forked while threads of its parent work": """
    stop = threading.Event()
    def work(number):
        while not stop.is_set():
            use(store, f"thread-{number}")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads: thread.start()
    time.sleep(0.5)
    codes = [fork_and_use(lambda: use(store, "child")) for _ in range(3)]
    stop.set()
    for thread in threads: thread.join()
    assert codes == [0, 0, 0]
""",
    "a pool of forked processes": """
    use(store, "parent")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(use_new, ["a", "b", "c", "d"]) == ["a", "b", "c", "d"]
    use(store, "parent-again")
""",
    "a pool of spawned processes": """
    use(store, "parent")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(use_new, ["a", "b"]) == ["a", "b"]
    use(store, "parent-again")
""",
}


@pytest.mark.parametrize("story", STORIES)
def test_after_a_fork(rclone_bucket: BucketSettings, tmp_path: Path, home: Path, story: str) -> None:
    """A child that was forked after items had been moved works, and does not hang, whichever store it uses."""
    script = tmp_path / "script.py"
    script.write_text(PREPARED + STORIES[story])
    variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environment(rclone_bucket)}
    process = subprocess.Popen(
        [sys.executable, str(script), rclone_bucket.bucket],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the child that hangs holds the pipe
        said, _ = process.communicate()
        pytest.fail(f"it hangs: {said}")
    assert process.returncode == 0, said
    assert Raw(rclone_bucket).listed()


def test_one_store_serves_many_threads(bucket: BucketSettings) -> None:
    """Puts, reads, lists and deletes at once, each with its own result."""
    store = open_store(bucket)

    def work(number: int) -> bool:
        body = noise(1000 + number, number)
        key = f"data/{number:02}"
        etag = store.put_item(key, body, md5(body), {"n": str(number)})
        read = bytes(store.read(key, 0, len(body), len(body)))
        part = bytes(store.read(key, 5, 10, len(body)))
        found = store.get(key)
        listed = [info.size for info in store.list(key)]
        told = store.head(key).metadata["n"]
        store.put(f"{key}.json", body)
        store.delete([f"{key}.json"])
        return (etag, read, part, found.body, listed, told) == (
            md5(body), body, body[5:15], body, [len(body)], str(number),
        )  # fmt: skip  # what is compared stands below each other

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(48)))
    assert len(Raw(bucket).listed()) == 48


def test_equal_settings_share_connections_and_others_share_nothing(rclone_bucket: BucketSettings) -> None:
    """dtoolcore builds three brokers for one dataset; another user, endpoint or bucket never meets their clients."""
    store = open_store(rclone_bucket)
    assert open_store(changed(rclone_bucket)) is store
    others = [
        changed(rclone_bucket, secret_access_key="another"),
        changed(rclone_bucket, access_key_id="another"),
        changed(rclone_bucket, namespace="another"),
        changed(rclone_bucket, endpoint="http://127.0.0.1:9"),
        changed(rclone_bucket, bucket="another"),
    ]
    assert all(open_store(each) is not store for each in others)
    assert Store(rclone_bucket) is not store
