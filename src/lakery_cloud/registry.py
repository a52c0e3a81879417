"""`StorageRegistry`: permanent names -> storages; `ContentRecord`: what is kept about content that was saved."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

from lakery_cloud.digest import DEFAULT_ALGORITHM, DigestingStream, compare, digest_data
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.engine.model import ObjectInfo, PresignedURL
from lakery_cloud.engine.object_storage import URL_LIFETIME, ObjectStorage
from lakery_cloud.errors import ConfigError, NameConflict, NotRegistered, ReadOnlyStorage, brief
from lakery_cloud.files import check_source, check_target, chunks_of, guess_content_type, write_file
from lakery_cloud.records import ContentRecord
from lakery_cloud.routes import Content, Explanation, Route
from lakery_cloud.storage import Digest, SerializedData, SerializedDataStream, Storage, TagMap
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.hashing import new_hasher, update_hash

__all__ = ["ContentRecord", "StorageRegistry"]


class StorageRegistry:
    """Storages by their permanent names: saves to one of them, loads from whichever a record names.

    Use it with `async with`, or call `aclose`: that closes its storages.

    Args:
        storages: The storages.
        default: The one that saves when none is named and no route matches, or its name. A single storage that is not
            retired is the default by itself.
        routes: Rules that choose the storage by the content; the first that matches wins.
        retired: Names that records hold and nothing is saved under -> permanent names of the storages that read these
            records. A storage's own name as both retires that storage. The aliases of a storage's class
            (`labox.aws.s3@v1` for `S3Storage`) are retired without being given.

    Raises:
        NameConflict: Two storages have one name, or a retired name is that of another storage.
        NotRegistered: The default, or the storage of a route or of a retired name, is not among the storages.
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
        self._storages: dict[str, Storage[Any]] = {}
        self._retired: dict[str, str] = {}
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

    def add(self, storage: Storage[Any]) -> None:
        """Register a storage under its permanent name.

        Raises:
            NameConflict: Another storage has the name, or reads the records of that name.
        """
        if self._retired.get(storage.name, storage.name) != storage.name:
            raise NameConflict(f"{storage.name!r} is retired: {self._retired[storage.name]!r} reads its records")
        if self._storages.get(storage.name, storage) is not storage:
            raise NameConflict(
                f"a storage named {storage.name!r} is registered already; give the second bucket a class with a name of "
                f'its own: {type(storage).__name__}.named("acme.archive@v1")(...)'
            )
        self._storages[storage.name] = storage

    def retire(self, name: str, reader: str) -> None:
        """Let the storage `reader` read records that name `name`, and refuse to save under that name.

        Raises:
            NameConflict: The name is that of another storage, or other storage reads its records.
            NotRegistered: There is no such storage.
        """
        storage = self.get(reader)
        is_taken = name in self._storages and name != storage.name
        if is_taken or self._retired.get(name, storage.name) != storage.name:
            raise NameConflict(f"the name {name!r} can't be retired to {storage.name!r}: it is taken")
        self._retired[name] = storage.name

    @property
    def names(self) -> tuple[str, ...]:
        """Permanent names of the storages, in the order in which they were added."""
        return tuple(self._storages)

    @property
    def default(self) -> Storage[Any]:
        """The storage that saves when none is named and no route matches.

        Raises:
            NotRegistered: There are several storages and no default, or none at all.
        """
        if self._default is not None:
            return self._default
        writable = [storage for name, storage in self._storages.items() if name not in self._retired]
        if len(writable) == 1:
            return writable[0]
        raise NotRegistered(f"the registry has no default storage; name one of {self._known()}, or set a default")

    def get(self, name: str) -> Storage[Any]:
        """The storage that reads records of a name: a permanent one, a retired one, or an alias of its class.

        Raises:
            NotRegistered: There is none.
        """
        name = self._retired.get(name, name)
        storage = self._storages.get(name)
        if storage is None:
            storage = self._by_class_alias(name)
        if storage is None:
            raise NotRegistered(f"no storage named {brief(name)} is registered; known are {self._known()}")
        return storage

    def explain(
        self, content: Content, *, content_hash: str | None = None, storage: Storage[Any] | str | None = None
    ) -> Explanation:
        """Where `save` would put content, and why. Nothing is sent.

        Args:
            content: What is known of it.
            content_hash: Its hash, where that is known.
            storage: As for `save`.

        Raises:
            NotRegistered, NameConflict, ReadOnlyStorage: As `save` would.
        """
        target, rule, passed_over = self._choose(storage, content)
        bucket = key = None
        if isinstance(target, ObjectStorage):
            bucket = target.keys.bucket
            key = target.keys.content(content_hash).key if content_hash else None
        return Explanation(
            rule=rule,
            passed_over=tuple(passed_over),
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
            tags: At most 10, see `lakery_cloud.engine.attributes.check_tags`.
            storage: Where; by default the storage of the first route that matches, or the default one.
            algorithm: Hash of the content: one that hashlib knows, or `blake3`.

        Raises:
            ReadOnlyStorage: `storage` is retired.
            LakeryCloudError: What the storage raises.
        """
        checked_tags = check_tags(tags or {})
        target, _, _ = self._choose(storage, _known_of(serialized, checked_tags, size=len(serialized["data"])))
        digest = await digest_data(serialized, algorithm=algorithm)
        return ContentRecord.of(target, digest, await target.write_data(serialized["data"], digest, checked_tags))

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
            serialized: The chunks, of any size, with their content type and encoding. The stream is closed at the end.
            tags: At most 10, see `lakery_cloud.engine.attributes.check_tags`.
            storage: Where; by default the storage of the first route that matches, or the default one.
            algorithm: Hash of the content: one that hashlib knows, or `blake3`.
            digest: What the stream is, where that is known already. If such content is stored, nothing is read or
                sent; if not, the stream must be what it says. Only with it do routes know the size.

        Raises:
            ReadOnlyStorage: `storage` is retired.
            IntegrityError: The stream is not what `digest` says; nothing is stored.
            LakeryCloudError: What the storage raises.
        """
        try:
            checked_tags = check_tags(tags or {})
            size = digest["content_size"] if digest is not None else None
            target, _, _ = self._choose(storage, _known_of(serialized, checked_tags, size=size))
            if digest is not None:
                # The same bytes may go by another type here.
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

    async def load(self, record: ContentRecord) -> SerializedData:
        """Load content as one blob, verified against the record.

        Raises:
            NotRegistered: The record's storage is not in the registry.
            IntegrityError: The content is not what the record says.
            LakeryCloudError: What the storage raises.
        """
        async with aclosing(self._chunks(record)) as chunks:
            data = b"".join([chunk async for chunk in chunks])
        return SerializedData(data=data, content_type=record.content_type, content_encoding=record.content_encoding)

    def load_stream(self, record: ContentRecord) -> SerializedDataStream:
        """Load content as a stream, verified at its end. Close `data_stream` if you leave it early.

        Raises:
            NotRegistered, IntegrityError, LakeryCloudError: As `load`, while the stream is read.
        """
        return SerializedDataStream(
            data_stream=self._chunks(record),
            content_type=record.content_type,
            content_encoding=record.content_encoding,
        )

    # Files, and what is stored already.

    async def save_file(
        self,
        path: str | os.PathLike[str],
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
            path: The file.
            content_type: Media type; by default guessed from the name, the same on every machine.
            content_encoding: Content coding of the bytes as they are in the file.
            tags: As for `save_stream`.
            storage: As for `save_stream`.
            algorithm: As for `save_stream`.
            digest: As for `save_stream`.

        Raises:
            OSError: The file is not there, is a folder, or can't be read.
            IntegrityError: It changed while it was read, or is not what `digest` says; nothing is stored.
            LakeryCloudError: What the storage raises.
        """
        source = Path(path)
        await asyncio.to_thread(check_source, source)
        content = SerializedDataStream(
            data_stream=chunks_of(source),
            content_type=content_type or guess_content_type(source),
            content_encoding=content_encoding,
        )
        return await self.save_stream(content, tags=tags, storage=storage, algorithm=algorithm, digest=digest)

    async def load_file(self, record: ContentRecord, path: str | os.PathLike[str]) -> None:
        """Load content into a file, verified. A file of that name stays as it is until all has arrived and is right.

        Raises:
            OSError: The path is a folder, its folder is not there, or it can't be written.
            NotRegistered, IntegrityError, LakeryCloudError: As `load`; no file is made then.
        """
        target = Path(path)
        await asyncio.to_thread(check_target, target)
        async with aclosing(self._chunks(record)) as chunks:
            await write_file(target, chunks)

    async def exists(self, record: ContentRecord) -> bool:
        """Whether the content of a record is stored. Its bytes are not looked at.

        Raises:
            NotRegistered: The record's storage is not in the registry.
            IntegrityError: In its place lies something of another size.
            LakeryCloudError: What the storage raises; `BucketNotFound` if there is no bucket to look into.
        """
        storage, storage_data = self._find(record)
        return await storage.exists(storage_data)

    async def delete(self, record: ContentRecord) -> None:
        """Delete the content of a record, for every other record of the same content too. It may be gone already.

        Raises:
            NotRegistered: The record's storage is not in the registry.
            ReadOnlyStorage: Its name is retired.
            LakeryCloudError: What the storage raises; `ConfigError` if it can't delete.
        """
        storage, storage_data = self._find(record)
        self._writable(record.storage_name)
        await storage.delete(storage_data)

    async def presign(
        self, record: ContentRecord, *, method: Literal["GET", "PUT"] = "GET", expires: timedelta = URL_LIFETIME
    ) -> PresignedURL:
        """A URL by which anybody may GET the content of a record, or PUT it, until it expires.

        Args:
            record: The record. That its content is stored is not looked up.
            method: As for `ObjectStorage.presign`.
            expires: As for `ObjectStorage.presign`.

        Raises:
            NotRegistered: The record's storage is not in the registry.
            ReadOnlyStorage: A URL for PUT was asked for, and the record's storage name is retired.
            ConfigError, InvalidRecord, CredentialsError: As `ObjectStorage.presign`.
        """
        storage, storage_data = self._find(record)
        if not isinstance(storage, ObjectStorage):
            raise ConfigError(f"{storage.name} has no URLs")
        if method == "PUT":
            self._writable(record.storage_name)
        content = record.digest if method == "PUT" else storage_data
        return await storage.presign(content, method=method, expires=expires)

    async def list(self, *, storage: Storage[Any] | str | None = None) -> AsyncGenerator[ObjectInfo]:
        """All content of a storage, in no particular order; temporary objects are left out.

        Args:
            storage: Which; by default the default storage.

        Raises:
            LakeryCloudError: What the storage raises; `ConfigError` if it can't list.
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

    async def _chunks(self, record: ContentRecord) -> AsyncGenerator[bytes]:
        storage, storage_data = self._find(record)
        async with aclosing(storage.read_data_stream(storage_data)) as chunks:
            if storage.verifies_reads:
                async for chunk in chunks:
                    yield chunk
            else:
                async for chunk in _verified(chunks, record):
                    yield chunk

    def _find(self, record: ContentRecord) -> tuple[Storage[Any], Any]:
        """The storage of a record, and its storage data."""
        record.check()
        storage = self.get(record.storage_name)
        storage_data = storage.deserialize_storage_data(record.storage_data)
        return storage, storage.complete_storage_data(storage_data, record.digest)

    def _choose(self, storage: Storage[Any] | str | None, content: Content) -> tuple[Storage[Any], str, Sequence[str]]:
        """The storage to save to, the rule that chose it, and why the routes before that did not."""
        if storage is not None:
            return self._writable(storage), "named by the caller", ()
        passed_over: list[str] = []
        for number, route in enumerate(self._routes, start=1):
            missed = next(route.misses(content), None)
            if missed is None:
                return self._writable(route.storage), f"route {number}", passed_over
            passed_over.append(f"route {number}: {missed}")
        return self._writable(self.default), "default", passed_over

    def _writable(self, storage: Storage[Any] | str) -> Storage[Any]:
        name = storage if isinstance(storage, str) else storage.name
        found = self.get(name)
        if name in self._retired or found.name != name:
            raise ReadOnlyStorage(
                f"the storage name {name!r} is retired: {found.name!r} reads its records, and nothing is saved or deleted "
                "under it"
            )
        if not isinstance(storage, str) and found is not storage:
            raise NameConflict(f"another storage is registered as {name!r}: {found!r}, not {storage!r}")
        return found

    def _by_class_alias(self, name: str) -> Storage[Any] | None:
        """The storage whose class says that it reads what `name` wrote; the class itself before its subclasses."""
        found = [storage for storage in self._storages.values() if name in storage.aliases]
        own = [storage for storage in found if "aliases" in vars(type(storage))]
        candidates = own or found
        return candidates[0] if len(candidates) == 1 else None

    def _known(self) -> str:
        return ", ".join(self._storages) or "none"


def _known_of(serialized: SerializedData | SerializedDataStream, tags: TagMap, *, size: int | None) -> Content:
    return Content(
        content_type=serialized["content_type"],
        content_encoding=serialized["content_encoding"],
        tags=tags,
        size=size,
    )


async def _verified(chunks: AsyncGenerator[bytes], record: ContentRecord) -> AsyncGenerator[bytes]:
    hasher, size = new_hasher(record.content_hash_algorithm), 0
    async for chunk in chunks:
        await update_hash(hasher, chunk)
        size += len(chunk)
        yield chunk
    compare(record.digest, content_hash=hasher.hexdigest(), size=size, what=f"what {record.storage_name} returned")
