"""Copies inside Cloud Storage: a temporary object is moved where that makes the same content, else it is rewritten."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import KeyExists, KeyMissing, ObjectInfo, Uncertain, VersionChanged
from lakery_cloud.engine.transport import Transport, appears
from lakery_cloud.errors import CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.http.exchange import ReadTimeout
from lakery_cloud.providers.gcs.answers import StoredObject
from lakery_cloud.providers.gcs.requests import GCSRequests

if TYPE_CHECKING:
    from lakery_cloud.providers.gcs.settings import GCSSettings

MAX_PAUSES = 10
"""Requests in a row that continue a copy without rewriting a byte, before it fails."""


class _MoveRefused(Exception):
    """The store does not move the object: it can't, it may not, or a policy of the bucket keeps the object."""


class Copies:
    """Copies of objects.

    Args:
        transport: Looks for objects, and limits requests.
        api: Sends the requests.
        settings: The storage's settings.
    """

    def __init__(self, transport: Transport, api: GCSRequests, settings: "GCSSettings") -> None:
        self._transport = transport
        self._api = api
        self._read_timeout = settings.read_timeout
        self._storage_class = settings.storage_class
        self._refusing: set[str] = set()

    def can_move(self, source: Address, bucket: str) -> bool:
        """Whether a temporary object may become content of a bucket by a move."""
        return bucket not in self._refusing and self.is_kept(source, bucket)

    def is_kept(self, source: Address, bucket: str) -> bool:
        """Whether a temporary object has the bucket and the storage class of content, which moves and compositions keep.

        Sources: Cloud Storage, "Objects: move" and "Composite objects".
        """
        return source.bucket == bucket and self._api.makes_standard(bucket)

    async def move(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> tuple[ObjectInfo, bool]:
        """Move an object, or rewrite it if the store refuses to; return the new object, and whether it was moved.

        Errors are those of `Transport.copy`. Missing rights, a retention policy and a store without moves last, so later
        copies in the bucket don't try again. Throttling and failures pass, so they are not remembered.
        """
        try:
            return await self._move(source, address, attributes), True
        except _MoveRefused:
            copied = await self.rewrite(source, address, attributes)
        # The store refuses the move alone, since it has done the same by a rewrite.
        self._refusing.add(address.bucket)
        return copied, False

    async def _move(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo:
        try:
            if not _has(StoredObject(source, None, {}), attributes):
                changes = {name: value for name, value in self._api.resource(attributes).items() if name in _PATCHED}
                async with self._transport.requests:
                    patched = await self._api.patch(source, changes)
                if not _has(patched, attributes):
                    raise _MoveRefused
            async with self._transport.requests:
                return await self._api.move(source, address)
        except (KeyMissing, KeyExists) as signal:
            # Perhaps of a second attempt: the response to the first one was lost.
            if (made := await self._transport.head(address)) is not None:
                raise KeyExists(str(address), made) from signal
            if isinstance(signal, KeyMissing):
                raise _MoveRefused from signal
            await self._check_unchanged(source, signal)
            raise
        except (StorageUnavailable, CredentialsError):
            raise
        except LakeryCloudError as error:
            raise _MoveRefused from error

    async def rewrite(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo:
        """Copy an object by as many requests as the store needs; errors are those of `Transport.copy`."""
        return await self._rewrite(source, address, self._api.resource(attributes), replace=False)

    async def copy_as_is(self, source: ObjectInfo, address: Address, *, replace: bool) -> ObjectInfo:
        """As `Transport.copy_as_is`."""
        resource = None if self._storage_class is None else self._api.resource(await self._attributes(source))
        return await self._rewrite(source, address, resource, replace=replace)

    async def _attributes(self, source: ObjectInfo) -> ObjectAttributes:
        """The attributes of an object. A rewrite that sets the storage class replaces all of them."""
        info, tags = source, source.tags
        if tags is None:  # the listing has not described it
            try:
                async with self._transport.requests:
                    info, _, tags = await self._api.describe(source.address)
            except KeyMissing as signal:
                raise VersionChanged(str(source.address)) from signal
        content_type = info.content_type or "application/octet-stream"
        return ObjectAttributes(content_type, info.content_encoding, tags, info.metadata)

    async def _rewrite(
        self, source: ObjectInfo, address: Address, resource: Mapping[str, Any] | None, *, replace: bool
    ) -> ObjectInfo:
        token: str | None = None
        size, pauses = 0, 0
        while pauses < MAX_PAUSES:
            try:
                async with self._transport.requests:
                    copied = await self._api.rewrite(source, address, resource, token=token, create_only=not replace)
            except KeyExists as signal:
                await self._check_unchanged(source, signal)
                raise
            except Uncertain as error:
                # A store goes on copying after its client has disconnected.
                is_late = isinstance(error.__cause__, ReadTimeout) and not replace
                if is_late and await appears(self._transport, address, seconds=self._read_timeout):
                    raise KeyExists(str(address)) from error
                raise
            if isinstance(copied, ObjectInfo):
                return copied
            pauses = 0 if copied.size > size else pauses + 1
            token, size = copied
        raise StorageUnavailable(f"the copy of {source.address} to {address} stays at byte {size}; write again")

    async def _check_unchanged(self, source: ObjectInfo, signal: KeyExists) -> None:
        """Tell a condition on the source from one on the target: the response is the same for both."""
        found = await self._transport.head(source.address)
        if found is None or found.version != source.version:
            raise VersionChanged(str(source.address)) from signal


_PATCHED = ("contentType", "contentEncoding", "metadata")


def _has(found: StoredObject, attributes: ObjectAttributes) -> bool:
    """Whether an object has these attributes."""
    info = found.info
    return (
        info.content_type == attributes.content_type
        and (info.content_encoding or None) == attributes.content_encoding
        and info.metadata == attributes.metadata
        and found.tags == attributes.tags
    )
