"""boto3 in threads, with its managed transfers for streams."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from benchmarks.payload import MiB
from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY, Peer, Target

TRANSFERS = TransferConfig(multipart_chunksize=PART_SIZE, multipart_threshold=PART_SIZE)


class Boto3(Peer):
    """Its client."""

    sends = "CRC-32, put in a thread"
    streams = "CRC-32, `upload_fileobj`: ten 8 MiB parts at a time, in threads"
    gets = reads = "one GET in a thread"
    files = "CRC-32, `upload_file`: ten 8 MiB parts at a time, in threads"

    async def open(self) -> None:
        self._client = boto3_client(self.target)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(min(self.target.concurrency, 64)))

    async def put(self, key: str, data: bytes) -> Any:
        await asyncio.to_thread(self._client.put_object, Bucket=self.target.bucket, Key=key, Body=data)
        return key

    async def get(self, handle: Any) -> bytes:
        def get() -> bytes:
            body: bytes = self._client.get_object(Bucket=self.target.bucket, Key=handle)["Body"].read()
            return body

        return await asyncio.to_thread(get)

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        await asyncio.to_thread(
            self._client.upload_fileobj, ReadInThread(chunks), self.target.bucket, key, Config=TRANSFERS
        )
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await asyncio.to_thread(self._client.upload_file, str(path), self.target.bucket, key, Config=TRANSFERS)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        answer = await asyncio.to_thread(self._client.get_object, Bucket=self.target.bucket, Key=handle)
        while chunk := await asyncio.to_thread(answer["Body"].read, MiB):
            yield chunk


class ManagedBoto3(Boto3):
    """Reads by its managed transfers."""

    reads = "`download_fileobj`: ten 8 MiB ranges at a time, in threads"

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        written = ReadByLoop()
        download = asyncio.create_task(
            asyncio.to_thread(self._client.download_fileobj, self.target.bucket, handle, written, Config=TRANSFERS)
        )
        download.add_done_callback(lambda _: written.end())
        async for chunk in written:
            yield chunk
        await download


def boto3_client(target: Target) -> Any:
    """A client with defaults and a pool that is large enough."""
    return boto3.client(
        "s3",
        endpoint_url=target.url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(max_pool_connections=target.connections, s3={"addressing_style": "path"}),
    )


class ReadInThread:
    """An asynchronous stream as a file that another thread reads."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        pieces, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
        joined = b"".join(pieces)
        taken = joined if size < 0 else joined[:size]
        self._rest = joined[len(taken) :]
        return taken

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")


class ReadByLoop:
    """A file that other threads write, as an asynchronous stream."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, chunk: bytes) -> int:
        self._loop.call_soon_threadsafe(self._chunks.put_nowait, bytes(chunk))
        return len(chunk)

    def end(self) -> None:
        """End the stream; called in the loop."""
        self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
