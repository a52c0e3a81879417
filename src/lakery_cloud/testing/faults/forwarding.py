"""An HTTP proxy that streams, notes each request, and carries out the fault that a request meets.

It never decides which request meets one: a subclass does.
"""

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
    FlipAnswerByte,
    FlipRequestByte,
    Meeting,
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
"""ConnectionPool that may wait to be accepted."""
MAX_HEADER = 64 * 1024
"""Longest line of a head, both ways: more than any of the three stores takes."""
GRACE = 1.0
"""Seconds for requests under way to end when the proxy closes."""
LINGER = 5.0
"""Seconds for a client to stop sending a request that is answered already."""
LOOK_EVERY = 0.02
"""Seconds between two looks whether a client that is kept waiting has gone."""
_LINUX = hasattr(socket, "TCP_INFO")
_ESTABLISHED = 1
"""State of a connection that both sides have open: tcp(7), TCP_INFO."""
# RFC 9110, section 7.6.1: these concern one connection. Lengths are set anew with each body.
_NOT_PASSED_ON = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "upgrade"}
)
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add to a request."""

NO_FAULT = Meeting(Armed(Fault(), None))
"""What most requests meet."""


class ForwardingProxy(abc.ABC):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the length of an `async with` block.

    Each request goes upstream on a connection of its own, so that none is ever sent twice.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.
        dialect: The API that it speaks. By default each request tells.

    Attributes:
        url: URL of the proxy.
        exchanges: What passed, in order of arrival.
    """

    def __init__(self, upstream: str, *, dialect: Dialect | None = None) -> None:
        self.url = ""
        self.exchanges: list[Exchange] = []
        self._upstream = upstream.rstrip("/")
        self._dialect = dialect
        self._keys: dict[str, str] = {}  # target that an answer has sent its client to -> key
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
        application.router.add_route("*", "/{path:.*}", self._handle, expect_handler=_let_wait)
        application.on_response_prepare.append(_take_automatic_headers_away)
        self._runner = web.AppRunner(
            application,
            auto_decompress=False,
            shutdown_timeout=GRACE,
            access_log=None,
            lingering_time=0,  # ours notices when the client goes
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
        if self._handlers:  # of clients that have gone
            await asyncio.wait(self._handlers, timeout=GRACE)
            for task in self._handlers:
                task.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def wait_until_idle(self) -> None:
        """Wait until no request is under way, also of clients that have gone."""
        while self._handlers:
            await asyncio.wait(self._handlers)

    @abc.abstractmethod
    async def _meet(self, exchange: Exchange, body: RequestBody) -> Meeting:
        """Note an exchange in `exchanges`, and say which fault it meets, or `NO_FAULT`."""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        try:
            response = await self._answer(request)
            if not request.content.is_eof() and not _has_gone(request):
                await _finish_early(request, response)
        except ConnectionError:  # the client has gone, as a cancelled one does, or is to think that the server has
            return _hang_up(request)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        asked = Request.of(request.method, request.raw_path, headers)
        dialect = self._dialect or dialect_of(asked)
        operation, key = dialect.recognise(asked)
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
        if asked.query.get("uploadType") == "multipart" and dialect is GCS:
            exchange.key = await body.peek(key_in_multipart) or ""
        met = await self._meet(exchange, body)
        match met.armed.fault:
            case Answer() | ExpiredCredentials() as fault:
                if not body.waits_to_be_asked:
                    await body.skip(None)
                _fire(met, exchange)
                return _own_answer(exchange, fault, dialect)
            case ResetBefore():
                _fire(met, exchange)
                return _reset(request)
            case ResetAfter():
                await body.skip(None)
                _fire(met, exchange)
                return _reset(request)
            case Delay(seconds):
                _fire(met, exchange)
                await self._wait(request, seconds)
            case ResetDuring(after) | StallRequest(after, None) as fault:
                position = position_in(await body.whole_length(), after, met.fraction)
                if position is not None:
                    await body.skip(position)
                    _fire(met, exchange)
                    if isinstance(fault, StallRequest):
                        await self._wait(request, None)
                    return _reset(request)
        return await self._pass_on(request, body, met)

    async def _pass_on(self, request: web.Request, body: RequestBody, met: Meeting) -> web.StreamResponse:
        """Send the request to the server, and its answer to the client."""
        assert self._client is not None
        exchange = body.exchange
        # Host goes along as it is: it is part of the signature.
        headers = _passed(request.headers)
        if body.length is not None and (body.length or "content-length" in exchange.headers):
            headers["Content-Length"] = str(body.length)
        flow = await self._request_flow(request, body, met)
        try:
            answer = await self._client.request(
                request.method,
                URL(self._upstream + request.raw_path, encoded=True),
                headers=headers,
                data=None if body.length == 0 else flow,
                skip_auto_headers=_AUTOMATIC,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            if _has_gone(request) or self._closing.is_set():
                raise ConnectionResetError("the client has gone") from error
            exchange.status = 502
            return web.Response(status=502, text=f"the proxy got no answer from {self._upstream}: {error}")
        try:
            async with answer:
                if not isinstance(met.armed.fault, SwallowAnswer):
                    return await self._relay(request, answer, exchange, met)
                async for _ in answer.content.iter_any():
                    pass
        except aiohttp.ClientError as error:  # the server broke off, so the proxy does
            raise ConnectionResetError("the answer broke off") from error
        _fire(met, exchange)
        return _hang_up(request)

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse, exchange: Exchange, met: Meeting
    ) -> web.StreamResponse:
        """Send the server's answer to the client."""
        exchange.status = answer.status
        passed = _passed(answer.headers)
        if "Location" in passed:
            passed["Location"] = self._located(passed["Location"], exchange.key)
        response = _Relayed(answer, passed)
        if "Content-Length" in answer.headers:
            response.content_length = answer.content_length
        flow = await self._answer_flow(request, answer, exchange, met)
        await response.prepare(request)
        request.writer.send_headers()  # a stall or a cut before the first byte comes after the head
        async for chunk in flow:
            await response.write(chunk)
            exchange.received_bytes += len(chunk)
        await response.write_eof()
        return response

    async def _request_flow(self, request: web.Request, body: RequestBody, met: Meeting) -> Flow:
        """The request's body as the server gets it."""
        act: Act
        match met.armed.fault:
            case FlipRequestByte(offset):
                act = _flip
            case StallRequest(offset, seconds):
                act = self._waiting(request, seconds)
            case Throttle(rate):
                _fire(met, body.exchange)
                return Flow(body, rate=rate, wait=self._waiting_for(request))
            case _:
                return Flow(body)
        position = position_in(await body.whole_length(), offset, met.fraction)
        return Flow(body, position, _firing(met, body.exchange, act))

    async def _answer_flow(
        self, request: web.Request, answer: aiohttp.ClientResponse, exchange: Exchange, met: Meeting
    ) -> Flow:
        """The answer's body as the client gets it."""
        chunks: AsyncIterator[bytes] = answer.content.iter_any()
        act: Act
        match met.armed.fault:
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
        length = answer.content_length
        if request.method == "HEAD" or answer.status in (204, 304):
            length = 0
        if length is None:
            whole = await answer.read()
            chunks, length = Chunks([whole]), len(whole)
        return Flow(chunks, position_in(length, offset, met.fraction), _firing(met, exchange, act))

    def _located(self, location: str, key: str) -> str:
        """An address that the server has given, by way of the proxy."""
        url, upstream = URL(location, encoded=True), URL(self._upstream)
        target = url.raw_path_qs
        if url.is_absolute() and url.origin() == upstream.origin():
            target = target.removeprefix(upstream.raw_path.rstrip("/"))
            location = self.url + target
        if key:
            self._keys[target] = key
        return location

    async def _wait(self, request: web.Request, seconds: float | None) -> None:
        """Wait so long, or until the client goes.

        Raises:
            ConnectionResetError: The client has gone, or the proxy closes.
        """
        _ask_whether_there(request)
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while end is None or loop.time() < end:
            if _has_gone(request):
                raise ConnectionResetError("the client has gone")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY if end is None else min(LOOK_EVERY, end - loop.time())):
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
    """An answer of the server, with no headers but those that the server gave it."""

    def __init__(self, answer: aiohttp.ClientResponse, headers: CIMultiDict[str]) -> None:
        super().__init__(status=answer.status, reason=answer.reason, headers=headers)
        self.given = frozenset(name.lower() for name in headers)


async def _take_automatic_headers_away(_: web.Request, response: web.StreamResponse) -> None:
    if isinstance(response, _Relayed):
        for name in ("Content-Type", "Server"):
            if name.lower() not in response.given:
                response.headers.popall(name, None)


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself, which it does after these errors."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(f"{error!r}") from error


async def _let_wait(_: web.Request) -> None:
    """Don't ask for a body before it is known whether it is wanted."""


async def _flip(rest: bytes) -> bytes:
    return bytes([rest[0] ^ 0xFF]) + rest[1:]


async def _cut(_: bytes) -> bytes:
    raise ConnectionResetError("the answer is cut here")


def _firing(met: Meeting, exchange: Exchange, act: Act) -> Act:
    async def fire(rest: bytes) -> bytes:
        _fire(met, exchange)
        return await act(rest)

    return fire


def _fire(met: Meeting, exchange: Exchange) -> None:
    exchange.fault = met.armed.fault
    met.armed.fire()


async def _finish_early(request: web.Request, response: web.StreamResponse) -> None:
    """End an answer that came before the end of the request, and let the client stop sending before hanging up."""
    if not response.prepared:
        response.force_close()
    await response.prepare(request)
    await response.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while not request.content.at_eof():
                await request.content.readany()


def _own_answer(exchange: Exchange, fault: Answer | ExpiredCredentials, dialect: Dialect) -> web.Response:
    if isinstance(fault, ExpiredCredentials):
        status, code, message = dialect.expired
        fault = Answer(status, code, message)
    headers, body = dialect.error(fault.status, fault.code or dialect.code(fault.status), fault.message)
    if fault.body is not None:
        headers, body = {"Content-Type": headers["Content-Type"]}, fault.body.encode(errors="surrogateescape")
    exchange.status = fault.status
    return web.Response(status=fault.status, headers=CIMultiDict({**headers, **fault.headers}), body=body)


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON)


def _has_gone(request: web.Request) -> bool:
    if request.transport is None or request.transport.is_closing():
        return True
    # asyncio never looks at a connection of which it reads no more, as here when much of a body has arrived.
    connection = request.transport.get_extra_info("socket")
    return _LINUX and connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED


def _ask_whether_there(request: web.Request) -> None:
    """Let the kernel ask the client each second: one whose own kernel gave up, with bytes unsent, never says so."""
    if _LINUX and request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection when all that was written has arrived."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _reset(request: web.Request) -> web.Response:
    """Reset the connection at once."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # Lingering for no time makes the kernel send RST in place of FIN: socket(7), SO_LINGER.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()
