"""Pages of a listing are read by hand: the same is read as botocore reads, only faster."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from dtool_ecs_flows.store.objects import ObjectInfo
from dtool_ecs_flows.store.pages import OBJECTS, take_objects

SPACES = ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"']

keys = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), min_size=1)
dates = st.sampled_from(
    ["2026-11-22T22:04:00.123Z", "2026-11-22T22:04:00Z", "2026-11-22T22:04:00.1234567Z", "2026-11-22T22:04:00+01:00"]
)
entries = st.lists(st.tuples(keys, st.integers(0, 2**50), dates, st.sampled_from(['"AB"', "", "ab-2"])))


def page(entries: list[tuple[str, int, str, str]], space: str, *, quoted: bool) -> bytes:
    objects = "".join(
        f"<Contents><Key>{quote_plus(key) if quoted else escape(key)}</Key><LastModified>{date}</LastModified>"
        f"<ETag>{escape(etag)}</ETag><Size>{size}</Size><Owner><ID>Key</ID></Owner></Contents>"
        for key, size, date, etag in entries
    )
    encoding = "<EncodingType>url</EncodingType>" if quoted else ""
    head = f"<IsTruncated>true</IsTruncated><NextContinuationToken>n &amp; m</NextContinuationToken>{encoding}"
    return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult{space}>{head}{objects}</ListBucketResult>'.encode()


def answer(body: bytes, status: int = 200) -> dict[str, Any]:
    return {"status_code": status, "headers": {}, "body": body}


def by_botocore(response: dict[str, Any]) -> dict[str, Any]:
    shape = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
    return dict(create_parser("rest-xml").parse(response, shape))


@settings(max_examples=40)
@given(entries, st.sampled_from(SPACES), st.booleans())
def test_what_is_read_fast_is_what_botocore_reads(
    entries: list[tuple[str, int, str, str]], space: str, quoted: bool
) -> None:
    """Whatever a key is made of, however the server writes dates; all else of the page is left for botocore."""
    response, taken = answer(page(entries, space, quoted=quoted)), dict[str, Any]()
    whole = by_botocore(response)

    take_objects(response_dict=response, customized_response_dict=taken)

    contents = whole.pop("Contents", [])
    assert by_botocore(response) == whole
    assert [info.key for info in taken[OBJECTS]] == [key for key, *_ in entries]
    assert [(info.size, info.etag, info.last_modified) for info in taken[OBJECTS]] == [
        (each["Size"], each["ETag"].strip('"').lower(), each["LastModified"].timestamp()) for each in contents
    ]


def test_an_error_is_left_as_it_is() -> None:
    """As is what is no XML: botocore says what it is."""
    for response in (answer(b"<Error><Code>NoSuchBucket</Code></Error>", 404), answer(b"<html>")):
        before, taken = dict(response), dict[str, Any]()
        take_objects(response_dict=response, customized_response_dict=taken)
        assert (response, taken) == (before, {})


@pytest.mark.parametrize(("wrong", "error"), [("Key", KeyError), ("Size", KeyError), ("LastModified", KeyError)])
def test_an_object_without_what_is_needed_is_no_object(wrong: str, error: type[Exception]) -> None:
    """It is not taken for one that has none of it."""
    body = page([("a", 1, "2026-11-22T22:04:00Z", "x")], "", quoted=False)
    response = answer(body.replace(f"{wrong}>".encode(), b"Other>"))

    with pytest.raises(error):
        take_objects(response_dict=response, customized_response_dict={})


def test_a_size_that_is_no_number_is_a_broken_answer() -> None:
    """A broken answer is asked for again."""
    body = page([("a", 1, "2026-11-22T22:04:00Z", "x")], "", quoted=False).replace(b">1<", b">many<")

    with pytest.raises(OSError, match="many"):
        take_objects(response_dict=answer(body), customized_response_dict={})


def test_times_are_utc() -> None:
    """Seconds since the epoch, with their fraction."""
    taken: dict[str, list[ObjectInfo]] = {}
    response = answer(page([("a", 1, "1970-01-02T00:00:00.250Z", "x")], "", quoted=False))

    take_objects(response_dict=response, customized_response_dict=taken)

    assert taken[OBJECTS] == [ObjectInfo("a", 1, "x", 86400.25)]
