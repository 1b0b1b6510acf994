"""Requests to this machine itself go past the proxy of a site, whatever it has set."""

from __future__ import annotations

import os

_HERE = ("127.0.0.1", "localhost")


def bypass_proxy() -> None:
    """Add this machine to NO_PROXY, for this process and those that it starts."""
    told = [name.strip() for spelt in ("NO_PROXY", "no_proxy") for name in os.environ.get(spelt, "").split(",")]
    names = dict.fromkeys([*filter(None, told), *_HERE])
    value = "*" if "*" in names else ",".join(names)  # the star counts only where it stands alone
    for spelt in ("NO_PROXY", "no_proxy"):  # some look at the one first, some at the other
        os.environ[spelt] = value
