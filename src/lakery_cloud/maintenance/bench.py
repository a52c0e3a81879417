"""`Bench`: temporary keys to try things on, all of which it notes and deletes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakery_cloud.digest import digest_data
from lakery_cloud.engine.attributes import ObjectAttributes, attributes_of_content
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.scoped_upload import ScopedUpload
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsError,
    LakeryCloudError,
)
from lakery_cloud.storage import SerializedData
from lakery_cloud.streams.tasks import finish

if TYPE_CHECKING:
    from lakery_cloud.engine.model import ObjectInfo

CONTENT_TYPE = "text/plain"


class Skip(Exception):
    """A trial has nothing to work on; why."""


class Bench:
    """What the trials share, and what they have made so far.

    Attributes:
        transport: The requests of the storage.
        keys: Its keys.
        part_size: Bytes of the smallest part that may stand before another.
        written: A temporary object with the bytes of `SAMPLE`, once one could be put.
        sample: What the store says about it, once that could be asked.
        copied: A copy of it.
        is_readable: Whether a body could be read.
        can_upload: Whether a multipart upload could be made.
        is_create_only: Whether a put has been seen not to replace an object; None before.
        is_over: Whether all was cleaned up, or said to be left.
    """

    def __init__(self, storage: ObjectStorage[Any], transport: Transport) -> None:
        self.transport = transport
        self.keys = storage.keys
        self.has_switch = hasattr(storage.settings, "conditional_writes")
        limits = storage.settings.limits
        self.part_size = max(limits.min_part_size, limits.part_multiple)
        self.cleanup_timeout = storage.settings.cleanup_timeout
        self.written: Address | None = None
        self.sample: ObjectInfo | None = None
        self.copied: Address | None = None
        self.is_readable = self.can_upload = self.is_over = False
        self.is_create_only: bool | None = None
        self._ever: set[str] = set()
        self._made: list[Address] = []

    def address(self) -> Address:
        """A temporary key of our own."""
        address = self.keys.temporary()
        self._ever.add(address.key)
        return address

    def needs_written(self) -> Address:
        """The object that was put."""
        if self.written is None:
            raise Skip("nothing could be put")
        return self.written

    async def put(self, address: Address, data: bytes, tags: Mapping[str, str] | None = None) -> None:
        """Put an object; it is noted that there is one."""
        await self.making(address, self.transport.put(address, data, await attributes_of(data, tags or {})))

    async def making(self, address: Address, request: Any) -> None:
        """Wait for a request that makes an object, to its end whatever cancels it: the clean-up must come after it."""
        self._made.append(address)
        try:
            await finish(request)
        except (AccessDenied, BucketNotFound, CredentialsError):
            self._made.remove(address)
            raise

    def uploading(self, address: Address, attributes: ObjectAttributes) -> ScopedUpload:
        """An upload that leaves nothing."""
        return ScopedUpload(
            self.transport, address, attributes, is_temporary=True, cleanup_timeout=self.cleanup_timeout
        )

    async def body(self, address: Address, *, start: int = 0, stop: int | None = None) -> tuple[int | None, bytes]:
        """Where the store began to read, and the bytes it gave."""
        async with self.transport.get(address, start=start, stop=stop) as body:
            return body.start, b"".join([chunk async for chunk in body.chunks])

    async def clean_up(self) -> int:
        """Delete all that was made; how much that was.

        Raises:
            LakeryCloudError: Something could not be deleted; all else was.
        """
        made, failure = list(dict.fromkeys(self._made)), None
        for address in made:
            try:
                await self.transport.delete(address)
            except LakeryCloudError as error:
                failure = failure or error
            else:
                self._made = [other for other in self._made if other != address]
        if failure is not None:
            raise failure
        return len(made)

    async def left(self) -> list[str]:
        """Keys of ours at which the store still has an object or an unfinished upload."""
        left = set()
        try:
            async for info in self.transport.list(self.keys.bucket, self.keys.temporary_root):
                left.add(info.address.key)
            async for upload in self.transport.list_uploads(self.keys.bucket, self.keys.root):
                left.add(upload.address.key)
        except AccessDenied:  # told where listing was tried
            for key in self._ever:
                if await self.transport.head(Address(self.keys.bucket, key)) is not None:
                    left.add(key)
        return sorted(left & self._ever)


async def attributes_of(data: bytes, tags: Mapping[str, str]) -> ObjectAttributes:
    """What an object of these bytes gets."""
    digest = await digest_data(SerializedData(data=data, content_type=CONTENT_TYPE, content_encoding=None))
    return attributes_of_content(digest, tags)
