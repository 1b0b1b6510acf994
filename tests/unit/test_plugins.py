"""Storage brokers of other packages: which one is in the way, where dtoolcore looks one up for us."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import create_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import NotADatasetError, PluginError
from tests.independent import disk_dataset

LOOK_UPS: dict[str, Callable[[str], object]] = {
    "source": verify_dataset,
    "listing": lambda uri: list_datasets(uri.rpartition("/")[0]),
    "destination": lambda uri: create_dataset("penguins", "irods:///zone", files={"a": __file__}),  # noqa: ARG005
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs a package whose plugin is such a module."""

    def install(module: str) -> None:
        folder = tmp_path / "packages"
        about = folder / "dtool_rusty-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dtool-rusty\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[dtool.storage_brokers]\nrusty = dtool_rusty:RustyBroker\n")
        (folder / "dtool_rusty.py").write_text(module)
        monkeypatch.syspath_prepend(str(folder))
        if old is not None:
            old.add_entry(str(folder))

    # dtoolcore 3.18.3 looks into the working set of pkg_resources, which is filled when that is imported.
    old = getattr(sys.modules.get("pkg_resources"), "working_set", None)
    before = old and old.__getstate__()
    yield install
    if old is not None:
        old.__setstate__(before)
    sys.modules.pop("dtool_rusty", None)


@pytest.mark.parametrize("where", LOOK_UPS)
@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import a_library_that_is_gone", "ModuleNotFoundError: No module named 'a_library_that_is_gone'"),
        ("{}['key']", "KeyError: 'key'"),
        ("", "has no attribute 'RustyBroker'"),
    ],
)
def test_a_broken_plugin_is_named(
    plugin: Callable[[str], None], tmp_path: Path, module: str, reason: str, where: str
) -> None:
    """dtoolcore imports all plugins to find one: its error says nothing of whose it is, or is taken for another."""
    uri = disk_dataset(tmp_path / "in", {"a": b"1"})
    plugin(module)
    with pytest.raises(Exception, match=reason.rpartition(": ")[2]):  # what this is about, as dtoolcore has it
        dtoolcore.DataSet.from_uri(uri)

    with pytest.raises(PluginError) as caught:
        LOOK_UPS[where](uri)

    message = str(caught.value)
    assert "plugin 'rusty' of the package dtool-rusty (dtool_rusty:RustyBroker)" in message
    assert "uninstall" in message
    assert reason in message


def test_a_scheme_that_nobody_serves_is_named() -> None:
    """Where all plugins are well, the one for it is not installed."""
    with pytest.raises(NotADatasetError, match="no installed plugin serves the scheme 'irods'"):
        LOOK_UPS["destination"]("")
