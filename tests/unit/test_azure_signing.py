"""Shared Key authorization by the example of its documentation, and as the SDK does it."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.pipeline.transport import AioHttpTransport, HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.providers.azure.signing import account_of, authorization, string_to_sign

KEY = base64.b64encode(b"a key of an account").decode()


def test_text_that_is_signed_is_the_documented_one() -> None:
    # Microsoft Learn, "Authorize with Shared Key", "Constructing the canonicalized resource string" and the example.
    text = string_to_sign(
        "myaccount",
        "GET",
        "/mycontainer",
        query="restype=container&comp=metadata&timeout=20",
        headers={"x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT", "x-ms-version": "2015-02-21"},
    )
    assert text == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\n"
        "x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_request_is_signed_as_the_sdk_signs_it() -> None:
    headers = {
        "content-length": "5",
        "content-md5": "XUFAKrxLKna5cZ2REBfFkg==",
        "content-type": "application/octet-stream",
        "if-none-match": "*",
        "x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT",
        "x-ms-meta-content_hash": "abc",
        "x-ms-meta-content_hash_algorithm": "sha256",
        "x-ms-version": "2026-10-06",
    }
    path, query = "/container/a%20b/%C3%A4", "comp=block&blockid=YWI%3D"
    request = HttpRequest("PUT", f"https://account.blob.core.windows.net{path}?{query}", headers=dict(headers))
    sent: Any = SimpleNamespace(http_request=request, context=SimpleNamespace(transport=AioHttpTransport()))
    SharedKeyCredentialPolicy("account", KEY).on_request(sent)
    text = string_to_sign("account", "PUT", path, query=query, headers=headers)
    assert authorization("account", SecretKey(base64.b64decode(KEY)), text) == request.headers["Authorization"]


def test_length_of_nothing_is_not_signed() -> None:
    signed = string_to_sign("account", "PUT", "/c", query="", headers={"content-length": "0"})
    assert signed == string_to_sign("account", "PUT", "/c", query="", headers={})


@pytest.mark.case("67")
@pytest.mark.parametrize(
    ("host", "account"),
    [
        ("account.blob.core.windows.net", "account"),
        ("account.dfs.core.windows.net", "account"),
        ("ACCOUNT.blob.core.windows.net", "account"),
        ("account.blob.core.chinacloudapi.cn", "account"),
        ("account-secondary.blob.core.windows.net", "account"),
        ("account-secondary-ipv6.blob.core.windows.net", "account"),
        ("account-dualstack.blob.core.windows.net", "account"),
        ("account-internetrouting.blob.core.windows.net", "account"),
        ("account.privatelink.blob.core.windows.net", "account"),
        ("account.z01.blob.storage.azure.net", "account"),
        ("account-secondary.z43.blob.storage.azure.net:443", "account"),
        ("account.z01.privatelink.blob.storage.azure.net", "account"),
        ("files.example.com", None),
        ("account.z01.azurefd.net", None),
        ("account.azureedge.net", None),
        ("blob.core.windows.net", None),
        ("127.0.0.1:10000/account", "account"),
        ("localhost:10000/account/", "account"),
        ("[::1]:10000/account", "account"),
        ("127.0.0.1:10000", None),
    ],
)
def test_account_is_found_in_the_hosts_that_azure_gives_it(host: str, account: str | None) -> None:
    assert account_of(f"https://{host}", None) == account


@pytest.mark.case("67")
def test_account_of_a_host_counts_more_than_a_configured_one() -> None:
    assert account_of("https://account.z01.blob.storage.azure.net", "other") == "account"
    assert account_of("https://files.example.com", "other") == "other"
    assert account_of("https://127.0.0.1:10000/not-an-account", "other") == "other"
