"""The brokers of one dataset in another store: as many as threads need, and what they raise in our words."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from dtoolcore.utils import sanitise_uri

from dtool_ecs_flows import plugins
from dtool_ecs_flows.datasets.others.manners import Kind, manners_of
from dtool_ecs_flows.errors import EcsFlowsError, NotADatasetError, SettingsError, StoreError, UnsafeNameError
from dtool_ecs_flows.words import unsigned

R = TypeVar("R")

# Of code that is not ours. dtool-irods ends the process where a command fails.
_WHATEVER: tuple[type[BaseException], ...] = (Exception, SystemExit)
_QUERY = re.compile(r"\?[^\s'\"<>)]+")


class Brokers:
    """Brokers for one URI. Thread-safe, whatever the plugin is.

    Raises:
        PluginError, NotADatasetError: no plugin serves the URI.
        SettingsError: the plugin misses one of its settings.
        StoreError: the plugin cannot open it.
    """

    def __init__(self, uri: str, config_path: str | None = None) -> None:
        kind = plugins.broker_class(uri)
        self.scheme = str(kind.key)
        self.manners = manners_of(self.scheme)
        self.kind = self.manners.used(kind)
        self._full = sanitise_uri(uri)
        self.uri = plugins.without_signature(self._full)
        self._config_path = config_path
        self._lock = threading.RLock() if self.manners.threads == "one" else nullcontext()
        # A broker that all threads use is in here for each of them.
        self._of_thread = threading.local()
        self._first = None if self.manners.threads == "own" else self._made()
        self._of_thread.broker = self._first or self._made()

    def call(self, work: Callable[[Any], R]) -> R:
        """Do something with a broker; what fails is tried once more, on a new connection where each thread has its own.

        The work is done whole each time, so it has to be something that can be done twice.

        Raises:
            StoreError: it failed again. What it raised of this package's own errors is raised as it is, at once.
        """
        with self._lock:
            try:
                return work(self._broker())
            except EcsFlowsError:
                raise
            except _WHATEVER:
                self._of_thread.broker = self._first
            try:
                return work(self._broker())
            except EcsFlowsError:
                raise
            except _WHATEVER as error:
                raise self._failed(error) from None

    def admin(self) -> dict[str, Any] | None:
        """Return the administrative metadata as the broker gives it; None where there is nothing.

        Several brokers say that there is nothing where they are refused, or the store is down. A dataset that is there
        must not be written over for that.

        Raises:
            NotADatasetError: what is there is no JSON.
            StoreError: the store does not say.
        """

        def look(broker: Any) -> dict[str, Any] | None:
            there = broker.has_admin_metadata()
            if not there and self.manners.absent is None:
                return None
            try:
                return dict(broker.get_admin_metadata())
            except (ValueError, RecursionError) as error:  # no JSON
                raise NotADatasetError(f"{self.uri} cannot be opened: {told(error)}") from None
            except _WHATEVER as error:
                if not there and self.manners.absent is not None and self.manners.absent(error):
                    return None
                raise

        return self.call(look)

    def names(self, kind: Kind) -> list[str]:
        """Return the names of the tags, annotations or overlays, sorted."""
        files = self.manners.files
        if files is not None:
            found = list(self.call(lambda broker: files(broker, kind)))
            return sorted(found if kind == "tags" else (name.removesuffix(".json") for name in found))
        listing = "list_tags" if kind == "tags" else f"list_{kind[:-1]}_names"
        return sorted(self.call(lambda broker: getattr(broker, listing)()))

    def _broker(self) -> Any:
        broker = getattr(self._of_thread, "broker", None) or self._first or self._made()
        self._of_thread.broker = broker
        return broker

    def _made(self) -> Any:
        try:
            broker = self.kind(self._full, self._config_path)
            self._refuse_other_folders(broker)
            self.manners.opened(broker)
        except EcsFlowsError:
            raise
        except KeyError as error:  # how those of smb and azure say which setting is missing
            raise _setting_missing(self.uri, error) from None
        except _WHATEVER as error:
            raise self._failed(error) from None
        return broker

    def _refuse_other_folders(self, broker: Any) -> None:
        """Keep what a plugin fetches in dtool's cache: dtool-http takes the folder from where a server redirects to."""
        folder = str(getattr(broker, "uuid", ""))
        if folder.startswith("/") or ".." in folder.split("/"):
            raise UnsafeNameError(f"{self.uri}: its items would be kept in the folder {folder!r}, outside of the cache")

    def _failed(self, error: BaseException) -> StoreError:
        return _failure(self.uri, self.scheme, error)


def uris_below(base_uri: str, config_path: str | None) -> list[str]:
    """Return the URIs of the datasets of a base URI, sorted as its plugin does.

    Raises:
        NotADatasetError: the plugin cannot list, or there is none.
        FileNotFoundError: there is no such folder.
        PluginError, SettingsError, StoreError: it cannot be opened.
    """
    kind = plugins.broker_class(base_uri)
    if not isinstance(inspect.getattr_static(kind, "list_dataset_uris", None), (classmethod, staticmethod)):
        raise NotADatasetError(f"{base_uri}: the plugin for {kind.key} cannot list datasets; name one by its URI")
    try:
        return [str(uri) for uri in kind.list_dataset_uris(base_uri, config_path)]
    except (EcsFlowsError, FileNotFoundError):
        raise
    except KeyError as error:
        raise _setting_missing(base_uri, error) from None
    except _WHATEVER as error:
        raise _failure(base_uri, kind.key, error) from None


def _failure(uri: str, scheme: str, error: BaseException) -> StoreError:
    return StoreError(f"{uri}: the plugin for {scheme} failed: {told(error)}")


def _setting_missing(uri: str, error: KeyError) -> SettingsError:
    return SettingsError(f"{uri}: {error.args[0] if error.args else 'a setting is missing'}")


def told(error: BaseException) -> str:
    """Return what an error of a plugin says, on one line, without the signatures of URLs."""
    text = " ".join(_QUERY.sub("?…", unsigned(str(error))).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
