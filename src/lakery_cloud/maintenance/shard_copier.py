"""How `copy` transfers a shard: with the fewest requests that the stores allow, or inside the store."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from lakery_cloud.digest import DEFAULT_ALGORITHM, check_digest, computed_digest
from lakery_cloud.engine.attributes import METADATA_ALGORITHM
from lakery_cloud.engine.model import KeyMissing, ObjectInfo, Signal
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.engine.quarantine import copy_as_is
from lakery_cloud.engine.reader import UnverifiedRead
from lakery_cloud.engine.transport import missing
from lakery_cloud.errors import (
    PERMANENT_ERRORS,
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    LakeryCloudError,
    NoStorageData,
    StorageUnavailable,
)
from lakery_cloud.maintenance.shards import Shard, in_quarantine, listed
from lakery_cloud.maintenance.transfers import UNKNOWN_TYPE, CopyOutcome, Watch, write_content
from lakery_cloud.maintenance.verify import hash_object
from lakery_cloud.records import ContentRecord
from lakery_cloud.storage import Digest, SerializedData, TagMap
from lakery_cloud.streams.hashing import new_hasher
from lakery_cloud.streams.tasks import side_by_side

logger = logging.getLogger("lakery_cloud")

LISTED_PER_LOOK_UP = 1000
"""Objects that a request lists on most stores (S3 API Reference, "ListObjectsV2")."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """The result for one object of a shard.

    Attributes:
        content_hash: Its hash.
        size: Its size in bytes.
        outcome: The outcome.
        digest: Its digest, unless a request of its own would have been needed to learn its type.
        error: The error of a failed copy.
        is_in_store: Whether it was copied inside the store.
    """

    content_hash: str
    size: int
    outcome: CopyOutcome
    digest: Digest | None = None
    error: LakeryCloudError | None = None
    is_in_store: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """The options of a copy of whole shards.

    Attributes:
        at_a_time: Number of objects to copy at a time.
        dry_run: Look up what would be copied, without copying it.
        keep_tags: Copy tags too.
        describes: Learn the digest of each object, which costs a request for an object that is not read.
        quarantine: Copy content that is in quarantine at the source too, to content keys.
        verify_after: Read each object that was copied inside the store, unless the store has told its hash.
        select: See `copy`.
        watch: See `copy`.
        note: See `copy`.
    """

    at_a_time: int
    dry_run: bool = False
    keep_tags: bool = True
    describes: bool = True
    quarantine: bool = False
    verify_after: bool = False
    select: Callable[[str, int], bool] | None = None
    watch: Watch | None = None
    note: Callable[[str], None] = logger.warning


class ShardCopier:
    """Copies the content of shards.

    Between storages of one store the store copies. Else a small object that the destination lacks costs one read and one
    create-only put: the listing of the destination says what it has, and the response to the read what the object is.

    Attributes:
        copies_in_store: Whether the store copies; None if that is not known yet.
    """

    def __init__(self, source: ObjectStorage[Any], destination: ObjectStorage[Any], options: CopyOptions) -> None:
        self._source = source
        self._destination = destination
        self._options = options
        self._counting = asyncio.Lock()
        self._counts_tags: bool | None = None
        self.copies_in_store: bool | None = None

    async def copy(self, shard: Shard) -> AsyncGenerator[Transferred]:
        """Copy all content of the shard that the destination lacks, in the order of the hashes.

        Content that is deleted meanwhile is left out. Errors that would occur for every other object too are raised.
        """
        found = dict([entry async for entry in listed(self._source, shard, described=True)])
        if self._options.quarantine:
            found |= {
                content_hash: info
                async for content_hash, info in in_quarantine(self._source, shard, described=True)
                if content_hash not in found
            }
        if (select := self._options.select) is not None:
            found = {content_hash: info for content_hash, info in found.items() if select(content_hash, info.size)}
        if not found:
            return
        entries = sorted(found.items(), key=itemgetter(0))
        stored = await self._stored(shard, found)
        if self.copies_in_store is None and not self._options.dry_run:
            self.copies_in_store = await self._can_copy_in_store()
        settings = self._destination.settings

        async def copy(entry: tuple[str, ObjectInfo]) -> Transferred | None:
            return await self._copy(*entry, stored)

        results = side_by_side(
            copy,
            entries,
            limit=self._options.at_a_time,
            size_of=lambda entry: 0 if self.copies_in_store else min(entry[1].size, settings.part_size),
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
            async with aclosing(listed(self._destination, shard.plain())) as objects:
                async for content_hash, info in objects:
                    if left == 0:
                        return None
                    left -= 1
                    if content_hash in wanted:
                        found[content_hash] = info.size
        except BucketNotFound:  # the first write says so
            return {}
        except LakeryCloudError as error:
            logger.debug("each object is looked for, since %r can't be listed: %s", self._destination, error)
            return None
        return found

    async def _copy(self, content_hash: str, info: ObjectInfo, stored: Mapping[str, int] | None) -> Transferred | None:
        try:
            if await self._is_stored(content_hash, info, stored):
                return await self._not_read(content_hash, info, CopyOutcome.DEDUPLICATED)
            if self._options.dry_run:
                return await self._not_read(content_hash, info, CopyOutcome.PLANNED)
            if self.copies_in_store and (transferred := await self._copy_in_store(content_hash, info)) is not None:
                return transferred
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

    async def _can_copy_in_store(self) -> bool:
        """Whether both storages are of one store, and such copies are what the caller wants."""
        source, destination = await self._source.transport(), await self._destination.transport()
        is_one = self._source.url_scheme == self._destination.url_scheme
        if not is_one or source.store is None or source.store != destination.store:
            return False
        if not self._options.keep_tags:
            self._options.note("content is copied through this machine, since copies inside the store have all tags")
        return self._options.keep_tags

    async def _copy_in_store(self, content_hash: str, info: ObjectInfo) -> Transferred | None:
        """Let the store copy an object, pinned to its version; None if it must be read and written instead."""
        digest = await self._digest(content_hash, info) if self._options.describes else None
        likely = digest or likely_digest(content_hash, info.size)
        algorithm = likely["content_hash_algorithm"] if likely else None
        transport, address = await self._destination.transport(), self._destination.keys.content(content_hash)
        try:
            made = await copy_as_is(
                transport, self._destination.settings, info, address, replace=False, algorithm=algorithm
            )
        except (AccessDenied, CredentialsError, ConfigError, BucketNotFound) as error:
            if self.copies_in_store:  # others were refused at the same time
                self.copies_in_store = False
                self._options.note(f"content is copied through this machine, since the store does not copy it: {error}")
            return None
        except (Signal, StorageUnavailable) as failure:
            # Another client has changed one of them, or the store has perhaps made the copy: a put finds out.
            logger.debug("%s is copied through this machine: %s", address, failure)
            return None
        await self._check_copy(content_hash, made or ObjectInfo(address, info.size), algorithm)
        return Transferred(content_hash, info.size, CopyOutcome.COPIED, digest, is_in_store=True)

    async def _check_copy(self, content_hash: str, made: ObjectInfo, algorithm: str | None) -> None:
        """Compare a copy with its hash, as the store has computed it, or as a read does if wanted.

        Raises:
            IntegrityError: It is damaged, and was deleted.
        """
        found = made.content_hash if algorithm and f"{made.content_hash}".startswith(f"{algorithm}:") else None
        if found == f"{algorithm}:{content_hash}" or not (found or self._options.verify_after):
            return
        algorithm = (await self._destination.digest_of(content_hash))["content_hash_algorithm"]
        transport = await self._destination.transport()
        made, hexdigest = await hash_object(transport, made, algorithm)
        if hexdigest != content_hash:
            await transport.delete_if(made)
            raise IntegrityError(
                f"the copy at {made.address} had the hash {hexdigest}, but {content_hash} was expected, so it was deleted; "
                "verify the source"
            )

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
        tags = await self._tags(info._replace(tag_count=None))
        chunks = self._source.read_data_stream(storage_data)
        await write_content(self._destination, record, chunks, tags=tags, watch=self._options.watch)
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
    """The algorithm that an object's metadata names. A wrong one is the object's fault, and no other's.

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
