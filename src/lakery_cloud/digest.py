"""Digests of bytes and streams. Each byte is hashed once, and large chunks don't block the event loop."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from functools import lru_cache
from typing import Any, cast

from lakery_cloud.errors import IntegrityError, InvalidRecord, brief
from lakery_cloud.storage import Digest, GetStreamDigest, SerializedData, SerializedDataStream, StreamDigest
from lakery_cloud.streams.chunks import as_bytes
from lakery_cloud.streams.hashing import Hasher, HashingAhead, new_hasher, update_hash

__all__ = ["DEFAULT_ALGORITHM", "DigestingStream", "check_digest", "digest_data"]

DEFAULT_ALGORITHM = "sha256"

MAX_SIZE = 2**63 - 1
"""Bytes; no store and no file system has larger objects."""

_HEX = re.compile(r"[0-9a-f]+")
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e][\x20-\x7e]*")


async def digest_data(serialized: SerializedData, *, algorithm: str = DEFAULT_ALGORITHM) -> Digest:
    """The digest of one blob.

    Raises:
        ConfigError: The algorithm is unknown.
    """
    hasher = new_hasher(algorithm)
    await update_hash(hasher, serialized["data"])
    return _digest_of(serialized, algorithm, hasher)


class ComputedDigest(dict[str, Any]):
    """A valid digest with the bytes that it was computed from, so that nobody hashes or checks them again."""

    data: bytes


async def computed_digest(serialized: SerializedData, *, algorithm: str = DEFAULT_ALGORITHM) -> Digest:
    """As `digest_data`; the digest keeps the bytes, which need not be hashed again as long as they are the same object.

    Raises:
        InvalidRecord: The content type or encoding is malformed.
        ConfigError: The algorithm is unknown.
    """
    check_content_type(serialized["content_type"], serialized["content_encoding"])
    hasher, data = new_hasher(algorithm), serialized["data"]
    await update_hash(hasher, data)
    digest = ComputedDigest(_digest_of(serialized, algorithm, hasher))
    digest.data = data
    return cast("Digest", digest)


def _digest_of(serialized: SerializedData, algorithm: str, hasher: Hasher) -> Digest:
    return {
        "content_type": serialized["content_type"],
        "content_encoding": serialized["content_encoding"],
        "content_hash_algorithm": algorithm,
        "content_hash": hasher.hexdigest(),
        "content_size": len(serialized["data"]),
    }


def is_computed_from(digest: Digest, data: bytes) -> bool:
    """Whether this library has computed a digest from these very bytes."""
    return isinstance(digest, ComputedDigest) and digest.data is data and isinstance(data, bytes)


def known(digest: Digest) -> GetStreamDigest:
    """A function that returns a known digest."""

    def get_digest(*, allow_incomplete: bool = False) -> StreamDigest:  # noqa: ARG001, a stream may ask for it
        return StreamDigest(**digest, is_complete=True)

    return get_digest


def digesting_stream(stream: AsyncIterable[bytes], get_digest: GetStreamDigest) -> "DigestingStream":
    """The stream itself if it computes the digest; else a wrapper that does."""
    if isinstance(stream, DigestingStream) and get_digest == stream.get_digest:
        return stream
    digest = get_digest(allow_incomplete=True)
    return DigestingStream(
        SerializedDataStream(
            data_stream=stream,
            content_type=digest["content_type"],
            content_encoding=digest["content_encoding"],
        ),
        algorithm=digest["content_hash_algorithm"],
        expected=digest if digest.get("is_complete") else None,
    )


class DigestingStream:
    """A stream of serialized data that computes its digest while you read it.

    Iterate over it to hash each chunk as it passes. Or read `undigested()`, cut the chunks as you like, and pass them to
    `update` in order, as the engine does to hash whole parts while it sends them. Either way you can read the stream once.

    Args:
        serialized: The stream with its content type and encoding.
        algorithm: A hash algorithm that `new_hasher` supports.
        expected: The digest that the stream must have, if known. It also sets the algorithm.

    Attributes:
        expected: As given.

    Raises:
        ConfigError: The algorithm is unknown.
    """

    def __init__(
        self,
        serialized: SerializedDataStream,
        *,
        algorithm: str = DEFAULT_ALGORITHM,
        expected: Digest | None = None,
    ) -> None:
        if expected is not None:
            algorithm = expected["content_hash_algorithm"]
        self.expected = expected
        self._source = serialized["data_stream"]
        self._content_type = serialized["content_type"]
        self._content_encoding = serialized["content_encoding"]
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._ahead: HashingAhead | None = None
        self._size = 0
        self._is_complete = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._source:
            data = as_bytes(chunk)
            await self.update(data)
            yield data
        self.finish()

    def undigested(self) -> AsyncIterable[bytes]:
        """Return the chunks of the source, for a caller that passes every byte to `update` and then calls `finish`."""
        return self._source

    async def update(self, *pieces: bytes) -> None:
        """Hash the next bytes of the stream."""
        await update_hash(self._hasher, *pieces)
        self._size += sum(map(len, pieces))

    def hash_ahead(self, *pieces: bytes) -> asyncio.Future[None]:
        """Hash the next bytes of the stream in a worker thread; the result is done when they are hashed.

        From then on, pass all bytes to it, and wait for the last result before you call `finish`.
        """
        if self._ahead is None:
            self._ahead = HashingAhead(self._hasher)
        self._size += sum(map(len, pieces))
        return self._ahead.add(*pieces)

    def finish(self) -> None:
        """Mark the stream as read to its end.

        Raises:
            IntegrityError: The stream does not have the expected digest.
        """
        if self.expected is not None:
            compare(self.expected, content_hash=self._hasher.hexdigest(), size=self._size, what="the stream")
        self._is_complete = True

    def get_digest(self, *, allow_incomplete: bool = False) -> StreamDigest:
        """Return the digest of the bytes hashed so far; see `GetStreamDigest`."""
        if not self._is_complete and not allow_incomplete:
            raise ValueError("the digest is not known yet: the stream was not read to its end")
        return StreamDigest(
            content_type=self._content_type,
            content_encoding=self._content_encoding,
            content_hash_algorithm=self._algorithm,
            content_hash=self._hasher.hexdigest(),
            content_size=self._size,
            is_complete=self._is_complete,
        )


def check_digest(digest: Digest) -> None:
    """Refuse a malformed digest, before it becomes a key or a header.

    Raises:
        InvalidRecord: A field is missing, has the wrong type or contains invalid characters.
        ConfigError: The hash algorithm is unknown.
    """
    try:
        content_hash, size, algorithm = digest["content_hash"], digest["content_size"], digest["content_hash_algorithm"]
        check_content_type(digest["content_type"], digest["content_encoding"])
    except KeyError as error:
        raise InvalidRecord(f"the digest has no {error.args[0]}") from None
    if not isinstance(algorithm, str):
        raise InvalidRecord(f"content_hash_algorithm must be a name such as sha256, not {brief(algorithm)}")
    length = _hash_length(algorithm)
    if not is_size(size):
        raise InvalidRecord(f"content_size must be a number of bytes, not {brief(size)}")
    if not isinstance(content_hash, str) or not _HEX.fullmatch(content_hash) or len(content_hash) != length:
        raise InvalidRecord(
            f"content_hash must be {length} lower-case hexadecimal digits ({algorithm}), not {brief(content_hash)}"
        )


def is_size(value: object) -> bool:
    """Whether a value from a record is a valid number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE


def check_content_type(content_type: str, content_encoding: str | None) -> None:
    """Refuse values that can't be sent as a header.

    Raises:
        InvalidRecord: A value is empty or is not printable ASCII.
    """
    for field, value in (("content_type", content_type), ("content_encoding", content_encoding)):
        if value is None and field == "content_encoding":
            continue
        if not isinstance(value, str) or not _PRINTABLE_ASCII.fullmatch(value):
            raise InvalidRecord(f"{field} must be printable ASCII text such as a media type, not {brief(value)}")


def compare(digest: Digest, *, content_hash: str, size: int, what: str) -> None:
    """Refuse content that does not match its digest.

    Args:
        digest: The expected digest.
        content_hash: Hash of the content.
        size: Size of the content in bytes.
        what: Subject of the error message.

    Raises:
        IntegrityError: The size or the hash differs; the message has both values.
    """
    if size != digest["content_size"]:
        raise IntegrityError(f"{what} has {size} bytes, but its digest says {digest['content_size']}")
    if content_hash != digest["content_hash"]:
        raise IntegrityError(
            f"{what} has the {digest['content_hash_algorithm']} hash {content_hash}, "
            f"but its digest says {digest['content_hash']}"
        )


async def check_data(data: bytes, digest: Digest, *, what: str) -> None:
    """Compare one blob with its digest; as `compare`."""
    hasher = new_hasher(digest["content_hash_algorithm"])
    await update_hash(hasher, data)
    compare(digest, content_hash=hasher.hexdigest(), size=len(data), what=what)


async def verified(chunks: AsyncIterable[bytes], digest: Digest, *, what: str) -> AsyncGenerator[bytes]:
    """Yield the chunks, and compare them with their digest at the end.

    Raises:
        IntegrityError: The size or the hash differs; `what` is the subject of the message.
    """
    hasher, size = new_hasher(digest["content_hash_algorithm"]), 0
    async for chunk in chunks:
        await update_hash(hasher, chunk)
        size += len(chunk)
        yield chunk
    compare(digest, content_hash=hasher.hexdigest(), size=size, what=what)


@lru_cache
def _hash_length(algorithm: str) -> int:
    return len(new_hasher(algorithm).hexdigest())
