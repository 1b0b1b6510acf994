"""What is known of the plugins of other stores: threads, names that they cannot hold, what they give back wrongly."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Threads: TypeAlias = Literal["one", "own", "shared"]
"""How many threads at once may use a plugin's broker.

`one`: only one, and one broker for all. `own`: each thread has a broker of its own, with a connection of its own.
`shared`: all use the same.
"""

Kind: TypeAlias = Literal["tags", "annotations", "overlays"]

_TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
_NOT_FOUND_IN_SMB = (0xC0000034, 0xC000003A)  # no such name, no such path
_FORBIDDEN_IN_SMB = frozenset('\\:*?"<>|')
_IDENTIFIER = re.compile(r"[0-9a-f]{40}")


def _any_name(_: str) -> str:
    return ""


def _never(_: str) -> bool:
    return False


def _nothing(_: Any) -> None:
    pass


def _itself(kind: Any) -> Any:
    return kind


@dataclass(frozen=True)
class Manners:
    """How a plugin is used."""

    threads: Threads = "one"
    wrong_with: Callable[[str], str] = _any_name
    """Says why an item cannot have a relpath there; empty where it can."""
    one_case: bool = False
    """`A.txt` and `a.txt` are one item there."""
    folders: bool = False
    """An item lies in a folder, which is made with the first one in it."""
    ascii_admin: bool = False
    """Administrative metadata has to be ASCII there."""
    used: Callable[[Any], Any] = _itself
    """Returns the class that is used in place of the plugin's own."""
    opened: Callable[[Any], None] = _nothing
    """Called with each broker that was made."""
    absent: Callable[[BaseException], bool] | None = None
    """Tells the error of what is not there from all others, where the broker takes any error for an answer."""
    misread: Callable[[str], bool] = _never
    """Says whether the plugin itself lists an item of this relpath under another; only manifests have it right."""
    listed: Callable[[Any], Iterable[str]] | None = None
    """Lists the identifiers of the items that are there, where the broker lists relpaths wrongly, or slowly."""
    named: Callable[[Any, str], bool] | None = None
    """Says whether the item of an identifier has its relpath with it, where that is written after its bytes."""
    files: Callable[[Any, Kind], Iterable[str]] | None = None
    """Lists the files of tags, annotations or overlays, where the broker's own listing is wrong about dots in names."""
    hash: Callable[[Any, str], str] | None = None
    """Hashes an item that is there, by its relpath, where the broker's own way holds all of it in memory."""


def manners_of(scheme: str) -> Manners:
    """Return what is known of the plugin for a scheme; of one that is not known, nothing good is assumed."""
    return MANNERS.get(scheme, Manners())


# --- http: dtool-http 0.5 ---


def _patient_http(kind: Any) -> Any:
    """Return a class of dtool-http's brokers that ask with time limits, for bytes as they are, on lasting connections.

    Left to itself it waits for ever, takes compressed bytes for those of the item, and guesses the encoding of text.
    A broker asks as soon as it is made, so it has to be of a class of its own.
    """
    import requests  # noqa: PLC0415  # comes with the plugin

    class Patient(kind):  # type: ignore[misc]  # dtool-http has no types
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._own = threading.local()
            super().__init__(*arguments, **named)

        def _asked(self, url: str, stream: bool = False) -> Any:
            if not hasattr(self._own, "session"):
                self._own.session = requests.Session()
                weakref.finalize(self, self._own.session.close)
            bare = {"Accept-Encoding": "identity"}
            return self._own.session.get(url, stream=stream, timeout=_TIMEOUTS, headers=bare)

        def _get_base_uri(self, where: Any) -> str:
            """Follow redirects; that nothing is there, as below a prefix of a bucket, does no harm."""
            url = where if isinstance(where, str) else where._replace(query="").geturl()  # which of them: by version
            return str(self._asked(url).url)

        def _get_request(self, url: str, stream: bool = False) -> Any:
            answer = self._asked(url, stream)
            if answer.status_code != 200:
                answer.close()
                raise OSError(f"the server answered with status {answer.status_code}")
            return answer

        def _get_text_from_url(self, url: str) -> str:
            return str(self._get_request(url).content.decode("utf-8"))

    return Patient


# --- s3: dtool-s3 0.14 ---


def _absent_in_s3(error: BaseException) -> bool:
    code = getattr(error, "response", {}).get("Error", {}).get("Code")
    return code in ("NoSuchKey", "404")


def _s3_files(broker: Any, kind: Kind) -> Iterable[str]:
    return _s3_below(broker, getattr(broker, f"{kind}_key_prefix"))


def _s3_listed(broker: Any) -> Iterable[str]:
    """List the identifiers, which are the ends of keys; the broker itself gets every item to learn its relpath."""
    return [name for name in _s3_below(broker, broker.data_key_prefix) if _IDENTIFIER.fullmatch(name)]


def _s3_below(broker: Any, prefix: str) -> list[str]:
    found = broker.s3resource.Bucket(broker.bucket).objects.filter(Prefix=prefix)
    return [each.key.removeprefix(prefix) for each in found]


# --- smb: dtool-smb 0.1 ---


def _open_smb(broker: Any) -> None:
    weakref.finalize(broker, broker.conn.close)


def _absent_in_smb(error: BaseException) -> bool:
    answers = list(getattr(error, "smb_messages", ()))
    return bool(answers) and answers[-1].status in _NOT_FOUND_IN_SMB


def _wrong_with_smb(relpath: str) -> str:
    for part in relpath.split("/"):
        if _FORBIDDEN_IN_SMB & set(part) or any(ord(char) < 32 for char in part):
            return 'a name on a share has none of \\ : * ? " < > | and no control character'
        if part.endswith((" ", ".")):
            return "a name on a share does not end with a space or a dot"
        if len(part.encode("utf-16-le")) > 2 * 255:
            return "a name on a share has at most 255 characters"
    return ""


def _smb_files(broker: Any, kind: Kind) -> Iterable[str]:
    listed = broker.conn.listPath(broker.service_name, getattr(broker, f"_{kind}_path"))
    return [each.filename for each in listed if not each.isDirectory]


class _Hashing:
    """A file that keeps nothing of what is written to it but the hash."""

    def __init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self.md5.update(data)
        return len(data)


def _smb_hash(broker: Any, relpath: str) -> str:
    file = _Hashing()
    broker.conn.retrieveFile(broker.service_name, broker._fpath_from_handle(relpath), file)
    return file.md5.hexdigest()


# --- azure: dtool-azure 0.7 ---


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def in_a_header(text: str) -> str:
    """Return a text as a header can have it: ASCII, on one line, without spaces at its ends; others are escaped."""
    if _is_plain(text):
        return text
    escaped = text.encode("unicode_escape").decode()
    begin = len(escaped) - len(escaped.lstrip(" "))
    end = len(escaped[begin:]) - len(escaped[begin:].rstrip(" "))
    return "\\x20" * begin + escaped.strip(" ") + "\\x20" * end


def _open_azure(broker: Any) -> None:
    """Let a broker of dtool-azure keep names in headers that no header can have; what else it writes has them right."""
    # Its client logs every answer that is none of success as an error, also where it asks whether something is there.
    if not (log := logging.getLogger("azure.storage")).handlers:
        log.addHandler(logging.NullHandler())
    service = broker._blobservice
    weakref.finalize(broker, service._httpclient.session.close)
    of_blob, of_container = service.set_blob_metadata, service.set_container_metadata

    def escaped(metadata: Mapping[str, str]) -> dict[str, str]:
        return {key: in_a_header(str(value)) for key, value in metadata.items()}

    def set_blob_metadata(container_name: str, blob_name: str, metadata: Mapping[str, str]) -> Any:
        return of_blob(container_name, blob_name, metadata=escaped(metadata))

    def set_container_metadata(container_name: str, metadata: Mapping[str, str]) -> Any:
        return of_container(container_name, metadata=escaped(metadata))

    service.set_blob_metadata, service.set_container_metadata = set_blob_metadata, set_container_metadata


def _absent_in_azure(error: BaseException) -> bool:
    return getattr(error, "status_code", None) == 404


def _azure_files(broker: Any, kind: Kind) -> Iterable[str]:
    prefix = getattr(broker, f"{kind}_key_prefix")
    return [blob.name.removeprefix(prefix) for blob in broker._blobservice.list_blobs(broker.uuid, prefix=prefix)]


def _azure_listed(broker: Any) -> Iterable[str]:
    return [blob.name for blob in broker._blobservice.list_blobs(broker.uuid) if _IDENTIFIER.fullmatch(blob.name)]


def _azure_named(broker: Any, identifier: str) -> bool:
    return "relpath" in (broker._blobservice.get_blob_metadata(broker.uuid, identifier) or {})


# --- irods: dtool-irods 0.10 ---


def _irods_misread(relpath: str) -> bool:
    return ":" in relpath or not relpath.isprintable() or relpath != relpath.strip()


def _irods_listed(broker: Any) -> Iterable[str]:
    names = (os.path.basename(path) for path in broker._ls_abspaths_with_cache(broker._data_abspath))
    return [name for name in names if _IDENTIFIER.fullmatch(name)]


def _irods_named(broker: Any, identifier: str) -> bool:
    try:
        return bool(broker._get_metadata_with_cache(os.path.join(broker._data_abspath, identifier), "handle"))
    except LookupError:
        return False


MANNERS: Mapping[str, Manners] = MappingProxyType(
    {
        # Each request is one of its own, and nothing in the broker changes once it is made.
        "http": Manners(threads="shared", used=_patient_http),
        "https": Manners(threads="shared", used=_patient_http),
        # Resources of boto3 are not thread-safe, and each broker that is made changes a dictionary of the module.
        "s3": Manners(threads="one", absent=_absent_in_s3, ascii_admin=True, listed=_s3_listed, files=_s3_files),
        # Its service keeps one session of requests, whose state is not guarded.
        "azure": Manners(
            threads="own",
            opened=_open_azure,
            absent=_absent_in_azure,
            misread=lambda relpath: not _is_plain(relpath),
            listed=_azure_listed,
            named=_azure_named,
            files=_azure_files,
        ),
        # A connection takes one request at a time, and mixes up the answers to two.
        "smb": Manners(
            threads="own",
            wrong_with=_wrong_with_smb,
            one_case=True,
            folders=True,
            opened=_open_smb,
            absent=_absent_in_smb,
            files=_smb_files,
            hash=_smb_hash,
        ),
        # Each call is a process of its own; how many of them a server takes at once was not to be tried.
        "irods": Manners(threads="one", misread=_irods_misread, listed=_irods_listed, named=_irods_named),
    }
)
"""By scheme. What was read in the code of these versions, and tried."""
