"""The operations of a compared client library. Each is done as an experienced user would do it."""

import abc
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.payload import MiB

ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "testtest"  # noqa: S105, no server checks it
REGION = "us-east-1"
PART_SIZE = 8 * MiB
PARTS_IN_FLIGHT = 4
CONNECTIONS = 64


class Unavailable(Exception):
    """The client can't do the workload, with the reason."""


@dataclass(frozen=True)
class Target:
    """The server and bucket of a client.

    Attributes:
        url: URL of the server.
        bucket: Bucket or container.
        certificate: Path of a certificate to trust, or None.
        concurrency: Operations that run at a time.
        verify: Whether reads are verified.
    """

    url: str
    bucket: str
    certificate: str | None
    concurrency: int
    verify: bool

    @property
    def connections(self) -> int:
        """Size of a connection pool in which no operation waits."""
        return max(CONNECTIONS, min(self.concurrency, 256))


class Peer(abc.ABC):
    """One client library.

    Attributes:
        hashes: Whether it hashes written content itself; else the harness does, in line.
        verifies: Whether it hashes read content itself, where the workload verifies.
        sends: How it writes a blob.
        gets: How it reads a blob.
        streams: How it writes a stream.
        reads: How it reads a stream.
        files: How it writes a file; by default as a stream.
        starts: What its process does.
    """

    hashes: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    sends: ClassVar[str] = "one request"
    gets: ClassVar[str] = "one GET"
    streams: ClassVar[str] = ""
    reads: ClassVar[str] = "one GET"
    files: ClassVar[str] = ""
    starts: ClassVar[str] = ""

    def __init__(self, target: Target) -> None:
        self.target = target

    @abc.abstractmethod
    async def open(self) -> None:
        """Open the client.

        Raises:
            Unavailable: The client doesn't support these conditions.
        """

    async def close(self) -> None:  # noqa: B027, many clients need no closing
        """Close the client."""

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        """Return what `get` and `read_stream` need to read an existing object."""
        return key

    @abc.abstractmethod
    async def put(self, key: str, data: bytes) -> Any:
        """Write one blob, and return its handle."""

    @abc.abstractmethod
    async def get(self, handle: Any) -> bytes:
        """Read one blob."""

    @abc.abstractmethod
    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        """Write a stream, and return its handle. The size is for clients that can't write without it."""

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        """Write a file whose hash is known, and return its handle. By default, write its chunks as a stream."""
        return await self.write_stream(key, chunks_of(path), size=size)

    async def start(self, what: str, number: int, folder: Path) -> None:
        """Run a new process that does one thing. The number is that of its content."""
        raise Unavailable("it starts no processes")

    @abc.abstractmethod
    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        """Read an object in chunks."""


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    """Read a file in a thread."""
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, MiB):
            yield chunk


async def parts_of(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Join chunks to parts of a size; the last one may be smaller."""
    waiting: list[bytes] = []
    have = 0
    async for chunk in chunks:
        waiting.append(chunk)
        have += len(chunk)
        if have >= size:
            yield b"".join(waiting)
            waiting, have = [], 0
    if waiting:
        yield b"".join(waiting)
