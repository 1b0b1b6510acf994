"""A reader of the pages, who has what they speak of."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtool_ecs_flows import create_dataset
from tests.conftest import new_bucket
from tests.docs.reader import Reader, terminal
from tests.servers import S3Server
from tests.servers.supervisor import free_ports


@pytest.fixture
def reader(rclone: S3Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader whose dtool.json names a fresh bucket, in a folder with some results and a dataset."""
    bucket = new_bucket(rclone)
    secret = bucket.secret_access_key.get_secret_value()
    config = home / ".config" / "dtool" / "dtool.json"
    config.parent.mkdir(parents=True)
    config.touch(mode=0o600)
    config.write_text(json.dumps({
        f"DTOOL_ECS_ENDPOINT_{bucket.bucket}": bucket.endpoint,
        f"DTOOL_ECS_ACCESS_KEY_ID_{bucket.bucket}": bucket.access_key_id,
        f"DTOOL_ECS_SECRET_ACCESS_KEY_{bucket.bucket}": secret,
    }))  # fmt: skip  # one key a line
    for name in ("results", "restored", "datasets"):
        (tmp_path / name).mkdir()
    (tmp_path / "results" / "energies.csv").write_text("temperature,energy\n300,450\n")
    monkeypatch.chdir(tmp_path)
    measured = create_dataset("measured", "datasets", directory="results")
    (port,) = free_ports(1)
    own = {
        "my-bucket": bucket.bucket,
        "https://ecs.example.org:9021": bucket.endpoint,
        "my-user": bucket.access_key_id,
        "my-secret": secret,
        "127.0.0.1:9020": f"127.0.0.1:{port}",
        "/data/datasets": str(tmp_path / "datasets"),
        "/data/simulation": str(tmp_path / "datasets" / "measured"),
        "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10": measured.uuid,
    }
    made = Reader(bucket, tmp_path, own, terminal(tmp_path, Path(sys.executable).parent))
    yield made
    made.terminal.close()
