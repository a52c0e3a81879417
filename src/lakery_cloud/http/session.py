"""The same seam over an aiohttp session: for proxies, client certificates, and responses that our connections refuse."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from lakery_cloud.http.exchange import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    HTTPError,
    Origin,
    ReadTimeout,
    Request,
    TLSFailed,
    UnsupportedResponse,
)

SLICE_SIZE = 256 * 1024
"""Bytes written or read at a time: TLS copies a larger piece as a whole and blocks the event loop meanwhile."""

ERRORS = (aiohttp.ClientError, TimeoutError)


class SessionExchange:
    """Sends requests to one origin over an aiohttp session, whose owner closes it.

    Args:
        session: The session, made with `auto_decompress=False` or able to switch that off for each request.
        origin: The origin.
        timeout: Time-outs of one request.
    """

    def __init__(self, session: aiohttp.ClientSession, origin: Origin, *, timeout: aiohttp.ClientTimeout) -> None:
        self._session = session
        self._origin = origin
        self._timeout = timeout

    async def send(self, request: Request) -> "SessionResponse":
        """Send a request and wait for the head of its response.

        Raises:
            HTTPError: No response arrived.
        """
        headers = dict(request.headers)
        if request.method in ("PUT", "POST", "PATCH"):
            headers.setdefault("content-length", str(request.size))
        try:
            response = await self._session.request(
                request.method,
                URL(f"{self._origin.url}{request.target}", encoded=True),
                data=_slices(request) if request.size > SLICE_SIZE else _joined(request),
                headers=headers,
                skip_auto_headers=("Content-Type", "Accept-Encoding"),
                timeout=self._timeout,
                allow_redirects=False,
                auto_decompress=False,
            )
        except ERRORS as error:
            raise http_error(error) from error
        return SessionResponse(
            response.status, {name.lower(): value for name, value in response.headers.items()}, response
        )


@dataclass(slots=True)
class SessionResponse:
    """A response of an aiohttp session; see `Response`."""

    status: int
    headers: Mapping[str, str]
    _response: aiohttp.ClientResponse

    async def read(self) -> bytes:
        try:
            return await self._response.content.read(SLICE_SIZE)
        except ERRORS as error:
            raise http_error(error) from error

    def close(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def http_error(error: Exception) -> HTTPError:
    """The error of the seam for an error of aiohttp."""
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError):
        return TLSFailed(text)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectTimeout(text)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return ConnectFailed(text)
    if isinstance(error, TimeoutError):
        return ReadTimeout(text)
    if isinstance(error, aiohttp.ClientResponseError):  # the parser's, which quotes the server
        return UnsupportedResponse("a malformed response")
    return ConnectionLost(text)


def _joined(request: Request) -> Any:
    if request.before_last is not None:
        request.before_last()
    return b"".join(request.body) or None


async def _slices(request: Request) -> AsyncIterator[memoryview]:
    left = request.size
    for piece in request.body:
        view = memoryview(piece)
        for start in range(0, len(view), SLICE_SIZE):
            taken = view[start : start + SLICE_SIZE]
            left -= len(taken)
            if not left and request.before_last is not None:
                request.before_last()
            yield taken
