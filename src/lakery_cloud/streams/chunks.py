"""Chunks of a stream: conversion to bytes, slices of bytes, and closing a stream."""

from collections.abc import AsyncGenerator


def as_bytes(chunk: object) -> bytes:
    """Convert a chunk of a stream to immutable bytes.

    Raises:
        TypeError: The chunk is not bytes-like.
    """
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise TypeError(f"a stream of serialized data must yield bytes, not {type(chunk).__name__}")


async def close_stream(stream: object) -> None:
    """Close a stream if it can be closed: an unfinished generator keeps files and connections open."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def slices(data: bytes, size: int) -> AsyncGenerator[bytes]:
    """Yield bytes in slices of a size."""
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield bytes(view[start : start + size])
