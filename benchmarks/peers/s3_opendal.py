"""Apache OpenDAL's Rust core, from Python."""

from collections.abc import AsyncIterator
from typing import Any

import opendal

from benchmarks.payload import MiB
from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, PARTS_IN_FLIGHT, REGION, SECRET_ACCESS_KEY, Peer


class OpenDAL(Peer):
    """Its operator."""

    streams = "four 8 MiB parts in flight; one put if it fits"

    async def open(self) -> None:
        self._operator = opendal.AsyncOperator(
            "s3",
            bucket=self.target.bucket,
            endpoint=self.target.url,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            region=REGION,
            disable_config_load="true",
            disable_ec2_metadata="true",
        )

    async def put(self, key: str, data: bytes) -> Any:
        await self._operator.write(key, data)
        return key

    async def get(self, handle: Any) -> bytes:
        return bytes(await self._operator.read(handle))

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        file = await self._operator.open(key, "wb", chunk=PART_SIZE, concurrent=PARTS_IN_FLIGHT)
        async with file:
            async for chunk in chunks:
                await file.write(chunk)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        file = await self._operator.open(handle, "rb")
        async with file:
            while chunk := await file.read(MiB):
                yield bytes(chunk)
