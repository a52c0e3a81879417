"""Connections that are opened, used again and closed. Against servers of raw bytes."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from lakery_cloud.http import pool as pools
from lakery_cloud.http.connection import MAX_HEAD
from lakery_cloud.http.exchange import (
    ConnectFailed,
    ConnectionLost,
    HTTPError,
    Origin,
    ReadTimeout,
    UnsupportedResponse,
    buffer,
)
from tests.http.raw import (
    EMPTY,
    LARGE,
    REFUSAL,
    fetch,
    pool_of,
    pooled,
    request_of,
    responding,
    straying,
    trickling,
)
from tests.tls import server_context


@pytest.mark.parametrize(
    "response",
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
async def test_malformed_response_is_refused_and_ends_the_connection(response: bytes) -> None:
    never = asyncio.Event()
    async with pooled(responding(response, at_end=never.wait())) as (pool, server):
        with pytest.raises(UnsupportedResponse):
            await fetch(pool)
        with pytest.raises(UnsupportedResponse):
            await fetch(pool)
    assert server.connections == 2


async def test_connection_is_used_again() -> None:
    async with pooled(responding(*[EMPTY] * 3)) as (pool, server):
        for _ in range(3):
            await fetch(pool)
    assert server.connections == 1


@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"],
)  # fmt: skip
async def test_connection_that_the_server_will_close_is_not_used_again(response: bytes) -> None:
    async with pooled(responding(response, response)) as (pool, server):
        assert [await fetch(pool), await fetch(pool)] == [(200, b"x")] * 2
    assert server.connections == 2


async def test_connection_with_an_unread_body_is_not_used_again() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"
    never = asyncio.Event()
    async with pooled(responding(response, at_end=never.wait())) as (pool, server):
        for _ in range(2):
            opened = await pool.send(request_of())
            assert await opened.read() == b"01234"
            opened.close()
    assert server.connections == 2


async def test_body_that_arrived_unread_is_no_part_of_the_next_one() -> None:
    responses = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body for body in (b"first", b"other")]
    async with pooled(responding(*responses)) as (pool, server):
        (await pool.send(request_of())).close()
        assert await fetch(pool) == (200, b"other")
    assert server.connections == 1


async def test_closed_response_reads_nothing_of_the_next_one() -> None:
    responses = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body for body in (b"first", b"other")]
    async with pooled(responding(*responses)) as (pool, server):
        first = await pool.send(request_of())
        first.close()
        second = await pool.send(request_of())
        first.close()
        with pytest.raises(ConnectionLost):
            await first.read()
        assert await second.read() == b"other"
        second.close()
    assert server.connections == 1


async def test_request_on_an_idle_connection_that_the_server_closed_is_sent_again() -> None:
    async with pooled(responding(EMPTY)) as (pool, server):
        for _ in range(3):
            assert await fetch(pool) == (200, b"")
    assert server.connections == 3


@pytest.mark.parametrize(
    "stray", [EMPTY, b"x", b"\r\n", b"HTTP/1.1 2", None], ids=["response", "byte", "line", "head", "end"]
)
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_bytes_that_arrived_while_the_loop_was_busy_answer_no_request(
    stray: bytes | None, is_tls: bool, new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    server_tls = server_context(tmp_path, name="127.0.0.1") if is_tls else None
    tls = ssl.create_default_context(cafile=tmp_path / "ca.pem") if is_tls else None
    with straying(stray, tls=server_tls) as server, asyncio.Runner(loop_factory=new_loop) as runner:

        async def use() -> None:
            pool = pool_of(server.origin, tls=tls)
            assert await fetch(pool) == (200, b"")
            server.send_stray_bytes()
            assert await fetch(pool, "PUT") == (403, b"no")
            assert await fetch(pool, "PUT") == (403, b"no")
            pool.close()

        runner.run(use())
    assert server.connections == 2


async def test_request_on_a_new_connection_that_ends_is_not_sent_again() -> None:
    async with pooled(responding(b"")) as (pool, server):
        with pytest.raises(ConnectionLost):
            await fetch(pool)
    assert server.connections == 1


async def test_connection_that_ends_before_it_is_used_is_an_error() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with pooled(serve) as (pool, _):
        for _ in range(20):
            with pytest.raises(HTTPError):
                await fetch(pool)


async def test_request_whose_response_has_begun_is_not_sent_again() -> None:
    async with pooled(responding(EMPTY, b"HTTP/1.1 200 OK\r\n")) as (pool, server):
        await fetch(pool)
        with pytest.raises(ConnectionLost):
            await fetch(pool)
    assert server.connections == 1


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEEP_IDLE", 0.01)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await responding(EMPTY)(reader, writer)
        await reader.read()
        ended.set()

    async with pooled(serve) as (pool, _):
        await fetch(pool)
        await ended.wait()


async def test_body_that_breaks_off_is_an_error_after_the_bytes_that_arrived() -> None:
    async with pooled(responding(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")) as (pool, _):
        response = await pool.send(request_of())
        assert await response.read() == b"01234"
        with pytest.raises(ConnectionLost):
            await response.read()


async def test_response_that_arrives_slowly_does_not_time_out() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in response:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)

    async with pooled(serve) as (pool, _):
        assert await fetch(pool) == (200, b"slow")


async def test_large_bodies_arrive_whole_in_both_directions() -> None:
    body = bytes(range(256)) * (LARGE // 256)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + await reader.readexactly(LARGE))
        await reader.read()

    async with pooled(serve) as (pool, _):
        response = await pool.send(request_of("PUT", body[:1000], memoryview(body)[1000:]))
        await asyncio.sleep(0.1)  # so that more arrives than is read ahead
        assert (await buffer(response, LARGE)).body == body


async def test_refusal_before_the_body_was_sent_is_the_response() -> None:
    never = asyncio.Event()
    async with pooled(responding(REFUSAL, at_end=never.wait())) as (pool, server):
        for _ in range(2):
            response = await buffer(await pool.send(request_of("PUT", bytes(4 * LARGE))), 10)
            assert (response.status, response.body) == (403, b"no")
    assert server.connections == 2, "the rest of the first body would be read as the next request"


async def test_cancelled_request_ends_its_connection() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        ended.set()

    async with pooled(serve) as (pool, _):
        task = asyncio.create_task(fetch(pool))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


async def test_error_that_is_too_long_is_refused() -> None:
    async with pooled(responding(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n123456789")) as (pool, _):
        with pytest.raises(UnsupportedResponse):
            await buffer(await pool.send(request_of()), 8)


async def test_error_that_trickles_times_out() -> None:
    response = [b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000]
    async with pooled(trickling(response, seconds=0.02), read_timeout=0.2) as (pool, _):
        with pytest.raises(ReadTimeout):
            await buffer(await pool.send(request_of()))


async def test_missing_server_is_no_connection() -> None:
    async with pooled(responding()) as (pool, _):
        pass
    with pytest.raises(ConnectFailed):
        await fetch(pool)


async def test_unknown_name_is_no_connection() -> None:
    pool = pool_of(Origin.of("http://nowhere.invalid"), connect_timeout=5)
    with pytest.raises(HTTPError):
        await fetch(pool)


async def test_no_more_connections_are_kept_than_may_be_open() -> None:
    async with pooled(responding(*[EMPTY] * 9)) as (pool, server):
        pool._sockets._limit = 2
        for _ in range(2):
            responses = await asyncio.gather(*(pool.send(request_of()) for _ in range(5)))
            for response in responses:
                response.close()
            assert len(pool._idle) == 2
    assert server.connections == 5 + 3


async def test_idle_connection_makes_room_for_one_of_the_sdk() -> None:
    async with pooled(responding(EMPTY)) as (pool, _):
        pool._sockets._limit = 1
        await fetch(pool)
        made = pool._sockets.make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ()))
        assert len(pool._idle) == 0
        made.close()
