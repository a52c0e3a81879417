"""No client: hashing in one thread, which is the limit of a verified read in one thread."""

from collections.abc import AsyncIterator
from typing import Any

from benchmarks.payload import blocks
from benchmarks.peers.base import Peer, Unavailable


class SHA256Alone(Peer):
    """Yields the content without a server."""

    reads = "nothing is sent: the hash alone, in line"

    async def open(self) -> None:
        pass

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        return size

    async def put(self, key: str, data: bytes) -> Any:
        raise Unavailable("it only hashes")

    async def get(self, handle: Any) -> bytes:
        return b""  # nothing to warm up

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        raise Unavailable("it only hashes")

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        return blocks(handle)
