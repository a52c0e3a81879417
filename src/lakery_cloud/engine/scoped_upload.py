"""A multipart upload that ends with its block: whatever happens inside, nothing of it is left."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    KeyExists,
    ObjectInfo,
    Receipt,
    Uncertain,
    Unreachable,
    Upload,
    UploadGone,
    WriteConflict,
)
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.streams.limiter import WorkClock
from lakery_cloud.streams.tasks import finish

logger = logging.getLogger("lakery_cloud")

# After these errors it is certain that the store began no upload.
_NOTHING_BEGUN = (AccessDenied, BucketNotFound, ConfigError, CredentialsError, Unreachable)


class ScopedUpload:
    """A multipart upload for the length of an `async with` block.

    At the end of the block the upload is aborted unless it was completed, and its object is deleted if the key is
    temporary. The clean-up continues through cancellations, for at most `cleanup_timeout` seconds, which don't include the
    waits for a slot of the limiter. If it fails, the leftover is logged with its key, and the block keeps its own error or
    result.

    Args:
        transport: The store.
        address: Bucket and key.
        attributes: Attributes of the object.
        is_temporary: Whether the key is ours alone, so that its object is deleted at the end.
        cleanup_timeout: Seconds.
    """

    def __init__(
        self,
        transport: Transport,
        address: Address,
        attributes: ObjectAttributes,
        *,
        is_temporary: bool,
        cleanup_timeout: float,
    ) -> None:
        self._transport = transport
        self.address = address
        self._attributes = attributes
        self._is_temporary = is_temporary
        self._cleanup_timeout = cleanup_timeout
        self._measuring = ExitStack()
        self._begun: asyncio.Task[Upload] | None = None
        self._completing: asyncio.Task[ObjectInfo | str | None] | None = None
        self._version_id: str | None = None
        self._is_completed = False

    async def __aenter__(self) -> Self:
        # From here on, since the clean-up awaits requests of the block that may wait for a slot.
        self._measuring.enter_context(WorkClock().measuring())
        self._begun = asyncio.create_task(
            self._transport.begin_upload(self.address, self._attributes, is_temporary=self._is_temporary)
        )
        try:
            # Shielded: without its id, an upload could not be aborted.
            await asyncio.shield(self._begun)
        except BaseException as error:
            await self._clean_up()
            if self._is_temporary and isinstance(error, (KeyExists, WriteConflict)):
                raise self._impossible_conflict() from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._clean_up()
        if isinstance(error, UploadGone):
            if not self._is_temporary:
                raise KeyExists(str(error)) from error  # the caller looks whether it does
            raise StorageUnavailable(
                f"the upload to {self.address} ended before it was complete ({error}); nothing was stored, write again"
            ) from error

    @property
    def upload(self) -> Upload:
        """The upload."""
        assert self._begun is not None
        return self._begun.result()

    async def complete(self, receipts: Sequence[Receipt], *, size: int, create_only: bool = False) -> ObjectInfo | None:
        """Make the object from its parts; return the store's description of it, if it sends one.

        A retry after a lost response finds the upload gone and the object made: that is success.
        """
        self._completing = asyncio.create_task(
            self._transport.complete_upload(self.upload, receipts, size=size, create_only=create_only)
        )
        made: ObjectInfo | str | None = None
        try:
            # Shielded: a store goes on completing when its client disconnects, perhaps until after the clean-up.
            made = await asyncio.shield(self._completing)
        except UploadGone as signal:
            if not self._is_temporary:
                raise KeyExists(str(signal)) from signal
            if not await self._is_made(size):
                raise StorageUnavailable(f"the upload to {self.address} disappeared; write again") from signal
        except Uncertain:
            if not self._is_temporary or not await self._is_made(size):
                raise
            return None  # the clean-up aborts it all the same: the store may keep parts that the response was about
        except (KeyExists, WriteConflict) as signal:
            if not self._is_temporary:
                raise
            raise self._impossible_conflict() from signal
        self._is_completed = True
        return made if isinstance(made, ObjectInfo) else None

    def _impossible_conflict(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"the upload to {self.address} conflicted with another write, although the key is ours alone; write again"
        )

    async def _is_made(self, size: int) -> bool:
        """Whether the store has completed the upload, although its response does not say so."""
        made = await self._transport.head(self.address)
        if made is None or made.size != size:
            return False
        self._version_id = made.version_id
        return True

    async def _clean_up(self) -> None:
        try:
            await finish(self._discard(), seconds=self._cleanup_timeout)
        except Exception as error:
            logger.warning(
                "could not clean up the upload to %s: %s. A lifecycle rule or `lakery-cloud sweep` can remove it",
                self.address,
                error,
                exc_info=None if isinstance(error, LakeryCloudError) else error,
            )
        finally:
            self._measuring.close()

    async def _discard(self) -> None:
        upload = await self._find_upload()
        if self._completing is not None:
            await asyncio.wait([self._completing])
            if not self._completing.cancelled() and self._completing.exception() is None:
                self._is_completed = True
                made = self._completing.result()
                self._version_id = made.version_id if isinstance(made, ObjectInfo) else made
        try:
            if upload is not None and not self._is_completed:
                await self._transport.abort_upload(self.address, upload)
        finally:
            if self._is_temporary and self._completing is not None:
                await self._transport.delete(self.address, version_id=self._version_id)

    async def _find_upload(self) -> Upload | None:
        assert self._begun is not None
        try:
            return await self._begun
        except _NOTHING_BEGUN:
            return None
        except Exception:  # noqa: BLE001, __aenter__ raises it
            # The store may have begun an upload although its response was lost.
            await self._transport.abort_upload(self.address, None)
            return None
