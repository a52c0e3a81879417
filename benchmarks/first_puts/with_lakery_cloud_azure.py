"""lakery-cloud on Blob Storage; the key is the content hash."""

import asyncio
import sys

from benchmarks.peers.azure_account import connection_string
from lakery_cloud import AzureBlobStorage, StorageRegistry


async def main(url: str, container: str, key: str) -> None:
    """Put once."""
    data = key.encode().ljust(1024)
    storage = AzureBlobStorage(container, prefix="bench", connection_string=connection_string(url))
    async with StorageRegistry([storage]) as registry:
        await registry.save({"data": data, "content_type": "application/octet-stream", "content_encoding": None})


asyncio.run(main(*sys.argv[1:]))
