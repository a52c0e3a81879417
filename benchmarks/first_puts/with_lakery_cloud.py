"""lakery-cloud; the key is the content hash."""

import asyncio
import sys

from lakery_cloud import S3Storage, StorageRegistry


async def main(url: str, bucket: str, key: str) -> None:
    """Put once."""
    data = key.encode().ljust(1024)
    async with StorageRegistry([S3Storage(bucket, prefix="bench", endpoint_url=url)]) as registry:
        await registry.save({"data": data, "content_type": "application/octet-stream", "content_encoding": None})


asyncio.run(main(*sys.argv[1:]))
