"""A streaming HTTP proxy that records each request and applies a fault to it. Subclasses choose the fault."""

import abc
import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from lakery_cloud.testing.faults.dialect import Dialect, Request
from lakery_cloud.testing.faults.dialects import dialect_of
from lakery_cloud.testing.faults.dialects_gcs import GCS, key_in_multipart
from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import Act, Chunks, Flow, RequestBody
from lakery_cloud.testing.faults.rules import (
    Answer,
    Armed,
    CutAnswer,
    Delay,
    ExpiredCredentials,
    Fault,
    FaultMatch,
    FlipAnswerByte,
    FlipRequestByte,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    Stall,
    StallRequest,
    SwallowAnswer,
    Throttle,
    position_in,
)

BACKLOG = 1024
"""Connections that may wait to be accepted."""
MAX_HEADER = 64 * 1024
"""Longest header line of a request or response, in bytes: more than any of the three stores accepts."""
GRACE = 1.0
"""Seconds that requests in progress have to end when the proxy closes."""
LINGER = 5.0
"""Seconds that a client has to stop sending after an early response."""
POLL_INTERVAL = 0.02
"""Seconds between two checks whether a waiting client has disconnected."""
_LINUX = hasattr(socket, "TCP_INFO")
_ESTABLISHED = 1
"""TCP state of a connection that is open on both sides: tcp(7), TCP_INFO."""
# RFC 9110, section 7.6.1: these headers concern one connection. The proxy sets the length itself.
_NOT_FORWARDED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "upgrade"}
)
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp adds to a request by default."""

NO_FAULT = FaultMatch(Armed(Fault(), None))
"""The request is forwarded without a fault."""


class ForwardingProxy(abc.ABC):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the duration of an `async with` block.

    It opens a new upstream connection for each request, so that a request is never sent twice.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.
        dialect: The API of the server. By default the proxy recognises it from each request.

    Attributes:
        url: URL of the proxy.
        exchanges: The requests, in order of arrival.
    """

    def __init__(self, upstream: str, *, dialect: Dialect | None = None) -> None:
        self.url = ""
        self.exchanges: list[Exchange] = []
        self._upstream = upstream.rstrip("/")
        self._dialect = dialect
        self._keys: dict[str, str] = {}  # target of a Location header in a response -> key
        self._handlers: set[asyncio.Task[object]] = set()
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._closing = asyncio.Event()
        self._client = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_send_once,),
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
        )
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle, expect_handler=_delay_continue)
        application.on_response_prepare.append(_remove_added_headers)
        self._runner = web.AppRunner(
            application,
            auto_decompress=False,
            shutdown_timeout=GRACE,
            access_log=None,
            lingering_time=0,  # _finish_early lingers instead and notices when the client disconnects
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=BACKLOG)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._handlers:  # their clients have disconnected
            await asyncio.wait(self._handlers, timeout=GRACE)
            for task in (handlers := [*self._handlers]):
                task.cancel()
            for task in handlers:
                with suppress(asyncio.CancelledError):
                    await task
        if self._client is not None:
            await self._client.close()

    async def wait_until_idle(self) -> None:
        """Wait until no request is in progress, including those of disconnected clients."""
        while self._handlers:
            await asyncio.wait(self._handlers)

    @abc.abstractmethod
    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        """Append the exchange to `exchanges` and choose its fault, or `NO_FAULT`."""

    def change_headers(self, exchange: Exchange, headers: CIMultiDict[str]) -> None:  # noqa: B027, optional
        """Change the headers of the server's response before the client gets them."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        try:
            response = await self._respond(request)
            if not request.content.is_eof() and not _is_disconnected(request):
                await _finish_early(request, response)
        except ConnectionError:  # the client has disconnected, or a fault closes the connection
            return _close(request)
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        parsed = Request.of(request.method, request.raw_path, headers)
        dialect = self._dialect or dialect_of(parsed)
        operation, key = dialect.recognise(parsed)
        key = key or self._keys.get(request.raw_path, "")
        exchange = Exchange(
            request.method,
            request.raw_path,
            headers,
            operation=operation,
            neutral=dialect.operations.get(operation, ""),
            key=key,
        )
        body = RequestBody(request, exchange)
        if parsed.query.get("uploadType") == "multipart" and dialect is GCS:
            exchange.key = await body.peek(key_in_multipart) or ""
        found = await self.match_fault(exchange, body)
        match found.armed.fault:
            case Answer() | ExpiredCredentials() as fault:
                if not body.expects_continue:
                    await body.skip(None)
                _fire(found, exchange)
                return _fault_response(exchange, fault, dialect)
            case ResetBefore():
                _fire(found, exchange)
                return _reset(request)
            case ResetAfter():
                await body.skip(None)
                _fire(found, exchange)
                return _reset(request)
            case Delay(seconds):
                _fire(found, exchange)
                await self._wait(request, seconds)
            case ResetDuring(after) | StallRequest(after, None) as fault:
                position = position_in(await body.whole_length(), after, found.fraction)
                if position is not None:
                    await body.skip(position)
                    _fire(found, exchange)
                    if isinstance(fault, StallRequest):
                        await self._wait(request, None)
                    return _reset(request)
        return await self._forward(request, body, found)

    async def _forward(self, request: web.Request, body: RequestBody, found: FaultMatch) -> web.StreamResponse:
        """Forward the request to the server, and the response to the client."""
        assert self._client is not None
        exchange = body.exchange
        # The Host header is kept, since the signature covers it.
        headers = _forwarded(request.headers)
        if body.length is not None and (body.length or "content-length" in exchange.headers):
            headers["Content-Length"] = str(body.length)
        flow = await self._request_flow(request, body, found)
        try:
            upstream = await self._client.request(
                request.method,
                URL(self._upstream + request.raw_path, encoded=True),
                headers=headers,
                data=None if body.length == 0 else flow,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            if _is_disconnected(request) or self._closing.is_set():
                raise ConnectionResetError("the client has disconnected") from error
            exchange.status = 502
            return web.Response(status=502, text=f"the proxy got no response from {self._upstream}: {error}")
        try:
            async with upstream:
                if not isinstance(found.armed.fault, SwallowAnswer):
                    return await self._relay(request, upstream, exchange, found)
                async for _ in upstream.content.iter_any():
                    pass
        except aiohttp.ClientError as error:  # the server closed the connection, so the proxy does the same
            raise ConnectionResetError("the server closed the connection in the middle of the response") from error
        _fire(found, exchange)
        return _close(request)

    async def _relay(
        self, request: web.Request, upstream: aiohttp.ClientResponse, exchange: Exchange, found: FaultMatch
    ) -> web.StreamResponse:
        """Send the server's response to the client."""
        exchange.status = upstream.status
        headers = _forwarded(upstream.headers)
        if "Location" in headers:
            headers["Location"] = self._location_on_proxy(headers["Location"], exchange.key)
        self.change_headers(exchange, headers)
        response = _Relayed(upstream, headers)
        if "Content-Length" in upstream.headers:
            response.content_length = upstream.content_length
        flow = await self._response_flow(request, upstream, exchange, found)
        await response.prepare(request)
        request.writer.send_headers()  # before a stall or a cut at the first byte of the body
        async for chunk in flow:
            await response.write(chunk)
            exchange.received_bytes += len(chunk)
        await response.write_eof()
        return response

    async def _request_flow(self, request: web.Request, body: RequestBody, found: FaultMatch) -> Flow:
        """Return the request body as the server gets it."""
        act: Act
        match found.armed.fault:
            case FlipRequestByte(offset):
                act = _flip
            case StallRequest(offset, seconds):
                act = self._waiting(request, seconds)
            case Throttle(rate):
                _fire(found, body.exchange)
                return Flow(body, rate=rate, wait=self._waiting_for(request))
            case _:
                return Flow(body)
        position = position_in(await body.whole_length(), offset, found.fraction)
        return Flow(body, position, _firing(found, body.exchange, act))

    async def _response_flow(
        self, request: web.Request, upstream: aiohttp.ClientResponse, exchange: Exchange, found: FaultMatch
    ) -> Flow:
        """Return the response body as the client gets it."""
        chunks: AsyncIterator[bytes] = upstream.content.iter_any()
        act: Act
        match found.armed.fault:
            case FlipAnswerByte(offset):
                act = _flip
            case CutAnswer(offset):
                act = _cut
            case Stall(offset, seconds):
                act = self._waiting(request, seconds)
            case Throttle(rate):
                return Flow(chunks, rate=rate, wait=self._waiting_for(request))
            case _:
                return Flow(chunks)
        length = upstream.content_length
        if request.method == "HEAD" or upstream.status in (204, 304):
            length = 0
        if length is None:
            whole = await upstream.read()
            chunks, length = Chunks([whole]), len(whole)
        return Flow(chunks, position_in(length, offset, found.fraction), _firing(found, exchange, act))

    def _location_on_proxy(self, location: str, key: str) -> str:
        """Rewrite a Location header to point to the proxy, and remember the key of its target."""
        url, upstream = URL(location, encoded=True), URL(self._upstream)
        target = url.raw_path_qs
        if url.is_absolute() and url.origin() == upstream.origin():
            target = target.removeprefix(upstream.raw_path.rstrip("/"))
            location = self.url + target
        if key:
            self._keys[target] = key
        return location

    async def _wait(self, request: web.Request, seconds: float | None) -> None:
        """Wait, at most until the client disconnects.

        Raises:
            ConnectionResetError: The client has disconnected, or the proxy closes.
        """
        _enable_keepalive(request)
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while end is None or loop.time() < end:
            if _is_disconnected(request):
                raise ConnectionResetError("the client has disconnected")
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL if end is None else min(POLL_INTERVAL, end - loop.time())):
                    await self._closing.wait()
                raise ConnectionResetError("the proxy closes")

    def _waiting(self, request: web.Request, seconds: float | None) -> Act:
        async def act(rest: bytes) -> bytes:
            await self._wait(request, seconds)
            return rest

        return act

    def _waiting_for(self, request: web.Request) -> Callable[[float], Awaitable[None]]:
        async def wait(seconds: float) -> None:
            await self._wait(request, seconds)

        return wait


class _Relayed(web.StreamResponse):
    """A response of the server, with only the headers that the server sent."""

    def __init__(self, upstream: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> None:
        super().__init__(status=upstream.status, reason=upstream.reason, headers=headers)
        self.given = frozenset(name.lower() for name in headers)


async def _remove_added_headers(_: web.Request, response: web.StreamResponse) -> None:
    if isinstance(response, _Relayed):
        for name in ("Content-Type", "Server"):
            if name.lower() not in response.given:
                response.headers.popall(name, None)


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a request, as it does after these two errors."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(f"{error!r}") from error


async def _delay_continue(_: web.Request) -> None:
    """Send no "100 Continue" yet: the fault may not need the body."""


async def _flip(rest: bytes) -> bytes:
    return bytes([rest[0] ^ 0xFF]) + rest[1:]


async def _cut(_: bytes) -> bytes:
    raise ConnectionResetError("a fault cuts the response here")


def _firing(found: FaultMatch, exchange: Exchange, act: Act) -> Act:
    async def fire(rest: bytes) -> bytes:
        _fire(found, exchange)
        return await act(rest)

    return fire


def _fire(found: FaultMatch, exchange: Exchange) -> None:
    exchange.fault = found.armed.fault
    found.armed.fire()


async def _finish_early(request: web.Request, response: web.StreamResponse) -> None:
    """End a response that precedes the end of the request; close only when the client has stopped sending."""
    if not response.prepared:
        response.force_close()
    await response.prepare(request)
    await response.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while not request.content.at_eof():
                await request.content.readany()


def _fault_response(exchange: Exchange, fault: Answer | ExpiredCredentials, dialect: Dialect) -> web.Response:
    if isinstance(fault, ExpiredCredentials):
        status, code, message = dialect.expired
        fault = Answer(status, code, message)
    headers, body = dialect.error(fault.status, fault.code or dialect.code(fault.status), fault.message)
    if fault.body is not None:
        headers, body = {"Content-Type": headers["Content-Type"]}, fault.body.encode(errors="surrogateescape")
    exchange.status = fault.status
    return web.Response(status=fault.status, headers=CIMultiDict({**headers, **fault.headers}), body=body)


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _NOT_FORWARDED)


def _is_disconnected(request: web.Request) -> bool:
    if request.transport is None or request.transport.is_closing():
        return True
    # While reading is paused, as in the middle of a large body, asyncio does not notice that the client closes.
    connection = request.transport.get_extra_info("socket")
    return _LINUX and connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED


def _enable_keepalive(request: web.Request) -> None:
    """Have the kernel probe the client each second: a client that gave up with unsent bytes may close without a packet."""
    if _LINUX and request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


def _close(request: web.Request) -> web.Response:
    """Close the connection after all written bytes are sent."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _reset(request: web.Request) -> web.Response:
    """Reset the connection at once."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # With a linger time of zero the kernel sends RST instead of FIN: socket(7), SO_LINGER.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
