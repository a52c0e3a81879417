"""obstore: Rust's object_store, from Python."""

from collections.abc import AsyncIterator
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks.payload import MiB
from benchmarks.peers.base import ACCESS_KEY_ID, PART_SIZE, REGION, SECRET_ACCESS_KEY, Peer


class Obstore(Peer):
    """Its S3 store, with its own number of parts in flight."""

    streams = "twelve 8 MiB parts in flight; one put if it fits"

    async def open(self) -> None:
        self._store = S3Store(
            self.target.bucket,
            endpoint=self.target.url,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            region=REGION,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "allow_invalid_certificates": bool(self.target.certificate)},
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

    async def read_stream(self, handle: Any) -> AsyncIterator[bytes]:
        answer = await obstore.get_async(self._store, handle)
        async for chunk in answer.stream(min_chunk_size=MiB):
            yield chunk
