"""The AWS Common Runtime's S3 client, from Python."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientTlsContext, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY, Peer


class AwsCrt(Peer):
    """Its S3 client, which works in threads of its own."""

    streams = "8 MiB parts, read through a thread"
    files = "8 MiB parts, read by the runtime"
    reads = "8 MiB ranges at a time"

    async def open(self) -> None:
        provider = AwsCredentialsProvider.new_static(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        options: dict[str, Any] = {"tls_mode": S3RequestTlsMode.DISABLED}
        if self.target.certificate:
            context = TlsContextOptions()
            context.override_default_trust_store_from_path(None, self.target.certificate)
            options = {"tls_connection_options": ClientTlsContext(context).new_connection_options()}
        self._client = S3Client(
            region=REGION,
            signing_config=create_default_s3_signing_config(region=REGION, credential_provider=provider),
            part_size=PART_SIZE,
            **options,
        )
        self._loop = asyncio.get_running_loop()
        self._host = urlsplit(self.target.url).netloc

    def _headers(self, **more: str) -> HttpHeaders:
        return HttpHeaders([("Host", self._host), *more.items()])

    def _path(self, key: str) -> str:
        return f"/{self.target.bucket}/{key}"

    async def put(self, key: str, data: bytes) -> Any:
        return await self._put(key, io.BytesIO(data), len(data))

    async def _put(self, key: str, body: Any, size: int, *, file: str | None = None) -> str:
        headers = self._headers()
        headers.set("Content-Length", str(size))
        request = HttpRequest("PUT", self._path(key), headers, body)
        made = self._client.make_request(type=S3RequestType.PUT_OBJECT, request=request, send_filepath=file)
        await asyncio.wrap_future(made.finished_future)
        return key

    async def get(self, handle: Any) -> bytes:
        pieces: list[bytes] = []
        request = HttpRequest("GET", self._path(handle), self._headers())
        made = self._client.make_request(
            type=S3RequestType.GET_OBJECT, request=request, on_body=lambda chunk, **_: pieces.append(chunk)
        )
        await asyncio.wrap_future(made.finished_future)
        return b"".join(pieces)

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        return await self._put(key, Body(chunks, self._loop), size)

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        return await self._put(key, None, size, file=str(path))

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        request = HttpRequest("GET", self._path(handle), self._headers())

        def give(chunk: bytes | None) -> None:
            self._loop.call_soon_threadsafe(queue.put_nowait, chunk)

        made = self._client.make_request(
            type=S3RequestType.GET_OBJECT,
            request=request,
            on_body=lambda chunk, **_: give(chunk),
            on_done=lambda **_: give(None),
        )
        while (chunk := await queue.get()) is not None:
            yield chunk
        await asyncio.wrap_future(made.finished_future)


class Body(io.RawIOBase):
    """An asynchronous stream that the runtime's threads read."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(asyncio.run_coroutine_threadsafe(self._next(), self._loop).result())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")
