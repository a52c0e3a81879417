"""State that the checks of `diagnose` share: the storage's transport, and all temporary objects that they create."""

from collections.abc import Mapping
from contextlib import suppress
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


class SkipCheck(Exception):
    """A check can't run; the message says why."""


class CheckContext:
    """Results of earlier checks, and the objects that they created.

    Attributes:
        transport: The transport of the storage.
        keys: The keys of the storage.
        has_conditional_writes_setting: Whether the storage has the setting `conditional_writes`.
        has_temporary_bucket: Whether temporary keys have a bucket of their own.
        temporary_bucket_setting: Name of the setting that gives them one.
        has_equal_parts_setting: Whether the storage has the setting `equal_parts`.
        has_equal_parts: Whether all parts but the last must have the same size.
        part_multiple: The size of every part but the last is a multiple of this.
        part_size: Minimum size of a part that is not the last one.
        written: Temporary object with the bytes of `SAMPLE`, after a successful put.
        sample: Its properties, after a successful head.
        copied: A copy of it, after a successful copy.
        retention: What keeps objects from being deleted; empty if nothing does, or if that is unknown.
        is_readable: Whether a get succeeded.
        can_upload: Whether a multipart upload succeeded.
        is_create_only: Whether the store refuses to replace an object; None if unknown.
        is_cleaned_up: Whether the last check has deleted the objects, or reported those that it could not delete.
    """

    def __init__(self, storage: ObjectStorage[Any], transport: Transport) -> None:
        self.transport = transport
        self.keys = storage.keys
        self.has_conditional_writes_setting = hasattr(storage.settings, "conditional_writes")
        self.has_temporary_bucket = self.keys.temporary_bucket != self.keys.bucket
        self.temporary_bucket_setting = f"temporary_{storage.settings.bucket_names.setting}"
        self.has_equal_parts_setting = hasattr(storage.settings, "equal_parts")
        limits = storage.settings.limits
        self.has_equal_parts = limits.equal_parts
        self.part_multiple = limits.part_multiple
        self.part_size = max(limits.min_part_size, limits.part_multiple)
        self.cleanup_timeout = storage.settings.cleanup_timeout
        self.written: Address | None = None
        self.sample: ObjectInfo | None = None
        self.copied: Address | None = None
        self.retention = ""
        self.is_readable = self.can_upload = self.is_cleaned_up = False
        self.is_create_only: bool | None = None
        self._used: set[Address] = set()
        self._created: list[Address] = []

    def address(self) -> Address:
        """Return a new temporary address."""
        return self._use(self.keys.temporary())

    def address_beside_content(self) -> Address:
        """Return a new temporary address in the bucket of the content, which may be another bucket."""
        return self._use(Address(self.keys.bucket, self.keys.temporary_key()))

    def _use(self, address: Address) -> Address:
        self._used.add(address)
        return address

    def keep(self, address: Address) -> None:
        """Leave an object that the store refuses to delete."""
        self._used.discard(address)
        self._created = [other for other in self._created if other != address]

    def require_written(self) -> Address:
        """Return the object of the put check.

        Raises:
            SkipCheck: The put check failed.
        """
        if self.written is None:
            raise SkipCheck("no object could be put")
        return self.written

    def require_no_retention(self) -> None:
        """Leave out a check whose objects could not be deleted.

        Raises:
            SkipCheck: The bucket keeps objects.
        """
        if self.retention:
            raise SkipCheck(f"{self.retention} would keep its objects")

    async def delete(self, address: Address) -> None:
        """Delete an object of the checks, with its version if the bucket keeps versions."""
        info = None
        if self.sample is not None and self.sample.version_id is not None:
            with suppress(LakeryCloudError):  # without its version, the object is deleted all the same
                info = await self.transport.head(address)
        await self.transport.delete(address, version_id=info.version_id if info else None)

    async def put(
        self,
        address: Address,
        data: bytes,
        *,
        tags: Mapping[str, str] | None = None,
        content_encoding: str | None = None,
    ) -> None:
        """Put an object, and register it for `clean_up`."""
        attributes = await attributes_of(data, tags or {}, content_encoding=content_encoding)
        await self.create(address, self.transport.put(address, data, attributes))

    async def create(self, address: Address, request: Any) -> None:
        """Await a request that creates an object, shielded from cancellation, so that `clean_up` runs after it."""
        self._created.append(address)
        try:
            await finish(request)
        except (AccessDenied, BucketNotFound, CredentialsError):
            self._created.remove(address)
            raise

    def uploading(self, address: Address, attributes: ObjectAttributes) -> ScopedUpload:
        """Return an upload that cleans up after itself."""
        return ScopedUpload(
            self.transport, address, attributes, is_temporary=True, cleanup_timeout=self.cleanup_timeout
        )

    async def read(self, address: Address, *, start: int = 0, stop: int | None = None) -> tuple[int | None, bytes]:
        """Read a range of an object, and return the start offset of the response and its bytes."""
        async with self.transport.get(address, start=start, stop=stop) as body:
            return body.start, b"".join([chunk async for chunk in body.chunks])

    async def clean_up(self) -> int:
        """Delete all created objects, and return their number.

        Raises:
            LakeryCloudError: An object could not be deleted; all others were.
        """
        created, failure = list(dict.fromkeys(self._created)), None
        for address in created:
            try:
                await self.delete(address)
            except LakeryCloudError as error:
                failure = failure or error
            else:
                self._created = [other for other in self._created if other != address]
        if failure is not None:
            raise failure
        return len(created)

    async def remaining(self) -> list[Address]:
        """Return the addresses that still have an object or an unfinished upload."""
        found = set()
        for bucket in self.keys.buckets:
            try:
                async for info in self.transport.list(bucket, self.keys.temporary_root):
                    found.add(Address(bucket, info.address.key))
                async for upload in self.transport.list_uploads(bucket, self.keys.root):
                    found.add(Address(bucket, upload.address.key))
            except AccessDenied:  # reported by the check "list"
                for address in self._used:
                    if address.bucket == bucket and await self.transport.head(address) is not None:
                        found.add(address)
        return sorted(found & self._used)


async def attributes_of(
    data: bytes, tags: Mapping[str, str], *, content_encoding: str | None = None
) -> ObjectAttributes:
    """Return the attributes of an object with these bytes."""
    digest = await digest_data(SerializedData(data=data, content_type=CONTENT_TYPE, content_encoding=content_encoding))
    return attributes_of_content(digest, tags)
