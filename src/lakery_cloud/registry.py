"""`StorageRegistry`: saves content to one of several storages, and loads it from the one that its record names."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

from lakery_cloud.batches import AT_A_TIME, MAX_BUFFERED_BYTES, Saved, save_all
from lakery_cloud.digest import (
    DEFAULT_ALGORITHM,
    DigestingStream,
    check_content_type,
    computed_digest,
)
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.engine.model import ObjectInfo, PresignedURL
from lakery_cloud.engine.object_storage import URL_LIFETIME, ObjectStorage
from lakery_cloud.errors import ConfigError, NotRegistered
from lakery_cloud.files import (
    DEFAULT_TYPE,
    check_source,
    chunks_of,
    chunks_of_open_file,
    guess_content_type,
)
from lakery_cloud.reading import ReadingRegistry
from lakery_cloud.records import ContentRecord
from lakery_cloud.routes import Content, Explanation, Route, first_match
from lakery_cloud.storage import Digest, SerializedData, SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.hashing import new_hasher
from lakery_cloud.written import Write, chunks_written

__all__ = ["StorageRegistry"]


class StorageRegistry(ReadingRegistry):
    """Storages by their permanent names.

    Use it with `async with`, or call `aclose`, to close its storages.

    Args:
        storages: The storages.
        default: The storage, or its name, for content that names no storage and matches no route. If only one storage is
            not retired, it is the default.
        routes: Rules that choose the storage by the content; the first match applies.
        retired: Permanent names under which the registry saves nothing -> permanent names of the storages that read their
            records. To retire a storage, map its name to itself. Aliases of a storage's class (`labox.aws.s3@v1` for
            `S3Storage`) are always retired.

    Raises:
        NameConflict: Two storages have the same name, or a retired name belongs to another storage.
        NotRegistered: The default, or the storage of a route or retired name, is not registered.
        ReadOnlyStorage: The default or the storage of a route is retired.
    """

    def __init__(
        self,
        storages: Iterable[Storage[Any]] = (),
        *,
        default: Storage[Any] | str | None = None,
        routes: Iterable[Route] = (),
        retired: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        for storage in storages:
            self.add(storage)
        if isinstance(default, Storage):
            self.add(default)
        for name, reader in (retired or {}).items():
            self.retire(name, reader)
        self._default = None if default is None else self._writable(default)
        self._routes = tuple(routes)
        for route in self._routes:
            self._writable(route.storage)

    @property
    def default(self) -> Storage[Any]:
        """The storage for content that names no storage and matches no route.

        Raises:
            NotRegistered: No storage is the default.
        """
        if self._default is not None:
            return self._default
        writable = [storage for name, storage in self._storages.items() if name not in self._retired]
        if len(writable) == 1:
            return writable[0]
        raise NotRegistered(f"the registry has no default storage; name one of {self._known()}, or set a default")

    def explain(
        self, content: Content, *, content_hash: str | None = None, storage: Storage[Any] | str | None = None
    ) -> Explanation:
        """Say where `save` would store content, and why, without a request.

        Args:
            content: The known properties of the content.
            content_hash: The hash of the content, if known.
            storage: As for `save`.

        Raises:
            NotRegistered, NameConflict, ReadOnlyStorage: As for `save`.
        """
        target, rule, passed_over = self._choose(storage, content)
        bucket = key = None
        if isinstance(target, ObjectStorage):
            bucket = target.keys.bucket
            key = target.keys.content(content_hash).key if content_hash else None
        return Explanation(
            rule=rule,
            passed_over=passed_over,
            storage_name=target.name,
            bucket=bucket,
            key=key,
            credential_source=target.credential_source(),
        )

    async def save(
        self,
        serialized: SerializedData,
        *,
        tags: TagMap | None = None,
        storage: Storage[Any] | str | None = None,
        algorithm: str = DEFAULT_ALGORITHM,
    ) -> ContentRecord:
        """Save one blob.

        Args:
            serialized: The bytes with their content type and encoding.
            tags: At most 10; see `lakery_cloud.engine.attributes.check_tags`.
            storage: The storage or its name; by default that of the first matching route, or the default.
            algorithm: Hash algorithm: one of hashlib's, or `blake3`.

        Raises:
            ReadOnlyStorage: `storage` is retired.
            LakeryCloudError: The storage's errors.
        """
        checked_tags = check_tags(tags or {})
        target = self._target(storage, serialized, checked_tags, len(serialized["data"]))
        digest = await computed_digest(serialized, algorithm=algorithm)
        return ContentRecord.of(target, digest, await target.write_data(serialized["data"], digest, checked_tags))

    def save_many(
        self,
        blobs: AsyncIterable[SerializedData] | Iterable[SerializedData],
        /,
        *,
        tags: TagMap | None = None,
        storage: Storage[Any] | str | None = None,
        algorithm: str = DEFAULT_ALGORITHM,
        at_a_time: int = AT_A_TIME,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
    ) -> AsyncGenerator[Saved]:
        """Save many blobs, several at a time, and yield one result for each, in their order.

        A failed save doesn't stop the others: its error is in its result. An error of `blobs` itself is raised after the
        results of the blobs before it. Closing the results cancels the saves under way and closes `blobs`.

        Args:
            blobs: As for `save`. A blob is taken when its save can start.
            tags: As for `save`, for all blobs.
            storage: As for `save`.
            algorithm: As for `save`.
            at_a_time: Most saves at a time.
            max_buffered_bytes: Most bytes of the blobs whose results you have not received, besides one that waits for
                room. One larger blob is saved alone.

        Raises:
            ConfigError: A limit is less than 1, or the algorithm is unknown.
            InvalidTags: The tags break the rule.
            NotRegistered, NameConflict, ReadOnlyStorage: `storage` can't save.
        """
        checked_tags = check_tags(tags or {})
        target = None if storage is None else self._writable(storage)
        new_hasher(algorithm)
        save = partial(self.save, tags=checked_tags, storage=target, algorithm=algorithm)
        return save_all(save, blobs, at_a_time=at_a_time, max_buffered_bytes=max_buffered_bytes)

    async def save_stream(
        self,
        serialized: SerializedDataStream,
        *,
        tags: TagMap | None = None,
        storage: Storage[Any] | str | None = None,
        algorithm: str = DEFAULT_ALGORITHM,
        digest: Digest | None = None,
    ) -> ContentRecord:
        """Save a stream.

        Args:
            serialized: Chunks of any size with their content type and encoding. The stream is closed at the end.
            tags: As for `save`.
            storage: As for `save`.
            algorithm: As for `save`.
            digest: The digest of the stream, if known. If such content is stored, the stream is not read; otherwise the
                stream must match the digest. Routes know the size only if you pass a digest.

        Raises:
            ReadOnlyStorage: `storage` is retired.
            IntegrityError: The stream does not match `digest`; nothing is stored.
            LakeryCloudError: The storage's errors.
        """
        try:
            checked_tags = check_tags(tags or {})
            check_content_type(serialized["content_type"], serialized["content_encoding"])
            size = digest["content_size"] if digest is not None else None
            target = self._target(storage, serialized, checked_tags, size)
            if digest is not None:
                # The caller may store the same bytes under another type.
                content_type, content_encoding = serialized["content_type"], serialized["content_encoding"]
                digest = Digest(**{**digest, "content_type": content_type, "content_encoding": content_encoding})
                stored = await target.find(digest)
                if stored is not None:
                    return ContentRecord.of(target, digest, stored)
            stream = DigestingStream(serialized, algorithm=algorithm, expected=digest)
            storage_data = await target.write_data_stream(stream, stream.get_digest, checked_tags)
            return ContentRecord.of(target, stream.get_digest(), storage_data)
        finally:
            await close_stream(serialized["data_stream"])

    async def save_file(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        *,
        content_type: str | None = None,
        content_encoding: str | None = None,
        tags: TagMap | None = None,
        storage: Storage[Any] | str | None = None,
        algorithm: str = DEFAULT_ALGORITHM,
        digest: Digest | None = None,
    ) -> ContentRecord:
        """Save a file as a stream.

        Args:
            path: Path of the file, or a binary file object, which is read from its position and stays open.
            content_type: Media type; by default guessed from the name, identically on every machine.
            content_encoding: Content coding of the bytes in the file.
            tags: As for `save_stream`.
            storage: As for `save_stream`.
            algorithm: As for `save_stream`.
            digest: As for `save_stream`.

        Raises:
            OSError: The file does not exist, is a folder, or can't be read.
            IntegrityError: The file changed during the read, or does not match `digest`; nothing is stored.
            LakeryCloudError: The storage's errors.
        """
        if isinstance(path, str | os.PathLike):
            source = Path(path)
            await asyncio.to_thread(check_source, source)
            chunks, guessed = chunks_of(source), guess_content_type(source)
        else:
            chunks, guessed = chunks_of_open_file(path), DEFAULT_TYPE
        content = SerializedDataStream(
            data_stream=chunks, content_type=content_type or guessed, content_encoding=content_encoding
        )
        return await self.save_stream(content, tags=tags, storage=storage, algorithm=algorithm, digest=digest)

    async def save_written(
        self,
        write: Write,
        *,
        content_type: str,
        content_encoding: str | None = None,
        tags: TagMap | None = None,
        storage: Storage[Any] | str | None = None,
        algorithm: str = DEFAULT_ALGORITHM,
    ) -> ContentRecord:
        """Save what a function writes to a file object, while it writes: `save_written(frame.to_parquet, ...)`.

        Args:
            write: Called with a binary file object in a worker thread. The object is not seekable.
            content_type: Media type.
            content_encoding: Content coding of what is written.
            tags: As for `save_stream`.
            storage: As for `save_stream`.
            algorithm: As for `save_stream`.

        Raises:
            Exception: An error of `write`; nothing is stored.
            LakeryCloudError: The storage's errors. The next write of the function raises one too.
        """
        content = SerializedDataStream(
            data_stream=chunks_written(write), content_type=content_type, content_encoding=content_encoding
        )
        return await self.save_stream(content, tags=tags, storage=storage, algorithm=algorithm)

    async def delete(self, record: ContentRecord) -> None:
        """Delete the content of a record, which all records of the same content share. Missing content is no error.

        Raises:
            NotRegistered: The record's storage is not registered.
            ReadOnlyStorage: The record's storage name is retired.
            LakeryCloudError: The storage's errors; `ConfigError` if it can't delete.
        """
        storage, storage_data = self._find(record)
        self._writable(record.storage_name)
        await storage.delete(storage_data)

    async def presign(
        self, record: ContentRecord, *, method: Literal["GET", "PUT"] = "GET", expires: timedelta = URL_LIFETIME
    ) -> PresignedURL:
        """Return a URL with which any holder can GET or PUT the content of a record until it expires.

        Args:
            record: The record. Its content need not be stored.
            method: As for `ObjectStorage.presign`.
            expires: As for `ObjectStorage.presign`.

        Raises:
            NotRegistered: The record's storage is not registered.
            ReadOnlyStorage: `method` is PUT, and the record's storage name is retired.
            ConfigError, InvalidRecord, CredentialsError: As for `ObjectStorage.presign`.
        """
        storage, storage_data = self._find(record)
        if not isinstance(storage, ObjectStorage):
            raise ConfigError(f"{storage.name} has no URLs")
        if method == "PUT":
            self._writable(record.storage_name)
        content = record.digest if method == "PUT" else storage_data
        return await storage.presign(content, method=method, expires=expires)

    async def list(self, *, storage: Storage[Any] | str | None = None) -> AsyncGenerator[ObjectInfo]:
        """List the content of a storage in any order, without temporary objects.

        Args:
            storage: The storage or its name; by default the default storage.

        Raises:
            LakeryCloudError: The storage's errors; `ConfigError` if it can't list.
        """
        named = storage if isinstance(storage, str) or storage is None else storage.name
        source = self.default if named is None else self.get(named)
        async with aclosing(source.list()) as found:
            async for info in found:
                yield info

    async def aclose(self) -> None:
        """Close all storages."""
        for storage in self._storages.values():
            await storage.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _target(
        self,
        storage: Storage[Any] | str | None,
        serialized: SerializedData | SerializedDataStream,
        tags: TagMap,
        size: int | None,
    ) -> Storage[Any]:
        if storage is not None:
            return self._writable(storage)
        if not self._routes:
            if self._found_default is None:  # a look-up by name takes as long as a hash of a small blob
                self._found_default = self._writable(self.default)
            return self._found_default
        content_type, content_encoding = serialized["content_type"], serialized["content_encoding"]
        content = Content(content_type=content_type, content_encoding=content_encoding, tags=tags, size=size)
        return self._choose(None, content)[0]

    def _choose(
        self, storage: Storage[Any] | str | None, content: Content
    ) -> tuple[Storage[Any], str, tuple[str, ...]]:
        """Return the storage to save to, the rule that chose it, and why the routes before did not apply."""
        if storage is not None:
            return self._writable(storage), "named by the caller", ()
        route, passed_over = first_match(self._routes, content)
        if route is None:
            return self._writable(self.default), "default", passed_over
        return self._writable(route.storage), f"route {len(passed_over) + 1}", passed_over
