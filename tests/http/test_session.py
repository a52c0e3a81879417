"""Both implementations of the HTTP seam behave alike: our own connections, and an aiohttp session."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import uvloop

from lakery_cloud.http.client import open_session
from lakery_cloud.http.connection import MAX_INTERIM
from lakery_cloud.http.exchange import (
    BufferedResponse,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    Exchange,
    HTTPError,
    Origin,
    ReadTimeout,
    Request,
    TLSFailed,
    UnsupportedResponse,
    buffer,
)
from lakery_cloud.http.pool import Sockets
from lakery_cloud.http.session import SessionExchange
from tests.helpers import PATIENCE
from tests.http.raw import (
    EMPTY,
    INTERIM,
    LARGE,
    REFUSAL,
    Serve,
    fetch,
    in_bytes,
    pool_of,
    request_of,
    responding,
    running,
    straying,
    trickling,
)
from tests.tls import server_context

SOON = {"connect_timeout": 2.0, "read_timeout": 0.2}
"""Time-outs of tests that wait for them. A session waits for the head as long as both together."""

Opens = Callable[..., AbstractAsyncContextManager[Exchange]]


@asynccontextmanager
async def pool_exchange(
    origin: Origin,
    *,
    read_timeout: float = PATIENCE,
    connect_timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Exchange]:
    pool = pool_of(origin, read_timeout=read_timeout, connect_timeout=connect_timeout, tls=tls)
    try:
        yield pool
    finally:
        pool.close()


@asynccontextmanager
async def session_exchange(
    origin: Origin,
    *,
    read_timeout: float = PATIENCE,
    connect_timeout: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Exchange]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout, sock_read=read_timeout)
    async with open_session(Sockets(limit=10, seconds=PATIENCE), tls or True) as session:
        yield SessionExchange(session, origin, timeout=timeout)


@pytest.fixture(params=[pool_exchange, session_exchange], ids=["pool", "session"])
def opens(request: pytest.FixtureRequest) -> Opens:
    return request.param


async def reading(opens: Opens, serve: Serve, method: str = "GET", **timeouts: float) -> BufferedResponse:
    """The response to one request."""
    async with running(serve) as server, opens(server.origin, **timeouts) as exchange:
        return await buffer(await exchange.send(request_of(method, b"body" if method == "PUT" else b"")))


async def test_request_may_have_a_read_timeout_of_its_own(opens: Opens) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Works for a while before the response and before its body, and never responds to the second request."""
        for piece in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"):
            await asyncio.sleep(0.5)
            writer.write(piece)
        await reader.read()

    slow = replace(request_of(), read_timeout=PATIENCE)
    async with running(serve) as server, opens(server.origin, **SOON) as exchange:
        response = await buffer(await exchange.send(slow))
        assert response.body == b"ok"
        async with asyncio.timeout(PATIENCE / 2):
            with pytest.raises(ReadTimeout):
                await exchange.send(request_of())


@pytest.mark.parametrize(
    ("method", "response", "expected"),
    [
        ("GET", EMPTY, (200, {"content-length": "0"}, b"")),
        ("PUT", EMPTY, (200, {"content-length": "0"}, b"")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (200, {"content-length": "5"}, b"")),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nA:\r\n\r\n", (204, {"a": ""}, b"")),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', (304, {"etag": '"x"'}, b"")),
        ("GET", b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 1\r\n\r\nx", (200, {"a": "1, 2", "content-length": "1"}, b"x")),
        ("GET", b"HTTP/1.1 200 \r\nA:  1 \t\r\nContent-Length: 1\r\n\r\nx", (200, {"a": "1", "content-length": "1"}, b"x")),
        ("GET", b"HTTP/1.1 200 OK\r\nA: \xc3\xa9\r\nContent-Length: 0\r\n\r\n", (200, {"a": "é", "content-length": "0"}, b"")),
        ("GET", INTERIM * MAX_INTERIM + EMPTY, (200, {"content-length": "0"}, b"")),
        ("GET", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", (302, {"location": "http://127.0.0.1:9/", "content-length": "0"}, b"")),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno", (200, {"content-encoding": "gzip", "content-length": "2"}, b"no")),
        ("GET", b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nno\r\n0\r\n\r\n", (500, {"transfer-encoding": "chunked"}, b"no")),
        ("GET", REFUSAL, (403, {"content-length": "2"}, b"no")),
    ],
    ids=["empty", "put", "head", "204", "304", "repeated", "spaces", "not ASCII", "interim", "redirect", "gzip", "chunked", "refusal"],
)  # fmt: skip
@pytest.mark.parametrize("split", [in_bytes, lambda response: [response]], ids=["byte by byte", "at once"])
async def test_response_is_read(
    opens: Opens,
    method: str,
    response: bytes,
    expected: tuple[int, dict[str, str], bytes],
    split: Callable[[bytes], list[bytes]],
) -> None:
    read = await reading(opens, trickling(split(response), seconds=0), method)
    assert (read.status, read.headers, read.body) == expected


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nA", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", ConnectionLost),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n012", ConnectionLost),
        (b"no HTTP at all\r\n\r\n", UnsupportedResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", UnsupportedResponse),
        (b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", UnsupportedResponse),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, UnsupportedResponse),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1E8480\r\n" + b"x" * 2_000_000, UnsupportedResponse),
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "no HTTP", "no size", "no header", "long", "long chunk"],
)  # fmt: skip
async def test_response_that_is_broken_or_refused_is_an_error(
    opens: Opens, response: bytes, error: type[HTTPError]
) -> None:
    with pytest.raises(error):
        await reading(opens, responding(response))


@pytest.mark.parametrize(
    "response",
    [
        [],
        [b"HTTP/1.1 200 OK\r\nA"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"],
        [INTERIM],
        [INTERIM] * MAX_INTERIM,
        [b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 100],
        [b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000],
        [b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 1000],
    ],
    ids=["nothing", "half a head", "half a body", "interim", "many interim", "headers", "body", "chunks"],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_response_that_stalls_or_trickles_times_out(opens: Opens, response: list[bytes], method: str) -> None:
    with pytest.raises(ReadTimeout):
        await reading(opens, trickling(response, seconds=0.02), method, **SOON)


async def test_flood_of_interim_responses_ends(opens: Opens) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(INTERIM * 100)
            await writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(UnsupportedResponse):
        await reading(opens, serve, **SOON)


@pytest.mark.parametrize("size", [0, 1, 300_000, LARGE], ids=["empty", "byte", "slices", "large"])
async def test_request_arrives_whole(opens: Opens, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    received, notes = [], []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        if size:
            received.append(await reader.readexactly(size - 1))
            received.append(await reader.readexactly(1))
        writer.write(EMPTY)
        await reader.read()

    request = Request(
        "PUT",
        "/a%2Fb?c=%20",
        {"host": "example.org", "x-a": "b"},
        (body[: size // 3], memoryview(body)[size // 3 : size]),
        before_last=lambda: notes.append(len(b"".join(received[1:]))),
    )
    async with running(serve) as server, opens(server.origin) as exchange:
        assert (await buffer(await exchange.send(request))).status == 200
    head = received[0].decode().lower().split("\r\n")
    assert head[0] == "put /a%2fb?c=%20 http/1.1"
    assert {"host: example.org", "x-a: b", f"content-length: {size}"} <= {*head}
    assert not any(line.startswith(("content-type", "accept-encoding", "transfer-encoding", "expect")) for line in head)
    assert b"".join(received[1:]) == body[:size]
    assert notes
    assert not size or notes[0] < size


async def test_request_is_not_sent_whole_if_its_end_is_not_reached(opens: Opens) -> None:
    class ContentChangedError(Exception):
        pass

    def refuse() -> None:
        raise ContentChangedError

    received = []

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        received.append(await reader.read())

    for size in (10, 300_000):
        request = request_of("PUT", bytes(size))
        request.before_last = refuse
        async with running(serve) as server, opens(server.origin) as exchange:
            with pytest.raises(ContentChangedError):
                await exchange.send(request)
            await asyncio.sleep(0)
        assert all(len(each.partition(b"\r\n\r\n")[2]) < size for each in received)


async def test_refusal_before_the_body_was_sent_is_the_response(opens: Opens) -> None:
    never = asyncio.Event()
    async with running(responding(REFUSAL, at_end=never.wait())) as server, opens(server.origin) as exchange:
        for _ in range(2):
            response = await buffer(await exchange.send(request_of("PUT", bytes(4 * LARGE))))
            assert (response.status, response.body) == (403, b"no")
    assert server.connections == 2


async def test_connection_is_used_again(opens: Opens) -> None:
    responses = [EMPTY, REFUSAL, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", EMPTY]
    async with running(responding(*responses)) as server, opens(server.origin) as exchange:
        for _ in responses:
            await fetch(exchange)
    assert server.connections == 1


async def test_connection_with_an_unread_body_is_not_used_again(opens: Opens) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"
    never = asyncio.Event()
    async with running(responding(response, at_end=never.wait())) as server, opens(server.origin) as exchange:
        for _ in range(2):
            opened = await exchange.send(request_of())
            assert await opened.read() == b"01234"
            opened.close()
    assert server.connections == 2


async def test_request_on_an_idle_connection_that_the_server_closed_is_sent_again_with_its_body(opens: Opens) -> None:
    bodies = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        bodies.append(await reader.readexactly(size))
        writer.write(EMPTY)
        if len(bodies) == 1:
            await reader.readexactly(100_000)  # half of the next request, after which the connection ends
        else:
            await reader.read()

    async with running(serve) as server, opens(server.origin) as exchange:
        for _ in range(2):
            assert await fetch(exchange, "PUT", b"x" * 400_000) == (200, b"")
    assert bodies == [b"x" * 400_000] * 2
    assert server.connections == 2


@pytest.mark.parametrize("stray", [EMPTY, b"x", None], ids=["response", "byte", "end"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["free", "busy"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_bytes_between_two_requests_answer_none(
    opens: Opens,
    stray: bytes | None,
    is_tls: bool,
    is_busy: bool,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    tmp_path: Path,
) -> None:
    server_tls = server_context(tmp_path, name="127.0.0.1") if is_tls else None
    tls = ssl.create_default_context(cafile=tmp_path / "ca.pem") if is_tls else None
    with straying(stray, tls=server_tls) as server, asyncio.Runner(loop_factory=new_loop) as runner:

        async def use() -> None:
            async with opens(server.origin, tls=tls) as exchange:
                assert await fetch(exchange) == (200, b"")
                server.send_stray_bytes()
                if not is_busy:
                    await asyncio.sleep(0.05)
                assert await fetch(exchange, "PUT") == (403, b"no")
                assert await fetch(exchange, "PUT") == (403, b"no")

        runner.run(use())
    assert server.connections == 2


async def test_missing_server_is_no_connection(opens: Opens) -> None:
    async with running(responding()) as server:
        pass
    async with opens(server.origin) as exchange:
        with pytest.raises(ConnectFailed):
            await exchange.send(request_of())


async def test_unknown_name_is_no_connection(opens: Opens) -> None:
    async with opens(Origin.of("http://nowhere.invalid"), connect_timeout=5) as exchange:
        with pytest.raises(ConnectFailed):
            await exchange.send(request_of())


async def test_server_that_begins_no_tls_in_time_is_no_connection(opens: Opens) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = Origin.of(f"https://127.0.0.1:{silent.getsockname()[1]}")
        async with opens(origin, connect_timeout=0.1, tls=ssl.create_default_context()) as exchange:
            with pytest.raises(ConnectTimeout):
                await exchange.send(request_of())


@pytest.mark.parametrize("name", ["127.0.0.1", "other.example.org"], ids=["unknown authority", "other name"])
async def test_certificate_without_trust_is_refused(opens: Opens, name: str, tmp_path: Path) -> None:
    server_tls = server_context(tmp_path, name=name)
    tls = ssl.create_default_context(cafile=None if name == "127.0.0.1" else tmp_path / "ca.pem")
    async with running(responding(EMPTY), tls=server_tls) as server, opens(server.origin, tls=tls) as exchange:
        with pytest.raises(TLSFailed):
            await exchange.send(request_of())


async def test_server_without_tls_is_refused(opens: Opens) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        await reader.read()

    async with running(serve) as server:
        origin = Origin.of(server.url.replace("http:", "https:"))
        async with opens(origin, tls=ssl.create_default_context()) as exchange:
            with pytest.raises(TLSFailed):
                await exchange.send(request_of())
