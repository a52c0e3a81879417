"""One connection: which responses it reads and refuses, how long it waits, and when it can be used again."""

import asyncio
from collections.abc import Callable

import pytest

from lakery_cloud.http.connection import (
    MAX_CHUNK_LINES,
    MAX_CHUNKED,
    MAX_HEAD,
    MAX_INTERIM,
    SMALL,
    ChunkedBody,
    read_head,
    write_head,
)
from lakery_cloud.http.exchange import ConnectionLost, ReadTimeout, Request, UnsupportedResponse
from tests.http.raw import EMPTY, INTERIM, LARGE, in_bytes, open_wire, pooled, read_over_wire, request_of, trickling

CHUNKED = b"HTTP/1.1 404 No\r\nTransfer-Encoding: Chunked\r\n\r\n"
ENDLESS = [b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 1000]


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        (EMPTY, 200, b""),
        (b"HTTP/1.1 206 Partial Content\r\ncontent-length:5 \r\n\r\nhello", 206, b"hello"),
        (b"HTTP/1.1 204\r\n\r\n", 204, b""),
        (b"HTTP/1.0 404 \r\nContent-Length: 1\r\n\r\nx", 404, b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\nA: b\r\n\r\n" + EMPTY, 200, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM + EMPTY, 200, b""),
        (CHUNKED + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", 404, b"abc0123456789"),
    ],
    ids=["empty", "sized", "no content", "HTTP/1.0", "interim", "many interim", "chunked"],
)
@pytest.mark.parametrize("split", [in_bytes, lambda response: [response]], ids=["byte by byte", "at once"])
async def test_response_is_read_however_it_arrives(
    response: bytes, status: int, body: bytes, split: Callable[[bytes], list[bytes]]
) -> None:
    read = await read_over_wire(split(response))
    assert (read.status, read.body) == (status, body)


def test_headers_have_lower_case_names_and_are_joined_where_they_repeat() -> None:
    head = read_head(b"HTTP/1.1 200 OK\r\nETag:  x \r\nB: 1\r\nb: 2\r\nEmpty:")
    assert head.headers == {"etag": "x", "b": "1, 2", "empty": ""}
    assert head.keeps_alive
    assert not read_head(b"HTTP/1.1 200 OK\r\nConnection: TE, Close").keeps_alive
    assert not read_head(b"HTTP/1.0 200 OK").keeps_alive


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\x7f", "é"])
def test_request_with_a_character_that_http_cannot_carry_is_refused(character: str) -> None:
    for request in (
        Request("GET", f"/{character}", {}),
        Request("GET", "/", {"a": character}),
        Request("GET", "/", {f"a{character}": "b"}),
    ):
        with pytest.raises(ValueError, match="can't carry"):
            write_head(request)


def test_chunks_are_incomplete_until_the_last_one_has_ended() -> None:
    raw = b"2\r\nab\r\n0\r\n\r\n"
    for size in range(len(raw)):
        body = ChunkedBody()
        body.decode(raw[:size])
        assert not body.is_complete
    body = ChunkedBody()
    assert body.decode(raw) == b"ab"
    assert body.is_complete


class CountedBytes(bytes):
    """Bytes that count how many bytes were taken out of them or joined with them."""

    moved = 0

    def __getitem__(self, place):
        taken = super().__getitem__(place)
        if isinstance(place, slice):
            CountedBytes.moved += len(taken)
            return CountedBytes(taken)
        return taken

    def __radd__(self, other: bytes) -> bytes:
        CountedBytes.moved += len(other) + len(self)
        return CountedBytes(bytes(other) + bytes(self))


@pytest.mark.parametrize("step", [1, 7, LARGE], ids=["byte by byte", "in sevens", "at once"])
def test_work_for_chunks_of_one_byte_grows_with_their_number(step: int) -> None:
    raw = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    CountedBytes.moved = 0
    body = ChunkedBody()
    decoded = b"".join(body.decode(CountedBytes(raw[at : at + step])) for at in range(0, len(raw), step))
    assert decoded == b"x" * 10_000
    assert body.is_complete
    assert CountedBytes.moved < 4 * len(raw)


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"1;" + b"x" * 200 + b"\r\nx\r\n"], ids=["small", "extension"])
def test_chunked_body_of_many_small_chunks_is_refused(chunk: bytes) -> None:
    body = ChunkedBody()
    size = 0
    with pytest.raises(UnsupportedResponse):
        while size <= MAX_CHUNKED:
            size += len(body.decode(chunk * 1000))
    assert size <= MAX_CHUNK_LINES / (len(chunk) - 1)


def test_long_chunked_body_is_refused() -> None:
    body = ChunkedBody()
    piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    assert sum(len(body.decode(piece)) for _ in range(MAX_CHUNKED // len(piece))) > 0.9 * MAX_CHUNKED
    with pytest.raises(UnsupportedResponse):
        body.decode(piece)


@pytest.mark.parametrize(
    "response",
    [
        INTERIM * (MAX_INTERIM + 1) + EMPTY,
        INTERIM * 100_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD + b"\r\n\r\n" + EMPTY,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["interim", "flood", "long head", "two sizes", "no size"],
)
@pytest.mark.parametrize("step", [1000, LARGE], ids=["in pieces", "at once"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_response_beyond_the_bounds_is_refused(response: bytes, step: int, method: str) -> None:
    with pytest.raises(UnsupportedResponse):
        await read_over_wire([response[at : at + step] for at in range(0, len(response), step)], method)


async def test_bytes_after_a_response_never_answer_the_next_request() -> None:
    """Wherever the network cuts them: the response is refused, or the connection can't be used again."""
    for response in (EMPTY, b"HTTP/1.1 204 No\r\n\r\n", CHUNKED + b"1\r\nx\r\n0\r\n\r\n"):
        for after in (b"\r\n", b"x", EMPTY):
            stream = response + after
            for cut in range(len(stream) + 1):
                try:
                    read = await read_over_wire([stream[:cut], stream[cut:]])
                except UnsupportedResponse:
                    assert cut != len(response)
                else:
                    assert not read.is_reusable


async def test_bytes_without_a_request_end_the_connection() -> None:
    for stray in (b"\r\n", EMPTY):
        wire = open_wire()
        wire.receive(stray)
        assert not wire.connection.is_reusable
        with pytest.raises(UnsupportedResponse):
            await wire.connection.exchange(request_of())
        assert not wire.transport.sent


async def test_success_before_the_request_was_sent_is_no_response_to_it() -> None:
    wire = open_wire()
    wire.connection.pause_writing()  # the transport's buffer is full
    exchange = asyncio.ensure_future(wire.connection.exchange(request_of("PUT", bytes(SMALL + 1))))
    await asyncio.sleep(0)
    wire.receive(EMPTY)
    with pytest.raises(ConnectionLost):
        await exchange
    assert not wire.connection.is_reusable


async def test_refusal_before_the_request_was_sent_is_the_response() -> None:
    wire = open_wire()
    wire.connection.pause_writing()
    exchange = asyncio.ensure_future(wire.connection.exchange(request_of("PUT", bytes(SMALL + 1))))
    await asyncio.sleep(0)
    wire.receive(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert (await exchange).status == 403
    assert not wire.connection.is_reusable


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"])
async def test_response_that_stalls_times_out(begun: bytes) -> None:
    wire = open_wire(read_timeout=0.05)
    exchange = asyncio.ensure_future(wire.connection.exchange(request_of()))
    await asyncio.sleep(0)
    wire.receive(begun)
    with pytest.raises(ReadTimeout):
        await exchange
        while await wire.connection.read():
            pass


@pytest.mark.parametrize(
    "response",
    [ENDLESS, [INTERIM] * MAX_INTERIM + ENDLESS, in_bytes(EMPTY * 100)],
    ids=["headers", "interim", "bytes"],
)
async def test_head_that_trickles_times_out(response: list[bytes]) -> None:
    async with pooled(trickling(response, seconds=0.02), read_timeout=0.2) as (pool, _):
        with pytest.raises(ReadTimeout):
            await pool.send(request_of())


async def test_chunked_body_that_trickles_times_out() -> None:
    """Stores send only errors in chunks, so no large body needs more time."""
    response = [CHUNKED, *[b"1\r\nx\r\n"] * 1000]
    async with pooled(trickling(response, seconds=0.02), read_timeout=0.2) as (pool, _):
        opened = await pool.send(request_of())
        with pytest.raises(ReadTimeout):
            while await opened.read():
                pass


async def test_content_may_take_longer_than_the_time_out_as_long_as_bytes_arrive() -> None:
    response = [b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n", *[b"x"] * 40]
    async with pooled(trickling(response, seconds=0.05), read_timeout=1) as (pool, _):
        opened = await pool.send(request_of())
        body = b""
        while chunk := await opened.read():
            body += chunk
    assert body == b"x" * 40


async def test_waiting_for_the_response_begins_when_the_request_was_sent() -> None:
    wire = open_wire(read_timeout=0.05)
    request = request_of("PUT", bytes(SMALL + 1))
    request.before_last = wire.connection.pause_writing  # the network is slow to accept the last bytes
    exchange = asyncio.ensure_future(wire.connection.exchange(request))
    await asyncio.sleep(0.2)
    wire.connection.resume_writing()
    await asyncio.sleep(0)
    wire.receive(EMPTY)
    assert (await exchange).status == 200
