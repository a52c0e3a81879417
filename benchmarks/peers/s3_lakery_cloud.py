"""lakery-cloud itself on S3: content hash, create-only put, temporary key and copy for streams, verified reads."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.payload import MiB, sha256_of_blocks
from benchmarks.peers.base import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Peer, Target, Unavailable
from lakery_cloud import ConfigError, S3Storage, StorageRegistry
from lakery_cloud.digest import DigestingStream
from lakery_cloud.storage import Digest, SerializedDataStream


class LakeryCloud(Peer):
    """`S3Storage` with its defaults."""

    hashes = True
    verifies = True
    sends = "SHA-256, create-only put"
    streams = "SHA-256, CRC-32C, temporary key, copy; one put if it fits"
    files = "SHA-256 compared, `save_file` with the known hash"
    reads = "one GET; ranges ahead where one connection is the limit"
    options: ClassVar[dict[str, Any]] = {}
    bucket, place = "bucket", "key"
    """Names in storage data."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._storage = self._make(target)
        self._registry = StorageRegistry([self._storage])

    def _make(self, target: Target) -> Any:
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY=SECRET_ACCESS_KEY)
        return made(S3Storage, target, endpoint_url=target.url, region=REGION, **self.options)

    async def open(self) -> None:
        await self._storage.__aenter__()

    async def close(self) -> None:
        await self._storage.aclose()

    def handle(self, key: str, *, size: int, sha256: str) -> Any:
        return {self.bucket: self.target.bucket, self.place: key, "hash": f"sha256:{sha256}", "size": size}

    async def put(self, key: str, data: bytes) -> Any:
        return await self._storage.write_data(data, digest_of(hashlib.sha256(data).hexdigest(), len(data)), {})

    async def get(self, handle: Any) -> bytes:
        content: bytes = await self._storage.read_data(handle)
        return content

    async def write_stream(
        self, key: str, chunks: AsyncIterator[bytes], *, size: int, digest: Digest | None = None
    ) -> Any:
        serialized = SerializedDataStream(
            data_stream=chunks, content_type="application/octet-stream", content_encoding=None
        )
        stream = DigestingStream(serialized, expected=digest)
        return await self._storage.write_data_stream(stream, stream.get_digest, {})

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        return await self._registry.save_file(path, digest=digest_of(sha256, size))

    def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        chunks: AsyncIterator[bytes] = self._storage.read_data_stream(handle)
        return chunks


class WithoutHotRequests(LakeryCloud):
    """All requests sent by the SDK."""

    options: ClassVar = {"fast_lane": False}


class ByRegistry(LakeryCloud):
    """Blobs saved by a registry, which hashes them and makes records."""

    sends = "`StorageRegistry.save`"

    async def put(self, key: str, data: bytes) -> Any:
        return await self._registry.save(
            {"data": data, "content_type": "application/octet-stream", "content_encoding": None}
        )


class WithDigest(LakeryCloud):
    """Streams whose digest is known: without a temporary key and a copy."""

    streams = "SHA-256 compared, CRC-32C, the content key itself, since the hash is known"

    async def write_stream(
        self, key: str, chunks: AsyncIterator[bytes], *, size: int, digest: Digest | None = None
    ) -> Any:
        return await super().write_stream(key, chunks, size=size, digest=digest_of(sha256_of_blocks(size), size))


class WithoutDigest(LakeryCloud):
    """Files as streams of unknown hash."""

    files = "`save_file` without the hash: temporary key, copy"

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        return await self._registry.save_file(path)


class InRanges(LakeryCloud):
    """Large reads by eight ranges at a time."""

    reads = "eight 8 MiB ranges at a time"
    options: ClassVar = {"concurrent_ranges": 8, "range_size": 8 * MiB}


def digest_of(sha256: str, size: int) -> Digest:
    """Return the digest of content."""
    return Digest(
        content_type="application/octet-stream",
        content_encoding=None,
        content_hash_algorithm="sha256",
        content_hash=sha256,
        content_size=size,
    )


def made(storage_class: Any, target: Target, **options: Any) -> Any:
    """A storage.

    Raises:
        Unavailable: It knows one of the options not.
    """
    try:
        return storage_class(
            target.bucket,
            prefix="bench",
            verify=target.verify,
            max_concurrent_requests=target.connections,
            max_concurrent_reads=target.connections,
            **options,
        )
    except (ConfigError, TypeError) as error:
        raise Unavailable(f"this version has no such setting: {error}") from error
