"""The same seam over an aiohttp session: for proxies, client certificates, and responses that our connections refuse.

The SDKs use sessions too. `CheckedRequest` and `CheckedResponse` give all of them the bounds of our own connections.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from lakery_cloud.http.exchange import (
    MAX_BUFFERED,
    MAX_INTERIM,
    WORKING,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    HTTPError,
    Origin,
    ProxyFailed,
    ReadTimeout,
    Request,
    TLSFailed,
    UnsupportedResponse,
)
from lakery_cloud.http.pool import poll_of
from lakery_cloud.http.proxies import Proxy

SLICE_SIZE = 256 * 1024
"""Bytes written or read at a time: TLS copies a larger piece as a whole and blocks the event loop meanwhile."""

MAX_LISTING = 64 * 1024 * 1024
"""Bytes of a response of success that an SDK reads as a whole, decoded: a page of a listing, at most."""

ERRORS = (aiohttp.ClientError, TimeoutError)


class SessionExchange:
    """Sends requests to one origin over an aiohttp session, whose owner closes it.

    Args:
        session: The session, made with `auto_decompress=False` or able to switch that off for each request.
        origin: The origin.
        timeout: Time-outs of one request. `sock_read` also limits the wait for the whole head, and `set_deadline`.
        proxy: The proxy for all requests.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        origin: Origin,
        *,
        timeout: aiohttp.ClientTimeout,
        proxy: Proxy | None = None,
    ) -> None:
        self._session = session
        self._origin = origin
        self._timeout = timeout if proxy is None else timeout_behind_proxy(timeout)
        self._proxy = proxy

    async def send(self, request: Request) -> "SessionResponse":
        """Send a request and wait for the head of its response.

        Raises:
            HTTPError: No response arrived.
        """
        request.attempts += 1
        headers = dict(request.headers)
        if request.method in ("PUT", "POST", "PATCH"):
            headers.setdefault("content-length", str(request.size))
        timeout = (
            self._timeout if request.read_timeout is None else with_read_timeout(self._timeout, request.read_timeout)
        )
        connect, read = timeout.sock_connect, timeout.sock_read
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
                    timeout=timeout,
                    allow_redirects=False,
                    auto_decompress=False,
                    proxy=self._proxy.url if self._proxy else None,
                )
        except ERRORS as error:
            if body is not None and body.error is not None:
                raise body.error from None
            raise http_error(error, self._proxy) from error
        finally:
            if body is not None:
                body.limit = None
        joined = {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers}
        in_all = read if read is None or request.read_timeout is None else WORKING * read
        return SessionResponse(response.status, joined, response, in_all)


@dataclass(slots=True)
class SessionResponse:
    """A response of an aiohttp session; see `Response`."""

    status: int
    headers: Mapping[str, str]
    _response: aiohttp.ClientResponse
    _seconds: float | None
    _deadline: float | None = None

    def set_deadline(self) -> None:
        if self._seconds is not None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds

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


def timeout_behind_proxy(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """The same time-outs, and one for a proxy that opens no tunnel, for which aiohttp would wait without end."""
    return aiohttp.ClientTimeout(
        connect=timeout.sock_read, sock_connect=timeout.sock_connect, sock_read=timeout.sock_read
    )


def with_read_timeout(timeout: aiohttp.ClientTimeout, seconds: float) -> aiohttp.ClientTimeout:
    """The same time-outs, with another one for reads."""
    return aiohttp.ClientTimeout(
        total=timeout.total, connect=timeout.connect, sock_connect=timeout.sock_connect, sock_read=seconds
    )


def http_error(error: Exception, proxy: Proxy | None = None) -> HTTPError:
    """The error of the seam for an error of aiohttp.

    Args:
        error: aiohttp's error.
        proxy: The proxy of the request.
    """
    if proxy is not None and (failed := proxy_error(error, proxy)):
        return failed
    if isinstance(error, aiohttp.ServerDisconnectedError):  # its text has what the server sent
        return ConnectionLost("the server closed the connection")
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


def proxy_error(error: BaseException | None, proxy: Proxy) -> ProxyFailed | None:
    """The error of the seam for an error of aiohttp, if the proxy is its cause; else None."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refused_by_proxy(proxy, error.status)
    if isinstance(error, aiohttp.ClientConnectorError):
        url = URL(proxy.url)
        is_proxy = isinstance(error, aiohttp.ClientProxyConnectionError) or (error.host, error.port) == (
            url.host,
            url.port,
        )
        return ProxyFailed(f"no connection to the proxy {proxy.name} of {proxy.variable}") if is_proxy else None
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ProxyFailed(f"no connection to the proxy {proxy.name} of {proxy.variable} in time")
    return None


def refused_by_proxy(proxy: Proxy, status: int) -> ProxyFailed:
    """The error of the seam for a proxy that passes no request on."""
    refused = f"the proxy {proxy.name} of {proxy.variable} refused the request with status {status}"
    if status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ProxyFailed(refused)
    return ProxyFailed(f"{refused}; add a user and a password to the variable: http://user:password@host:port")


class CheckedResponse(aiohttp.ClientResponse):
    """A response for the `response_class` of a session, with the bounds that aiohttp lacks.

    The head arrives within the read time-out, after a few interim responses at most. So does the rest of a body that is
    read as a whole, as the SDKs read all but content. Such a body has a limited size, and is decoded here, since the SDKs
    decode without a limit. A proxy that refuses a request without TLS is an error too.

    Attributes:
        body_seconds: Seconds for a body that is read as a whole, from the start of the read; None for any time.
    """

    body_seconds: float | None = None

    def __init__(self, *args: Any, writer: "asyncio.Task[None] | None", **options: Any) -> None:
        super().__init__(*args, writer=writer, **options)
        self._sending = writer

    async def start(self, connection: aiohttp.connector.Connection) -> "CheckedResponse":
        protocol = connection.protocol
        assert protocol is not None
        self.body_seconds = protocol.read_timeout
        async with _deadline(None) as limit:
            with _few_interim_responses(protocol):
                if self._sending is None:
                    self._begin_wait(limit)
                else:
                    self._sending.add_done_callback(lambda _: self._begin_wait(limit))
                await super().start(connection)
        if self.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            self.close()
            raise aiohttp.ClientHttpProxyError(self.request_info, (), status=self.status, message=str(self.reason))
        return self

    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await self._read_whole(MAX_BUFFERED if self.status >= 300 else MAX_LISTING)
            except BaseException:
                self.close()
                raise
        return await super().read()

    def _begin_wait(self, limit: asyncio.Timeout) -> None:
        """Limit the wait for the head, once the request is sent."""
        if self.body_seconds is not None:
            with suppress(RuntimeError):  # it has arrived before that
                limit.reschedule(asyncio.get_running_loop().time() + self.body_seconds)

    async def _read_whole(self, limit: int) -> bytes:
        body = bytearray()
        async with _deadline(self.body_seconds):
            while chunk := await self.content.read(SLICE_SIZE):
                body += chunk
                if len(body) > limit:
                    raise aiohttp.ClientPayloadError(f"a body of more than {limit} bytes")
        return _decoded(bytes(body), self.headers.get("Content-Encoding", ""), limit)


@asynccontextmanager
async def _deadline(seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """A time-out whose error is the one of aiohttp for a silent connection."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield limit
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise aiohttp.SocketTimeoutError("no response, or not all of it, in time") from error


@contextmanager
def _few_interim_responses(protocol: Any) -> Iterator[None]:
    """Limit the interim responses that aiohttp skips while it waits for a head."""
    left, read = MAX_INTERIM, protocol.read

    async def counted_read() -> Any:
        nonlocal left
        message = await read()
        left -= message[0].code < 200
        if left < 0:
            raise HttpProcessingError(code=0, message="too many interim responses")
        return message

    protocol.read = counted_read
    try:
        yield
    finally:
        del protocol.read


def _decoded(body: bytes, coding: str, limit: int) -> bytes:
    """A body without its content coding; as it is if it has none, or an unknown one."""
    if not body or coding.lower() not in ("gzip", "deflate"):
        return body
    is_raw = coding.lower() == "deflate" and body[0] & 0x0F != zlib.DEFLATED  # without the header of RFC 1950
    decoder = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
    try:
        decoded = decoder.decompress(body, limit)
    except zlib.error as error:
        raise aiohttp.ClientPayloadError("a body that can't be decoded") from error
    if not decoder.eof:
        raise aiohttp.ClientPayloadError(f"a body of more than {limit} bytes, or one that breaks off")
    return decoded


class CheckedRequest(aiohttp.ClientRequest):
    """A request for the `request_class` of a session: it is not sent over a connection with bytes that answer no request.

    Such a connection ends like one that the server has closed, after which aiohttp takes another one.
    """

    _used: ClassVar[WeakSet[asyncio.BaseProtocol]] = WeakSet()

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        protocol, transport = conn.protocol, conn.transport
        if protocol is not None and transport is not None:
            # A new connection may have the session tickets of TLS.
            if protocol in self._used and _has_unasked_bytes(protocol, transport):
                raise aiohttp.ServerDisconnectedError
            self._used.add(protocol)
        return await super().send(conn)


def _has_unasked_bytes(protocol: Any, transport: asyncio.Transport) -> bool:
    """Whether anything arrived on an idle connection, or waits in its socket.

    The parser keeps the beginning of a response to itself. But any byte starts the timer of the read time-out, which ends
    with each response.
    """
    is_waiting = protocol._read_timeout_handle is not None  # noqa: SLF001, it has no public attribute
    return is_waiting or protocol.should_close or bool(poll_of(transport.get_extra_info("socket").fileno()).poll(0))


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
