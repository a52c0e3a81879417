"""Authorization of requests to Azure Storage: by the account's key, by a token, or by a shared access signature.

Microsoft Learn, "Authorize with Shared Key", for the versions of the service since 2015-02-21, and "Create a service SAS".
"""

import asyncio
import base64
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.storage.blob import BlobSasPermissions, generate_blob_sas

from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import without_none

logger = logging.getLogger("lakery_cloud")

TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105, the same in every cloud
RENEW_AHEAD = 300.0
"""Seconds before its expiry at which a token is renewed, as in the SDK."""

_STANDARD = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)
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
    standard = "".join([f"{_length(name, headers.get(name, '')).strip()}\n" for name in _STANDARD])
    microsoft = "".join(
        [f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name.startswith(_MICROSOFT)]
    )
    parameters = ""
    if query:
        pairs = sorted(parameter.partition("=")[::2] for parameter in query.split("&"))
        parameters = "".join([f"\n{unquote(name).lower()}:{unquote(value)}" for name, value in pairs])
    return f"{method}\n{standard}{microsoft}/{account}{path}{parameters}"


def authorization(account: str, key: bytes, text: str) -> str:
    """The header `Authorization` of a request.

    Args:
        account: Name of the account.
        key: Key of the account, decoded.
        text: See `string_to_sign`.
    """
    signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
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


def is_address(host: str) -> bool:
    """Whether a host is an address, or this machine, as those of emulators."""
    if host == "localhost":
        return True
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


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


class Tokens:
    """Authenticates requests by access tokens, each of them used until shortly before its expiry.

    Args:
        credential: An asynchronous token credential.
    """

    def __init__(self, credential: Any) -> None:
        self._credential = credential
        self._token: Any = None
        self._tenant: dict[str, str] = {}
        self._renewing = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """The headers of an authenticated request.

        Raises:
            Exception: The token has expired and can't be renewed. Credentials may be of any class.
        """
        if not self._lasts(RENEW_AHEAD):
            async with self._renewing:
                if not self._lasts(RENEW_AHEAD):
                    try:
                        await self._refresh()
                    except Exception as error:
                        if not self._lasts(0):
                            raise
                        logger.info("a token that expires soon could not be renewed: %s", redact_error(error))
        return {"authorization": f"Bearer {self._token.token}"}

    async def renew(self, challenge: str) -> bool:
        """Replace a token that the store has refused; return whether there is another one.

        Args:
            challenge: The header `WWW-Authenticate` of the refusal, which names the account's tenant.
        """
        refused = self._token
        async with self._renewing:
            if self._token is refused:
                self._tenant = _tenant(challenge)
                try:
                    await self._refresh()
                except Exception as error:  # noqa: BLE001, credentials may be of any class
                    logger.info("a token that was refused can't be renewed: %s", redact_error(error))
        return refused is None or bool(self._token.token != refused.token)

    def _lasts(self, seconds: float) -> bool:
        """Whether the token can be used for some time."""
        return self._token is not None and bool(self._token.expires_on - time.time() > seconds)

    async def _refresh(self) -> None:
        self._token = await self._credential.get_token(TOKEN_SCOPE, **self._tenant)


def _tenant(challenge: str) -> dict[str, str]:
    """The tenant in a challenge, as an argument for `get_token`; none if it names none."""
    fields = dict(field.partition("=")[::2] for field in challenge.replace(",", " ").split())
    path = urlsplit(fields.get("authorization_uri", "").strip('"')).path
    return without_none(tenant_id=path.split("/")[1] if "/" in path else None)


def _length(name: str, value: str) -> str:
    return "" if name == "content-length" and value == "0" else value
