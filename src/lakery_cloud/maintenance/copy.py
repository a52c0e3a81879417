"""`copy` streams and verifies content from one storage to another, also across clouds, and skips existing content."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import (
    PERMANENT_ERRORS,
    ConfigError,
    LakeryCloudError,
    NoStorageData,
)
from lakery_cloud.maintenance.shards import listed
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.tasks import side_by_side

logger = logging.getLogger("lakery_cloud")

COPIES_AT_A_TIME = 8

Watch = Callable[[ContentRecord, AsyncIterable[bytes]], AsyncIterable[bytes]]
"""Receives the record and the chunks of one object, and yields the chunks on; for progress displays."""


class CopyOutcome(StrEnum):
    """The outcome of one object's copy."""

    COPIED = "copied"
    """It was written and verified."""
    DEDUPLICATED = "deduplicated"
    """The destination already had it; the source was not read."""
    PLANNED = "would be copied"
    """The destination doesn't have it, and this is a dry run."""
    FAILED = "failed"
    """It was not copied, and nothing of it remains at the destination."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of one object's copy.

    Attributes:
        source: Its record at the source.
        outcome: The outcome.
        record: Its record at the destination, or None if it has none.
        error: The error of a failed copy.
    """

    source: ContentRecord
    outcome: CopyOutcome
    record: ContentRecord | None = None
    error: LakeryCloudError | None = None


async def copy(
    source: StorageRegistry,
    destination: Storage[Any],
    *,
    records: Iterable[ContentRecord] | AsyncIterable[ContentRecord] | None = None,
    at_a_time: int = COPIES_AT_A_TIME,
    dry_run: bool = False,
    keep_tags: bool = True,
    watch: Watch | None = None,
) -> AsyncGenerator[Copied]:
    """Copy the content of records, or all content of the source's default storage, and yield one result each, in order.

    The bytes pass through this process in parts, and are compared with the content hash before they appear at the
    destination. Content type and encoding come from the record. Content that the destination already has is skipped, so
    you can resume an interrupted copy by running it again. A failed copy doesn't stop the others, unless all others would
    fail with the same error.

    Args:
        source: The registry that loads the records. Without records, its default storage is copied.
        destination: The storage to copy to.
        records: Records of the content to copy. Defaults to all listed content, without objects deleted meanwhile.
        at_a_time: Number of objects to copy at a time.
        dry_run: Look up what would be copied, without copying it.
        keep_tags: Copy tags too, which needs the permission to read them.
        watch: Called with the record and the chunks of each copied object; yields the chunks on, to show progress.

    Raises:
        ConfigError: `at_a_time` is less than 1, or there are no records and the default storage can't list its content.
        BucketNotFound: The bucket of the source or destination does not exist.
        CredentialsError: Credentials are missing or refused.
        AccessDenied: The permission to list the source is missing.
        StorageUnavailable: The source could not be reached, or failed while it was listed.
    """
    if at_a_time < 1:
        raise ConfigError(f"at_a_time must be at least 1, not {at_a_time}")
    copier = _Copier(source, destination, dry_run=dry_run, keep_tags=keep_tags, watch=watch)
    if records is None:
        storage = _listable(source.default)
        results = side_by_side(lambda entry: copier.copy_listed(storage, entry[0]), listed(storage), limit=at_a_time)
    else:
        results = side_by_side(copier.copy, records, limit=at_a_time)
    async with aclosing(results):
        async for copied in results:
            if copied is not None:
                logger.info("%s: %s", copied.source.content_hash, copied.outcome)
                yield copied


class _Copier:
    """Copies objects with the same options."""

    def __init__(
        self,
        source: StorageRegistry,
        destination: Storage[Any],
        *,
        dry_run: bool,
        keep_tags: bool,
        watch: Watch | None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._dry_run = dry_run
        self._keep_tags = keep_tags
        self._watch = watch

    async def copy_listed(self, storage: ObjectStorage[Any], content_hash: str) -> Copied | None:
        """Copy listed content. Returns None if it was deleted meanwhile."""
        try:
            digest = await storage.digest_of(content_hash)
        except NoStorageData:
            return None
        copied = await self.copy(ContentRecord.of(storage, digest, storage.storage_data_of(digest)))
        return None if isinstance(copied.error, NoStorageData) else copied

    async def copy(self, record: ContentRecord) -> Copied:
        """Copy the content of a record."""
        try:
            stored = await self._destination.find(record.digest)
            if stored is not None:
                return Copied(
                    record, CopyOutcome.DEDUPLICATED, ContentRecord.of(self._destination, record.digest, stored)
                )
            if self._dry_run:
                return Copied(record, CopyOutcome.PLANNED)
            storage_data = await self._write(record, await self._tags(record))
            return Copied(record, CopyOutcome.COPIED, ContentRecord.of(self._destination, record.digest, storage_data))
        except PERMANENT_ERRORS:
            raise
        except LakeryCloudError as error:
            return Copied(record, CopyOutcome.FAILED, error=error)

    async def _tags(self, record: ContentRecord) -> TagMap:
        storage = self._source.get(record.storage_name)
        if not self._keep_tags or not isinstance(storage, ObjectStorage):
            return {}
        return (await storage.stat(storage.deserialize_storage_data(record.storage_data))).tags

    async def _write(self, record: ContentRecord, tags: TagMap) -> Any:
        # The source verifies its reads, so its damage is reported as its own; `expected` verifies the write.
        loaded = self._source.load_stream(record)
        chunks = loaded["data_stream"]
        if self._watch is not None:
            chunks = self._watch(record, chunks)
        stream = DigestingStream(
            SerializedDataStream(
                data_stream=chunks, content_type=record.content_type, content_encoding=record.content_encoding
            ),
            expected=record.digest,
        )
        try:
            return await self._destination.write_data_stream(stream, stream.get_digest, tags)
        finally:
            await close_stream(chunks)
            await close_stream(loaded["data_stream"])


def _listable(storage: Storage[Any]) -> ObjectStorage[Any]:
    if not isinstance(storage, ObjectStorage):
        raise ConfigError(f"{storage.name} can't list its content; pass the records to copy")
    return storage
