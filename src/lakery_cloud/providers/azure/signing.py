"""Authorization of requests to Azure Storage: by the account's key, by a token, or by a shared access signature.

Microsoft Learn, "Authorize with Shared Key", for the versions of the service since 2015-02-21, and "Create a service SAS".
"""

import base64
import hmac
import ipaddress
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.storage.blob import BlobSasPermissions, generate_blob_sas

from lakery_cloud.engine.keys import Address

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


def _length(name: str, value: str) -> str:
    return "" if name == "content-length" and value == "0" else value
