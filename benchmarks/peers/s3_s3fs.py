"""s3fs on its asynchronous interface; its files, which know no other, in threads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import s3fs

from benchmarks.payload import MiB
from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY, Peer


class S3FS(Peer):
    """Its file system."""

    streams = "a file written in a thread, 8 MiB parts"
    reads = "`open_async`"

    async def open(self) -> None:
        options: dict[str, Any] = {
            "key": ACCESS_KEY_ID,
            "secret": SECRET_ACCESS_KEY,
            "endpoint_url": self.target.url,
            "client_kwargs": {"region_name": REGION},
            "config_kwargs": {"max_pool_connections": self.target.connections},
            "skip_instance_cache": True,
        }
        self._fs = s3fs.S3FileSystem(asynchronous=True, **options)
        self._session = await self._fs.set_session()
        self._in_thread = s3fs.S3FileSystem(**options)

    async def close(self) -> None:
        await self._session.close()

    def _path(self, key: str) -> str:
        return f"{self.target.bucket}/{key}"

    async def put(self, key: str, data: bytes) -> Any:
        await self._fs._pipe_file(self._path(key), data)  # noqa: SLF001, documented for implementers and users
        return key

    async def get(self, handle: Any) -> bytes:
        content: bytes = await self._fs._cat_file(self._path(handle))  # noqa: SLF001
        return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        file = await asyncio.to_thread(self._in_thread.open, self._path(key), "wb", block_size=PART_SIZE)
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.close)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        file = await self._fs.open_async(self._path(handle), "rb")
        try:
            while chunk := await file.read(MiB):
                yield chunk
        finally:
            await file.close()
