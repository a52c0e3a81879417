"""gcloud-aio-storage, on aiohttp. It can't write a stream of unknown size, only bytes in memory or a file."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from gcloud.aio.storage import Storage

from benchmarks.payload import MiB
from benchmarks.peers.base import Peer


class GcloudAio(Peer):
    """Its client."""

    streams = "collected in a file of its own first; one request"

    files = "one request"

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self.target.connections))
        self._storage = Storage(session=self._session, api_root=self.target.url)

    async def close(self) -> None:
        await self._session.close()

    async def put(self, key: str, data: bytes) -> Any:
        await self._storage.upload(self.target.bucket, key, data)
        return key

    async def get(self, handle: Any) -> bytes:
        content: bytes = await self._storage.download(self.target.bucket, handle)
        return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        with tempfile.TemporaryFile() as file:
            async for chunk in chunks:
                file.write(chunk)
            file.seek(0)
            await self._storage.upload(self.target.bucket, key, file)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        with path.open("rb") as file:
            await self._storage.upload(self.target.bucket, key, file)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        stream = await self._storage.download_stream(self.target.bucket, handle)
        async with stream:
            while chunk := await stream.read(MiB):
                yield chunk
