"""Copies of whole blobs inside Azure Blob Storage, each by one request."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
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
from lakery_cloud.engine.transport import Transport, copy_once
from lakery_cloud.errors import LakeryCloudError, StorageUnavailable
from lakery_cloud.http.headers import strong
from lakery_cloud.providers.azure.refusals import ConditionNotMet
from lakery_cloud.providers.azure.sdk_requests import sdk_described, sdk_tier
from lakery_cloud.providers.azure.signing import Grants

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

MAX_COPY_BLOB_SIZE = 256 * 1024**2
"""Microsoft Learn, "Copy Blob From URL". The limit of one larger copy, by Put Blob From URL, is in the settings."""


class Copies:
    """Copies of blobs inside one account.

    Args:
        transport: Looks for blobs, and deletes them.
        call: Calls the SDK: `call(operation, address, **parameters)`.
        grants: The permission to read a source.
        settings: The storage's settings.
    """

    def __init__(
        self, transport: Transport, *, call: Callable[..., Awaitable[Any]], grants: Grants, settings: "AzureSettings"
    ) -> None:
        self._transport = transport
        self._call = call
        self._grants = grants
        self._settings = settings
        self._puts_from_urls = True

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> None:
        """As `Transport.copy`."""
        is_small = source.size <= MAX_COPY_BLOB_SIZE
        if not is_small and not self._puts_from_urls:
            raise CopyTooLarge(str(source.address))
        request = self._copy_blob if is_small else self._put_from_url
        described = sdk_described(attributes, self._settings)
        del described["content_settings"]  # the copy has those of the source
        await copy_once(
            self._transport,
            address,
            lambda: request(source, address, described, replace=False),
            may_be_running=_may_be_running,
            seconds=self._settings.timeout_of_copy(source.size),
            attempts=self._settings.max_attempts,
        )

    async def copy_as_is(self, source: ObjectInfo, address: Address, *, replace: bool) -> None:
        """As `Transport.copy_as_is`."""
        if source.size > MAX_COPY_BLOB_SIZE:
            if not self._puts_from_urls:
                raise CopyTooLarge(str(source.address))
            tags: Mapping[str, str] = {}
            if self._settings.blob_tags:
                tags = await self._transport.tags(source.address) if source.tags is None else source.tags
            described = {"tags": dict(tags) or None, "overwrite": replace}
            await self._put_from_url(source, address, described, replace=replace)
        else:
            tagged = {"tags": "COPY"} if self._settings.blob_tags else {}
            await self._copy_blob(source, address, tagged, replace=replace)

    async def _put_from_url(
        self, source: ObjectInfo, address: Address, described: Mapping[str, Any], *, replace: bool
    ) -> None:
        try:
            await self._create("upload_blob_from_url", source, address, described, replace=replace)
        except Unsupported as refusal:
            self._puts_from_urls = False
            raise CopyTooLarge(str(refusal)) from refusal

    async def _copy_blob(
        self, source: ObjectInfo, address: Address, described: Mapping[str, Any], *, replace: bool
    ) -> None:
        # An asynchronous copy would show a partial blob.
        answer = await self._create(
            "start_copy_from_url", source, address, {**described, "requires_sync": True}, replace=replace
        )
        if answer.get("copy_status") != "success":
            await self._undo(address, answer)

    async def _create(
        self, operation: str, source: ObjectInfo, address: Address, described: Mapping[str, Any], *, replace: bool
    ) -> Mapping[str, Any]:
        """Create a blob from another one; return the store's answer."""
        try:
            answer: Mapping[str, Any] = await self._call(
                operation,
                address,
                read_timeout=self._settings.timeout_of_copy(source.size),
                retry_read=0,  # see `copy_once`
                **({} if replace else {"match_condition": MatchConditions.IfMissing}),
                **_pinned(source),
                **await self._grants.source(source),
                **described,
                **sdk_tier(self._settings),
            )
        except ConditionNotMet as signal:
            is_source = await self._transport.head(address) is None
            raise (VersionChanged if is_source else KeyExists)(str(signal)) from signal
        return answer

    async def _undo(self, address: Address, answer: Mapping[str, Any]) -> None:
        """Remove a copy that was not made synchronously.

        Raises:
            StorageUnavailable: Always.
        """
        status = answer.get("copy_status")
        if status == "pending":
            with suppress(KeyMissing, LakeryCloudError):  # it may have ended in the meantime
                await self._call("abort_copy", address, copy_id=answer.get("copy_id"))
        await self._transport.delete(address, version_id=answer.get("version_id"))
        raise StorageUnavailable(
            f"the copy to {address} ended with the status {status!r}; nothing was stored, try again"
        )


def _may_be_running(failure: Uncertain) -> bool:
    return isinstance(failure.__cause__, azure_errors.ServiceResponseTimeoutError)


def _pinned(source: ObjectInfo) -> dict[str, Any]:
    version = strong(source.version)
    return {"source_etag": version, "source_match_condition": MatchConditions.IfNotModified} if version else {}
