"""Storage brokers of other packages: which one is in the way, where dtoolcore looks one up for us."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import dtoolcore
import pytest

from dtool_ecs_flows import copy_dataset, create_dataset, list_datasets, plugins, verify_dataset
from dtool_ecs_flows.errors import NotADatasetError, PluginError
from dtool_ecs_flows.plugins import EXTRAS
from tests.independent import disk_dataset

LOOK_UPS: dict[str, Callable[[str], object]] = {
    "source": verify_dataset,
    "listing": lambda uri: list_datasets(uri.rpartition("/")[0]),
    "destination": lambda uri: create_dataset("penguins", uri.rpartition("/")[0], files={"a": __file__}),
}

UUID = "b4d75f7b-9c3f-4d8c-a2b6-5d3b8f3a2f10"


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


BROKEN = [
    ("import a_library_that_is_gone", "ModuleNotFoundError: No module named 'a_library_that_is_gone'"),
    ("{}['key']", "KeyError: 'key'"),
    ("", "has no attribute 'RustyBroker'"),
]
NAMED = r"plugin 'rusty' of the package dtool-rusty \(dtool_rusty:RustyBroker\)"


@pytest.mark.parametrize("where", LOOK_UPS)
@pytest.mark.parametrize(("module", "reason"), BROKEN)
def test_a_broken_plugin_is_named_where_it_is_needed(
    plugin: Callable[[str], None], module: str, reason: str, where: str
) -> None:
    """What is wrong with it stands in the error, and whose it is."""
    plugin(module)

    with pytest.raises(PluginError, match=NAMED) as caught:
        LOOK_UPS[where](f"rusty://here/{UUID}")

    assert "uninstall" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("module", "reason"), BROKEN)
def test_a_broken_plugin_does_not_break_the_others(
    plugin: Callable[[str], None], tmp_path: Path, module: str, reason: str
) -> None:
    """dtoolcore imports all plugins to find one, and then finds none. Here the others work, and a warning names it."""
    uri = disk_dataset(tmp_path / "in", {"a": b"1"})
    plugin(module)
    (tmp_path / "packages" / "dtool_well.py").write_text(WELL)
    about = tmp_path / "packages" / "dtool_rusty-1.0.dist-info" / "entry_points.txt"
    about.write_text(f"{about.read_text()}well = dtool_well:WellBroker\n")
    with pytest.raises(Exception, match=reason.rpartition(": ")[2]):  # what this is about, as dtoolcore has it
        dtoolcore.DataSet.from_uri(uri)

    assert verify_dataset(uri).ok
    (tmp_path / "out").mkdir()
    with pytest.warns(UserWarning, match=NAMED):
        copied = copy_dataset(uri, f"well://here{tmp_path}/out")
    with pytest.warns(UserWarning, match=NAMED):
        assert verify_dataset(copied.uri).ok


WELL = """
from dtoolcore.storagebroker import DiskStorageBroker

class WellBroker(DiskStorageBroker):
    key = "well"

    @classmethod
    def generate_uri(cls, name, uuid, base_uri):
        return f"{base_uri}/{uuid}"
"""


@pytest.mark.parametrize("where", LOOK_UPS)
@pytest.mark.parametrize("scheme", EXTRAS)
def test_where_the_extra_for_a_scheme_is_missing_it_is_named(
    scheme: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install, whatever else is installed."""
    ours = [entry for entry in entry_points(group="dtool.storage_brokers") if entry.name == "ecs"]
    monkeypatch.setattr(plugins, "entry_points", lambda group: ours)  # noqa: ARG005  # an environment without extras
    extra, package = EXTRAS[scheme]

    with pytest.raises(PluginError, match=rf"needs? the package {package}.*pip install 'dtool-ecs-flows\[{extra}\]'"):
        LOOK_UPS[where](f"{scheme}://somewhere/{UUID}")


def test_a_scheme_that_nobody_serves_is_named() -> None:
    """Where all plugins are well, there is none for it."""
    with pytest.raises(NotADatasetError, match="no installed plugin serves the scheme 'ftp'"):
        LOOK_UPS["destination"](f"ftp://somewhere/{UUID}")
