"""Shared Key authorization of Azure Storage, as a pure function of a request and a key. It knows no SDK.

Microsoft Learn, "Authorize with Shared Key", for the versions of the service since 2015-02-21.
"""

import base64
import hmac
from collections.abc import Mapping
from urllib.parse import unquote

_STANDARD = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)
_MICROSOFT = "x-ms-"


def string_to_sign(account: str, method: str, path: str, *, query: str, headers: Mapping[str, str]) -> str:
    """What is signed of a request.

    Args:
        account: Name of the account.
        method: Such as `PUT`.
        path: As it is sent.
        query: As it is sent, each name once; empty if there is none.
        headers: As they are sent, names in lower case.
    """
    standard = "".join([f"{_length(name, headers.get(name, ''))}\n" for name in _STANDARD])
    microsoft = "".join([f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith(_MICROSOFT)])
    parameters = ""
    if query:
        pairs = sorted(parameter.partition("=")[::2] for parameter in query.split("&"))
        parameters = "".join([f"\n{unquote(name).lower()}:{unquote(value)}" for name, value in pairs])
    return f"{method}\n{standard}{microsoft}/{account}{path}{parameters}"


def authorization(account: str, key: bytes, text: str) -> str:
    """The header `Authorization` of a request.

    Args:
        account: Name of the account.
        key: Its key, decoded.
        text: See `string_to_sign`.
    """
    signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    return f"SharedKey {account}:{signature}"


def _length(name: str, value: str) -> str:
    return "" if name == "content-length" and value == "0" else value
