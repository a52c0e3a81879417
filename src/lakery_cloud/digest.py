"""Content hashes: bytes or a stream -> digest. Each byte is hashed once, and a large chunk never blocks the event loop."""

import asyncio
import hashlib
import re
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

from lakery_cloud.errors import ConfigError, IntegrityError, InvalidRecord, MissingDependency, brief
from lakery_cloud.storage import Digest, SerializedData, SerializedDataStream, StreamDigest

__all__ = ["DEFAULT_ALGORITHM", "DigestingStream", "Hasher", "check_digest", "digest_data", "new_hasher"]

T = TypeVar("T")

DEFAULT_ALGORITHM = "sha256"
THREAD_THRESHOLD = 512 * 1024
"""Bytes from which hashing moves to a worker thread; below, the hop costs as much as what it saves (0.3 ms)."""

TURN = 16 * 1024 * 1024
"""Bytes that are hashed ahead at a stretch; it takes 10 ms."""

MAX_SIZE = 2**63 - 1
"""Bytes; no store and no file system counts further."""

_HEX = re.compile(r"[0-9a-f]+")
_PRINTABLE_ASCII = re.compile(r"[\x21-\x7e][\x20-\x7e]*")


class Hasher(Protocol):
    """The part of hashlib's hash objects that is used here."""

    def update(self, data: bytes, /) -> Any:
        """Hash more bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far, in hexadecimal."""


def new_hasher(algorithm: str) -> Hasher:
    """A hash object for an algorithm of hashlib, or for `blake3` where that package is installed.

    Raises:
        MissingDependency: `blake3` is not installed.
        ConfigError: The algorithm is unknown or has no fixed length.
    """
    if algorithm == "blake3":
        try:
            import blake3
        except ImportError as error:
            raise MissingDependency("the hash blake3 needs its package: pip install blake3") from error
        made: Hasher = blake3.blake3()
        return made
    try:
        hasher = hashlib.new(algorithm, usedforsecurity=False)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"unknown hash algorithm {brief(algorithm)}; sha256 is the default") from error
    if hasher.digest_size == 0:
        raise ConfigError(f"the hash algorithm {algorithm!r} has no fixed length; use sha256")
    return hasher


async def update_hash(hasher: Hasher, *pieces: bytes) -> None:
    """Hash more bytes: in a worker thread if there are many, since hashing releases the interpreter lock."""

    def update() -> None:
        for piece in pieces:
            hasher.update(piece)

    await computed(update, pieces)


async def computed(function: Callable[[], T], pieces: Iterable[bytes]) -> T:
    """What a hash or checksum function says of bytes, without blocking the event loop if there are many of them."""
    return function() if sum(map(len, pieces)) < THREAD_THRESHOLD else await asyncio.to_thread(function)


class HashingAhead:
    """Hashes pieces in order in a worker thread, while the next ones arrive.

    The worker goes on by itself as long as there are pieces: to be told of each would take as long as to hash a small one.
    It holds no thread where it waits for bytes, and after each `TURN` others that wait for one come first.

    Args:
        hasher: It is used by nobody else from now on.
        limit: Bytes that may have come and not been hashed; more wait.
    """

    def __init__(self, hasher: Hasher, *, limit: int) -> None:
        self._hasher = hasher
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # of what follows
        self._pieces: deque[bytes] = deque()
        self._behind = 0
        self._room: asyncio.Future[None] | None = None
        self._caught_up: asyncio.Future[None] | None = None  # while the worker works

    async def update(self, data: bytes) -> None:
        """Take the next bytes. Waits while too many are not yet hashed."""
        with self._lock:
            self._pieces.append(data)
            self._behind += len(data)
            if self._behind < THREAD_THRESHOLD and self._caught_up is None:
                return
            is_idle = self._caught_up is None
            if is_idle:
                self._caught_up = self._loop.create_future()
            room = self._room = self._loop.create_future() if self._behind > self._limit else None
        if is_idle:
            self._start_turn()
        if room is not None:
            await room

    async def hexdigest(self) -> str:
        """The hash of all bytes, in hexadecimal."""
        if self._caught_up is not None:
            await self._caught_up
        for piece in self._pieces:
            self._hasher.update(piece)
        self._pieces.clear()
        return self._hasher.hexdigest()

    def _start_turn(self) -> None:
        self._loop.run_in_executor(None, self._work)

    def _work(self) -> None:
        hashed = 0
        while hashed < TURN:
            with self._lock:
                room, caught_up, piece = None, None, None
                if self._behind <= self._limit // 2:
                    room, self._room = self._room, None
                if self._pieces:
                    piece = self._pieces.popleft()
                else:
                    caught_up, self._caught_up = self._caught_up, None
            for waiting in (room, caught_up):
                if waiting is not None:
                    self._call_soon(partial(_settle, waiting))
            if piece is None:
                return
            self._hasher.update(piece)
            hashed += len(piece)
            with self._lock:
                self._behind -= len(piece)
        self._call_soon(self._start_turn)

    def _call_soon(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(function)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def digest_data(serialized: SerializedData, *, algorithm: str = DEFAULT_ALGORITHM) -> Digest:
    """The digest of one blob.

    Raises:
        ConfigError: The algorithm is unknown.
    """
    hasher = new_hasher(algorithm)
    await update_hash(hasher, serialized["data"])
    return Digest(
        content_type=serialized["content_type"],
        content_encoding=serialized["content_encoding"],
        content_hash_algorithm=algorithm,
        content_hash=hasher.hexdigest(),
        content_size=len(serialized["data"]),
    )


class DigestingStream:
    """A stream of serialized data that knows its digest when it was read to its end.

    Iterate it, and each chunk is hashed as it passes. Or take `undigested()`, cut the chunks as you like, and hand them
    to `update` in order: that is how the engine hashes whole parts while they travel. Either way it is read once.

    Args:
        serialized: The stream with its content type and encoding.
        algorithm: A hash that `new_hasher` knows.
        expected: What the stream must turn out to be, where that is known; its algorithm holds then.

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
        self._expected = expected
        self._source = serialized["data_stream"]
        self._content_type = serialized["content_type"]
        self._content_encoding = serialized["content_encoding"]
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._size = 0
        self._is_complete = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._source:
            data = as_bytes(chunk)
            await self.update(data)
            yield data
        self.finish()

    def undigested(self) -> AsyncIterable[bytes]:
        """The chunks of the source, for a caller that hands each byte to `update` and calls `finish` at the end."""
        return self._source

    async def update(self, *pieces: bytes) -> None:
        """Hash the next bytes of the stream."""
        await update_hash(self._hasher, *pieces)
        self._size += sum(map(len, pieces))

    def finish(self) -> None:
        """Say that the stream was read to its end.

        Raises:
            IntegrityError: It is not what was expected.
        """
        if self._expected is not None:
            compare(self._expected, content_hash=self._hasher.hexdigest(), size=self._size, what="the stream")
        self._is_complete = True

    def get_digest(self, *, allow_incomplete: bool = False) -> StreamDigest:
        """The digest of what was hashed so far; see `GetStreamDigest`."""
        if not self._is_complete and not allow_incomplete:
            raise ValueError("the stream was not read to its end, so its digest is not known yet")
        return StreamDigest(
            content_type=self._content_type,
            content_encoding=self._content_encoding,
            content_hash_algorithm=self._algorithm,
            content_hash=self._hasher.hexdigest(),
            content_size=self._size,
            is_complete=self._is_complete,
        )


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


def check_digest(digest: Digest) -> None:
    """Refuse a digest that can't be true of any content, before it becomes a key or a header.

    Raises:
        InvalidRecord: A field is missing, has the wrong type or holds characters that it can't.
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
    """Whether a value out of a record can be a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE


def check_content_type(content_type: str, content_encoding: str | None) -> None:
    """Refuse what can't be sent as a header.

    Raises:
        InvalidRecord: A value is empty or is not printable ASCII.
    """
    for field, value in (("content_type", content_type), ("content_encoding", content_encoding)):
        if value is None and field == "content_encoding":
            continue
        if not isinstance(value, str) or not _PRINTABLE_ASCII.fullmatch(value):
            raise InvalidRecord(f"{field} must be printable ASCII text such as a media type, not {brief(value)}")


def compare(digest: Digest, *, content_hash: str, size: int, what: str) -> None:
    """Refuse content that is not what its digest says.

    Raises:
        IntegrityError: The size or the hash differs; the message names both.
    """
    if size != digest["content_size"]:
        raise IntegrityError(f"{what} has {size} bytes, but its digest says {digest['content_size']}")
    if content_hash != digest["content_hash"]:
        raise IntegrityError(
            f"{what} has the {digest['content_hash_algorithm']} hash {content_hash}, "
            f"but its digest says {digest['content_hash']}"
        )


@lru_cache
def _hash_length(algorithm: str) -> int:
    return len(new_hasher(algorithm).hexdigest())
