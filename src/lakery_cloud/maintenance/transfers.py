"""How `copy` transfers the content of a record: as a stream, which the source and the destination verify."""

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import PERMANENT_ERRORS, LakeryCloudError, NoStorageData
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream

UNKNOWN_TYPE = "application/octet-stream"

Watch = Callable[[ContentRecord, AsyncIterable[bytes]], AsyncIterable[bytes]]
"""Receives the record and the chunks of one object, and yields the chunks on; for progress displays."""


class CopyOutcome(StrEnum):
    """The outcome of one object's copy."""

    COPIED = "copied"
    """It was written and verified, or copied inside the store."""
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


class RecordCopier:
    """Copies the content of records, with the same options."""

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
            # The source verifies its reads, so its damage is reported as its own.
            chunks = self._source.load_stream(record)["data_stream"]
            storage_data = await write_content(
                self._destination, record, chunks, tags=await self._tags(record), watch=self._watch
            )
            return Copied(record, CopyOutcome.COPIED, ContentRecord.of(self._destination, record.digest, storage_data))
        except PERMANENT_ERRORS:
            raise
        except LakeryCloudError as error:
            return Copied(record, CopyOutcome.FAILED, error=error)

    async def _tags(self, record: ContentRecord) -> TagMap:
        storage = self._source.get(record.storage_name)
        if not self._keep_tags or not isinstance(storage, ObjectStorage):
            return {}
        return await storage.tags_of(storage.deserialize_storage_data(record.storage_data))


async def write_content(
    destination: Storage[Any],
    record: ContentRecord,
    content: AsyncIterable[bytes],
    *,
    tags: TagMap,
    watch: Watch | None,
) -> Any:
    """Write a stream with a known digest, and return its storage data. The destination verifies it."""
    chunks = content if watch is None else watch(record, content)
    stream = DigestingStream(
        SerializedDataStream(
            data_stream=chunks, content_type=record.content_type, content_encoding=record.content_encoding
        ),
        expected=record.digest,
    )
    try:
        return await destination.write_data_stream(stream, stream.get_digest, tags)
    finally:
        await close_stream(chunks)
        await close_stream(content)
