"""boto3's managed transfers over the AWS Common Runtime (s3transfer with awscrt)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)

from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY
from benchmarks.peers.s3_awscrt import Body
from benchmarks.peers.s3_boto3 import Boto3, ReadByLoop


class S3TransferCRT(Boto3):
    """Its transfer manager. boto3's own choice of it has no setting for an endpoint."""

    streams = "`upload` of a file object: 8 MiB parts, read through a thread"
    files = "`upload` of a file: 8 MiB parts, read by the runtime"
    reads = "`download`: 8 MiB ranges at a time"

    async def open(self) -> None:
        await super().open()
        session = botocore.session.get_session()
        session.set_credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        credentials = BotocoreCRTCredentialsWrapper(session.get_credentials())
        client = create_s3_crt_client(
            REGION,
            crt_credentials_provider=credentials.to_crt_credentials_provider(),
            part_size=PART_SIZE,
            use_ssl=self.target.url.startswith("https"),
            verify=self.target.certificate,
        )
        endpoint = {"region_name": REGION, "endpoint_url": self.target.url}
        config = Config(s3={"addressing_style": "path"})
        self._manager = CRTTransferManager(
            client, BotocoreCRTRequestSerializer(session, {**endpoint, "config": config})
        )

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        await self._upload(Body(chunks, asyncio.get_running_loop()), key)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await self._upload(str(path), key)
        return key

    async def _upload(self, body: Any, key: str) -> None:
        transfer = self._manager.upload(body, self.target.bucket, key)
        await asyncio.to_thread(transfer.result)

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        written = ReadByLoop()
        transfer = self._manager.download(self.target.bucket, handle, written)
        waiting = asyncio.create_task(asyncio.to_thread(transfer.result))
        waiting.add_done_callback(lambda _: written.end())
        async for chunk in written:
            yield chunk
        await waiting
