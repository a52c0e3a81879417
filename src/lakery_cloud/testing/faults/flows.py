"""Request and response bodies, streamed through a proxy. A body is buffered only as far as a fault needs it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Self

from aiohttp import web

from lakery_cloud.testing.faults.exchange import Exchange

MAX_PEEK = 64 * 1024
"""Most bytes of a body to search for a key."""
SLICES_PER_SECOND = 20
"""How often in a second a throttled body sends some bytes."""


class RequestBody:
    """The body of a request, chunk by chunk. A client that expects "100 Continue" gets it at the first read.

    Attributes:
        exchange: The record of the request; its `sent_bytes` grow as the body arrives.
        length: Size in bytes; None if not known yet.
        expects_continue: Whether the client waits for "100 Continue" before it sends the body.
    """

    def __init__(self, request: web.Request, exchange: Exchange) -> None:
        self.exchange = exchange
        self.length = request.content_length if request.can_read_body else 0
        self.expects_continue = exchange.headers.get("expect", "").lower() == "100-continue"
        self._request = request
        self._buffered: deque[bytes] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._buffered:
            return self._buffered.popleft()
        return await self._receive()

    async def _receive(self) -> bytes:
        if self.expects_continue:
            self.expects_continue = False
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # aiohttp takes any output for the start of the response
        try:
            chunk = await self._request.content.readany()
        except Exception as error:  # aiohttp raises many types, depending on how much has arrived
            raise ConnectionResetError("the client closed the connection in the middle of the request body") from error
        if not chunk:
            raise StopAsyncIteration
        self.exchange.sent_bytes += len(chunk)
        return chunk

    async def peek(self, find: Callable[[bytes], str | None]) -> str | None:
        """Search the first `MAX_PEEK` bytes, which stay in the body."""
        seen = b""
        with suppress(StopAsyncIteration):
            while len(seen) < MAX_PEEK and find(seen) is None:
                chunk = await self._receive()
                self._buffered.append(chunk)
                seen += chunk
        return find(seen)

    async def whole_length(self) -> int:
        """Return the size in bytes; buffers a body that has no Content-Length."""
        if self.length is None:
            await self.buffer()
        assert self.length is not None
        return self.length

    async def buffer(self) -> None:
        """Read the whole body into memory."""
        with suppress(StopAsyncIteration):
            while True:
                self._buffered.append(await self._receive())
        self.length = sum(map(len, self._buffered))

    async def skip(self, stop: int | None) -> None:
        """Read and discard at least `stop` bytes; None discards the rest of the body."""
        read = 0
        with suppress(StopAsyncIteration):
            while stop is None or read < stop:
                read += len(await self.__anext__())


Act = Callable[[bytes], Awaitable[bytes]]
"""An effect at a position of a body: the bytes that arrived from there on -> the bytes to send instead."""


class Flow:
    """A body with an effect at one position, or a limited rate.

    Args:
        chunks: The body as it arrives.
        position: Offset of the byte at which `act` runs; None runs it nowhere.
        act: The effect.
        rate: Most bytes per second; None is no limit.
        wait: Waits the given number of seconds.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        position: int | None = None,
        act: Act | None = None,
        *,
        rate: float | None = None,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chunks = chunks
        self._left = position  # bytes before the position
        self._act = act
        self._rate = rate
        self._wait = wait
        self._rest = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk, self._rest = self._rest or await anext(self._chunks), b""
        if self._left is not None and self._act is not None:
            if self._left == 0:
                self._left = None
                chunk = await self._act(chunk)
            else:
                chunk = self._first(chunk, self._left)
                self._left -= len(chunk)
        if self._rate is not None:
            chunk = self._first(chunk, max(1, int(self._rate / SLICES_PER_SECOND)))
            await self._wait(len(chunk) / self._rate)
        return chunk

    def _first(self, chunk: bytes, size: int) -> bytes:
        """Return the first bytes of a chunk and keep the rest for the next chunk."""
        self._rest = chunk[size:]
        return chunk[:size]


class Chunks:
    """A body that is already in memory."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = iter([chunk for chunk in chunks if chunk])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration
