"""How `copy` transfers one object: with a record, or from the listing of a shard, which costs fewer requests."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any

from lakery_cloud.digest import DEFAULT_ALGORITHM, DigestingStream, check_digest, computed_digest
from lakery_cloud.engine.attributes import METADATA_ALGORITHM
from lakery_cloud.engine.model import KeyMissing, ObjectInfo
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.reader import UnverifiedRead
from lakery_cloud.engine.transport import missing
from lakery_cloud.errors import (
    PERMANENT_ERRORS,
    AccessDenied,
    BucketNotFound,
    ConfigError,
    IntegrityError,
    InvalidRecord,
    LakeryCloudError,
    NoStorageData,
)
from lakery_cloud.maintenance.shards import Shard, listed
from lakery_cloud.records import ContentRecord
from lakery_cloud.registry import StorageRegistry
from lakery_cloud.storage import Digest, SerializedData, SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.hashing import new_hasher
from lakery_cloud.streams.tasks import side_by_side

UNKNOWN_TYPE = "application/octet-stream"
LISTED_PER_LOOK_UP = 1000
"""Objects that a request lists on most stores (S3 API Reference, "ListObjectsV2")."""

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
            storage_data = await _write(
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
        return (await storage.stat(storage.deserialize_storage_data(record.storage_data))).tags


async def _write(
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


@dataclass(frozen=True, slots=True)
class Transferred:
    """The result for one object of a shard.

    Attributes:
        content_hash: Its hash.
        size: Its size in bytes.
        outcome: The outcome.
        digest: Its digest, unless a request of its own would have been needed to learn its type.
        error: The error of a failed copy.
    """

    content_hash: str
    size: int
    outcome: CopyOutcome
    digest: Digest | None = None
    error: LakeryCloudError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """The options of a copy of whole shards.

    Attributes:
        at_a_time: Number of objects to copy at a time.
        dry_run: Look up what would be copied, without copying it.
        keep_tags: Copy tags too.
        describes: Learn the digest of each object, which costs a request for an object that is not read.
        watch: See `copy`.
    """

    at_a_time: int
    dry_run: bool = False
    keep_tags: bool = True
    describes: bool = True
    watch: Watch | None = None


class ShardCopier:
    """Copies the content of one shard.

    A small object that the destination lacks costs one read and one create-only put. The listing of the destination says
    what it has, and the response to the read what the object is.
    """

    def __init__(self, source: ObjectStorage[Any], destination: ObjectStorage[Any], options: CopyOptions) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        self._counting = asyncio.Lock()
        self._counts_tags: bool | None = None

    async def copy(self, shard: Shard) -> AsyncGenerator[Transferred]:
        """Copy all content of the shard that the destination lacks, in the order of the hashes.

        Content that is deleted meanwhile is left out. Errors that would occur for every other object too are raised.
        """
        entries = sorted([entry async for entry in listed(self._source, shard, described=True)], key=itemgetter(0))
        stored = await self._stored(shard, {content_hash for content_hash, _ in entries})
        settings = self._destination.settings

        async def copy(entry: tuple[str, ObjectInfo]) -> Transferred | None:
            return await self._copy(*entry, stored)

        results = side_by_side(
            copy,
            entries,
            limit=self._options.at_a_time,
            size_of=lambda entry: min(entry[1].size, settings.part_size),
            max_size=settings.max_buffered_bytes,
        )
        async with aclosing(results):
            async for transferred in results:
                if transferred is not None:
                    yield transferred

    async def _stored(self, shard: Shard, wanted: Collection[str]) -> Mapping[str, int] | None:
        """The wanted content that the destination has, with its size; None if looking for each object costs less."""
        transport = await self._destination.transport()
        if not transport.lists_by_prefix:
            return None
        found: dict[str, int] = {}
        left = LISTED_PER_LOOK_UP * len(wanted)
        try:
            async with aclosing(listed(self._destination, shard)) as objects:
                async for content_hash, info in objects:
                    if left == 0:
                        return None
                    left -= 1
                    if content_hash in wanted:
                        found[content_hash] = info.size
        except AccessDenied:
            return None
        except BucketNotFound:  # the first write says so
            return {}
        return found

    async def _copy(self, content_hash: str, info: ObjectInfo, stored: Mapping[str, int] | None) -> Transferred | None:
        try:
            if await self._is_stored(content_hash, info, stored):
                return await self._not_read(content_hash, info, CopyOutcome.DEDUPLICATED)
            if self._options.dry_run:
                return await self._not_read(content_hash, info, CopyOutcome.PLANNED)
            is_small = info.size <= self._destination.settings.part_size
            digest = await (self._copy_blob if is_small else self._copy_stream)(content_hash, info)
        except PERMANENT_ERRORS:
            raise
        except NoStorageData:
            return None
        except LakeryCloudError as error:
            return Transferred(content_hash, info.size, CopyOutcome.FAILED, error=error)
        return Transferred(content_hash, info.size, CopyOutcome.COPIED, digest)

    async def _is_stored(self, content_hash: str, info: ObjectInfo, stored: Mapping[str, int] | None) -> bool:
        """Whether the destination has the content.

        Raises:
            IntegrityError: Its key has an object of another size.
        """
        if stored is not None:
            size = stored.get(content_hash)
            if size in (None, info.size):
                return size is not None
        digest = likely_digest(content_hash, info.size) or await self._source.digest_of(content_hash)
        return await self._destination.find(digest) is not None

    async def _not_read(self, content_hash: str, info: ObjectInfo, outcome: CopyOutcome) -> Transferred:
        digest = await self._digest(content_hash, info) if self._options.describes else None
        return Transferred(content_hash, info.size, outcome, digest)

    async def _digest(self, content_hash: str, info: ObjectInfo) -> Digest:
        """The digest of content that is not read: by its listing, or by one more request."""
        algorithm = info.metadata.get(METADATA_ALGORITHM)
        if algorithm is None or info.content_type is None:
            return await self._source.digest_of(content_hash)
        digest = Digest(
            content_type=info.content_type,
            content_encoding=info.content_encoding,
            content_hash_algorithm=_checked_algorithm(algorithm),
            content_hash=content_hash,
            content_size=info.size,
        )
        check_digest(digest)
        return digest

    async def _copy_blob(self, content_hash: str, info: ObjectInfo) -> Digest:
        """Copy content in one piece."""
        reading = UnverifiedRead(await self._source.transport(), info.address)
        async with aclosing(reading.chunks()) as chunks:
            data = b"".join([chunk async for chunk in chunks])
        found = reading.info
        assert found is not None
        metadata = {**info.metadata, **found.metadata}
        digest = await computed_digest(
            SerializedData(
                data=data,
                content_type=found.content_type or info.content_type or UNKNOWN_TYPE,
                content_encoding=found.content_encoding or info.content_encoding,
            ),
            algorithm=_checked_algorithm(metadata.get(METADATA_ALGORITHM, DEFAULT_ALGORITHM)),
        )
        if digest["content_hash"] != content_hash:
            raise IntegrityError(
                f"the content at {info.address} has the hash {digest['content_hash']}, but {content_hash} was expected; it "
                "was damaged in the store or on the network"
            )
        tags = await self._tags(found if info.tags is None else info)
        if self._options.watch is not None:
            record = ContentRecord.of(self._source, digest, self._source.storage_data_of(digest))
            async for _ in self._options.watch(record, _one(data)):
                pass
        await self._destination.write_data(data, digest, tags)
        return digest

    async def _copy_stream(self, content_hash: str, info: ObjectInfo) -> Digest:
        """Copy content in parts."""
        digest = await self._digest(content_hash, info)
        storage_data = self._source.storage_data_of(digest)
        record = ContentRecord.of(self._source, digest, storage_data)
        tags = await self._tags(info)
        chunks = self._source.read_data_stream(storage_data)
        await _write(self._destination, record, chunks, tags=tags, watch=self._options.watch)
        return digest

    async def _tags(self, info: ObjectInfo) -> TagMap:
        """The tags of an object, asked for only if it has some."""
        if not self._options.keep_tags:
            return {}
        if info.tags is not None:
            return info.tags
        if info.tag_count != 0:
            return await self._read_tags(info)
        async with self._counting:
            if self._counts_tags is None:
                # A store without the permission to read tags would have counted none either, and refuses this request.
                tags = await self._read_tags(info)
                self._counts_tags = not tags
                return tags
        return {} if self._counts_tags else await self._read_tags(info)

    async def _read_tags(self, info: ObjectInfo) -> TagMap:
        transport = await self._source.transport()
        try:
            return await transport.tags(info.address)
        except KeyMissing as signal:
            raise await missing(transport, info.address) from signal


async def _one(data: bytes) -> AsyncGenerator[bytes]:
    yield data


def _checked_algorithm(name: str) -> str:
    """The algorithm that an object's metadata name. A wrong one is the object's fault, and no other's.

    Raises:
        InvalidRecord: It is unknown.
    """
    try:
        new_hasher(name)
    except ConfigError as error:
        raise InvalidRecord(str(error)) from error
    return name


_ALGORITHMS = {32: "md5", 40: "sha1", 64: DEFAULT_ALGORITHM, 96: "sha384", 128: "sha512"}
"""Digits of a hash -> the algorithm that most hashes of so many digits have."""


def likely_digest(content_hash: str, size: int) -> Digest | None:
    """The digest of an object whose type is not known, by the size of its hash."""
    algorithm = _ALGORITHMS.get(len(content_hash))
    if algorithm is None:
        return None
    return Digest(
        content_type=UNKNOWN_TYPE,
        content_encoding=None,
        content_hash_algorithm=algorithm,
        content_hash=content_hash,
        content_size=size,
    )
