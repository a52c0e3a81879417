"""`copy` brings content from one storage into another, also across clouds: streamed, verified, and skipped where it is."""

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
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.tasks import side_by_side

logger = logging.getLogger("lakery_cloud")

COPIES_AT_A_TIME = 8

Watch = Callable[[ContentRecord, AsyncIterable[bytes]], AsyncIterable[bytes]]
"""Sees the chunks of one content as they pass, and passes them on; to show progress."""


class CopyOutcome(StrEnum):
    """What became of one content."""

    COPIED = "copied"
    """It was written and verified on the way."""
    DEDUPLICATED = "deduplicated"
    """The destination had it already; none of it was read."""
    PLANNED = "would be copied"
    """The destination doesn't have it, and this is a dry run."""
    FAILED = "failed"
    """It was not copied. What was under way is cleaned up."""


@dataclass(frozen=True, slots=True)
class Copied:
    """One content that was copied, or not.

    Attributes:
        source: Its record where it was.
        outcome: What became of it.
        record: Its record at the destination; None if it is not there.
        error: Why it failed.
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
    """Copy the content of records, or all content of the source's default storage; one result for each, in their order.

    Bytes pass through this process in parts. They are compared with the content hash before the destination shows
    them. Content type and encoding are the record's. What the destination has already is skipped, so a copy that was
    interrupted is resumed by running it again. A content that fails doesn't stop the others; an error that all would
    meet does.

    Args:
        source: Where records are loaded from. Without records, its default storage is copied.
        destination: Where to; its records are the results.
        records: What to copy. Without them, all that is listed; what is deleted in the meantime is left out.
        at_a_time: Contents that are under way at a time.
        dry_run: Look what would be copied, and copy nothing.
        keep_tags: Copy tags too; that takes the right to read them.
        watch: See `Watch`.

    Raises:
        ConfigError: `at_a_time` is below 1, or no records were given and the default storage can't be listed.
        BucketNotFound, CredentialsError: See there.
        AccessDenied, StorageUnavailable: The source can't be listed.
    """
    if at_a_time < 1:
        raise ConfigError(f"at_a_time must be at least 1, not {at_a_time}")
    transfer = _Transfer(source, destination, dry_run=dry_run, keep_tags=keep_tags, watch=watch)
    if records is None:
        storage = _listable(source.default)
        results = side_by_side(lambda key: transfer.listed(storage, key), _hashes(storage), limit=at_a_time)
    else:
        results = side_by_side(transfer.one, records, limit=at_a_time)
    async with aclosing(results):
        async for copied in results:
            if copied is not None:
                logger.info("%s: %s", copied.source.content_hash, copied.outcome)
                yield copied


class _Transfer:
    """The steps of one content's copy."""

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

    async def listed(self, storage: ObjectStorage[Any], content_hash: str) -> Copied | None:
        """Copy content that was listed; None if it is gone."""
        try:
            digest = await storage.digest_of(content_hash)
        except NoStorageData:
            return None
        copied = await self.one(ContentRecord.of(storage, digest, storage.storage_data_of(digest)))
        return None if isinstance(copied.error, NoStorageData) else copied

    async def one(self, record: ContentRecord) -> Copied:
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
        # The source verifies what it reads, so that damage is told as the source's; `expected` is the destination's check.
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
        raise ConfigError(f"{storage.name} can't list its content; give the records to copy")
    return storage


async def _hashes(storage: ObjectStorage[Any]) -> AsyncGenerator[str]:
    async with aclosing(storage.list()) as listed:
        async for info in listed:
            content_hash = storage.keys.hash_of(info.address.key)
            if content_hash is not None:
                yield content_hash
