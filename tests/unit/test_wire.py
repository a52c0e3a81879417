"""The fast lane's HTTP: what it reads, what it refuses, when a connection is used again. Against servers of raw bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lakery_cloud.http import pool as connections
from lakery_cloud.http.connection import (
    MAX_HEAD,
    ConnectionLost,
    HTTPError,
    ReadTimeout,
    UnsupportedResponse,
    read_chunked,
    read_head,
)
from lakery_cloud.http.pool import ConnectFailed, ConnectionPool, Origin, Sockets

GET = b"GET /key HTTP/1.1\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LARGE = 8 * 1024**2
"""More than buffers on the way hold."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts the connections to a server that does as it is told."""

    def __init__(self) -> None:
        self.connections = 0


@asynccontextmanager
async def serving(serve: Serve, *, read_timeout: float = 5) -> AsyncIterator[tuple[ConnectionPool, Server]]:
    """A lane to a server."""
    counted = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.connections += 1
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=LARGE)
    origin = Origin("127.0.0.1", server.sockets[0].getsockname()[1], is_tls=False)
    lane = ConnectionPool(
        origin, tls=None, sockets=Sockets(limit=10, seconds=5), connect_timeout=2, read_timeout=read_timeout
    )
    try:
        yield lane, counted
    finally:
        lane.close()
        server.close()
        await asyncio.sleep(0)


def saying(*answers: bytes, at_end: Awaitable[object] | None = None) -> Serve:
    """Answers one request after another, and closes the connection then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        if at_end is not None:
            await at_end

    return serve


async def get(lane: ConnectionPool, method: str = "GET") -> tuple[int, bytes]:
    answer = await lane.send(method, GET)
    try:
        return answer.status, await answer.read_all(LARGE)
    finally:
        answer.close()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (EMPTY, 200, b""),
        (b"HTTP/1.1 206 Partial Content\r\ncontent-length:5 \r\n\r\nhello", 206, b"hello"),
        (b"HTTP/1.1 204\r\n\r\n", 204, b""),
        (b"HTTP/1.0 404 \r\nContent-Length: 1\r\n\r\nx", 404, b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\nA: b\r\n\r\n" + EMPTY, 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + EMPTY, 200, b""),
        (b"HTTP/1.1 404 No\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 404, b"abc0123456789"),
    ],
    ids=["empty", "sized", "no content", "HTTP/1.0", "interim", "many interim", "chunked"],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, LARGE], ids=["byte by byte", "at once"])
async def test_answer_is_read_however_it_arrives(answer: bytes, status: int, body: bytes, step: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for start in range(0, len(answer), step):
            writer.write(answer[start : start + step])
            await asyncio.sleep(0)
        await reader.read()

    async with serving(serve) as (lane, _):
        assert await get(lane) == (status, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Other\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b" " * MAX_HEAD,
        b"x" * (MAX_HEAD + 1),
    ],
)
async def test_answer_that_is_not_strictly_one_is_odd_and_ends_the_connection(answer: bytes) -> None:
    never = asyncio.Event()
    async with serving(saying(answer, at_end=never.wait())) as (lane, server):
        with pytest.raises(UnsupportedResponse):
            await get(lane)
        with pytest.raises(UnsupportedResponse):
            await get(lane)
    assert server.connections == 2


def test_head_has_its_headers_in_lower_case_joined_where_they_repeat() -> None:
    head = read_head(b"HTTP/1.1 200 OK\r\nETag:  x \r\nB: 1\r\nb: 2\r\nEmpty:")
    assert head.headers == {"etag": "x", "b": "1, 2", "empty": ""}
    assert head.keeps_alive
    assert not read_head(b"HTTP/1.1 200 OK\r\nConnection: TE, Close").keeps_alive
    assert not read_head(b"HTTP/1.0 200 OK").keeps_alive


def test_chunks_are_incomplete_until_the_last_one_has_ended() -> None:
    raw = b"2\r\nab\r\n0\r\n\r\n"
    assert [read_chunked(raw[:size]) for size in range(len(raw))] == [None] * len(raw)
    assert read_chunked(raw) == b"ab"


async def test_connection_is_used_again() -> None:
    async with serving(saying(*[EMPTY] * 3)) as (lane, server):
        for _ in range(3):
            await get(lane)
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"],
)  # fmt: skip
async def test_connection_that_the_server_will_close_is_not_used_again(answer: bytes) -> None:
    async with serving(saying(answer, answer)) as (lane, server):
        assert [await get(lane), await get(lane)] == [(200, b"x")] * 2
    assert server.connections == 2


async def test_connection_whose_body_was_not_read_is_not_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"
    never = asyncio.Event()
    async with serving(saying(answer, at_end=never.wait())) as (lane, server):
        for _ in range(2):
            opened = await lane.send("GET", GET)
            assert await opened.read() == b"01234"
            opened.close()
    assert server.connections == 2


async def test_body_that_arrived_and_was_not_taken_is_no_part_of_the_next_one() -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body for body in (b"first", b"other")]
    async with serving(saying(*answers)) as (lane, server):
        (await lane.send("GET", GET)).close()
        assert await get(lane) == (200, b"other")
    assert server.connections == 1


async def test_connection_that_was_closed_while_it_was_idle_is_noticed_and_the_request_sent_anew() -> None:
    async with serving(saying(EMPTY)) as (lane, server):
        for _ in range(3):
            assert await get(lane) == (200, b"")
    assert server.connections == 3


async def test_request_on_a_new_connection_that_ends_is_not_sent_again() -> None:
    async with serving(saying(b"")) as (lane, server):
        with pytest.raises(ConnectionLost):
            await get(lane)
    assert server.connections == 1


async def test_connection_that_ends_before_it_is_used_is_an_error() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(serve) as (lane, _):
        for _ in range(20):
            with pytest.raises(HTTPError):
                await get(lane)


async def test_request_whose_answer_has_begun_is_not_sent_again() -> None:
    async with serving(saying(EMPTY, b"HTTP/1.1 200 OK\r\n")) as (lane, server):
        await get(lane)
        with pytest.raises(ConnectionLost):
            await get(lane)
    assert server.connections == 1


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_IDLE", 0.01)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(EMPTY)(reader, writer)
        await reader.read()
        ended.set()

    async with serving(serve) as (lane, _):
        await get(lane)
        await ended.wait()


async def test_body_that_breaks_off_is_an_error_after_what_came_of_it() -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")) as (lane, _):
        answer = await lane.send("GET", GET)
        assert await answer.read() == b"01234"
        with pytest.raises(ConnectionLost):
            await answer.read()


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"])
async def test_answer_that_stalls_times_out(begun: bytes) -> None:
    never = asyncio.Event()
    async with serving(saying(begun, at_end=never.wait()), read_timeout=0.05) as (lane, _):
        with pytest.raises(ReadTimeout):
            await get(lane)


async def test_answer_that_comes_slowly_does_not_time_out() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in answer:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async with serving(serve, read_timeout=0.3) as (lane, _):
        assert await get(lane) == (200, b"slow")


async def test_large_bodies_arrive_whole_in_both_directions() -> None:
    body = bytes(range(256)) * (LARGE // 256)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + await reader.readexactly(LARGE))
        await reader.read()

    async with serving(serve) as (lane, _):
        answer = await lane.send("PUT", GET, (body[:1000], memoryview(body)[1000:]))
        await asyncio.sleep(0.1)  # so that more arrives than is read ahead
        assert await answer.read_all(LARGE) == body
        answer.close()


async def test_refusal_before_the_body_was_sent_is_the_answer() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    never = asyncio.Event()
    async with serving(saying(refusal, at_end=never.wait())) as (lane, server):
        for _ in range(2):
            answer = await lane.send("PUT", GET, (bytes(4 * LARGE),))
            assert (answer.status, await answer.read_all(10)) == (403, b"no")
            answer.close()
    assert server.connections == 2, "the rest of the first body would be read as the next request"


async def test_cancelled_request_ends_its_connection() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        ended.set()

    async with serving(serve) as (lane, _):
        task = asyncio.create_task(get(lane))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


async def test_error_that_is_too_long_is_odd() -> None:
    async with serving(saying(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n")) as (lane, _):
        answer = await lane.send("GET", GET)
        with pytest.raises(UnsupportedResponse):
            await answer.read_all(8)
        answer.close()


async def test_server_that_is_not_there_is_no_connection() -> None:
    async with serving(saying()) as (lane, _):
        pass
    with pytest.raises(ConnectFailed):
        await get(lane)


async def test_name_that_no_server_has_is_no_connection() -> None:
    lane = ConnectionPool(
        Origin("nowhere.invalid", 80, is_tls=False),
        tls=None,
        sockets=Sockets(limit=10, seconds=5),
        connect_timeout=5,
        read_timeout=5,
    )
    with pytest.raises(HTTPError):
        await get(lane)


async def test_no_more_connections_are_kept_than_may_be_open() -> None:
    async with serving(saying(*[EMPTY] * 9)) as (lane, server):
        lane._sockets._limit = 2
        for _ in range(2):
            answers = await asyncio.gather(*(lane.send("GET", GET) for _ in range(5)))
            for answer in answers:
                answer.close()
            assert len(lane._idle) == 2
    assert server.connections == 5 + 3


async def test_idle_connection_makes_room_for_one_of_the_sdk() -> None:
    async with serving(saying(EMPTY)) as (lane, _):
        lane._sockets._limit = 1
        await get(lane)
        made = lane._sockets.make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ()))
        assert len(lane._idle) == 0
        made.close()
