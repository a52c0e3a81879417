"""The base of fsspec's file systems: an asynchronous interface for blobs, and files in a thread for streams."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.payload import MiB
from benchmarks.peers.base import PART_SIZE, Peer


class FileSystemPeer(Peer):
    """A file system; `open` makes it twice.

    Attributes:
        fs: The one of our event loop.
        in_thread: The one whose files are used in threads.
        put_options: What a put of what is there needs.
    """

    streams = "a file written in a thread, 8 MiB at a time"
    files = "`put_file` with its defaults"
    reads = "a file read in a thread, 8 MiB at a time"
    fs: Any
    in_thread: Any
    put_options: ClassVar[Mapping[str, Any]] = {}

    def path(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.target.bucket}/{key}"

    async def put(self, key: str, data: bytes) -> Any:
        await self.fs._pipe_file(self.path(key), data, **self.put_options)  # noqa: SLF001, its API for loops, how fsspec is used asynchronously
        return key

    async def get(self, handle: Any) -> bytes:
        content: bytes = await self.fs._cat_file(self.path(handle))  # noqa: SLF001, the same
        return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        file = await asyncio.to_thread(self.in_thread.open, self.path(key), "wb", block_size=PART_SIZE)
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.close)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await self.fs._put_file(str(path), self.path(key), **self.put_options)  # noqa: SLF001, the same
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self.in_thread.open, self.path(handle), "rb", block_size=PART_SIZE)
        with file:
            while chunk := await asyncio.to_thread(file.read, MiB):
                yield chunk
