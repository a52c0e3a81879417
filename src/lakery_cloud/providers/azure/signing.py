"""Authorization of requests to Azure Storage: by the account's key, by a token, or by a shared access signature.

Microsoft Learn, "Authorize with Shared Key", for the versions of the service since 2015-02-21, and "Create a service SAS".
"""

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.storage.blob import BlobSasPermissions, generate_blob_sas
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.errors import ConfigError, CredentialsError
from lakery_cloud.providers.azure.answers import check_sdk_answer
from lakery_cloud.providers.azure.credentials import TOKEN_SCOPE
from lakery_cloud.providers.azure.errors import SDK_ERRORS, is_address
from lakery_cloud.providers.azure.refusals import SET_CREDENTIALS

_STANDARD = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)
_LENGTH = _STANDARD.index("content-length")
_MICROSOFT = "x-ms-"


def string_to_sign(account: str, method: str, path: str, *, query: str, headers: Mapping[str, str]) -> str:
    """The text that a shared key signs.

    Args:
        account: Name of the account.
        method: HTTP method.
        path: Path, percent-encoded as it is sent.
        query: Query, as it is sent, each name once; empty if there is none.
        headers: Header name in lower case -> value.
    """
    standard = [headers.get(name, "").strip() for name in _STANDARD]
    if standard[_LENGTH] == "0":
        standard[_LENGTH] = ""
    names = sorted([name for name in headers if name.startswith(_MICROSOFT)])
    microsoft = "".join([f"{name}:{headers[name].strip()}\n" for name in names])
    parameters = ""
    if query:
        pairs = sorted(parameter.partition("=")[::2] for parameter in query.split("&"))
        parameters = "".join([f"\n{unquote(name).lower()}:{unquote(value)}" for name, value in pairs])
    return "\n".join((method, *standard, f"{microsoft}/{account}{path}{parameters}"))


def authorization(account: str, key: SecretKey, text: str) -> str:
    """The header `Authorization` of a request.

    Args:
        account: Name of the account.
        key: Key of the account.
        text: See `string_to_sign`.
    """
    signature = base64.b64encode(key.sign(text)).decode()
    return f"SharedKey {account}:{signature}"


# Microsoft Learn, "Storage account overview", "Storage account endpoints"; "Use private endpoints for Azure Storage"; and
# "Network routing preference for Azure Storage".
_ACCOUNT = re.compile(
    r"([a-z0-9]{3,24}?)(?:-secondary|-ipv6|-dualstack|-internetrouting|-microsoftrouting)*"
    r"(?:\.z\d+|\.privatelink)*\.(?:blob|dfs)\.(?:core\.[a-z0-9.-]+|storage\.azure\.net)"
)


def account_of(url: str, name: str | None) -> str | None:
    """The account behind the URL of a blob service: what the URL itself says counts first.

    Args:
        url: URL of the service.
        name: Name of the account as it was configured, for URLs that don't show it, such as one with your own domain.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if found := _ACCOUNT.fullmatch(host):
        return found[1]
    if name or not is_address(host):
        return name
    return parts.path.strip("/").partition("/")[0] or None  # an emulator


def shared_access_signature(
    account: str, address: Address, rights: BlobSasPermissions, *, expires_at: datetime, key: Any
) -> str:
    """A signature that lets its holder access one blob, as the query of a URL.

    Args:
        account: Name of the account.
        address: Container and blob.
        rights: What the holder may do.
        expires_at: Expiry time.
        key: Key of the account, or a user delegation key.
    """
    signed_by = {"account_key" if isinstance(key, str) else "user_delegation_key": key}
    signature: str = generate_blob_sas(
        account, address.bucket, address.key, permission=rights, expiry=expires_at, **signed_by
    )
    return signature


READ = BlobSasPermissions(read=True)
CREATE = BlobSasPermissions(create=True)  # a signature without `write` can't replace a blob

SOURCE_GRANT = timedelta(hours=1)
"""Lifetime of the signature that lets the service read the source of a copy."""
SHARED_GRANT = timedelta(minutes=5)
"""How long such a signature serves further requests, as for the other blocks of a copy."""


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
        self._last: tuple[tuple[Address, str], datetime, str] | None = None  # source and key, time, URL

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

    async def source(self, source: ObjectInfo) -> dict[str, str]:
        """The source of a copy, with permission to read it: the service reads it like any other client.

        Returns:
            Arguments of the SDK's copies: `source_url`, and `source_authorization` if the URL has no signature.
        """
        credential = self._client.credential
        if hasattr(credential, "account_key"):
            return {"source_url": await self._signed_url(source.address, credential.account_key)}
        url = self._url(source.address)
        if hasattr(credential, "get_token"):
            token: Any = await self._call("get_token", source.address, credential.get_token, TOKEN_SCOPE)
            return {"source_url": url, "source_authorization": f"Bearer {token.token}"}
        if given := getattr(credential, "signature", None):
            return {"source_url": f"{url}?{given.removeprefix('?')}"}
        return {"source_url": url}

    async def _signed_url(self, address: Address, key: str) -> str:
        """The URL of a source with a signature, which the blocks of a copy share."""
        now, signed = datetime.now(UTC), (address, key)
        if self._last is None or self._last[0] != signed or now - self._last[1] > SHARED_GRANT:
            signature = await self.signature(address, READ, now + SOURCE_GRANT)
            self._last = signed, now, f"{self._url(address)}?{signature}"
        return self._last[2]

    def _url(self, address: Address) -> str:
        """The URL of a blob. It has the shared access signature of the client's URL."""
        return str(self._client.get_blob_client(address.bucket, address.key).url)
