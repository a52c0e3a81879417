"""Hash functions over large data that don't block the event loop."""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from lakery_cloud.errors import ConfigError, MissingDependency, brief

T = TypeVar("T")

THREAD_THRESHOLD = 512 * 1024
"""Fewest bytes to hash in a worker thread. For fewer, the switch to the thread takes as long as hashing (0.3 ms)."""
MAX_TURN = 64 * 1024 * 1024
"""Bytes that a worker hashes before it yields its thread; this takes 40 ms. The event loop has to start each turn."""


class Hasher(Protocol):
    """The methods of hashlib's hash objects that this package uses."""

    def update(self, data: bytes, /) -> Any:
        """Hash more bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far, in hexadecimal."""


def new_hasher(algorithm: str) -> Hasher:
    """Return a hash object for an algorithm of hashlib, or for `blake3` if that package is installed.

    Raises:
        MissingDependency: `blake3` is not installed.
        ConfigError: The algorithm is unknown or has no fixed length.
    """
    if algorithm == "sha256":  # the default, without a look-up by name, which takes longer than the rest
        return hashlib.sha256(usedforsecurity=False)
    if algorithm == "blake3":
        try:
            import blake3
        except ImportError as error:
            raise MissingDependency("blake3 is not installed: pip install blake3") from error
        blake3_hasher: Hasher = blake3.blake3()
        return blake3_hasher
    try:
        hasher = hashlib.new(algorithm, usedforsecurity=False)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"unknown hash algorithm {brief(algorithm)}; sha256 is the default") from error
    if hasher.digest_size == 0:
        raise ConfigError(f"the hash algorithm {algorithm!r} has no fixed length; use one that has, such as sha256")
    return hasher


async def update_hash(hasher: Hasher, *pieces: bytes) -> None:
    """Hash more bytes, in a worker thread if there are many: hashing releases the interpreter lock."""
    if len(pieces) == 1 and len(pieces[0]) < THREAD_THRESHOLD:  # no function for a small blob
        hasher.update(pieces[0])
        return

    def update() -> None:
        for piece in pieces:
            hasher.update(piece)

    await compute(update, pieces)


async def compute(function: Callable[[], T], pieces: Iterable[bytes]) -> T:
    """Call a hash or checksum function of these bytes, in a worker thread if there are many."""
    return function() if sum(map(len, pieces)) < THREAD_THRESHOLD else await asyncio.to_thread(function)


class HashingAhead:
    """Hashes pieces in order in a worker thread, while the next pieces arrive.

    The worker takes pieces by itself until there are none: scheduling each piece would take as long as hashing a small one.
    It occupies no thread while it waits for bytes, and after `MAX_TURN` bytes it lets other users of the thread pool run.

    Args:
        hasher: The hash object, which you must not use elsewhere.
        limit: Most bytes that wait to be hashed; further `update` calls wait.
    """

    def __init__(self, hasher: Hasher, *, limit: int = 0) -> None:
        self._hasher = hasher
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # guards the attributes below
        self._pieces: deque[bytes | asyncio.Future[None]] = deque()  # a future is done after the pieces before it
        self._pending = 0  # bytes that are not hashed yet
        self._room: asyncio.Future[None] | None = None  # set while `update` waits for room
        self._caught_up: asyncio.Future[None] | None = None  # set while the worker runs

    async def update(self, data: bytes) -> None:
        """Add the next bytes; waits while more than `limit` bytes are pending."""
        with self._lock:
            self._pieces.append(data)
            self._pending += len(data)
            if self._pending < THREAD_THRESHOLD and self._caught_up is None:
                return
            is_idle = self._caught_up is None
            if is_idle:
                self._caught_up = self._loop.create_future()
            room = self._room = self._loop.create_future() if self._pending > self._limit else None
        if is_idle:
            self._start_turn()
        if room is not None:
            await room

    def add(self, *pieces: bytes) -> asyncio.Future[None]:
        """Add the next bytes, however many wait; the result is done when they are hashed."""
        hashed = self._loop.create_future()
        with self._lock:
            self._pieces += (*pieces, hashed)
            self._pending += sum(map(len, pieces))
            is_idle = self._caught_up is None
            if is_idle:
                self._caught_up = self._loop.create_future()
        if is_idle:
            self._start_turn()
        return hashed

    async def hexdigest(self) -> str:
        """Return the hash of all bytes, in hexadecimal."""
        if self._caught_up is not None:
            await self._caught_up
        for piece in self._pieces:
            assert not isinstance(piece, asyncio.Future)  # whose worker is running
            self._hasher.update(piece)
        self._pieces.clear()
        return self._hasher.hexdigest()

    def _start_turn(self) -> None:
        self._loop.run_in_executor(None, self._hash_turn)

    def _hash_turn(self) -> None:
        hashed = 0
        while hashed < MAX_TURN:
            with self._lock:
                room, caught_up, piece = None, None, None
                if self._pending <= self._limit // 2:
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
            if isinstance(piece, asyncio.Future):
                self._call_soon(partial(_settle, piece))
                continue
            self._hasher.update(piece)
            hashed += len(piece)
            with self._lock:
                self._pending -= len(piece)
        self._call_soon(self._start_turn)

    def _call_soon(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
