"""Permission for others to access one blob: for the holder of a URL, and for the service that copies the blob."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.storage.blob import BlobSasPermissions
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.errors import ConfigError, CredentialsError
from lakery_cloud.providers.azure.answers import check_sdk_answer
from lakery_cloud.providers.azure.errors import SDK_ERRORS
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS
from lakery_cloud.providers.azure.signing import shared_access_signature
from lakery_cloud.providers.azure.tokens import TOKEN_SCOPE

READ = BlobSasPermissions(read=True)
CREATE = BlobSasPermissions(create=True)  # a signature without `write` can't replace a blob

SOURCE_GRANT = timedelta(hours=1)
"""Lifetime of the signature that lets the service read the source of a copy."""


class Grants:
    """Signatures and tokens for single blobs.

    Args:
        client: The SDK's client.
        account: Name of the account; None if it is unknown.
        call: Calls the SDK, see `CloudTransport`.
    """

    def __init__(self, client: BlobServiceClient, *, account: str | None, call: Callable[..., Awaitable[Any]]) -> None:
        self._client = client
        self._account = account
        self._call = call

    async def signature(self, address: Address, rights: BlobSasPermissions, expires_at: datetime) -> str:
        """A shared access signature for one blob, by the account's key, or by a key that Azure issues for a login.

        Raises:
            CredentialsError: The credentials can't sign.
            ConfigError: The name of the account is unknown.
        """
        credential = self._client.credential
        account, key = getattr(credential, "account_name", None), getattr(credential, "account_key", None)
        if key is None and hasattr(credential, "get_token"):
            if (account := self._account) is None:
                endpoint = self._client.url.partition("?")[0]
                raise ConfigError(
                    f"no URL for {address} can be signed, since {endpoint} does not show the name of the account. Set "
                    "account_name"
                )
            request_key = self._client.get_user_delegation_key
            key = await self._call(
                "get_user_delegation_key",
                address,
                request_key,
                datetime.now(UTC),
                expires_at,
                raw_response_hook=check_sdk_answer,
            )
        if account is None or key is None:
            raise CredentialsError(
                f"a shared access signature can't sign a URL for {address}, nor can a client without credentials; give the "
                "account's key, or log in with the role Storage Blob Delegator"
            )
        try:
            return shared_access_signature(account, address, rights, expires_at=expires_at, key=key)
        except SDK_ERRORS:
            pass  # it may show the key
        raise CredentialsError(f"the account's key can't sign a URL for {address}: it is no base64. {SET_CREDENTIALS}")

    async def source(self, source: ObjectInfo) -> dict[str, Any]:
        """The source of a copy, with permission to read it: the service reads it like any other client."""
        blob = self._client.get_blob_client(source.address.bucket, source.address.key)
        url = str(blob.url)  # has the shared access signature of the client's URL
        credential = self._client.credential
        if hasattr(credential, "account_key"):
            signature = await self.signature(source.address, READ, datetime.now(UTC) + SOURCE_GRANT)
            return {"source_url": f"{url}?{signature}"}
        if hasattr(credential, "get_token"):
            token: Any = await self._call("get_token", source.address, credential.get_token, TOKEN_SCOPE)
            return {"source_url": url, "source_authorization": f"Bearer {token.token}"}
        if given := getattr(credential, "signature", None):
            return {"source_url": f"{url}?{given.removeprefix('?')}"}
        return {"source_url": url}
