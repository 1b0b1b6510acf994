"""The storage brokers that installed packages provide: the one for a scheme, and which of them is in the way.

dtoolcore imports all of them whenever it looks one up, so that a broken one keeps all others from being found, and
takes the one that it meets last for a scheme. Here a broken one is named and left out.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from dtoolcore.storagebroker import DiskStorageBroker
from dtoolcore.utils import generous_parse_uri

from dtool_ecs_flows import layout
from dtool_ecs_flows.errors import NotADatasetError, PluginError
from dtool_ecs_flows.words import unsigned

GROUP = "dtool.storage_brokers"
"""The entry points that dtoolcore looks at."""

EXTRAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "http": ("http", "dtool-http"),
        "https": ("http", "dtool-http"),
        "s3": ("s3", "dtool-s3"),
        "azure": ("azure", "dtool-azure"),
        "smb": ("smb", "dtool-smb"),
        "irods": ("irods", "dtool-irods"),
    }
)
"""For the schemes of the dtool family, the extra of this package that brings the plugin, and the plugin's package."""


class _Unsigned(logging.Filter):
    """Keeps what signs a URL out of records of other packages, which have it at DEBUG."""

    _signed = re.compile(r"(?<=[?&'])((?:X-Amz-)?(?:Signature|Credential|Security-Token)|sig)=[^&\s']*", re.IGNORECASE)

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._without(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._without, record.args))
        return True

    def _without(self, value: Any) -> Any:
        return self._signed.sub(r"\1=…", value) if isinstance(value, str) else value


for _name in ("dtoolcore.utils", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_Unsigned())


def serving(scheme: str, class_name: str) -> dict[str, str]:
    """Return the brokers that serve a scheme, as `module:class`, each with its package; dtoolcore takes the last.

    Args:
        scheme: of the URIs.
        class_name: what the broker of this package is called.
    """
    return {
        entry.value: _package(entry)
        for entry in entry_points(group=GROUP)
        # dtool-ecs names its entry after the class. Loading them all would tell, and would load what is broken too.
        if entry.name == scheme or entry.attr == class_name
    }


def warn_of_others(scheme: str, class_name: str) -> None:
    """Say so where more than one installed package provides a scheme, whose broker here has this name."""
    providers = serving(scheme, class_name)
    if len(providers) > 1:
        names = list(providers.values())
        message = (
            f"the packages {', '.join(names)} all serve {scheme}:// URIs; dtoolcore takes {names[-1]}. "
            "Uninstall all but one"
        )
        warnings.warn(message, stacklevel=2)


def without_signature(uri: str) -> str:
    """Return a URI without a password, and without what signs it, which is a secret while it lasts."""
    return unsigned(uri).partition("?")[0] if uri.startswith(("http:", "https:")) else uri


def broker_class(uri: str) -> Any:
    """Return the class of the storage broker that serves a URI, as dtoolcore would, but for what is broken.

    A plugin for another scheme that cannot be imported is left out, and warned of.

    Raises:
        PluginError: the plugin for the scheme is not installed, or cannot be imported; the message says what to do.
        NotADatasetError: it is no URI, or no plugin is known for its scheme.
        UnsafeNameError: it is empty.
    """
    layout.check_given(uri)
    try:
        scheme = generous_parse_uri(uri).scheme
    except ValueError as error:
        raise NotADatasetError(f"{without_signature(uri)!r} is no URI: {error}") from None
    where = without_signature(uri)
    if scheme == DiskStorageBroker.key:
        return DiskStorageBroker
    found, broken = None, {}
    for entry in entry_points(group=GROUP):
        try:
            broker = entry.load()
            if broker.key == scheme:
                found = broker
        except Exception as reason:  # noqa: BLE001  # of code that is not ours
            broken[_package(entry)] = _told(entry, reason)
    extra, package = EXTRAS.get(scheme, ("", ""))
    if found is None and broken and (package in broken or not package):
        raise PluginError(f"{where} cannot be opened: {broken.get(package) or '; '.join(broken.values())}")
    for told in broken.values():
        warnings.warn(f"{told} It is left out here; dtoolcore itself finds no plugin at all meanwhile", stacklevel=2)
    if found is not None:
        return found
    if extra:
        raise PluginError(
            f"{where}: {scheme} URIs need the package {package}, which the extra [{extra}] brings: "
            f"pip install 'dtool-ecs-flows[{extra}]'"
        )
    raise NotADatasetError(f"{where}: no installed plugin serves the scheme {scheme!r}")


def check(uri: str) -> None:
    """Load all plugins, as dtoolcore does when it looks one up.

    Raises:
        PluginError: a plugin, for whichever scheme, cannot be imported; a message for who opens `uri`.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as reason:
            told = _told(entry, reason)
            raise PluginError(
                f"{told} With it dtoolcore opens no dataset, of {without_signature(uri)} or any other place"
            ) from reason


def _told(entry: EntryPoint, reason: Exception) -> str:
    return (
        f"the dtool plugin {entry.name!r} of the package {_package(entry)} ({entry.value}) cannot be imported: "
        f"{type(reason).__name__}: {reason}. Mend or uninstall it."
    )


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
