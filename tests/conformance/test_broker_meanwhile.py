"""What goes on meanwhile: another process freezes the proto dataset that this one has open, or a file changes."""

from __future__ import annotations

import os
from typing import Any

import dtoolcore
import pytest

from dtool_ecs_flows import verify_dataset
from dtool_ecs_flows.errors import CorruptItemError, FrozenDatasetError
from tests.conformance.helpers import Files, content, proto_dataset
from tests.independent import MIB, Raw, identifier, noise

pytestmark = pytest.mark.usefixtures("configured")


# --- frozen meanwhile ---


def test_what_was_frozen_meanwhile_is_not_frozen_again(base_uri: str, files: Files, raw: Raw) -> None:
    """A proto dataset that was open all the time does not change manifest, overlays or the time of freezing."""
    proto = proto_dataset(base_uri)
    proto.put_item(files(b"1"), "a")
    proto.add_item_metadata("a", "n", 1)
    stale = dtoolcore.ProtoDataSet.from_uri(proto.uri)
    proto.freeze()
    before = raw.state()

    with pytest.raises(FrozenDatasetError, match="never written over"):
        stale.freeze()

    assert raw.state() == before
    assert content(dtoolcore.DataSet.from_uri(proto.uri)) == {"a": b"1"}


def test_an_item_that_was_put_after_the_freeze_is_told_of(base_uri: str, files: Files, raw: Raw) -> None:
    """A put does not look, as that would be a request per item: its freeze fails and says what it has done."""
    proto = proto_dataset(base_uri)
    for relpath in ("replaced", "kept", "same"):
        proto.put_item(files(relpath.encode()), relpath)
    stale = dtoolcore.ProtoDataSet.from_uri(proto.uri)
    proto.freeze()
    documents = {key: each for key, each in raw.state().items() if "/data/" not in key}

    for relpath in ("replaced", "added"):
        stale.put_item(files(b"late"), relpath)
    stale.put_item(files(b"same"), "same")
    with pytest.raises(FrozenDatasetError) as caught:
        stale.freeze()

    assert "'added', 'replaced'" in str(caught.value)
    assert "verify_dataset" in str(caught.value)
    assert {key: each for key, each in raw.state().items() if "/data/" not in key} == documents
    assert sorted(finding.kind for finding in verify_dataset(proto.uri).findings) == ["extra", "size"]


@pytest.mark.parametrize("maker", [True, False], ids=["its maker", "another"])
def test_a_stale_name_does_not_thaw_a_dataset(base_uri: str, files: Files, raw: Raw, *, maker: bool) -> None:
    """Renaming a proto dataset that was frozen meanwhile is refused, even by the object that has created it."""
    stale = proto_dataset(base_uri)
    stale.put_item(files(b"1"), "a")
    other = dtoolcore.ProtoDataSet.from_uri(stale.uri)
    if not maker:
        stale, other = other, stale
    stale.update_name("before")
    dtoolcore.ProtoDataSet.from_uri(stale.uri).freeze()
    before = raw.state()

    with pytest.raises(FrozenDatasetError):
        stale.update_name("after")

    assert raw.state() == before
    assert dtoolcore.DataSet.from_uri(stale.uri).name == "before"


# --- a file that changes ---


@pytest.mark.parametrize("size", [5, 9 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("change", ["grows", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_not_put(
    base_uri: str, files: Files, raw: Raw, monkeypatch: pytest.MonkeyPatch, *, size: int, change: str
) -> None:
    """The item fails and nothing of it is in the bucket; put again, it is there as the file is then."""
    path, later = files(noise(size)), noise(size + 1 if change == "grows" else size, 1)
    proto = proto_dataset(base_uri)
    looked: list[Any] = []
    real = os.stat

    def stat(name: Any, **options: Any) -> os.stat_result:
        if name == path:
            looked.append(name)
            if len(looked) == 2:  # it was read to its end
                with open(path, "wb") as file:
                    file.write(later)
                os.utime(path, (1.5e9, 1.5e9))  # as fast as this a clock would not show it
        return real(name, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat)
        with pytest.raises(CorruptItemError, match="changed while it was read"):
            proto.put_item(path, "a")

    assert raw.listed(f"{proto.uuid}/data/") == []
    assert raw.uploads() == []
    proto.put_item(path, "a")
    assert raw.get(f"{proto.uuid}/data/{identifier('a')}") == later
