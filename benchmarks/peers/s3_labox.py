"""labox 0.1.0, the most similar library: boto3 in threads, the same hashes as lakery-cloud, no verification."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from labox.extra.aws import S3Storage, simple_s3_router

from benchmarks.peers.base import Peer
from benchmarks.peers.s3_boto3 import boto3_client


class Labox(Peer):
    """Its S3 storage."""

    hashes = True
    sends = "SHA-256, put in a thread"
    streams = "SHA-256, CRC-32, temporary key, copy, 5 MiB parts one by one"
    gets = reads = "one GET in a thread"

    async def open(self) -> None:
        client = boto3_client(self.target)
        self._storage = S3Storage(s3_client=client, s3_router=simple_s3_router(self.target.bucket))

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        return {"bucket": self.target.bucket, "key": key}

    async def put(self, key: str, data: bytes) -> Any:
        return await self._storage.write_data(data, _digest(hashlib.sha256(data), len(data)), {})

    async def get(self, handle: Any) -> bytes:
        return bytes(await self._storage.read_data(handle))

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        hasher, seen, ended = hashlib.sha256(), 0, False

        async def hashed() -> AsyncIterator[bytes]:
            nonlocal seen, ended
            async for chunk in chunks:
                hasher.update(chunk)
                seen += len(chunk)
                yield chunk
            ended = True

        def get_digest(*, allow_incomplete: bool = False) -> Any:  # noqa: ARG001, labox gives it
            return {**_digest(hasher, seen), "is_complete": ended}

        return await self._storage.write_data_stream(hashed(), get_digest, {})

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        stream: AsyncIterator[bytes] = self._storage.read_data_stream(handle)
        return stream


def _digest(hasher: Any, size: int) -> Any:
    return {
        "content_type": "application/octet-stream",
        "content_encoding": None,
        "content_hash_algorithm": "sha256",
        "content_hash": hasher.hexdigest(),
        "content_size": size,
    }
