"""The same seam over an aiohttp session: for proxies, client certificates, and responses that our connections refuse."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractStreamWriter
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
from lakery_cloud.http.pool import has_pending

SLICE_SIZE = 256 * 1024
"""Bytes written or read at a time: TLS copies a larger piece as a whole and blocks the event loop meanwhile."""

ERRORS = (aiohttp.ClientError, TimeoutError)


class SessionExchange:
    """Sends requests to one origin over an aiohttp session, whose owner closes it.

    Args:
        session: The session, made with `auto_decompress=False` or able to switch that off for each request.
        origin: The origin.
        timeout: Time-outs of one request. `sock_read` also limits the wait for the whole head, and `set_deadline`.
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
        connect, read = self._timeout.sock_connect, self._timeout.sock_read
        body = _Body(request, read) if request.size else None
        try:
            async with asyncio.timeout(None if connect is None or read is None else connect + read) as limit:
                if body is not None:
                    body.limit = limit
                elif request.before_last is not None:
                    request.before_last()
                response = await self._session.request(
                    request.method,
                    URL(f"{self._origin.url}{request.target}", encoded=True),
                    data=body,
                    headers=headers,
                    skip_auto_headers=("Content-Type", "Accept-Encoding"),
                    timeout=self._timeout,
                    allow_redirects=False,
                    auto_decompress=False,
                )
        except ERRORS as error:
            if body is not None and body.error is not None:
                raise body.error from None
            raise http_error(error) from error
        finally:
            if body is not None:
                body.limit = None
        joined = {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers}
        return SessionResponse(response.status, joined, response, read)


@dataclass(slots=True)
class SessionResponse:
    """A response of an aiohttp session; see `Response`."""

    status: int
    headers: Mapping[str, str]
    _response: aiohttp.ClientResponse
    _read_timeout: float | None
    _deadline: float | None = None

    def set_deadline(self) -> None:
        if self._read_timeout is not None:
            self._deadline = asyncio.get_running_loop().time() + self._read_timeout

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._deadline):
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
    if isinstance(error, aiohttp.ServerDisconnectedError):  # its text has what the server sent
        return ConnectionLost("the server closed the connection")
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError):
        return TLSFailed(text)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectTimeout(text)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectFailed(f"the proxy refused the connection with status {error.status}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return ConnectFailed(text)
    if isinstance(error, TimeoutError):
        return ReadTimeout(text)
    if isinstance(error, aiohttp.ClientResponseError):  # the parser's, which quotes the server
        return UnsupportedResponse("a malformed response")
    return ConnectionLost(text)


class CheckedRequest(aiohttp.ClientRequest):
    """A request for the `request_class` of a session: it is not sent over a connection with bytes that answer no request.

    Such a connection ends like one that the server has closed, after which aiohttp takes another one.
    """

    _used: ClassVar[WeakSet[asyncio.BaseProtocol]] = WeakSet()

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        protocol, transport = conn.protocol, conn.transport
        if protocol is not None and transport is not None:
            # A new connection may have the session tickets of TLS.
            if protocol in self._used and (
                protocol.should_close or has_pending(transport.get_extra_info("socket").fileno())
            ):
                raise aiohttp.ServerDisconnectedError
            self._used.add(protocol)
        return await super().send(conn)


class _Body(aiohttp.Payload):
    """The body of a request, in slices. aiohttp may write it twice, if the first connection ends.

    Args:
        request: The request.
        read_timeout: Seconds to wait for the head of the response, from the end of the body.

    Attributes:
        limit: The limit of that wait; None after it.
        error: What `before_last` raised. aiohttp takes it for a lost connection.
    """

    autoclose = True

    def __init__(self, request: Request, read_timeout: float | None) -> None:
        super().__init__(request)
        self.limit: asyncio.Timeout | None = None
        self.error: Exception | None = None
        self._request = request
        self._read_timeout = read_timeout

    @property
    def size(self) -> int:
        return self._request.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._request.body).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._reschedule(None)
        left = self._request.size
        for piece in self._request.body:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_SIZE):
                taken = view[start : start + SLICE_SIZE]
                left -= len(taken)
                if not left and self._request.before_last is not None:
                    try:
                        self._request.before_last()
                    except Exception as error:
                        self.error = error
                        raise
                await writer.write(taken)
        if self._read_timeout is not None:
            self._reschedule(asyncio.get_running_loop().time() + self._read_timeout)

    def _reschedule(self, when: float | None) -> None:
        if self.limit is not None:
            self.limit.reschedule(when)
