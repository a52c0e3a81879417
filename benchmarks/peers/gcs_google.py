"""google-cloud-storage, Google's client, in threads."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager
from requests.adapters import HTTPAdapter

from benchmarks.payload import MiB
from benchmarks.peers.base import PART_SIZE, Peer, chunks_of

CHUNKS = {"chunk_size": PART_SIZE, "worker_type": transfer_manager.THREAD, "max_workers": 8}


class GoogleCloudStorage(Peer):
    """Its client, with a pool that is large enough."""

    sends = "CRC-32C, put in a thread"
    gets = "CRC-32C compared, one GET in a thread"
    streams = "CRC-32C, a file written in a thread, 8 MiB chunks"
    files = "CRC-32C, `upload_from_filename`"
    reads = "CRC-32C compared, a file read in a thread, 8 MiB chunks"

    async def open(self) -> None:
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=self.target.connections))
        client = storage.Client(
            project="bench",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.target.url},
            _http=session,
        )
        self._bucket = client.bucket(self.target.bucket)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(self.target.concurrency, 64)))

    async def put(self, key: str, data: bytes) -> Any:
        await asyncio.to_thread(self._bucket.blob(key).upload_from_string, data)
        return key

    async def get(self, handle: Any) -> bytes:
        content: bytes = await asyncio.to_thread(self._bucket.blob(handle).download_as_bytes)
        return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        file = await asyncio.to_thread(self._bucket.blob(key).open, "wb", chunk_size=PART_SIZE)
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(file.close)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await asyncio.to_thread(self._bucket.blob(key).upload_from_filename, str(path))
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._bucket.blob(handle).open, "rb", chunk_size=PART_SIZE)
        with file:
            while chunk := await asyncio.to_thread(file.read, MiB):
                yield chunk


class TransferManager(GoogleCloudStorage):
    """Its transfer manager, which needs files.

    It works in threads here, not in processes as by default, whose memory would not be measured.
    """

    files = "CRC-32C, `upload_chunks_concurrently`: eight 8 MiB parts at a time, in threads"
    reads = "CRC-32C compared, `download_chunks_concurrently` to a file: eight 8 MiB ranges at a time, in threads"

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await asyncio.to_thread(
            transfer_manager.upload_chunks_concurrently, str(path), self._bucket.blob(key), **CHUNKS
        )
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        with TemporaryDirectory(prefix="lakery-bench-") as folder:
            path = Path(folder, "content")
            await asyncio.to_thread(
                transfer_manager.download_chunks_concurrently, self._bucket.blob(handle), str(path), **CHUNKS
            )
            async for chunk in chunks_of(path):
                yield chunk
