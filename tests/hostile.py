"""What somebody may write into a bucket who means harm: valid documents, and then something wrong with them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from dtool_ecs_flows.errors import EcsFlowsError, UnavailableError

ESCAPES = "\x1b[2J\x1b]0;owned\x07"
FORGED = "x\r\n2026-01-01 ERROR root - all is lost"

TEXTS = [
    "",
    ".",
    "..",
    "../../escaped",
    "a/../../escaped",
    "/etc/passwd",
    "~/escaped",
    "a\0b",
    "a.\0",
    "a\\..\\..\\escaped",
    "C:\\escaped",
    "%2e%2e/escaped",
    "file:///etc/passwd",
    "$(touch escaped)",
    "`touch escaped`",
    "!!python/object/apply:os.system ['touch escaped']",
    "{0.__class__} %s %(name)s",
    ESCAPES,
    FORGED,
    "\x85\x9b31m\u2028\u202egnp.exe",
    "\ud800",
    "\U0001f427",
    "x" * 255,
    "x" * 100_000,
    "é" * 2000,
    "d/" * 749 + "x",
    "9" * 4300,
]
NUMBERS = [-1, 0, 1, 2**63, 2**64, 10**17, 10**4000, 1e308, -1e308, 0.5, float("nan"), float("inf"), -float("inf")]
DEPTHS = [50, 99, 101, 300, 850, 960, 990, 5000]

ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS),
    # As text: what is drawn is spoilt further, and the next example shall get it whole.
    st.sampled_from(["null", "true", "[]", "{}", "[[]]", '{"": {}}', json.dumps(["x"] * 1000)]).map(json.loads),
    st.sampled_from(DEPTHS).map("\ue000deep{}\ue000".format),  # a placeholder: json could not write it
    st.text(st.characters(), max_size=10),
)


@st.composite
def spoiled(draw: st.DrawFn, document: Any) -> bytes:
    """A document as JSON, in which one to three things are other than they should be."""
    spoilt = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        spoilt = _spoil(draw, spoilt)
    text = json.dumps(spoilt, ensure_ascii=draw(st.booleans()))
    for depth in DEPTHS:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            wanted = json.dumps(f"\ue000deep{depth}\ue000")
            nested = opening * depth + "1" + closing * depth
            text = text.replace(wanted, nested, 1).replace(wanted.replace("\\ue000", "\ue000"), nested, 1)
    return _damage(draw, text.encode("utf-8", "surrogatepass"))


def _spoil(draw: st.DrawFn, document: Any) -> Any:
    """Replace, remove or rename something, somewhere in a document."""
    if not isinstance(document, (dict, list)) or not document or draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    key = draw(st.sampled_from(list(document) if isinstance(document, dict) else range(len(document))))
    how = draw(st.sampled_from(["inside", "inside", "replace", "remove", "rename", "add"]))
    if how == "inside":
        document[key] = _spoil(draw, document[key])
    elif how == "replace" or isinstance(document, list):
        document[key] = draw(ANYTHING)
    elif how == "remove":
        del document[key]
    else:
        document[draw(st.sampled_from(TEXTS))] = document.pop(key) if how == "rename" else draw(ANYTHING)
    return document


def _damage(draw: st.DrawFn, body: bytes) -> bytes:
    """Mostly leave the bytes as they are; else cut them, double some of them, or encode them another way."""
    how = draw(
        st.sampled_from(["", "", "", "", "", "", "cut", "twice", "duplicate key", "utf-16", "bom", "compressed"])
    )
    if how == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if how == "twice":
        return body + body
    if how == "duplicate key" and body.startswith(b"{"):
        return body[:-1] + b", " + body[1:]
    if how == "utf-16":
        return body.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")
    if how == "bom":
        return b"\xef\xbb\xbf" + body
    return b"\x1f\x8b\x08\x00" + body if how == "compressed" else body


def refused_or_done(call: Callable[[], Any], *, also: type[Exception] | tuple[type[Exception], ...] = ()) -> Any:
    """Do something that may meet what is hostile: it may refuse, in our words, at once, and in no other way.

    `also` are errors of dtoolcore's own that its callers expect.
    """
    try:
        return call()
    except EcsFlowsError as error:
        refused = error
    except also:
        return None
    assert not isinstance(refused, UnavailableError), "nobody shall be kept waiting"
    assert_harmless(str(refused))
    assert all(part == str(refused) for part in refused.args if isinstance(part, str))
    return None


def assert_harmless(text: str) -> None:
    """Check that a text can be shown at a terminal and written to a log, and is nothing but one line of text there."""
    text.encode("utf-8")
    assert text
    assert len(text) < 30_000
    bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")}
    assert not bad, bad
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(text)
