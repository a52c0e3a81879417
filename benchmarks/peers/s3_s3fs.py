"""s3fs: an asynchronous interface, and one for streams that are read."""

from collections.abc import AsyncIterator
from typing import Any

import s3fs

from benchmarks.payload import MiB
from benchmarks.peers.base import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from benchmarks.peers.fsspec_files import FileSystemPeer


class S3FS(FileSystemPeer):
    """Its file system."""

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
        self.fs = s3fs.S3FileSystem(asynchronous=True, **options)
        self._session = await self.fs.set_session()
        self.in_thread = s3fs.S3FileSystem(**options)

    async def close(self) -> None:
        await self._session.close()

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        file = await self.fs.open_async(self.path(handle), "rb")
        try:
            while chunk := await file.read(MiB):
                yield chunk
        finally:
            await file.close()
