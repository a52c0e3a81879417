"""`ObjectStorage`: write, read, find, list and delete content-addressed objects, on any transport."""

import abc
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from lakery_cloud.digest import (
    DEFAULT_ALGORITHM,
    check_data,
    check_digest,
    compare,
    digesting_stream,
    is_computed_from,
    known,
)
from lakery_cloud.engine.attributes import METADATA_ALGORITHM, attributes_of_temporary, check_tags
from lakery_cloud.engine.keys import (
    Address,
    KeySpace,
    check_hash,
    quarantined,
)
from lakery_cloud.engine.model import (
    KeyMissing,
    ObjectInfo,
    PresignedURL,
)
from lakery_cloud.engine.quarantine import find_object
from lakery_cloud.engine.reader import check_size, read, read_range, read_whole
from lakery_cloud.engine.sessions import Session, Sessions
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.storage_data import (
    Location,
    check_address,
    check_agreement,
    make_storage_data,
    qualified_hash,
    read_address,
    read_hash_and_size,
)
from lakery_cloud.engine.telemetry.operations import operation, stream_operation
from lakery_cloud.engine.telemetry.transport import observed
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.engine.urls import check_lifetime, merged, parse_url
from lakery_cloud.engine.writer import Writer
from lakery_cloud.errors import (
    BucketNotFound,
    ConfigError,
    IntegrityError,
    InvalidRecord,
    brief,
)
from lakery_cloud.storage import (
    Digest,
    GetStreamDigest,
    Storage,
    TagMap,
    check_range,
)
from lakery_cloud.streams.chunks import as_bytes, close_stream, slices

D = TypeVar("D")

URL_LIFETIME = timedelta(hours=1)
"""Default lifetime of a presigned URL."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A store's description of one stored object.

    Attributes:
        info: Key, size, version and attributes.
        tags: The object's tags.
    """

    info: ObjectInfo
    tags: Mapping[str, str]


class ObjectStorage(Storage[D], Generic[D]):
    """A storage that keeps each content once, at `<prefix>/<content_hash>`.

    A blob is one create-only request, and so is a stream that fits into one part. A longer stream is a multipart upload to
    a temporary key, which the store copies to the content key when the hash is known. An interrupted write leaves no
    partial content key and nothing temporary.

    Args:
        bucket: Name of the bucket.
        settings: The settings. Each provider's class takes them as keyword arguments, by `keywords_of`.

    Raises:
        ConfigError: A setting is wrong.
    """

    settings_class: ClassVar[type[EngineSettings]]
    """The class whose fields are the arguments of the constructor."""
    settings: EngineSettings
    verifies_reads = True
    max_url_lifetime: ClassVar[timedelta | None] = None
    """Longest lifetime of a presigned URL; None if the storage has no URLs."""
    bucket_attribute: ClassVar[str] = "lakery_cloud.bucket"
    """The bucket's attribute in OpenTelemetry's conventions, if they have one for the store."""
    url_scheme: ClassVar[str]

    def __init__(self, bucket: str, settings: EngineSettings) -> None:
        self.keys = KeySpace(bucket, settings.prefix, temporary_bucket=settings.bucket_of_temporary_keys)
        self.settings = settings
        if self.settings.allowed_buckets is not None and len(self.place_names) == 1:
            raise ConfigError(f"storage data of {self.name} names no bucket; leave allowed_buckets out")
        self._sessions = Sessions(self._open_transport)

    @classmethod
    def from_url(cls, url: str, **settings: Any) -> Self:
        """A storage from `<scheme>://<bucket>/<prefix>?<setting>=<value>&...`.

        Args:
            url: The URL. It never holds credentials.
            settings: Further keyword arguments of the class.

        Raises:
            ConfigError: The URL has another scheme, an unknown setting, or credentials; or a setting has one value in
                it and another one beside it.
        """
        bucket, prefix, in_url = parse_url(url, scheme=cls.url_scheme, readers=cls.settings_class.url_readers())
        construct: Callable[..., Self] = cls  # each class has its own keywords
        return construct(bucket, prefix=prefix, **merged(in_url, settings))

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """The keyword arguments of the class for credentials that are given as texts.

        Args:
            secrets: Name of the credential -> its text; the names are those of a configuration file.
        """
        return dict(secrets)

    # For providers.

    @abc.abstractmethod
    def _open_transport(self) -> AbstractAsyncContextManager[Transport]:
        """Open a client of the running event loop for the time of the context."""

    place_names: ClassVar[tuple[str, ...]] = ("bucket", "key")
    """The names of bucket and key in storage data, or of the key alone. Permanent."""

    def _storage_data(self, address: Address, content_hash: str, size: int) -> D:
        """The storage data of content at an address; see `make_storage_data`."""
        return cast("D", make_storage_data(self.place_names, address, content_hash, size))

    def _address(self, storage_data: D) -> Address:
        """The address in untrusted storage data. The caller checks whether it may point there.

        Raises:
            InvalidRecord: It is malformed.
        """
        return read_address(
            cast("Mapping[str, Any]", storage_data), self.place_names, own_bucket=self.keys.bucket, storage=self.name
        )

    # Writing.

    @operation("write")
    async def write_data(self, data: bytes, digest: Digest, tags: TagMap, /) -> D:
        """Save one blob with one create-only request.

        Args:
            data: The bytes.
            digest: The digest of the bytes. The store verifies the hash if it can; else it is verified here, unless the
                digest was computed here from these bytes.
            tags: At most 10, see `check_tags`.

        Raises:
            InvalidTags, InvalidRecord: Before any request.
            IntegrityError: The digest does not match the data, or the content key has other content.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See these classes.
        """
        is_computed = is_computed_from(digest, data)
        if not is_computed:
            check_digest(digest)
            if len(data) != digest["content_size"]:
                raise IntegrityError(f"the data has {len(data)} bytes, but its digest says {digest['content_size']}")
        checked_tags = check_tags(tags)
        if len(data) > self.settings.limits.max_put_size:
            if (stored := await self.find(digest)) is not None:
                return stored
            return await self.write_data_stream(slices(data, self.settings.part_size), known(digest), tags)
        session = await self._session()
        if not is_computed and not session.transport.checks_hash(digest["content_hash_algorithm"]):
            await check_data(data, digest, what="the data")
        await Writer(session, self.keys).put(as_bytes(data), digest, checked_tags)
        return self._data_of(digest)

    @operation("write_stream")
    async def write_data_stream(self, stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /) -> D:
        """Save a stream: with one request if it fits into one part, else by a multipart upload and a copy in the store.

        If the digest is known from the beginning, the upload goes straight to the content key on S3 and Cloud Storage, and
        is completed after the comparison of the hash. Call `find` first to learn whether the content must be sent at all.
        The stream is hashed here, part by part in a worker thread. A `DigestingStream` with its own `get_digest` is not
        hashed a second time. The stream is closed at the end if it has `aclose`.

        Args:
            stream: Chunks of any size.
            get_digest: Returns the digest at the end of the stream; before, its content type and algorithm, or with
                `is_complete` the known digest.
            tags: At most 10, see `check_tags`.

        Raises:
            InvalidTags, InvalidRecord: Before any request.
            IntegrityError: The digest does not match the stream, or the content key has other content.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See these classes.
        """
        checked_tags = check_tags(tags)
        digesting = digesting_stream(stream, get_digest)
        if digesting.expected is not None:
            check_digest(digesting.expected)
        attributes_of_temporary(digesting.get_digest(allow_incomplete=True))

        def finish_digest() -> Digest:
            digesting.finish()
            digest = digesting.get_digest()
            compare(get_digest(), content_hash=digest["content_hash"], size=digest["content_size"], what="the stream")
            return digest

        session = await self._session()
        try:
            digest = await Writer(session, self.keys).stream(digesting, finish_digest, checked_tags)
        finally:
            await close_stream(digesting.undigested())
        return self._data_of(digest)

    @operation("find")
    async def find(self, digest: Digest, /) -> D | None:
        """The storage data of content with this hash and size; None if it is not stored here, or can't be looked up.

        Raises:
            IntegrityError: The content key has an object of another size.
        """
        check_digest(digest)
        session = await self._session()
        address = self.keys.content(digest["content_hash"])
        is_stored = await Writer(session, self.keys).is_known_to_be_stored(address, digest)
        return self._data_of(digest) if is_stored else None

    @operation("digest_of")
    async def digest_of(self, content_hash: str) -> Digest:
        """The digest of stored content, from its hash and the store's description.

        Raises:
            InvalidRecord: The hash is not hexadecimal.
            NoStorageData: The content is not stored here.
        """
        check_hash(content_hash)
        address = self.keys.content(content_hash)
        transport = (await self._session()).transport
        info = await find_object(transport, address)
        if info is None:
            raise await missing(transport, address)
        digest = Digest(
            content_type=info.content_type or "application/octet-stream",
            content_encoding=info.content_encoding,
            content_hash_algorithm=info.metadata.get(METADATA_ALGORITHM, DEFAULT_ALGORITHM),
            content_hash=content_hash,
            content_size=info.size,
        )
        check_digest(digest)
        return digest

    # Reading.

    @operation("read")
    async def read_data(self, storage_data: D, /) -> bytes:
        """Read content, verified.

        Raises:
            NoStorageData: The content does not exist.
            IntegrityError: It does not match the storage data.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See these classes.
        """
        location = self._location(storage_data)
        session = await self._session()
        return await read_whole(session, location)

    @stream_operation("read_stream")
    async def read_data_stream(self, storage_data: D, /) -> AsyncGenerator[bytes]:
        """Read content in chunks as they arrive, verified at the end; errors as for `read_data`."""
        location = self._location(storage_data)
        session = await self._session()
        async with aclosing(read(session, location)) as chunks:
            async for chunk in chunks:
                yield chunk

    @operation("read_range")
    async def read_range(self, storage_data: D, start: int, stop: int, /) -> bytes:
        """Read bytes `start` to `stop` with one request; fewer at the end of the content.

        Only a range of the whole content is verified, since the hash is that of all bytes.

        Raises:
            ConfigError: `start` or `stop` is negative.
            IntegrityError: The content has another size than the storage data says.
            NoStorageData, BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: As for `read_data`.
        """
        check_range(start, stop)
        location = self._location(storage_data)
        session = await self._session()
        return await read_range(session, location, start, stop)

    def complete_storage_data(self, storage_data: D, digest: Digest, /) -> D:
        """Add the hash and size of a record to storage data of other projects, which lack them."""
        location = self._location(storage_data)
        check_agreement(location, digest)
        return self._storage_data(location.address, qualified_hash(digest), digest["content_size"])

    # Looking and deleting.

    @operation("stat")
    async def stat(self, storage_data: D, /) -> StoredObject:
        """The store's description of stored content.

        Raises:
            NoStorageData: The content does not exist.
        """
        address = self._location(storage_data).address
        transport = (await self._session()).transport
        info = await find_object(transport, address)
        if info is None:
            raise await missing(transport, address)
        if info.tags is not None:
            return StoredObject(info, info.tags)
        try:
            return StoredObject(info, await transport.tags(info.address))
        except KeyMissing as signal:
            raise await missing(transport, address) from signal

    async def tags_of(self, storage_data: D, /) -> Mapping[str, str]:
        """The tags of stored content, with one request if it is at its content key.

        Raises:
            NoStorageData: The content does not exist.
        """
        transport = (await self._session()).transport
        try:
            return await transport.tags(self._location(storage_data).address)
        except KeyMissing:
            return (await self.stat(storage_data)).tags

    @operation("exists")
    async def exists(self, storage_data: D, /) -> bool:
        """Whether stored content exists, with one request if it is at its content key.

        Raises:
            BucketNotFound: The bucket does not exist.
            IntegrityError: The key has an object of another size.
        """
        location = self._location(storage_data)
        transport = (await self._session()).transport
        info = await find_object(transport, location.address)
        if info is not None:
            check_size(location, info)
            return True
        error = await missing(transport, location.address)
        if isinstance(error, BucketNotFound):
            raise error
        return False

    @stream_operation("list")
    async def list(self, *, hash_prefix: str = "", described: bool = False) -> AsyncGenerator[ObjectInfo]:
        """List the content of this storage, in no particular order, without temporary keys.

        Args:
            hash_prefix: The first hexadecimal digits of the content hashes to list. Cloud stores list nothing else then.
            described: Ask for all attributes that the store's listings can have.

        Raises:
            ConfigError: `hash_prefix` is not lower-case hexadecimal.
        """
        root = self.keys.content_root(hash_prefix)
        transport = (await self._session()).transport
        listing = transport.list_described if described else transport.list
        async for info in listing(self.keys.bucket, root):
            if self.keys.hash_of(info.address.key) is not None:
                yield info

    @operation("delete")
    async def delete(self, storage_data: D, /) -> None:
        """Delete stored content, also from quarantine. Missing content is no error."""
        address = self._location(storage_data).address
        session = await self._session()
        session.forget(address.key)
        await session.transport.delete(address)
        elsewhere = quarantined(address)
        # To delete a missing object would leave a marker in a bucket with versions.
        if elsewhere is not None and await session.transport.head(elsewhere) is not None:
            await session.transport.delete(elsewhere)

    async def presign(
        self, content: D | Digest, /, *, method: Literal["GET", "PUT"] = "GET", expires: timedelta = URL_LIFETIME
    ) -> PresignedURL:
        """Sign a URL that gets stored content, or puts content with a known digest, without credentials.

        Treat the URL as a credential: it never stands in a log or repr here. A PUT creates the content key and replaces
        nothing. If the store can't verify the content hash (`pins_content` is false), only a read finds wrong bytes.

        Args:
            content: Storage data or a digest; a digest for PUT. Whether the content is stored is not checked.
            method: `GET` or `PUT`.
            expires: Lifetime of the URL, from a second to a week; credentials that expire earlier end it earlier.

        Raises:
            ConfigError: A URL can't have the method, the lifetime or the content, or the storage has no URLs.
            InvalidRecord: The storage data or digest is malformed.
            CredentialsError: The credentials can't sign.
        """
        check_lifetime(expires, longest=self.max_url_lifetime, storage=self.name)
        if method not in ("GET", "PUT"):
            raise ConfigError(f"the method of a URL must be GET or PUT, not {brief(method)}")
        digest = cast("Digest", content) if isinstance(content, Mapping) and "content_hash" in content else None
        if digest is not None:
            check_digest(digest)
        elif method == "PUT":
            raise ConfigError("a URL to put content needs the content's digest")
        address = self.keys.content(digest["content_hash"]) if digest else self._location(cast("D", content)).address
        if digest is not None and method == "PUT" and digest["content_size"] > self.settings.limits.max_put_size:
            raise ConfigError(
                f"the content has {digest['content_size']} bytes, but a PUT has at most "
                f"{self.settings.limits.max_put_size}; write it as a stream"
            )
        transport = (await self._session()).transport
        return await transport.presign(
            address, method=method, expires=expires, content=digest if method == "PUT" else None
        )

    def storage_data_of(self, digest: Digest) -> D:
        """The storage data of content with a digest, stored or not."""
        check_digest(digest)
        return self._data_of(digest)

    def _data_of(self, digest: Digest) -> D:
        address = self.keys.content(digest["content_hash"])
        return self._storage_data(address, qualified_hash(digest), digest["content_size"])

    async def transport(self) -> Transport:
        """The transport of this storage on the running event loop, for maintenance."""
        return (await self._session()).transport

    def wrap_transports(self, wrap: Callable[[Transport], Transport]) -> None:
        """Replace each transport that the storage opens by another one, for tests. Call it before the first use."""

        @asynccontextmanager
        async def open_wrapped() -> AsyncGenerator[Transport]:
            async with self._open_transport() as transport:
                yield wrap(transport)

        self._sessions = Sessions(open_wrapped)

    async def aclose(self) -> None:
        """Close the client of the running event loop. The next use opens a new one."""
        await self._sessions.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_sessions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._sessions = Sessions(self._open_transport)

    async def _session(self) -> Session:
        return observed(self, await self._sessions.current(self.settings))

    def _location(self, storage_data: D) -> Location:
        if not isinstance(storage_data, Mapping):
            raise InvalidRecord(f"storage data of {self.name} must be an object, not {brief(storage_data)}")
        content_hash, size = read_hash_and_size(storage_data)
        address = self._address(storage_data)
        allowed = self.settings.allowed_buckets
        check_address(
            address,
            own_bucket=self.keys.bucket,
            allowed=allowed,
            names=self.settings.bucket_names,
            storage=self.name,
        )
        return Location(address, content_hash, size)
