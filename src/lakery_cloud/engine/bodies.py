"""Bytes on their way: ranges that are asked for, bodies that are sent and that arrive; and headers around them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Self

from lakery_cloud.engine.transport import BodyInterrupted

SLICE_SIZE = 256 * 1024
"""Most bytes that are given to the connection, or taken from it, at a time."""


def byte_range(start: int, stop: int | None) -> str | None:
    """The header `Range` (RFC 9110, section 14.2) for bytes `start` to `stop` (exclusive); None for all bytes."""
    if start == 0 and stop is None:
        return None
    return f"bytes={start}-{'' if stop is None else stop - 1}"


def read_content_range(header: str | None, *, size: int) -> tuple[int | None, int]:
    """Where the first byte of an answer's range stands in the object, and the object's size; None without a range.

    Args:
        header: `Content-Range` (RFC 9110, section 14.4), such as `bytes 0-4/10`; without it the answer is the whole object.
        size: Size in bytes of the answer's body.
    """
    if not header:
        return None, size
    place, _, total = header.removeprefix("bytes ").partition("/")
    return int(place.partition("-")[0]), int(total)


@lru_cache(maxsize=256)  # it takes longer to read than all other headers
def time_of(header: str | None) -> datetime | None:
    """The time in a header such as `Date` (RFC 9110, section 5.6.7), which has no part of a second; None if it has none."""
    try:
        return parsedate_to_datetime(header).astimezone(UTC) if header else None
    except ValueError:
        return None


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
