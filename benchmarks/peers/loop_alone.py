"""No client: requests without hashes, checksums and signatures, over bare connections of the event loop.

That is the limit of every client that works on one event loop in Python.
"""

import asyncio
import hashlib
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlsplit

from benchmarks.peers.azure_account import NAME
from benchmarks.peers.base import PART_SIZE, Peer, Target, Unavailable, parts_of

PARTS_IN_FLIGHT = 12
"""As many as obstore has."""
HASHED_LATER = 32
"""Chunks that wait for the thread that hashes."""
READ_AHEAD = 4 * 1024**2
"""Bytes that wait for the reader before a connection receives no more."""
T = TypeVar("T")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_UPLOAD_ID = re.compile(rb"<UploadId>(.*)</UploadId>")
_ETAG = re.compile(rb"\r\netag: *(.*?)\r\n", re.IGNORECASE)


@asynccontextmanager
async def hashed(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Pass chunks on while a thread hashes them; at the end, wait for it."""
    hasher = hashlib.sha256()
    worker = ThreadPoolExecutor(1)
    pending: deque[asyncio.Future[None]] = deque()

    async def passed_on() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            pending.append(asyncio.wrap_future(worker.submit(hasher.update, chunk)))
            if len(pending) > HASHED_LATER:
                await pending.popleft()
            yield chunk
        await asyncio.gather(*pending)

    try:
        yield passed_on()
    finally:
        worker.shutdown()


async def side_by_side(parts: AsyncIterator[bytes], send: Callable[[int, bytes], Coroutine[None, None, T]]) -> list[T]:
    """Send parts, as many at a time as obstore does; return the responses in the order of the parts."""
    slots = asyncio.Semaphore(PARTS_IN_FLIGHT)
    sending: list[asyncio.Task[T]] = []
    async with asyncio.TaskGroup() as tasks:
        async for part in parts:
            await slots.acquire()
            sending.append(tasks.create_task(send(len(sending) + 1, part)))
            sending[-1].add_done_callback(lambda _: slots.release())
    return [task.result() for task in sending]


def etag_of(answer: bytes) -> str:
    """Return the ETag in the head of a response."""
    found = _ETAG.search(answer)
    assert found is not None
    return found[1].decode()


class Connection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send a request, and return the head and body of the response."""
        self._received = bytearray()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.writelines(pieces)
        return bytes(await self._done)

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n") + 4
        if head > 3:
            length = _LENGTH.search(self._received, 0, head)
            if len(self._received) >= head + int(length[1] if length else 0):
                self._done.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))


class Download(asyncio.Protocol):
    """One connection that receives one response in chunks."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._more = asyncio.Event()
        self._is_paused = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def chunks(self, request: bytes) -> AsyncIterator[bytes]:
        """Send a request, and yield the body of its response."""
        self._transport.write(request)
        try:
            head = await self._next()
            while (end := head.find(b"\r\n\r\n") + 4) < 4:
                head += await self._next()
            length = _LENGTH.search(head, 0, end)
            assert head.startswith(b"HTTP/1.1 2"), head[:300]
            assert length is not None
            left, chunk = int(length[1]), head[end:]
            while left:
                if chunk:
                    left -= len(chunk)
                    yield chunk
                chunk = await self._next() if left else b""
        finally:
            self._transport.close()

    async def _next(self) -> bytes:
        while not self._chunks:
            self._more.clear()
            await self._more.wait()
        chunk = self._chunks.popleft()
        self._waiting -= len(chunk)
        if self._is_paused and self._waiting < READ_AHEAD // 2:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._waiting += len(data)
        self._more.set()
        if self._waiting > READ_AHEAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()


class LoopAlone(Peer):
    """The requests of one API."""

    hashes = True
    verifies = True
    sends = "no client: one request, nothing hashed or signed"
    gets = reads = "no client: one GET, nothing compared"
    streams = f"no client: {PARTS_IN_FLIGHT} parts of 8 MiB in flight, nothing hashed or signed"
    more: ClassVar[str] = ""
    """Headers of a put."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._free: list[Connection] = []

    def of_object(self, key: str) -> str:
        """Return path and query of a put."""
        return f"/{self.target.bucket}/{quote(key)}"

    def of_content(self, key: str) -> str:
        """Return path and query of a get."""
        return self.of_object(key)

    async def open(self) -> None:
        url = urlsplit(self.target.url)
        tls = ssl.create_default_context(cafile=self.target.certificate) if self.target.certificate else None
        self._place: dict[str, Any] = {"host": url.hostname, "port": url.port, "ssl": tls}

    async def close(self) -> None:
        for connection in self._free:
            connection.close()

    async def request(self, method: str, target: str, body: bytes = b"", more: str = "") -> bytes:
        """Send a request, and return its response."""
        if self._free:
            connection = self._free.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, **self._place)
        head = f"{method} {target} HTTP/1.1\r\nHost: server\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()
        answer = await connection.exchange(*((head + body,) if len(body) < PART_SIZE // 8 else (head, body)))
        self._free.append(connection)
        if not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 308", b"HTTP/1.1 412")):  # 412: it exists
            raise RuntimeError(answer[:300].decode(errors="replace"))
        return answer

    async def put(self, key: str, data: bytes) -> Any:
        await self.request("PUT", self.of_object(key), data, self.more)
        return key

    async def get(self, handle: Any) -> bytes:
        answer = await self.request("GET", self.of_content(handle))
        return answer[answer.index(b"\r\n\r\n") + 4 :]

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        if size > PART_SIZE:
            raise Unavailable("it knows no uploads in parts")
        return await self.put(key, b"".join([chunk async for chunk in chunks]))

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        _, download = await asyncio.get_running_loop().create_connection(Download, **self._place)
        async for chunk in download.chunks(f"GET {self.of_content(handle)} HTTP/1.1\r\nHost: server\r\n\r\n".encode()):
            yield chunk


class OnS3(LoopAlone):
    """Requests to S3."""

    more = "If-None-Match: *\r\n"
    files = f"no client: read in a thread; {PARTS_IN_FLIGHT} parts of 8 MiB in flight, nothing hashed or signed"

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        if size <= PART_SIZE:
            return await super().write_stream(key, chunks, size=size)
        upload = await self.begin(key)

        async def send(number: int, part: bytes) -> str:
            return etag_of(await self.request("PUT", f"{upload}&partNumber={number}", part))

        await self.complete(upload, await side_by_side(parts_of(chunks, PART_SIZE), send))
        return key

    async def begin(self, key: str) -> str:
        """Begin an upload, and return path and query of its requests."""
        target = self.of_object(key)
        found = _UPLOAD_ID.search(await self.request("POST", f"{target}?uploads="))
        assert found is not None
        return f"{target}?uploadId={found[1].decode()}"

    async def complete(self, upload: str, etags: list[str]) -> None:
        """Make the object of an upload."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, start=1)
        )
        await self.request("POST", upload, f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())


class HashedOnS3(OnS3):
    """The same, while a thread hashes the stream."""

    streams = f"no client: {PARTS_IN_FLIGHT} parts of 8 MiB in flight, SHA-256 in a thread, nothing signed"
    files = f"no client: read in a thread; {streams.removeprefix('no client: ')}"
    reads = "no client: one GET, SHA-256 in a thread"

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        async with hashed(chunks) as passed_on:
            return await super().write_stream(key, passed_on, size=size)

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        async with hashed(super().read_stream(handle)) as passed_on:
            async for chunk in passed_on:
                yield chunk


class OnGCS(LoopAlone):
    """Requests to Cloud Storage."""

    async def put(self, key: str, data: bytes) -> Any:
        target = f"/upload/storage/v1/b/{self.target.bucket}/o?uploadType=media&name={quote(key, safe='')}"
        await self.request("POST", target, data)
        return key

    def of_content(self, key: str) -> str:
        return f"/storage/v1/b/{self.target.bucket}/o/{quote(key, safe='')}?alt=media"


class OnAzure(LoopAlone):
    """Requests to Blob Storage."""

    more = "x-ms-blob-type: BlockBlob\r\n"

    def of_object(self, key: str) -> str:
        return f"/{NAME}/{self.target.bucket}/{quote(key)}"
