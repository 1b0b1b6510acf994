"""The arguments that name a place: what cannot be one is a wrong command line, before anything is asked."""

from __future__ import annotations

from typing import Any

import click


class Uri(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A URI as dtool has it; those of buckets are looked at.

    Args:
        base: whether it is to be a base URI, or one of a dataset; None takes both.
        bucket: whether it is to be in a bucket, and not in a folder or elsewhere.
    """

    name = "uri"

    def __init__(self, *, base: bool | None = None, bucket: bool = False) -> None:
        self._base = base
        self._bucket = bucket

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URI as it stands."""
        from dtool_ecs_flows import layout
        from dtool_ecs_flows.errors import UnsafeNameError

        uri = str(value)
        try:
            layout.check_given(uri)
            if not uri.lower().startswith(layout.SCHEME + ":"):
                if self._bucket:
                    self.fail(f"{uri} is not of the form {layout.base_uri('bucket')}", param, ctx)
                return uri
            bucket, uuid = layout.parse_uri(uri)
        except UnsafeNameError as error:
            self.fail(str(error), param, ctx)
        if self._base is True and uuid:
            self.fail(f"{uri} is the URI of a dataset; the base URI is {layout.base_uri(bucket)}", param, ctx)
        if self._base is False and not uuid:
            self.fail(f"{uri} is a bucket; {layout.base_uri(bucket)}/UUID names a dataset in it", param, ctx)
        return uri


class Bucket(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """The name of a bucket; its base URI is taken for it."""

    name = "bucket"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from dtool_ecs_flows import layout

        uri = Uri(base=True).convert(value if "://" in value else layout.base_uri(value), param, ctx)
        if not uri.lower().startswith(layout.SCHEME + "://"):
            self.fail(f"{uri} is no bucket", param, ctx)
        return layout.parse_uri(uri)[0]
