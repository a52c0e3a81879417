"""Bodies on their way through a proxy, chunk by chunk: never more of one in memory than a fault asks for."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Self

from aiohttp import web

from lakery_cloud.testing.faults.exchange import Exchange

MAX_PEEK = 64 * 1024
"""Where to stop looking for a key in a body."""
SLICES_PER_SECOND = 20
"""How often a throttled body moves."""


class RequestBody:
    """The body of a request as the client sends it, chunk by chunk. It is asked for when the first chunk is wanted.

    Attributes:
        exchange: The request, whose `sent_bytes` grow with the body.
        length: Size in bytes; None if it is not known yet.
        waits_to_be_asked: Whether the client sends nothing before it is asked to.
    """

    def __init__(self, request: web.Request, exchange: Exchange) -> None:
        self.exchange = exchange
        self.length = request.content_length if request.can_read_body else 0
        self.waits_to_be_asked = exchange.headers.get("expect", "").lower() == "100-continue"
        self._request = request
        self._held: deque[bytes] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            return self._held.popleft()
        return await self._receive()

    async def _receive(self) -> bytes:
        if self.waits_to_be_asked:
            self.waits_to_be_asked = False
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # what counts is whether the answer itself has begun
        try:
            chunk = await self._request.content.readany()
        except Exception as error:  # of many kinds, as far as the client has come
            raise ConnectionResetError("the client broke off") from error
        if not chunk:
            raise StopAsyncIteration
        self.exchange.sent_bytes += len(chunk)
        return chunk

    async def peek(self, find: Callable[[bytes], str | None]) -> str | None:
        """Look for something at the beginning, as far as `MAX_PEEK`."""
        seen = b""
        with suppress(StopAsyncIteration):
            while len(seen) < MAX_PEEK and find(seen) is None:
                chunk = await self._receive()
                self._held.append(chunk)
                seen += chunk
        return find(seen)

    async def whole_length(self) -> int:
        """Size in bytes. A body that does not say it is taken into memory."""
        if self.length is None:
            await self.hold()
        assert self.length is not None
        return self.length

    async def hold(self) -> None:
        """Take all of the body into memory."""
        with suppress(StopAsyncIteration):
            while True:
                self._held.append(await self._receive())
        self.length = sum(map(len, self._held))

    async def skip(self, stop: int | None) -> None:
        """Read at least so many bytes, and forget them; None is to the end."""
        read = 0
        with suppress(StopAsyncIteration):
            while stop is None or read < stop:
                read += len(await self.__anext__())


Act = Callable[[bytes], Awaitable[bytes]]
"""What happens at a position of a body: the bytes from there on that have arrived -> what goes on in their place."""


class Flow:
    """A body on its way, chunk by chunk.

    Args:
        chunks: Where it comes from.
        position: Before which of its bytes something happens; None is nowhere.
        act: What happens there.
        rate: Bytes in a second.
        wait: Waits so many seconds.
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
        """The first bytes of a chunk; the others wait."""
        self._rest = chunk[size:]
        return chunk[:size]


class Chunks:
    """Chunks that have arrived."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = iter([chunk for chunk in chunks if chunk])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration
