"""Content for tests: bytes that can be made again, cut in any way, with their digests."""

import hashlib
import random
from collections.abc import AsyncGenerator, Iterable

from lakery_cloud.digest import DigestingStream
from lakery_cloud.storage import Digest, SerializedDataStream

CONTENT_TYPE = "application/x-test"
TAGS = {"project": "lakery cloud", "path": "a/b:c=d+e-f_g.h"}


def content(size: int, *, seed: int = 0) -> bytes:
    """So many bytes that look random and are the same each time."""
    return random.Random(f"{seed}-{size}").randbytes(size)


def chunked(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The data in chunks of these sizes, the last of which is repeated as often as it takes."""
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
    """The digest of the data."""
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
) -> DigestingStream:
    """A stream of these chunks, at whose end the failure is raised if there is one."""

    async def source() -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk
        if failure is not None:
            raise failure

    serialized = SerializedDataStream(
        data_stream=source(), content_type=content_type, content_encoding=content_encoding
    )
    return DigestingStream(serialized, algorithm=algorithm)
