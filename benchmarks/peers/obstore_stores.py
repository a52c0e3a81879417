"""obstore: Rust's object_store, from Python; the same code for each cloud."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from benchmarks.payload import MiB
from benchmarks.peers import azure_account
from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY, Peer, Target

RANGES = 8


class Obstore(Peer):
    """Its S3 store, with its default number of parts in flight."""

    streams = "twelve 8 MiB parts in flight; one put if it fits"
    files = "twelve 8 MiB parts in flight"

    async def open(self) -> None:
        options = {"allow_http": True, "allow_invalid_certificates": bool(self.target.certificate)}
        self._store = self._make(self.target, options)

    def _make(self, target: Target, options: Any) -> Any:
        return S3Store(
            target.bucket,
            endpoint=target.url,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            region=REGION,
            virtual_hosted_style_request=False,
            client_options=options,
        )

    async def put(self, key: str, data: bytes) -> Any:
        await obstore.put_async(self._store, key, data, use_multipart=False)
        return key

    async def get(self, handle: Any) -> bytes:
        answer = await obstore.get_async(self._store, handle)
        return bytes(await answer.bytes_async())

    async def write_stream(self, key: str, chunks: AsyncIterator[bytes], *, size: int) -> Any:
        await obstore.put_async(self._store, key, chunks, use_multipart=size > PART_SIZE, chunk_size=PART_SIZE)
        return key

    async def write_file(self, key: str, path: Path, *, size: int, sha256: str) -> Any:
        await obstore.put_async(self._store, key, path, chunk_size=PART_SIZE)
        return key

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        answer = await obstore.get_async(self._store, handle)
        async for chunk in answer.stream(min_chunk_size=MiB):
            yield chunk


class InRanges(Obstore):
    """Large reads by eight ranges at a time."""

    reads = "eight 8 MiB ranges at a time"

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        size = (await obstore.head_async(self._store, handle))["size"]
        starts = iter(range(0, size, PART_SIZE))

        def get(start: int) -> asyncio.Task[bytes]:
            return asyncio.ensure_future(self._get_range(handle, start, min(PART_SIZE, size - start)))

        coming = deque(get(start) for start in islice(starts, RANGES))
        while coming:
            yield await coming.popleft()
            coming.extend(get(start) for start in islice(starts, 1))

    async def _get_range(self, key: str, start: int, length: int) -> bytes:
        return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))


class ObstoreGCS(Obstore):
    """Its store of Cloud Storage, which speaks the XML API."""

    def _make(self, target: Target, options: Any) -> Any:
        account = {"gcs_base_url": target.url, "disable_oauth": True, "client_email": "", "private_key": ""}
        account["private_key_id"] = ""
        return GCSStore(target.bucket, service_account_key=json.dumps(account), client_options=options)


class ObstoreAzure(Obstore):
    """Its store of Blob Storage."""

    def _make(self, target: Target, options: Any) -> Any:
        return AzureStore(
            target.bucket,
            account_name=azure_account.NAME,
            account_key=azure_account.KEY,
            endpoint=f"{target.url}/{azure_account.NAME}",
            client_options=options,
        )
