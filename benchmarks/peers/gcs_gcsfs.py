"""gcsfs on its asynchronous interface; its files, which know no other, in threads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gcsfs.core import GCSFileSystem

from benchmarks.payload import MiB
from benchmarks.peers.base import PART_SIZE, Peer


class GCSFS(Peer):
    """Its file system."""

    streams = "a file written in a thread, 8 MiB chunks"
    reads = "a file read in a thread, 8 MiB blocks"

    async def open(self) -> None:
        options: dict[str, Any] = {
            "project": "bench",
            "token": "anon",
            "endpoint_url": self.target.url,
            "skip_instance_cache": True,
        }
        self._fs = GCSFileSystem(asynchronous=True, **options)
        await self._fs._set_session()  # noqa: SLF001, its own documentation does so
        self._in_thread = GCSFileSystem(**options)

    async def close(self) -> None:
        await self._fs._session.close()  # noqa: SLF001

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
        file = await asyncio.to_thread(self._in_thread.open, self._path(handle), "rb", block_size=PART_SIZE)
        with file:
            while chunk := await asyncio.to_thread(file.read, MiB):
                yield chunk
