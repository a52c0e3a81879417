"""`ToyTransport`: what the engine needs, by the store's requests."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.cloud_transport import CloudTransport, HotRequests
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo, Receipt, Upload, UploadGone, VersionChanged
from lakery_cloud.errors import BucketNotFound, ConfigError
from tests.toy.requests import ToyRequests, described
from tests.toy.settings import ToySettings

T = TypeVar("T")


class ToyTransport(CloudTransport):
    """The requests of the store. The docstrings of the base class say what each method promises."""

    def __init__(self, requests: ToyRequests, settings: ToySettings) -> None:
        super().__init__(settings)
        self._requests = requests

    async def _hot(self, bucket: str, send: Callable[[HotRequests], Awaitable[T]]) -> T:
        return await send(self._requests)

    def checks_hash(self, algorithm: str) -> bool:
        return False

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._send("list", Address(bucket, ""), "GET")
        except BucketNotFound:
            return False
        return True

    async def delete(self, address: Address, *, version_id: str | None = None) -> None:
        await self._send("delete", address, "DELETE")

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        found = await self._send("list", Address(bucket, ""), "GET", query={"prefix": root})
        for entry in sorted(found["objects"], key=lambda entry: str(entry["key"])):
            yield ObjectInfo(Address(bucket, entry["key"]), entry["size"], entry["version"])

    async def tags(self, address: Address) -> Mapping[str, str]:
        found = await self._send("tags", address, "GET", query={"attributes": ""})
        tags: Mapping[str, str] = found["tags"]
        return tags

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        begun = await self._send("begin", address, "POST", query={"begin": ""}, json=json.loads(described(attributes)))
        return Upload(address, begun["id"], attributes, is_temporary)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        raise ConfigError("the toy store copies objects of any size; leave limits.max_copy_size at None")

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        numbers = [receipt.number for receipt in receipts]
        query = {"upload": upload.id}
        await self._send("complete", upload.address, "POST", query=query, json=numbers, create_only=create_only)

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is None:
            async for each in self.list_uploads(address.bucket, address.key):
                await self.abort_upload(address, each)
            return
        try:
            await self._send("abort", address, "DELETE", query={"upload": upload.id})
        except UploadGone:
            return

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        found = await self._send("list", Address(bucket, ""), "GET", query={"prefix": root})
        for entry in found["uploads"]:
            yield Upload(Address(bucket, entry["key"]), entry["id"], ObjectAttributes("", None, {}, {}))

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        wanted = {
            "source": source.address.key,
            "version": source.version,
            "attributes": json.loads(described(attributes)),
        }
        await self._send("copy", address, "POST", json=wanted, create_only=True)
        return None

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None = None
    ) -> ObjectInfo | None:
        attributes = await self._send("tags", source.address, "GET", query={"attributes": ""})
        wanted = {"source": source.address.key, "version": source.version, "attributes": attributes}
        await self._send("copy", address, "POST", json=wanted, create_only=not replace)
        return None

    async def delete_if(self, info: ObjectInfo) -> None:
        found = await self.head(info.address)  # the toy store has no conditional deletions
        if found is not None and found.version != info.version:
            raise VersionChanged(str(info.address))
        await self.delete(info.address)

    async def _send(self, operation: str, address: Address, method: str, **options: Any) -> Any:
        async with self.requests:
            return await self._requests.call(operation, address, method, **options)
