"""The requests of google-auth for tokens, sent over connections of our own."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
from google.auth import exceptions as auth_errors
from google.auth.transport.requests import Request as RequestsRequest
from multidict import CIMultiDict
from yarl import URL

from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, HTTPError, InvalidRequest, Origin, Request, buffer
from lakery_cloud.http.trust import trusted_file
from lakery_cloud.redaction import redact_error


class TokenRequest(RequestsRequest):
    """Sends the requests of google-auth, which waits in a thread, with the bounds of all others and without redirects.

    Requests with a client certificate or an authority of their own are left to google-auth.

    Args:
        http: Sends them, on the running event loop.
    """

    def __init__(self, http: HTTPClient) -> None:
        session = requests.Session()
        session.verify = trusted_file() or True
        super().__init__(session)
        self._http = http
        self._loop = asyncio.get_running_loop()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Any:
        # google-auth has no types: hence the two exceptions from mypy.
        if options or ".mtls." in url:
            return super().__call__(url, method, body, headers, **options)  # type: ignore[no-untyped-call]
        sending = self._send(url, method, body, headers or {})
        try:
            status, response_headers, data = asyncio.run_coroutine_threadsafe(sending, self._loop).result()
        except (HTTPError, InvalidRequest, ValueError) as error:
            raise auth_errors.TransportError(redact_error(error)) from error  # type: ignore[no-untyped-call]
        return _TokenResponse(status, CIMultiDict(response_headers), data)

    async def _send(self, url: str, method: str, body: Any, headers: Mapping[str, str]) -> BufferedResponse:
        origin, target = Origin.of(url), URL(url).raw_path_qs
        content = body.encode() if isinstance(body, str) else body
        request = Request(method, target, {"host": origin.netloc, **headers}, (content,) if content else ())
        return await buffer(await self._http.send(origin, request))


class _TokenResponse(NamedTuple):
    """A response as google-auth needs it."""

    status: int
    headers: Mapping[str, str]
    data: bytes
