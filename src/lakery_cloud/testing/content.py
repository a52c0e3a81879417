"""Content for tests: reproducible bytes, chunks and streams of them, and their digests."""

import hashlib
import random
from collections.abc import AsyncGenerator, Iterable

from lakery_cloud.digest import DigestingStream
from lakery_cloud.storage import Digest, SerializedDataStream

CONTENT_TYPE = "application/x-test"
TAGS = {"project": "lakery cloud", "path": "a/b:c=d+e-f_g.h"}


def content(size: int, *, seed: int = 0) -> bytes:
    """Return `size` pseudo-random bytes; the same size and seed give the same bytes."""
    return random.Random(f"{seed}-{size}").randbytes(size)


def chunked(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut the data into chunks of these sizes; the last size repeats until the data ends."""
    chunks, start, size = [], 0, len(data)
    for size in sizes:
        chunks.append(data[start : start + size])
        start += size
    while start < len(data):
        chunks.append(data[start : start + size])
        start += size
    return chunks


def digest_of(
    data: bytes,
    *,
    algorithm: str = "sha256",
    content_type: str = CONTENT_TYPE,
    content_encoding: str | None = None,
) -> Digest:
    """Return the digest of the data."""
    return Digest(
        content_type=content_type,
        content_encoding=content_encoding,
        content_hash_algorithm=algorithm,
        content_hash=hashlib.new(algorithm, data).hexdigest(),
        content_size=len(data),
    )


def stream_of(
    chunks: Iterable[bytes],
    *,
    content_type: str = CONTENT_TYPE,
    content_encoding: str | None = None,
    algorithm: str = "sha256",
    failure: BaseException | None = None,
    expected: Digest | None = None,
) -> DigestingStream:
    """Return a stream of these chunks, with an expected digest if given, that raises `failure` at its end if given."""

    async def source() -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk
        if failure is not None:
            raise failure

    serialized = SerializedDataStream(
        data_stream=source(), content_type=content_type, content_encoding=content_encoding
    )
    return DigestingStream(serialized, algorithm=algorithm, expected=expected)
