"""A large response takes neither memory nor time: no error is kept beyond 1 MiB, on any path, decoded or not."""

import asyncio
import gzip
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from lakery_cloud import LakeryCloudError
from lakery_cloud.engine.model import BodyInterrupted, Signal
from tests.http.raw import running
from tests.security.stores import OPERATIONS, Client, each_client, responds, transport_of

pytestmark = pytest.mark.usefixtures("short_pauses")

MiB = 1024**2
SIZE = 32 * MiB
PIECE = bytes(64 * 1024)
TRIED = ("put", "get", "list", "tags")
MEMORY = 24 * MiB
"""What these together may take; an error is kept up to 1 MiB, beside the buffers of both ends of its connection."""

Send = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


async def send_plain(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(b"HTTP/1.1 %d No\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % (status, SIZE))
    await _send(writer, PIECE)


async def send_chunked(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(b"HTTP/1.1 %d No\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
    await _send(writer, b"%x\r\n%b\r\n" % (len(PIECE), PIECE))


async def send_until_the_end(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(b"HTTP/1.1 %d No\r\nContent-Type: application/xml\r\n\r\n" % status)
    await _send(writer, PIECE)


BOMB = gzip.compress(bytes(SIZE))


async def send_bomb(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(
        b"HTTP/1.1 %d No\r\nContent-Type: application/xml\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
        % (status, len(BOMB), BOMB)
    )


async def _send(writer: asyncio.StreamWriter, piece: bytes) -> None:
    for _ in range(SIZE // len(PIECE)):
        if writer.is_closing():
            return
        writer.write(piece)
        await writer.drain()
    writer.close()


LARGE: Mapping[str, Send] = {
    "plain": send_plain,
    "chunked": send_chunked,
    "until the end": send_until_the_end,
    "gzip": send_bomb,
}


@contextmanager
def memory_of() -> Iterator[list[int]]:
    """The most memory that the block takes beyond what was there before, once it has ended."""
    found: list[int] = []
    tracemalloc.start(1)
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield found
        found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


@each_client
async def test_large_error_takes_little_memory(client: Client) -> None:
    operations = OPERATIONS[client.cloud]

    async def outcome(name: str) -> Any:
        try:
            return await operations[name](transport)
        except (LakeryCloudError, Signal) as error:
            return error

    for number, (kind, send) in enumerate(LARGE.items()):
        status = (403, 500)[number % 2]

        async def respond(writer: asyncio.StreamWriter, _: bytes, send: Send = send, status: int = status) -> None:
            await send(writer, status)

        async with running(responds(respond)) as server, transport_of(client, server.url) as transport:
            with memory_of() as taken:
                found = await asyncio.gather(*map(outcome, TRIED))
        assert taken[0] < MEMORY, f"{kind}: {taken[0] / MiB:.0f} MiB"
        for name, ended in zip(TRIED, found, strict=True):
            assert isinstance(ended, (LakeryCloudError, BodyInterrupted)), f"{kind}: {name}: {ended!r}"
