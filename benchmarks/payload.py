"""The content of the benchmarks: one repeated block of noise, which server and clients can make without storing it.

It needs the standard library alone: clients import it in environments of their own.
"""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

KiB = 1024
MiB = 1024**2

BLOCK = random.Random(6).randbytes(MiB)  # noqa: S311, noise, no secret
"""The block that large content repeats."""


KNOWN = {
    256 * MiB: "3b6d444ab1bb870e15f9b6cd79c695f43f7860c0818356faac656af4cc346d0c",
    1024 * MiB: "e62fe40121193bc8b3176ed5ab50219e3878dc422f614c6e5c632706d8360da6",
}
"""Size -> SHA-256 of so many bytes of repeated blocks, known in advance so that no turn includes hashing."""


def pattern(start: int, stop: int) -> Iterator[memoryview]:
    """Yield the bytes `start` to `stop` of the endlessly repeated block in pieces of at most one block, without copies."""
    block = memoryview(BLOCK)
    while start < stop:
        offset = start % MiB
        piece = block[offset : min(MiB, offset + stop - start)]
        yield piece
        start += len(piece)


def unique(size: int, *numbers: int) -> bytes:
    """Return content that only these numbers give: the numbers, then noise. The size is 32 bytes to 1 MiB."""
    return _head(numbers) + BLOCK[32:size]


async def unique_stream(size: int, chunk: int, *numbers: int) -> AsyncIterator[bytes]:
    """Yield the same content, or more of it with repeated blocks, in chunks that divide a block, made when needed."""
    for start in range(0, size, chunk):
        offset, length = start % MiB, min(size - start, chunk)
        yield BLOCK[offset : offset + length] if start else _head(numbers) + BLOCK[32:length]


def _head(numbers: tuple[int, ...]) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in numbers).ljust(32, b"\0")


def write_blocks(path: Path, size: int) -> None:
    """Write a file of repeated blocks."""
    with path.open("wb") as file:
        for piece in pattern(0, size):
            file.write(piece)


async def blocks(size: int) -> AsyncIterator[bytes]:
    """Yield repeated blocks; the size is a multiple of 1 MiB."""
    for _ in range(size // MiB):
        yield BLOCK


@cache
def sha256_of_blocks(size: int) -> str:
    """Return the hexadecimal SHA-256 of so many bytes of repeated blocks."""
    if size in KNOWN:
        return KNOWN[size]
    hasher = hashlib.sha256()
    for piece in pattern(0, size):
        hasher.update(piece)
    return hasher.hexdigest()
