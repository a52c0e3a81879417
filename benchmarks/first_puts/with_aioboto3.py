"""aioboto3."""

import asyncio
import hashlib
import sys

import aioboto3


async def main(url: str, bucket: str, key: str) -> None:
    """Put once."""
    data = key.encode().ljust(1024)
    async with aioboto3.Session().client("s3", endpoint_url=url) as client:
        await client.put_object(Bucket=bucket, Key=hashlib.sha256(data).hexdigest(), Body=data)


asyncio.run(main(*sys.argv[1:]))
