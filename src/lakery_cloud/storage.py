"""The contract of every storage, and the types of its arguments and results. No I/O happens here."""

import abc
import json
import re
import types
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypedDict, TypeVar, cast

from lakery_cloud.errors import ConfigError, InvalidRecord, NameConflict, NoStorageData

__all__ = [
    "Digest",
    "GetStreamDigest",
    "SerializedData",
    "SerializedDataStream",
    "Storage",
    "StreamDigest",
    "TagMap",
]

D = TypeVar("D")

TagMap: TypeAlias = Mapping[str, str]
"""Tags of an object: at most 10; see `lakery_cloud.engine.attributes.check_tags`."""


class Digest(TypedDict):
    """Type, hash and size of serialized data."""

    content_type: str
    """Media type, for example `application/json`."""
    content_encoding: str | None
    """Content coding, for example `gzip`, or None."""
    content_hash_algorithm: str
    """Name of the hash algorithm: one of hashlib's, or `blake3`."""
    content_hash: str
    """The hash in lower-case hexadecimal."""
    content_size: int
    """Size in bytes."""


class StreamDigest(Digest):
    """The digest of the part of a stream that was read so far."""

    is_complete: bool
    """Whether the stream was read to its end."""


class GetStreamDigest(Protocol):
    """Returns the digest of a stream."""

    def __call__(self, *, allow_incomplete: bool = False) -> StreamDigest:
        """Return the digest of the bytes read so far.

        Raises:
            ValueError: The stream was not read to its end, and `allow_incomplete` is false.
        """
        ...


class SerializedData(TypedDict):
    """One blob of serialized data."""

    data: bytes
    content_type: str
    content_encoding: str | None


class SerializedDataStream(TypedDict):
    """A stream of serialized data, in chunks of any size."""

    data_stream: AsyncIterable[bytes]
    content_type: str
    content_encoding: str | None


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*@v[1-9][0-9]*")
_classes_by_name: weakref.WeakValueDictionary[str, "type[Storage[Any]]"] = weakref.WeakValueDictionary()


class Storage(abc.ABC, Generic[D]):
    """Persists serialized data and returns *storage data*, with which it can read the data again.

    Storage data is JSON-serializable and complete: it must stay readable when the configuration changes. A concrete
    subclass has a `name` of the form `<dotted.name>@v<N>` that identifies it permanently. Once a storage has saved data,
    its name must never change, and it must always be able to read all data it has written. For new behaviour write a new
    class with a new name, and keep the old one registered.

    Subclasses implement the four `write_`/`read_` methods. The others have defaults.
    """

    name: ClassVar[str]
    """Permanent name, for example `lakery_cloud.s3@v1`."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Permanent names of other projects' storages whose storage data this class can read."""
    verifies_reads: ClassVar[bool] = False
    """Whether reads compare content with its hash. If not, a registry does."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not _is_abstract(cls):
            _claim_name(cls)

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return a subclass with the same behaviour and another permanent name. The same name gives the same subclass.

        Raises:
            ConfigError: The name does not have the form `<dotted.name>@v<N>`.
            NameConflict: Another class has the name.
        """
        taken = _classes_by_name.get(name)
        if taken is not None and vars(taken).get("_named_from") is cls:
            return cast("type[Self]", taken)
        namespace = {
            "name": name,
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.named({name!r})",
            "__doc__": cls.__doc__,
            "_named_from": cls,
        }
        return cast("type[Self]", types.new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(namespace)))

    @abc.abstractmethod
    async def write_data(self, data: bytes, digest: Digest, tags: TagMap, /) -> D:
        """Save one blob and return its storage data. Saving the same content again succeeds."""

    @abc.abstractmethod
    async def read_data(self, storage_data: D, /) -> bytes:
        """Read data that `write_data` or `write_data_stream` saved.

        Raises:
            NoStorageData: The data does not exist.
        """

    @abc.abstractmethod
    async def write_data_stream(self, stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /) -> D:
        """Save a stream and return its storage data. The digest is known at the end of the stream."""

    @abc.abstractmethod
    def read_data_stream(self, storage_data: D, /) -> AsyncGenerator[bytes]:
        """Read data that `write_data` or `write_data_stream` saved, in chunks.

        Raises:
            NoStorageData: The data does not exist.
        """

    async def read_range(self, storage_data: D, start: int, stop: int, /) -> bytes:
        """Read bytes `start` to `stop` of saved data; fewer at its end. The default implementation reads all bytes before.

        A range can't be compared with the hash of the whole.

        Raises:
            ConfigError: `start` or `stop` is negative.
            NoStorageData: The data does not exist.
        """
        check_range(start, stop)
        position, pieces = 0, []
        async with aclosing(self.read_data_stream(storage_data)) as chunks:
            async for chunk in chunks:
                pieces.append(chunk[max(0, start - position) : max(0, stop - position)])
                position += len(chunk)
                if position >= stop:
                    break
        return b"".join(pieces)

    async def find(self, digest: Digest, /) -> D | None:
        """Return the storage data of stored content, or None if it is not stored or the storage can't tell."""
        return None

    async def exists(self, storage_data: D, /) -> bool:
        """Whether content is stored. The default implementation reads its first bytes."""
        async with aclosing(self.read_data_stream(storage_data)) as chunks:
            try:
                await anext(chunks, None)
            except NoStorageData:
                return False
        return True

    async def delete(self, storage_data: D, /) -> None:
        """Delete stored content. Deleting missing content succeeds.

        Raises:
            ConfigError: The storage can't delete, which is the default.
        """
        raise ConfigError(f"{self.name} can't delete: {type(self).__name__} has no delete")

    def list(self) -> AsyncGenerator[Any]:
        """List the stored content, in any order.

        Raises:
            ConfigError: The storage can't list, which is the default.
        """
        raise ConfigError(f"{self.name} can't list: {type(self).__name__} has no list")

    def complete_storage_data(self, storage_data: D, digest: Digest, /) -> D:
        """Add the hash and size of a record to storage data that lacks them, as written by older versions.

        Raises:
            IntegrityError: Storage data and digest contradict each other.
        """
        return storage_data

    def credential_source(self) -> str:
        """Say where the storage finds its credentials, without a request and without revealing them."""
        return "none needed"

    async def aclose(self) -> None:
        """Close all connections. The storage opens new ones if you use it again."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def serialize_storage_data(self, storage_data: D, /) -> str:
        """Return storage data as a string: JSON with sorted keys."""
        return _encode(storage_data)

    def deserialize_storage_data(self, text: str, /) -> D:
        """Read storage data from the output of `serialize_storage_data`.

        Raises:
            InvalidRecord: The text is not JSON.
        """
        try:
            return cast("D", json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"storage data of {self.name} is not JSON: {error}") from error

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A class made by `named` can't be imported, so unpickling makes it again.
        base = vars(type(self)).get("_named_from")
        if base is None:
            return super().__reduce_ex__(protocol)
        return _new_named, (base, self.name), self.__getstate__()


def check_range(start: int, stop: int) -> None:
    """Refuse a range with a negative end.

    Raises:
        ConfigError: One is negative.
    """
    if min(start, stop) < 0:
        raise ConfigError(f"a range starts and stops at 0 or later, not at {start} and {stop}")


def _new_named(base: "type[Storage[Any]]", name: str) -> "Storage[Any]":
    cls = base.named(name)
    return cls.__new__(cls)


def _is_abstract(cls: type) -> bool:
    # ABCMeta sets __abstractmethods__ only after __init_subclass__.
    names = {name for base in cls.__mro__ for name in vars(base)}
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in names)


def _claim_name(cls: "type[Storage[Any]]") -> None:
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{cls.__qualname__} needs a permanent, versioned name such as "
            f'name = "acme.{cls.__name__.lower()}@v1", not {name!r}'
        )
    holder = _classes_by_name.get(name)
    # The same module and qualified name means the same class again, after a reload or in a notebook.
    if holder is not None and (holder.__module__, holder.__qualname__) != (cls.__module__, cls.__qualname__):
        raise NameConflict(
            f"the storage name {name!r} of {cls.__qualname__} is taken by {holder.__module__}.{holder.__qualname__}; "
            "give the class a name of its own"
        )
    _classes_by_name[name] = cls
