"""Copies of whole blobs inside Azure Blob Storage, each by one request."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from azure.core import exceptions as azure_errors

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    CopyTooLarge,
    KeyExists,
    KeyMissing,
    ObjectInfo,
    Uncertain,
    Unsupported,
    VersionChanged,
)
from lakery_cloud.engine.requests import may_be_running
from lakery_cloud.engine.transport import Transport, copy_once
from lakery_cloud.errors import LakeryCloudError, StorageUnavailable
from lakery_cloud.providers.azure.answers import CopyAnswer
from lakery_cloud.providers.azure.metadata import index_tags_of, metadata_of
from lakery_cloud.providers.azure.refusals import ConditionNotMet
from lakery_cloud.providers.azure.signing import Grants

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

MAX_COPY_BLOB_SIZE = 256 * 1024**2
"""Microsoft Learn, "Copy Blob From URL". The limit of one larger copy, by Put Blob From URL, is in the settings."""
COPY_BLOB, PUT_FROM_URL = "start_copy_from_url", "upload_blob_from_url"
"""The SDK's names of the two requests."""


class BlobCopy(NamedTuple):
    """A copy of a whole blob. It has the properties of its source.

    Attributes:
        operation: The SDK's name of the request.
        source: The blob to copy, pinned to its version.
        address: The new blob.
        metadata: Metadata of the new blob; empty for that of the source.
        tags: Index tags of the new blob.
        has_tags_of_source: Whether it has the index tags of the source.
        replaces: Whether it may replace a blob.
    """

    operation: str
    source: ObjectInfo
    address: Address
    metadata: Mapping[str, str] = {}
    tags: Mapping[str, str] = {}
    has_tags_of_source: bool = False
    replaces: bool = False


class Copies:
    """Copies of blobs inside one account.

    Args:
        transport: Looks for blobs, and deletes them.
        send: Sends a hot request: `send(address, lambda hot: ...)`.
        call: Calls the SDK: `call(operation, address, **parameters)`.
        grants: The permission to read a source.
        settings: The storage's settings.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        send: Callable[[Address, Callable[[Any], Awaitable[CopyAnswer]]], Awaitable[CopyAnswer]],
        call: Callable[..., Awaitable[Any]],
        grants: Grants,
        settings: "AzureSettings",
    ) -> None:
        self._transport = transport
        self._send = send
        self._call = call
        self._grants = grants
        self._settings = settings
        self._puts_from_urls = True

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> None:
        """As `Transport.copy`."""
        copy = BlobCopy(
            self._operation(source),
            source,
            address,
            metadata_of(attributes, self._settings),
            index_tags_of(attributes, self._settings),
        )
        await copy_once(
            self._transport,
            address,
            lambda: self._make(copy),
            may_be_running=_may_be_running,
            seconds=self._settings.timeout_of_copy(source.size),
            attempts=self._settings.max_attempts,
        )

    async def copy_as_is(self, source: ObjectInfo, address: Address, *, replace: bool) -> None:
        """As `Transport.copy_as_is`."""
        copy = BlobCopy(self._operation(source), source, address, replaces=replace)
        if self._settings.blob_tags:
            if copy.operation == COPY_BLOB:
                copy = copy._replace(has_tags_of_source=True)
            else:
                tags = await self._transport.tags(source.address) if source.tags is None else source.tags
                copy = copy._replace(tags=tags)
        await self._make(copy)

    def _operation(self, source: ObjectInfo) -> str:
        """The request that copies a blob of this size."""
        if source.size <= MAX_COPY_BLOB_SIZE:
            return COPY_BLOB
        if not self._puts_from_urls:
            raise CopyTooLarge(str(source.address))
        return PUT_FROM_URL

    async def _make(self, copy: BlobCopy) -> None:
        grant = await self._grants.source(copy.source)
        seconds = self._settings.timeout_of_copy(copy.source.size)
        try:
            answer = await self._send(copy.address, lambda hot: hot.copy(copy, grant=grant, seconds=seconds))
        except Unsupported as refusal:
            if copy.operation == COPY_BLOB:
                raise
            self._puts_from_urls = False
            raise CopyTooLarge(str(refusal)) from refusal
        except ConditionNotMet as signal:
            is_source = await self._transport.head(copy.address) is None
            raise (VersionChanged if is_source else KeyExists)(str(signal)) from signal
        if copy.operation == COPY_BLOB and answer.status != "success":
            await self._undo(copy.address, answer)

    async def _undo(self, address: Address, answer: CopyAnswer) -> None:
        """Remove a copy that was not made synchronously.

        Raises:
            StorageUnavailable: Always.
        """
        if answer.status == "pending":
            with suppress(KeyMissing, LakeryCloudError):  # it may have ended in the meantime
                await self._call("abort_copy", address, copy_id=answer.copy_id)
        await self._transport.delete(address, version_id=answer.version_id)
        raise StorageUnavailable(
            f"the copy to {address} ended with the status {answer.status!r}; nothing was stored, try again"
        )


def _may_be_running(failure: Uncertain) -> bool:
    return isinstance(failure.__cause__, azure_errors.ServiceResponseTimeoutError) or may_be_running(failure.__cause__)
