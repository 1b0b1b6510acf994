"""The storage brokers that installed packages provide to dtoolcore: which of them is in the way.

dtoolcore imports all of them whenever it looks one up, and takes the one that it meets last for a scheme.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points

from dtool_ecs_flows.errors import NotADatasetError, PluginError

GROUP = "dtool.storage_brokers"
"""The entry points that dtoolcore looks at."""


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


def check(uri: str) -> None:
    """Load all plugins, as dtoolcore does when it looks one up.

    Raises:
        PluginError: a plugin, for whichever scheme, cannot be imported; a message for who opens `uri`.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as reason:
            raise PluginError(
                f"the dtool plugin {entry.name!r} of the package {_package(entry)} ({entry.value}) cannot be "
                f"imported, and with it dtoolcore opens no dataset, of {uri} or any other place: mend or uninstall "
                f"it. {type(reason).__name__}: {reason}"
            ) from reason


@contextmanager
def looked_up(uri: str) -> Iterator[None]:
    """Within it dtoolcore looks up what serves a URI: where nothing does, or a plugin is broken, the error says which.

    Raises:
        PluginError: a plugin, for whichever scheme, cannot be imported.
        NotADatasetError: no plugin serves the URI's scheme.
    """
    try:
        yield
    except Exception as error:
        check(uri)
        if isinstance(error, KeyError):
            raise NotADatasetError(f"{uri}: no installed plugin serves the scheme {error}") from None
        raise


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
