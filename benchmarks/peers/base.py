"""What a peer is: the same few operations of one client library, each done as its users would do it at its best."""

import abc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.payload import MiB

ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "testtest"  # noqa: S105, nobody checks it
REGION = "us-east-1"
PART_SIZE = 8 * MiB
PARTS_IN_FLIGHT = 4
CONNECTIONS = 64


class Unavailable(Exception):
    """The peer can't do what was asked for, and why."""


@dataclass(frozen=True)
class Target:
    """Where a peer works.

    Attributes:
        url: Of the server.
        bucket: Bucket or container.
        certificate: Path of a certificate to trust, or None.
        concurrency: Operations that will be under way at a time.
        verify: Whether reads are verified.
    """

    url: str
    bucket: str
    certificate: str | None
    concurrency: int
    verify: bool

    @property
    def connections(self) -> int:
        """Connections that a pool needs, so that none waits for one."""
        return max(CONNECTIONS, min(self.concurrency, 256))


class Peer(abc.ABC):
    """One client library.

    Attributes:
        hashes: Whether it hashes what it writes itself; the harness hashes for the others, in line.
        verifies: Whether it hashes what it reads itself, where that is wanted.
        sends: How it writes a blob.
        gets: How it reads one.
        streams: How it writes a stream.
        reads: How it reads one.
    """

    hashes: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    sends: ClassVar[str] = "one request"
    gets: ClassVar[str] = "one GET"
    streams: ClassVar[str] = ""
    reads: ClassVar[str] = "one GET"

    def __init__(self, target: Target) -> None:
        self.target = target

    @abc.abstractmethod
    async def open(self) -> None:
        """Make a client.

        Raises:
            Unavailable: It can't work under these conditions.
        """

    async def close(self) -> None:  # noqa: B027, many hold nothing
        """Give back what it holds."""

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        """What it takes to read an object that is there already."""
        return key

    @abc.abstractmethod
    async def put(self, key: str, data: bytes) -> Any:
        """Write one blob; what it takes to read it."""

    @abc.abstractmethod
    async def get(self, handle: Any) -> bytes:
        """Read one blob."""

    @abc.abstractmethod
    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        """Write a stream; what it takes to read it. The size is a hint for those who can't do without."""

    @abc.abstractmethod
    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        """Read in chunks."""


async def parts_of(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Chunks joined to parts of a size; the last may be smaller."""
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
