"""adlfs on its asynchronous interface; its files, which know no other, in threads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from adlfs import AzureBlobFileSystem

from benchmarks.payload import MiB
from benchmarks.peers.azure_account import connection_string
from benchmarks.peers.base import PART_SIZE, Peer


class ADLFS(Peer):
    """Its file system."""

    streams = "a file written in a thread, 8 MiB blocks"
    reads = "a file read in a thread, 8 MiB blocks"

    async def open(self) -> None:
        options = {"connection_string": connection_string(self.target.url), "skip_instance_cache": True}
        self._fs = AzureBlobFileSystem(asynchronous=True, **options)
        self._in_thread = AzureBlobFileSystem(**options)

    async def close(self) -> None:
        await self._fs.service_client.close()

    def _path(self, key: str) -> str:
        return f"{self.target.bucket}/{key}"

    async def put(self, key: str, data: bytes) -> Any:
        await self._fs._pipe_file(self._path(key), data, overwrite=True)  # noqa: SLF001, for implementers and users
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
        file = await asyncio.to_thread(self._in_thread.open, self._path(handle), "rb", block_size=PART_SIZE)
        with file:
            while chunk := await asyncio.to_thread(file.read, MiB):
                yield chunk
