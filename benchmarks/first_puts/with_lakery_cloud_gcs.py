"""lakery-cloud on Cloud Storage; the key is the content hash."""

import asyncio
import sys

from lakery_cloud import GCSStorage, StorageRegistry


async def main(url: str, bucket: str, key: str) -> None:
    """Put once."""
    data = key.encode().ljust(1024)
    storage = GCSStorage(bucket, prefix="bench", endpoint_url=url, token="anon")  # noqa: S106, it is none
    async with StorageRegistry([storage]) as registry:
        await registry.save({"data": data, "content_type": "application/octet-stream", "content_encoding": None})


asyncio.run(main(*sys.argv[1:]))
