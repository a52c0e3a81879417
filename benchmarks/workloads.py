"""The workloads: the same work for every client, with new content in each round.

It needs the standard library alone: clients import it in environments of their own.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from benchmarks.payload import KiB, MiB, blocks, sha256_of_blocks, unique, unique_stream
from benchmarks.peers.base import Peer

GiB = 1024**3
WRITTEN, KEPT = "written", "kept"
"""Buckets: the one for writes is emptied after each turn, the one for reads stays."""
CONTENT = "content"
"""Name of the file to write."""
KEPT_BLOBS = 64
LIMIT = 0.75
"""Seconds after which a turn of many small operations starts no more of them; that is enough for a rate."""
CHUNK = 64 * KiB
"""Bytes of a chunk of a short stream."""


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        name: Its name in options.
        title: Its name in tables and plots.
        kind: `put`, `hit`, `get`, `write` (a stream), `file` (a file whose hash is known), `read` or `start` (a process).
        size: Bytes of one blob or stream.
        count: Operations of one turn.
        concurrency: How many operations run at a time.
        verify: Whether reads are compared with their hash.
    """

    name: str
    title: str
    kind: str
    size: int
    count: int
    concurrency: int
    verify: bool = True

    @property
    def reads(self) -> bool:
        """Whether it reads existing objects."""
        return self.kind in ("get", "read")

    @property
    def stores(self) -> bool:
        """Whether each operation stores a new object."""
        return self.kind in ("put", "write", "file") or self.name == "first-put"

    @property
    def is_large(self) -> bool:
        """Whether its rate counts bytes instead of operations."""
        return self.count == 1

    def shrunk(self, divisor: int) -> Self:
        """Return the same work on less content, if it is large; at least 1 MiB."""
        return replace(self, size=max(MiB, self.size // divisor // MiB * MiB)) if self.is_large else self

    @property
    def bucket(self) -> str:
        """Its bucket."""
        return KEPT if self.reads else WRITTEN


WORKLOADS = (
    Workload("puts", "1 KiB puts", "put", KiB, 2000, 32),
    Workload("hits", "1 KiB puts of existing content", "hit", KiB, 2000, 32),
    Workload("gets", "1 KiB gets", "get", KiB, 2000, 32),
    Workload("streams", "256 KiB streams", "write", 256 * KiB, 200, 32),
    Workload("streams-16", "16 MiB streams", "write", 16 * MiB, 40, 4),
    Workload("many", "1,000 streams of 256 KiB at once", "write", 256 * KiB, 1000, 1000),
    Workload("write", "1 GiB stream written, hashed", "write", GiB, 1, 1),
    Workload("read", "1 GiB stream read", "read", GiB, 1, 1, verify=False),
    Workload("read-verified", "1 GiB stream read, verified", "read", GiB, 1, 1),
    Workload("write-256", "256 MiB stream written, hashed", "write", 256 * MiB, 1, 1),
    Workload("read-256", "256 MiB stream read, verified", "read", 256 * MiB, 1, 1),
    Workload("write-file", "1 GiB file written, hash known", "file", GiB, 1, 1),
    Workload("puts-at-256", "1 KiB puts, 256 at a time", "put", KiB, 4000, 256),
    Workload("gets-at-256", "1 KiB gets, 256 at a time", "get", KiB, 4000, 256),
    Workload("help", "`lakery-cloud --help`", "start", KiB, 5, 1),
    Workload("put-to-folder", "`lakery-cloud put` to a folder", "start", KiB, 5, 1),
    Workload("first-put", "first put of a program", "start", KiB, 5, 1),
    Workload("hits-at-256", "1 KiB puts of existing content, 256 at a time", "hit", KiB, 4000, 256),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}


def kept_blob(number: int) -> bytes:
    """Return one of the blobs for reads."""
    return unique(KiB, 0, number)


def warm_key() -> tuple[str, str]:
    """Return key and SHA-256 of the blob for the warm-up."""
    content_hash = hashlib.sha256(kept_blob(0)).hexdigest()
    return f"bench/{content_hash}", content_hash


@cache
def kept_key(workload: Workload, number: int) -> tuple[str, str]:
    """Return key and SHA-256 of an object for reads."""
    if workload.kind == "get":
        content_hash = hashlib.sha256(kept_blob(number)).hexdigest()
    else:
        content_hash = sha256_of_blocks(workload.size)
    return f"bench/{content_hash}", content_hash


class Work:
    """A workload of one client.

    Args:
        workload: What to do.
        peer: An open client.
        label: A prefix of its keys, since other clients warm up at the same time.
        folder: A folder for files. For workloads that write a file, it has one with the content.
    """

    def __init__(self, workload: Workload, peer: Peer, *, label: str, folder: Path) -> None:
        self._workload = workload
        self._folder = folder
        self._peer = peer
        self._keys = f"bench/{label}"
        self._do = self._operation()

    async def warm_up(self) -> None:
        """Load modules, open connections, and check that the client works."""
        workload = self._workload
        if workload.is_large:
            sha256_of_blocks(workload.size)
        if workload.kind == "start":
            await self._do(0, 0)
        elif workload.kind == "hit":
            await self._all(KEPT_BLOBS, self._put, turn=0)
        elif workload.is_large and workload.reads:
            key, content_hash = warm_key()
            await self._peer.get(self._peer.handle(key, size=KiB, sha256=content_hash))
        elif workload.is_large:
            await self._peer.put(f"{self._keys}/warm", unique(KiB, 1))
        else:
            await self._all(min(workload.count, 50), self._do, turn=0)

    async def turn(self, number: int) -> int:
        """Run the workload once, and return the number of operations."""
        return await self._all(self._workload.count, self._do, turn=number)

    async def _all(self, count: int, operation: Callable[[int, int], Awaitable[None]], *, turn: int) -> int:
        numbers = iter(range(count))
        deadline = time.perf_counter() + LIMIT
        done = 0

        async def work() -> None:
            nonlocal done
            for number in numbers:
                await operation(turn, number)
                done += 1
                if time.perf_counter() > deadline:
                    return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._workload.concurrency, count)):
                tasks.create_task(work())
        return done

    def _operation(self) -> Callable[[int, int], Awaitable[None]]:
        operations = {
            "put": self._put,
            "hit": self._hit,
            "get": self._get,
            "write": self._write,
            "file": self._write_file,
            "read": self._read,
            "start": self._start,
        }
        return operations[self._workload.kind]

    async def _put(self, turn: int, number: int) -> None:
        data = unique(self._workload.size, turn, number)
        # Clients that don't hash get the hash as the key, so that all of them do the same work.
        key = f"{self._keys}/{number if self._peer.hashes else hashlib.sha256(data).hexdigest()}"
        await self._peer.put(key, data)

    async def _hit(self, _: int, number: int) -> None:
        await self._put(0, number % KEPT_BLOBS)

    async def _get(self, _: int, number: int) -> None:
        number %= KEPT_BLOBS
        key, content_hash = kept_key(self._workload, number)
        data = await self._peer.get(self._peer.handle(key, size=self._workload.size, sha256=content_hash))
        got = content_hash if self._peer.verifies else hashlib.sha256(data).hexdigest()
        if got != content_hash or len(data) != self._workload.size:
            raise AssertionError(f"{key} returned wrong content")

    async def _write(self, turn: int, number: int) -> None:
        size = self._workload.size
        chunks = blocks(size) if self._workload.is_large else unique_stream(size, CHUNK, turn, number)
        if self._peer.hashes:
            await self._peer.write_stream(f"{self._keys}/{number}", chunks, size=size)
            return
        hasher = hashlib.sha256()
        await self._peer.write_stream(f"{self._keys}/{number}", _hashed(chunks, hasher), size=size)
        if self._workload.is_large and hasher.hexdigest() != sha256_of_blocks(size):
            raise AssertionError("not all of the stream was read")

    async def _write_file(self, _: int, number: int) -> None:
        size, path = self._workload.size, self._folder / CONTENT
        await self._peer.write_file(f"{self._keys}/{number}", path, size=size, sha256=sha256_of_blocks(size))

    async def _start(self, turn: int, number: int) -> None:
        await self._peer.start(self._workload.name, turn * self._workload.count + number, self._folder)

    async def _read(self, _: int, __: int) -> None:
        size = self._workload.size
        key, content_hash = kept_key(self._workload, 0)
        handle: Any = self._peer.handle(key, size=size, sha256=content_hash)
        hasher = hashlib.sha256() if self._workload.verify and not self._peer.verifies else None
        got = 0
        async for chunk in self._peer.read_stream(handle):
            got += len(chunk)
            if hasher is not None:
                hasher.update(chunk)
        if got != size or (hasher is not None and hasher.hexdigest() != content_hash):
            raise AssertionError(f"received {got} bytes, or wrong content")


async def _hashed(chunks: AsyncIterator[bytes], hasher: Any) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        hasher.update(chunk)
        yield chunk
