"""`ObjectStorage`: write, read, find, list and delete content-addressed objects, on any transport."""

import abc
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from lakery_cloud.digest import (
    DEFAULT_ALGORITHM,
    DigestingStream,
    check_digest,
    compare,
    is_size,
)
from lakery_cloud.engine.attributes import METADATA_ALGORITHM, attributes_of_temporary, check_tags
from lakery_cloud.engine.keys import (
    Address,
    KeySpace,
    check_untrusted_key,
    is_bucket_name,
)
from lakery_cloud.engine.model import (
    KeyMissing,
    ObjectInfo,
    PresignedURL,
)
from lakery_cloud.engine.reader import Location, check_size, read
from lakery_cloud.engine.sessions import Session, Sessions
from lakery_cloud.engine.settings import EngineSettings
from lakery_cloud.engine.telemetry.operations import operation, stream_operation
from lakery_cloud.engine.telemetry.transport import observed
from lakery_cloud.engine.transport import Transport, missing
from lakery_cloud.engine.urls import merged, parse_url
from lakery_cloud.engine.writer import Writer
from lakery_cloud.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    IntegrityError,
    InvalidRecord,
    brief,
)
from lakery_cloud.storage import (
    Digest,
    GetStreamDigest,
    SerializedDataStream,
    Storage,
    StreamDigest,
    TagMap,
)
from lakery_cloud.streams.chunks import as_bytes, close_stream
from lakery_cloud.streams.hashing import new_hasher, update_hash

D = TypeVar("D")

URL_LIFETIME = timedelta(hours=1)
"""How long a presigned URL lasts by default."""

_QUALIFIED_HASH = re.compile(r"[\w/-]{1,64}:[0-9a-fA-F]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store says about one stored object.

    Attributes:
        info: Key, size, version and attributes.
        tags: Its tags.
    """

    info: ObjectInfo
    tags: Mapping[str, str]


class ObjectStorage(Storage[D], Generic[D]):
    """A storage that keeps each content once, at `<prefix>/<content_hash>`.

    A blob is one create-only request. A stream that fits into one part is the same; a longer one is a multipart upload to
    a temporary key, copied to the content key in the store when its hash is known. Whatever interrupts a write, no partial
    content key and nothing temporary is left.

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
    """How long a presigned URL can last; None where there are none."""
    bucket_attribute: ClassVar[str] = "lakery_cloud.bucket"
    """What OpenTelemetry's conventions call the bucket, where they know the store."""
    url_scheme: ClassVar[str]

    def __init__(self, bucket: str, settings: EngineSettings) -> None:
        self.keys = KeySpace(bucket, settings.prefix)
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
        """The keyword arguments that hand credentials, given as plain texts, to the class.

        Args:
            secrets: Name of the credential -> its text; the names are those of a configuration file.
        """
        return dict(secrets)

    # What a provider says about itself.

    @abc.abstractmethod
    def _open_transport(self) -> AbstractAsyncContextManager[Transport]:
        """An open client of the running event loop, for as long as the context lasts."""

    place_names: ClassVar[tuple[str, ...]] = ("bucket", "key")
    """What storage data calls bucket and key, or the key alone where there is no bucket. Permanent."""

    def _storage_data(self, address: Address, content_hash: str, size: int) -> D:
        """The storage data of content at an address; the hash is `<algorithm>:<hex>`. Its shape is permanent."""
        place = dict(zip(self.place_names, address[-len(self.place_names) :], strict=True))
        return cast("D", {**place, "hash": content_hash, "size": size})

    def _address(self, storage_data: D) -> Address:
        """Where storage data points to. It is untrusted input; whether it may point there is checked by the caller.

        Raises:
            InvalidRecord: It is malformed.
        """
        assert isinstance(storage_data, Mapping)  # whoever calls has looked
        place = [storage_data.get(name) for name in self.place_names]
        if not all(isinstance(name, str) and name for name in place):
            needed = " and ".join(f"a {name}" for name in self.place_names)
            raise InvalidRecord(f"storage data of {self.name} needs {needed}, not {brief(storage_data)}")
        return Address(*([self.keys.bucket] if len(place) == 1 else []), *place)

    # Writing.

    @operation("write")
    async def write_data(self, data: bytes, digest: Digest, tags: TagMap, /) -> D:
        """Save one blob with one create-only request.

        Args:
            data: The bytes.
            digest: What they are. The store checks the hash where it can, else it is checked here.
            tags: At most 10, see `check_tags`.

        Raises:
            InvalidTags, InvalidRecord: Before any request.
            IntegrityError: The digest is not that of the data, or the content key holds something else.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See there.
        """
        check_digest(digest)
        checked_tags = check_tags(tags)
        if len(data) != digest["content_size"]:
            raise IntegrityError(f"the data has {len(data)} bytes, but its digest says {digest['content_size']}")
        if len(data) > self.settings.limits.max_put_size:
            return await self.write_data_stream(_slices(data, self.settings.part_size), _known(digest), tags)
        session = await self._session()
        if not session.transport.checks_hash(digest["content_hash_algorithm"]):
            hasher = new_hasher(digest["content_hash_algorithm"])
            await update_hash(hasher, data)
            compare(digest, content_hash=hasher.hexdigest(), size=len(data), what="the data")
        await Writer(session, self.keys).put(as_bytes(data), digest, checked_tags)
        return self._data_of(digest)

    @operation("write_stream")
    async def write_data_stream(self, stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /) -> D:
        """Save a stream: one request if it fits into one part, else a multipart upload and a copy in the store.

        The stream is hashed here, part by part in a worker thread, unless it is a `DigestingStream` and `get_digest` is
        its own: then it is that one which is fed. It is closed at the end if it can be.

        Args:
            stream: Chunks of any size.
            get_digest: The digest, once the stream was read to its end; before, its content type and algorithm.
            tags: At most 10, see `check_tags`.

        Raises:
            InvalidTags, InvalidRecord: Before any request.
            IntegrityError: The digest is not that of the stream, or the content key holds something else.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See there.
        """
        checked_tags = check_tags(tags)
        digesting = _digesting(stream, get_digest)
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
        """Storage data of content with this hash and size, if it is stored here; else None, also where that can't be told.

        Raises:
            IntegrityError: The content key holds an object of another size.
        """
        check_digest(digest)
        session = await self._session()
        address = self.keys.content(digest["content_hash"])
        is_stored = await Writer(session, self.keys).is_known_to_be_stored(address, digest)
        return self._data_of(digest) if is_stored else None

    @operation("digest_of")
    async def digest_of(self, content_hash: str) -> Digest:
        """The digest of stored content by its hash alone, as far as the store knows it.

        Raises:
            InvalidRecord: The hash is not hexadecimal.
            NoStorageData: No such content is stored here.
        """
        address = self.keys.content(content_hash)
        if self.keys.hash_of(address.key) is None:
            raise InvalidRecord(
                f"a content hash is at least 16 lower-case hexadecimal digits, not {brief(content_hash)}"
            )
        transport = (await self._session()).transport
        info = await transport.head(address)
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
        """The content, verified.

        Raises:
            NoStorageData: It is not there.
            IntegrityError: It is not what the storage data says.
            BucketNotFound, AccessDenied, CredentialsError, StorageUnavailable: See there.
        """
        async with aclosing(await self._read(storage_data)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    @stream_operation("read_stream")
    async def read_data_stream(self, storage_data: D, /) -> AsyncGenerator[bytes]:
        """The content in chunks as they arrive, verified at the end; errors as for `read_data`."""
        async with aclosing(await self._read(storage_data)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _read(self, storage_data: D) -> AsyncGenerator[bytes]:
        location = self._location(storage_data)
        session = await self._session()
        return read(session.transport, location, settings=self.settings, budget=session.read_budget)

    def complete_storage_data(self, storage_data: D, digest: Digest, /) -> D:
        """Storage data with the hash and size of a record, for what other projects wrote without them."""
        location = self._location(storage_data)
        content_hash = _qualified_hash(digest)
        if location.content_hash not in (None, content_hash) or location.size not in (None, digest["content_size"]):
            raise IntegrityError(
                f"the record says {content_hash} and {digest['content_size']} bytes, but its storage data says "
                f"{location.content_hash} and {location.size} bytes"
            )
        return self._storage_data(location.address, content_hash, digest["content_size"])

    # Looking and deleting.

    @operation("stat")
    async def stat(self, storage_data: D, /) -> StoredObject:
        """What the store says about stored content.

        Raises:
            NoStorageData: It is not there.
        """
        address = self._location(storage_data).address
        transport = (await self._session()).transport
        info = await transport.head(address)
        if info is None:
            raise await missing(transport, address)
        try:
            return StoredObject(info, await transport.tags(address))
        except KeyMissing as signal:
            raise await missing(transport, address) from signal

    @operation("exists")
    async def exists(self, storage_data: D, /) -> bool:
        """Whether stored content is there, by one request.

        Raises:
            BucketNotFound: There is no bucket to look into.
            IntegrityError: In its place lies an object of another size.
        """
        location = self._location(storage_data)
        transport = (await self._session()).transport
        info = await transport.head(location.address)
        if info is not None:
            check_size(location, info)
            return True
        error = await missing(transport, location.address)
        if isinstance(error, BucketNotFound):
            raise error
        return False

    @stream_operation("list")
    async def list(self) -> AsyncGenerator[ObjectInfo]:
        """All content of this storage, in no particular order. Temporary keys are not listed."""
        transport = (await self._session()).transport
        async for info in transport.list(self.keys.bucket, self.keys.root):
            if self.keys.hash_of(info.address.key) is not None:
                yield info

    @operation("delete")
    async def delete(self, storage_data: D, /) -> None:
        """Delete stored content. Content that is not there is no error."""
        address = self._location(storage_data).address
        session = await self._session()
        session.forget(address.key)
        await session.transport.delete(address)

    async def presign(
        self, content: D | Digest, /, *, method: Literal["GET", "PUT"] = "GET", expires: timedelta = URL_LIFETIME
    ) -> PresignedURL:
        """A URL by which anybody may GET stored content, or PUT content that you know the digest of, without credentials.

        Treat the URL as a credential: it is in no log and no repr here. A PUT creates the content key, and never replaces
        what is there. Where the store can't check the bytes against the content hash (`pins_content` is false), only a
        read finds out that somebody has put others.

        Args:
            content: Storage data or a digest; a digest for PUT. That the content is stored is not looked up.
            method: `GET` or `PUT`.
            expires: How long the URL lasts, from a second to a week; not longer than the credentials that sign it.

        Raises:
            ConfigError: The method, the time or the content is none for a URL, or the storage has no URLs.
            InvalidRecord: The storage data or digest is malformed.
            CredentialsError: The credentials can't sign.
        """
        if self.max_url_lifetime is None:
            raise ConfigError(f"{self.name} has no URLs: its content isn't served by HTTP")
        if method not in ("GET", "PUT"):
            raise ConfigError(f"a URL is for GET or PUT, not for {brief(method)}")
        if not timedelta(seconds=1) <= expires <= self.max_url_lifetime:
            raise ConfigError(f"a URL lasts from a second to {self.max_url_lifetime.days} days, not {expires}")
        digest = cast("Digest", content) if isinstance(content, Mapping) and "content_hash" in content else None
        if digest is not None:
            check_digest(digest)
        elif method == "PUT":
            raise ConfigError("a URL to put content needs its digest, which says what may be put")
        address = self.keys.content(digest["content_hash"]) if digest else self._location(cast("D", content)).address
        if digest is not None and method == "PUT" and digest["content_size"] > self.settings.limits.max_put_size:
            raise ConfigError(
                f"the content has {digest['content_size']} bytes, but one PUT takes at most "
                f"{self.settings.limits.max_put_size}; write it as a stream"
            )
        transport = (await self._session()).transport
        return await transport.presign(
            address, method=method, expires=expires, content=digest if method == "PUT" else None
        )

    def storage_data_of(self, digest: Digest) -> D:
        """The storage data that this storage gives content of a digest, stored or not."""
        check_digest(digest)
        return self._data_of(digest)

    def _data_of(self, digest: Digest) -> D:
        address = self.keys.content(digest["content_hash"])
        return self._storage_data(address, _qualified_hash(digest), digest["content_size"])

    async def transport(self) -> Transport:
        """The requests of this storage on the running event loop, for maintenance: they know nothing of content."""
        return (await self._session()).transport

    async def aclose(self) -> None:
        """Close the client of the running event loop. A storage that is used again opens a new one."""
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
        content_hash, size = storage_data.get("hash"), storage_data.get("size")
        if content_hash is not None and not (isinstance(content_hash, str) and _QUALIFIED_HASH.fullmatch(content_hash)):
            raise InvalidRecord(f"the hash in storage data must be <algorithm>:<hex>, not {brief(content_hash)}")
        if size is not None and not is_size(size):
            raise InvalidRecord(f"the size in storage data must be a number of bytes, not {brief(size)}")
        address = self._address(storage_data)
        self._check_bucket(address.bucket)
        check_untrusted_key(address.key)
        return Location(address, content_hash, size)

    def _check_bucket(self, bucket: str) -> None:
        """Refuse storage data that leads to a bucket that nobody has allowed."""
        allowed = self.settings.allowed_buckets
        if bucket == self.keys.bucket or bucket in (allowed or ()):
            return
        if not is_bucket_name(bucket):
            raise InvalidRecord(f"storage data of {self.name} points to {brief(bucket)}, which is no name of a bucket")
        if allowed is not None:
            raise AccessDenied(
                f"storage data points to the bucket {brief(bucket)}, which is neither {self.keys.bucket!r} nor among "
                "allowed_buckets; add it there if you trust it"
            )


def _qualified_hash(digest: Digest) -> str:
    return f"{digest['content_hash_algorithm']}:{digest['content_hash']}"


def _digesting(stream: AsyncIterable[bytes], get_digest: GetStreamDigest) -> DigestingStream:
    """The stream itself if it is one of ours and nothing else computes its digest; else one around it."""
    if isinstance(stream, DigestingStream) and get_digest == stream.get_digest:
        return stream
    digest = get_digest(allow_incomplete=True)
    return DigestingStream(
        SerializedDataStream(
            data_stream=stream,
            content_type=digest["content_type"],
            content_encoding=digest["content_encoding"],
        ),
        algorithm=digest["content_hash_algorithm"],
    )


def _known(digest: Digest) -> GetStreamDigest:
    """The digest of a stream that is known from its start."""

    def get_digest(*, allow_incomplete: bool = False) -> StreamDigest:  # noqa: ARG001, a stream may ask for it
        return StreamDigest(**digest, is_complete=True)

    return get_digest


async def _slices(data: bytes, size: int) -> AsyncGenerator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield bytes(view[start : start + size])
