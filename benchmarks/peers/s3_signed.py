"""The same requests signed by hand and sent over aiohttp: the limit of aiohttp, without retries and errors."""

import asyncio
import hashlib
import hmac
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from benchmarks.peers.base import (
    ACCESS_KEY_ID,
    PART_SIZE,
    PARTS_IN_FLIGHT,
    REGION,
    SECRET_ACCESS_KEY,
    Peer,
    parts_of,
)

UNSIGNED = "UNSIGNED-PAYLOAD"
_ETAG = re.compile(r"<UploadId>(.*)</UploadId>")


class SignedByHand(Peer):
    """SigV4 with a cached signing key and an unsigned payload."""

    hashes = True
    streams = "SHA-256 of each part in a thread, four 8 MiB parts in flight; one put if it fits"

    async def open(self) -> None:
        tls = ssl.create_default_context(cafile=self.target.certificate) if self.target.certificate else True
        connector = aiohttp.TCPConnector(limit=self.target.connections, ssl=tls)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._host = urlsplit(self.target.url).netloc

    async def close(self) -> None:
        await self._session.close()

    def _request(self, method: str, key: str, query: str = "", data: bytes | None = None) -> Any:
        path = f"/{self.target.bucket}/{quote(key)}"
        headers = self._signed(method, path, query)
        return self._session.request(
            method, f"{self.target.url}{path}{'?' if query else ''}{query}", data=data, headers=headers
        )

    def _signed(self, method: str, path: str, query: str) -> dict[str, str]:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        head = f"host:{self._host}\nx-amz-content-sha256:{UNSIGNED}\nx-amz-date:{now}\n"
        names = "host;x-amz-content-sha256;x-amz-date"
        canonical = f"{method}\n{path}\n{query}\n{head}\n{names}\n{UNSIGNED}"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(_signing_key(now[:8]), text.encode(), hashlib.sha256).hexdigest()
        return {
            "Host": self._host,
            "X-Amz-Date": now,
            "X-Amz-Content-SHA256": UNSIGNED,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}",
        }

    async def put(self, key: str, data: bytes) -> Any:
        async with self._request("PUT", key, data=data) as answer:
            answer.raise_for_status()
        return key

    async def get(self, handle: Any) -> bytes:
        async with self._request("GET", handle) as answer:
            answer.raise_for_status()
            content: bytes = await answer.read()
            return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        hasher = hashlib.sha256()
        if size <= PART_SIZE:
            data = b"".join([chunk async for chunk in chunks])
            hasher.update(data)
            return await self.put(key, data)
        async with self._request("POST", key, "uploads=") as answer:
            found = _ETAG.search(await answer.text())
            assert found is not None
        upload_id = found[1]
        slots = asyncio.Semaphore(PARTS_IN_FLIGHT)

        async def hash_after(before: asyncio.Task[None] | None, part: bytes) -> None:
            if before is not None:
                await before
            await asyncio.to_thread(hasher.update, part)

        async def send(number: int, part: bytes, hashing: asyncio.Task[None]) -> str:
            try:
                query = f"partNumber={number}&uploadId={upload_id}"
                async with self._request("PUT", key, query, part) as answer:
                    answer.raise_for_status()
                    await hashing
                    return answer.headers["ETag"]
            finally:
                slots.release()

        sending: list[asyncio.Task[str]] = []
        hashing = None
        async with asyncio.TaskGroup() as tasks:
            async for part in parts_of(chunks, PART_SIZE):
                await slots.acquire()
                hashing = tasks.create_task(hash_after(hashing, part))
                sending.append(tasks.create_task(send(len(sending) + 1, part, hashing)))
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{task.result()}</ETag></Part>"
            for number, task in enumerate(sending, start=1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        async with self._request("POST", key, f"uploadId={upload_id}", body) as answer:
            answer.raise_for_status()
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        async with self._request("GET", handle) as answer:
            answer.raise_for_status()
            async for chunk in answer.content.iter_any():
                yield chunk


@cache
def _signing_key(day: str) -> bytes:
    key = f"AWS4{SECRET_ACCESS_KEY}".encode()
    for word in (day, REGION, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key
