"""Hashes of many bytes, without blocking the event loop."""

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
"""Bytes from which hashing moves to a worker thread; below, the hop costs as much as what it saves (0.3 ms)."""


TURN = 16 * 1024 * 1024
"""Bytes that are hashed ahead at a stretch; it takes 10 ms."""


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
