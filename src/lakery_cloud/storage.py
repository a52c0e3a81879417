"""The contract: what a storage is, and the plain shapes that pass through it. Nothing here does I/O."""

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
"""Tags of an object: at most 10, see `lakery_cloud.engine.attributes.check_tags` for the rule."""


class Digest(TypedDict):
    """What is known about serialized data."""

    content_type: str
    """Media type, for example `application/json`."""
    content_encoding: str | None
    """Content coding, for example `gzip`; None when there is none."""
    content_hash_algorithm: str
    """Name of the hash: one that hashlib knows, or `blake3`."""
    content_hash: str
    """The hash in lower-case hexadecimal."""
    content_size: int
    """Size in bytes."""


class StreamDigest(Digest):
    """The digest of a stream, which grows until the stream was read to its end."""

    is_complete: bool
    """Whether the stream was read to its end."""


class GetStreamDigest(Protocol):
    """Gives the digest of a stream."""

    def __call__(self, *, allow_incomplete: bool = False) -> StreamDigest:
        """The digest of what was read so far.

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


_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*@v[1-9][0-9]*")
_classes_by_name: weakref.WeakValueDictionary[str, "type[Storage[Any]]"] = weakref.WeakValueDictionary()


class Storage(abc.ABC, Generic[D]):
    """Persists serialized data and gives back *storage data*: what it takes to read the data again.

    Storage data is JSON-serializable and complete: it must stay readable whatever the configuration says later. A
    concrete subclass has a `name` of the form `<dotted.name>@v<N>` that identifies it for ever. Once a storage has saved
    data, its name must never change and it must stay able to read all that it ever wrote; a new behaviour gets a new
    class under a new name, and the old one stays registered.

    Subclasses implement the four `write_`/`read_` methods. The others have defaults.
    """

    name: ClassVar[str]
    """Permanent name, for example `lakery_cloud.s3@v1`."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Permanent names of other projects' storages whose storage data this class can read."""
    verifies_reads: ClassVar[bool] = False
    """Whether reads compare content with its hash. A registry verifies for storages that don't."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not _is_abstract(cls):
            _claim_name(cls)

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """The subclass that behaves like this class under a permanent name of its own, made on first use.

        Raises:
            ConfigError: The name is not of the form `<dotted.name>@v<N>`.
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
        """Save one blob and return its storage data. Saving the same content again is no error."""

    @abc.abstractmethod
    async def read_data(self, storage_data: D, /) -> bytes:
        """Read what `write_data` or `write_data_stream` saved.

        Raises:
            NoStorageData: The data is not there.
        """

    @abc.abstractmethod
    async def write_data_stream(self, stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /) -> D:
        """Save a stream, whose digest is known when it was read to its end, and return its storage data."""

    @abc.abstractmethod
    def read_data_stream(self, storage_data: D, /) -> AsyncGenerator[bytes]:
        """Read in chunks what `write_data` or `write_data_stream` saved.

        Raises:
            NoStorageData: The data is not there.
        """

    async def find(self, digest: Digest, /) -> D | None:
        """Storage data of content that is stored already, or None where it is not or the storage can't tell."""
        return None

    async def exists(self, storage_data: D, /) -> bool:
        """Whether stored content is there. By default its first bytes are read."""
        async with aclosing(self.read_data_stream(storage_data)) as chunks:
            try:
                await anext(chunks, None)
            except NoStorageData:
                return False
        return True

    async def delete(self, storage_data: D, /) -> None:
        """Delete stored content. Content that is not there is no error.

        Raises:
            ConfigError: The storage can't delete; so by default.
        """
        raise ConfigError(f"{self.name} can't delete: {type(self).__name__} has no delete")

    def list(self) -> AsyncGenerator[Any]:
        """What the storage says about each of its contents, in no particular order.

        Raises:
            ConfigError: The storage can't list; so by default.
        """
        raise ConfigError(f"{self.name} can't list: {type(self).__name__} has no list")

    def complete_storage_data(self, storage_data: D, digest: Digest, /) -> D:
        """Storage data with what a record knows besides: that of older writers may have no hash to verify by.

        Raises:
            IntegrityError: The two contradict each other.
        """
        return storage_data

    def credential_source(self) -> str:
        """Where the storage takes its credentials from, found without a request; never what they are."""
        return "none needed"

    async def aclose(self) -> None:
        """Give back connections. A storage that is used again opens new ones."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def serialize_storage_data(self, storage_data: D, /) -> str:
        """Storage data as a string: JSON with sorted keys."""
        return json.dumps(storage_data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def deserialize_storage_data(self, text: str, /) -> D:
        """The inverse of `serialize_storage_data`.

        Raises:
            InvalidRecord: The text is not JSON.
        """
        try:
            return cast("D", json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidRecord(f"storage data of {self.name} is not JSON: {error}") from error

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A class that `named` made can't be imported: it is made again where the storage is unpickled.
        base = vars(type(self)).get("_named_from")
        if base is None:
            return super().__reduce_ex__(protocol)
        return _new_named, (base, self.name), self.__getstate__()


def _new_named(base: "type[Storage[Any]]", name: str) -> "Storage[Any]":
    cls = base.named(name)
    return cls.__new__(cls)


def _is_abstract(cls: type) -> bool:
    # ABCMeta sets __abstractmethods__ only after __init_subclass__ ran.
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
    # The same module and qualified name is the same class made again: a reload, a notebook cell, a decorator.
    if holder is not None and (holder.__module__, holder.__qualname__) != (cls.__module__, cls.__qualname__):
        raise NameConflict(
            f"the storage name {name!r} of {cls.__qualname__} is taken by {holder.__module__}.{holder.__qualname__}; "
            "give the class a name of its own"
        )
    _classes_by_name[name] = cls
