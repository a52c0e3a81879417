"""No client at all: how fast one thread hashes, which no verified read on one thread can exceed."""

from collections.abc import AsyncIterator
from typing import Any

from benchmarks.payload import blocks
from benchmarks.peers.base import Peer, Unavailable


class SHA256Alone(Peer):
    """Reads what it has."""

    reads = "nothing is sent: the hash alone, in line"

    async def open(self) -> None:
        pass

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        return size

    async def put(self, key: str, data: bytes) -> Any:
        raise Unavailable("it only hashes")

    async def get(self, handle: Any) -> bytes:
        return b""  # nothing has to warm up

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        raise Unavailable("it only hashes")

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        return blocks(handle)
