"""aioboto3 with its defaults, and tuned by hand: without a second hash of the body, several parts in flight."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig

from benchmarks.payload import MiB
from benchmarks.peers.base import (
    ACCESS_KEY_ID,
    PART_SIZE,
    PARTS_IN_FLIGHT,
    REGION,
    SECRET_ACCESS_KEY,
    Peer,
    parts_of,
)


class Aioboto3(Peer):
    """Defaults and a pool that is large enough."""

    sends = "CRC-32, one request"
    streams = "CRC-32, 8 MiB parts one by one"
    files = "`upload_file` with its defaults"
    parts_in_flight = 1

    def config(self) -> AioConfig:
        """The client's configuration."""
        return AioConfig(max_pool_connections=self.target.connections, s3={"addressing_style": "path"})

    async def open(self) -> None:
        self._stack = AsyncExitStack()
        self._client = await self._stack.enter_async_context(
            aioboto3.Session().client(
                "s3",
                endpoint_url=self.target.url,
                region_name=REGION,
                aws_access_key_id=ACCESS_KEY_ID,
                aws_secret_access_key=SECRET_ACCESS_KEY,
                config=self.config(),
            )
        )

    async def close(self) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes) -> Any:
        await self._client.put_object(Bucket=self.target.bucket, Key=key, Body=data)
        return key

    async def get(self, handle: Any) -> bytes:
        answer = await self._client.get_object(Bucket=self.target.bucket, Key=handle)
        async with answer["Body"] as body:
            content: bytes = await body.read()
            return content

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        if self.parts_in_flight > 1 and size <= PART_SIZE:  # a tuned program buffers the first part
            return await self.put(key, b"".join([chunk async for chunk in chunks]))
        place = {"Bucket": self.target.bucket, "Key": key}
        upload_id = (await self._client.create_multipart_upload(**place))["UploadId"]
        slots = asyncio.Semaphore(self.parts_in_flight)

        async def send(number: int, part: bytes) -> dict[str, Any]:
            try:
                answer = await self._client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=part)
                return {"PartNumber": number, "ETag": answer["ETag"]}
            finally:
                slots.release()

        sending = []
        async with asyncio.TaskGroup() as tasks:
            number = 0
            async for part in parts_of(chunks, PART_SIZE):
                await slots.acquire()
                number += 1
                sending.append(tasks.create_task(send(number, part)))
        parts = {"Parts": [task.result() for task in sending]}
        await self._client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload=parts)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await self._client.upload_file(str(path), self.target.bucket, key)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        answer = await self._client.get_object(Bucket=self.target.bucket, Key=handle)
        async with answer["Body"]:
            while chunk := await answer["Body"].read(MiB):
                yield chunk


class TunedAioboto3(Aioboto3):
    """The best of its public settings."""

    sends = "one request, unsigned payload"
    streams = "four 8 MiB parts in flight, unsigned payload; one put if it fits"
    parts_in_flight = PARTS_IN_FLIGHT

    def config(self) -> AioConfig:
        return AioConfig(
            max_pool_connections=self.target.connections,
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            parameter_validation=False,
            user_agent="benchmark",
        )
