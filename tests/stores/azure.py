"""A connection of dtool-azure to Azurite in place of the one to Azure, whose address is hard-wired in it."""

from __future__ import annotations

import os
from typing import Any

ENDPOINT = "TEST_AZURE_ENDPOINT"
"""The variable that says where Azurite listens, for this process and those that it starts."""


def redirect() -> None:
    """Let dtool-azure talk to the server that the variable names."""
    import dtool_azure.storagebroker
    from azure.storage.blob import BlockBlobService
    from azure.storage.common.retry import no_retry
    from dtool_azure.utils import get_azure_account_key

    class Service(BlockBlobService):  # type: ignore[misc]  # it has no types
        def list_blobs(self, *arguments: Any, **options: Any) -> Any:
            """Give blobs without metadata an empty one, as Azure does: Azurite leaves the element out."""
            for blob in super().list_blobs(*arguments, **options):
                blob.metadata = blob.metadata or {}
                yield blob

    def service(account: str, config_path: str | None) -> Any:
        key = get_azure_account_key(account, config_path=config_path)
        if key is None:
            raise KeyError(f"Cannot find key for '{account}' azure account")
        domain = f"{os.environ[ENDPOINT]}/{account}"
        made = Service(account_name=account, account_key=key, custom_domain=domain, protocol="http")
        made.retry = no_retry
        return made

    dtool_azure.storagebroker.get_blob_service = service
