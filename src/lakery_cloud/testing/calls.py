"""Short calls of the storage under test: write a blob or a stream without tags, read a stream to its end."""

from contextlib import aclosing
from typing import Any

from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.testing.content import digest_of


async def write(storage: ObjectStorage[Any], data: bytes, **options: Any) -> Any:
    """Write a blob. Options are those of `digest_of`."""
    return await storage.write_data(data, digest_of(data, **options), {})


async def write_stream(storage: ObjectStorage[Any], stream: DigestingStream) -> Any:
    """Write a stream."""
    return await storage.write_data_stream(stream, stream.get_digest, {})


async def read_stream(storage: ObjectStorage[Any], storage_data: Any) -> bytes:
    """Read a stream to its end."""
    async with aclosing(storage.read_data_stream(storage_data)) as chunks:
        return b"".join([chunk async for chunk in chunks])
