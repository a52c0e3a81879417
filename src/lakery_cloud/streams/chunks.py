"""Chunks of a stream: conversion to bytes, and closing a stream."""


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
