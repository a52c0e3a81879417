"""Chunks of a stream: bytes that nobody changes any more."""


def as_bytes(chunk: object) -> bytes:
    """A chunk of a stream as bytes that nobody changes any more.

    Raises:
        TypeError: The chunk is not bytes-like.
    """
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise TypeError(f"a stream of serialized data must yield bytes, not {type(chunk).__name__}")


async def close_stream(stream: object) -> None:
    """Close a stream that can be closed: a generator that was left in the middle holds files and connections."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()
