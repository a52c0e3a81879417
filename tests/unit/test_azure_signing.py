"""Shared Key authorization by the example of its documentation, and as the SDK does it."""

import base64
from types import SimpleNamespace
from typing import Any

from azure.core.pipeline.transport import AioHttpTransport, HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy

from lakery_cloud.providers.azure.signing import authorization, string_to_sign

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
    assert authorization("account", base64.b64decode(KEY), text) == request.headers["Authorization"]


def test_length_of_nothing_is_not_signed() -> None:
    signed = string_to_sign("account", "PUT", "/c", query="", headers={"content-length": "0"})
    assert signed == string_to_sign("account", "PUT", "/c", query="", headers={})
