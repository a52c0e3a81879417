"""azure-storage-blob, Microsoft's own asynchronous client."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, ClassVar

from azure.storage.blob.aio import BlobServiceClient

from benchmarks.payload import MiB
from benchmarks.peers.azure_account import connection_string
from benchmarks.peers.base import PART_SIZE, PARTS_IN_FLIGHT, Peer


class AzureStorageBlob(Peer):
    """Its client of one container."""

    streams = "four 8 MiB blocks in flight; one put if it fits"
    files = "four 8 MiB blocks in flight"
    reads = "one GET of 32 MiB, then ranges of 4 MiB one by one"
    in_flight: ClassVar[int] = PARTS_IN_FLIGHT

    async def open(self) -> None:
        self._service = BlobServiceClient.from_connection_string(
            connection_string(self.target.url), max_block_size=PART_SIZE, max_single_put_size=PART_SIZE
        )
        self._container = self._service.get_container_client(self.target.bucket)

    async def close(self) -> None:
        await self._service.close()

    async def put(self, key: str, data: bytes) -> Any:
        await self._container.get_blob_client(key).upload_blob(data, overwrite=True)
        return key

    async def get(self, handle: Any) -> bytes:
        answer = await self._container.get_blob_client(handle).download_blob()
        content: bytes = await answer.readall()
        return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        await self._container.get_blob_client(key).upload_blob(chunks, overwrite=True, max_concurrency=self.in_flight)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        with path.open("rb") as file:
            blob = self._container.get_blob_client(key)
            await blob.upload_blob(file, overwrite=True, max_concurrency=self.in_flight)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        answer = await self._container.get_blob_client(handle).download_blob()
        async for chunk in answer.chunks():
            yield chunk


class LikeAzCopy(AzureStorageBlob):
    """As many requests at a time as AzCopy sends on a machine with fewer than five processors.

    Source: Microsoft Learn, "Optimize the performance of AzCopy", AZCOPY_CONCURRENCY_VALUE.
    """

    streams = files = "32 blocks of 8 MiB in flight"
    reads = "one GET of 32 MiB, then 32 ranges of 4 MiB at a time, to a file"
    in_flight = 32

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        blob = self._container.get_blob_client(handle)
        with TemporaryFile() as file:
            await (await blob.download_blob(max_concurrency=self.in_flight)).readinto(file)
            file.seek(0)
            while chunk := await asyncio.to_thread(file.read, MiB):
                yield chunk
