"""What is written for people does not give away what opens a URL."""

from __future__ import annotations

import pytest

from dtool_ecs_flows.errors import StoreError
from dtool_ecs_flows.words import unsigned


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://h/b/u?X-Amz-Signature=5ec&x=1", "https://h/b/u?…"),
        ("HTTP://me:5ec@h:80/u cannot be opened", "HTTP://h:80/u cannot be opened"),
        (
            "'http://me@h/u?sig=5ec' is no base URI (see http://h/?5ec)",
            "'http://h/u?…' is no base URI (see http://h/?…)",
        ),
        ("is it http://h/u? or ecs://b@c/u?x", "is it http://h/u? or ecs://b@c/u?x"),
    ],
)
def test_a_url_is_told_without_its_key(text: str, said: str) -> None:
    """Its password and its query are left out; what is no URL stays, and so in every error of ours."""
    assert unsigned(text) == said
    assert str(StoreError(text)) == said
