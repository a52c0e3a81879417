"""Cuts a stream into parts of growing size, within a byte budget."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

from lakery_cloud.errors import ConfigError
from lakery_cloud.streams.budget import Lease
from lakery_cloud.streams.chunks import as_bytes

Pieces = tuple[bytes, ...]

SMALL_PIECE = 256 * 1024
"""Smaller pieces of a part are joined up to this many bytes: copying them costs less than sending many pieces."""
GROWTH_PARTS = 10
"""How fast parts grow; see `PartSizes`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stream.

    Attributes:
        number: Number of the part, from 1.
        offset: Position of its first byte in the stream.
        pieces: Its bytes, mostly in the chunks of the stream, since joining them would cost as much as sending them.
        is_last: Whether it is the last part.
    """

    number: int
    offset: int
    pieces: Pieces
    is_last: bool

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(map(len, self.pieces))

    @property
    def data(self) -> bytes:
        """The joined bytes, for callers that can't send pieces."""
        return b"".join(self.pieces)

    def rest(self, start: int) -> Pieces:
        """Return the bytes from a position on."""
        pieces = []
        for piece in self.pieces:
            if start < len(piece):
                pieces.append(piece[start:] if start else piece)
            start = max(0, start - len(piece))
        return tuple(pieces)


@dataclass(frozen=True, slots=True)
class PartSizes:
    """The sizes of parts: `first` bytes, later more, so that a long stream does not run out of parts.

    A part has at least `GROWTH_PARTS / max_parts` of the bytes before it. So small streams have small parts, and in a long
    stream parts reach the store's largest part size before their number reaches its limit. On S3, parts of 8 MiB begin to
    grow at 8 GiB, and 10,000 parts have more than 16 TiB.

    Sizes of growing parts are multiples of `multiple` bytes; `first` and `max_part_size` must be too. Parts that must be
    equal don't grow.
    """

    first: int
    max_part_size: int
    max_parts: int
    max_object_size: int
    multiple: int = 1
    are_equal: bool = False

    def at(self, number: int, offset: int) -> int:
        """Return the size of part `number`, which starts at `offset`.

        Raises:
            ConfigError: The stream is longer than the store's largest object.
        """
        if number > self.max_parts or offset >= self.max_object_size:
            reason = " (with equal_parts, they don't grow)" if self.are_equal else ""
            raise ConfigError(
                f"the stream is longer than {offset} bytes in {number - 1} parts{reason}, and an object has at most "
                f"{self.max_parts} parts and {self.max_object_size} bytes; set a larger part_size, or save the stream as "
                "several objects"
            )
        grown = 0 if self.are_equal else -(-offset * GROWTH_PARTS // self.max_parts)
        grown = -(-grown // self.multiple) * self.multiple
        return min(max(self.first, grown), self.max_part_size, self.max_object_size - offset)


async def cut(chunks: AsyncIterable[bytes], sizes: PartSizes, lease: Lease) -> AsyncGenerator[Part]:
    """Cut chunks of any size into parts; an empty stream has one empty part.

    A part is yielded once it is known whether it is the last one. Its bytes are acquired from the lease before they are
    collected; the consumer must release `part.size`.
    """
    number, offset = 1, 0
    size = sizes.at(number, offset)
    pieces = _Pieces()
    filled = 0
    await lease.acquire(size)
    async for chunk in chunks:
        data = as_bytes(chunk)
        rest = memoryview(data)
        while rest:
            if filled == size:
                # More data follows, so this part is not the last.
                yield Part(number, offset, pieces.take(), is_last=False)
                number, offset = number + 1, offset + size
                size = sizes.at(number, offset)
                filled = 0
                await lease.acquire(size)
            taken = rest[: size - filled]
            if pieces.add(data if len(taken) == len(data) else bytes(taken)):
                await asyncio.sleep(0)  # a stream that never waits would keep the parts before from being sent
            filled += len(taken)
            rest = rest[len(taken) :]
    lease.release(size - filled)
    yield Part(number, offset, pieces.take(), is_last=True)


class _Pieces:
    """The pieces of one part; small pieces are joined."""

    def __init__(self) -> None:
        self._joined: list[bytes] = []
        self._small: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> bool:
        """Add a piece, and return whether the small ones are joined now."""
        self._small.append(piece)
        self._size += len(piece)
        if self._size < SMALL_PIECE:
            return False
        self._join()
        return True

    def take(self) -> Pieces:
        """Return all pieces and keep no reference to them."""
        self._join()
        pieces = tuple(self._joined)
        self._joined.clear()
        return pieces

    def _join(self) -> None:
        if self._size:
            self._joined.append(b"".join(self._small))
        self._small.clear()
        self._size = 0
