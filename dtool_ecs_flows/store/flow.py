"""Some bytes of an object on their way to the one who takes them, however many answers they come in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from dtool_ecs_flows.store.failures import check_stop
from dtool_ecs_flows.store.fast import CHUNK


class TakerError(Exception):
    """What the taker raised, on its way through what tries a request again: a full disk is no failure of the store."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Flow:
    """`length` bytes of an object of `size` bytes, from `offset` on: each is handed to `take` once, in order.

    An answer that is cut short is no loss: `params` ask for the rest.
    """

    def __init__(self, key: str, offset: int, length: int, size: int, take: Callable[[Any], None]) -> None:
        self.params: dict[str, Any] = {"Key": key}
        self.left = length
        self._offset, self._size, self._take = offset, size, take
        self._ask()

    def hand_on(self, chunk: Any) -> None:
        """Hand on what came next, unless the caller was asked to stop: over a slow network the rest takes long."""
        check_stop()
        chunk = memoryview(chunk)[: self.left]
        try:
            self._take(chunk)
        except Exception as error:  # noqa: BLE001  # comes out of `Store.fetch` as it is
            raise TakerError(error) from None
        self._offset += len(chunk)
        self.left -= len(chunk)
        self._ask()

    def read(self, response: dict[str, Any]) -> None:
        """Hand on what is in an answer of boto3, unless the object has another size."""
        with closing(response["Body"]) as body:
            total = response.get("ContentRange", "").rpartition("/")[2] or response["ContentLength"]
            if int(total) != self._size:
                return
            # Without Content-Range it is the whole object, from a server that knows no ranges.
            skip = 0 if "ContentRange" in response else self._offset
            for chunk in body.iter_chunks(CHUNK):
                if skip < len(chunk):
                    self.hand_on(memoryview(chunk)[skip:])
                skip = max(0, skip - len(chunk))
                if not self.left:
                    return

    def _ask(self) -> None:
        if self.left < self._size:  # the whole is asked for without, as from a server that knows no ranges
            self.params["Range"] = byte_range(self._offset, self.left)


def byte_range(offset: int, length: int) -> str:
    """Return the Range header for some bytes."""
    return f"bytes={offset}-{offset + length - 1}"
