"""Cuts a stream into parts, grows the part size, and bounds the memory of parts that wait or travel."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

from lakery_cloud.errors import ConfigError
from lakery_cloud.streams.budget import Lease
from lakery_cloud.streams.chunks import as_bytes

Pieces = tuple[bytes, ...]

SMALL_PIECE = 256 * 1024
"""Bytes below which the pieces of a part are joined: a few copies cost less than many pieces."""
GROWTH_PARTS = 10
"""A part is at least this many times the average of an upload with the most parts; see `PartSizes`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A contiguous piece of a stream.

    Attributes:
        number: From 1.
        offset: Position of its first byte in the stream.
        pieces: Its bytes, much as the stream gave them: to join them would cost as much as to send them.
        is_last: Whether the stream ends with it.
    """

    number: int
    offset: int
    pieces: Pieces
    is_last: bool

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(map(len, self.pieces))

    @property
    def data(self) -> bytes:
        """Its bytes in one piece, for who can't do with less."""
        return b"".join(self.pieces)

    def rest(self, start: int) -> Pieces:
        """Its bytes from a position on."""
        pieces = []
        for piece in self.pieces:
            if start < len(piece):
                pieces.append(piece[start:] if start else piece)
            start = max(0, start - len(piece))
        return tuple(pieces)


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large the next part is: `first` bytes, until the number of parts would run out.

    From then on each part is `GROWTH_PARTS / max_parts` of what was sent before. So small streams travel in small parts,
    and a stream of unknown length meets the store's largest part before it meets the number of parts: on S3 with parts
    of 8 MiB parts begin to grow at 8 GiB, and 10,000 of them hold more than 16 TiB.

    A part that grows is a multiple of `multiple` bytes; `first` and `max_part_size` must be.
    """

    first: int
    max_part_size: int
    max_parts: int
    max_object_size: int
    multiple: int = 1

    def at(self, number: int, offset: int) -> int:
        """Size in bytes of part `number`, which starts at `offset`.

        Raises:
            ConfigError: The stream is longer than the store can take.
        """
        if number > self.max_parts or offset >= self.max_object_size:
            raise ConfigError(
                f"the stream is longer than {offset} bytes in {number - 1} parts, which is all that one object can have "
                f"here (at most {self.max_parts} parts and {self.max_object_size} bytes); a larger part_size helps, "
                "or cut the stream into several objects"
            )
        grown = -(-offset * GROWTH_PARTS // self.max_parts)
        grown = -(-grown // self.multiple) * self.multiple
        return min(max(self.first, grown), self.max_part_size, self.max_object_size - offset)


async def cut(chunks: AsyncIterable[bytes], sizes: PartSizes, lease: Lease) -> AsyncGenerator[Part]:
    """Cut chunks of any size into parts; an empty stream is one empty part.

    A part is given out when it is known whether it is the last one. Its bytes are leased before they are collected;
    whoever takes the part gives `part.size` back.
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
                # Now it is known that more follows.
                yield Part(number, offset, pieces.take(), is_last=False)
                number, offset = number + 1, offset + size
                size = sizes.at(number, offset)
                filled = 0
                await lease.acquire(size)
            taken = rest[: size - filled]
            pieces.add(data if len(taken) == len(data) else bytes(taken))
            filled += len(taken)
            rest = rest[len(taken) :]
    lease.release(size - filled)
    yield Part(number, offset, pieces.take(), is_last=True)


class _Pieces:
    """The pieces of the part that is collected, of which small ones are joined."""

    def __init__(self) -> None:
        self._joined: list[bytes] = []
        self._small: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self._small.append(piece)
        self._size += len(piece)
        if self._size >= SMALL_PIECE:
            self._join()

    def take(self) -> Pieces:
        """All of them. Whoever gets them is the only one to hold them."""
        self._join()
        pieces = tuple(self._joined)
        self._joined.clear()
        return pieces

    def _join(self) -> None:
        if self._size:
            self._joined.append(b"".join(self._small))
        self._small.clear()
        self._size = 0
