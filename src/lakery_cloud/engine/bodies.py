"""Bytes on their way: ranges that are asked for, bodies that are sent and that arrive; and headers around them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

from lakery_cloud.engine.model import BodyInterrupted

SLICE_SIZE = 256 * 1024
"""Most bytes that are given to the connection, or taken from it, at a time."""


class Slices:
    """A body that is given out in slices, without a copy of it, and anew to each attempt to send it.

    In one piece, TLS would copy it as a whole, and the event loop would do nothing else in the meantime.

    Args:
        pieces: Its bytes.
        on_end: Called just before the last of them are given out: from then on a server may have all. If it raises, they
            are not.
    """

    def __init__(self, *pieces: bytes, on_end: Callable[[], None] | None = None) -> None:
        self.size = sum(map(len, pieces))
        self._pieces = pieces
        self._on_end = on_end

    def joined(self) -> bytes:
        """All of it at once, for a small one."""
        if self._on_end is not None:
            self._on_end()
        return b"".join(self._pieces)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        given_out = 0
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE_SIZE):
                taken = view[start : start + SLICE_SIZE]
                given_out += len(taken)
                if given_out == self.size and self._on_end is not None:
                    self._on_end()
                yield taken


class Arriving:
    """The bytes of an answer as they arrive. No generator, which costs as much as all the rest of a small read.

    Args:
        read: Reads at most so many bytes; none at the end.
        interruptions: What it raises when the connection breaks or stalls; it comes out as `BodyInterrupted`.
    """

    __slots__ = ("_interruptions", "_read")

    def __init__(self, read: Callable[[int], Awaitable[bytes]], *, interruptions: tuple[type[Exception], ...]) -> None:
        self._read = read
        self._interruptions = interruptions

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._read(SLICE_SIZE)
        except self._interruptions as error:
            raise BodyInterrupted(str(error)) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk
