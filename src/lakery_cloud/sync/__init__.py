"""Storages and registries for code without asyncio: each asynchronous method as a blocking one of the same name.

```python
from lakery_cloud import MemoryStorage, sync

with sync.open(MemoryStorage()) as storage:
    ...
```

The methods wrap the asynchronous ones, which run on an event loop in a background thread. Thus they also work from several
threads, and where a loop is already running, as in a notebook.
"""

import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypedDict, TypeVar, cast, overload

import lakery_cloud.engine.object_storage as _engine
import lakery_cloud.registry as _registry
import lakery_cloud.storage as _contract
from lakery_cloud.content_file import ContentFile
from lakery_cloud.records import ContentRecord
from lakery_cloud.sync.background import BackgroundLoop, Caller

__all__ = ["LoadedDataStream", "ObjectStorage", "SerializedDataStream", "Storage", "StorageRegistry", "open"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S", bound="_contract.Storage[Any]")
ObjectS = TypeVar("ObjectS", bound="_engine.ObjectStorage[Any]")
W = TypeVar("W", bound="_contract.Storage[Any] | _registry.StorageRegistry")


class SerializedDataStream(TypedDict):
    """A stream to save, in chunks of any size. It is iterated in the calling thread; a generator is closed afterwards."""

    data_stream: Iterable[bytes]
    content_type: str
    content_encoding: str | None


class LoadedDataStream(TypedDict):
    """A loaded stream. Close `data_stream` if you stop reading before its end."""

    data_stream: Generator[bytes]
    content_type: str
    content_encoding: str | None


def _blocking(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> Callable[Concatenate[Any, P], R]:
    """Make a blocking method from a coroutine method."""

    @wraps(method)
    def blocking(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self._call(method.__name__, *args, **kwargs))

    return blocking


def _iterating(method: Callable[Concatenate[Any, P], AsyncGenerator[R]]) -> Callable[Concatenate[Any, P], Generator[R]]:
    """Make a method that returns a generator from one that returns an asynchronous generator."""

    @wraps(method)
    def iterating(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> Generator[R]:
        return self._iterate(getattr(self.wrapped, method.__name__)(*args, **kwargs))

    return iterating


def _saving(
    method: Callable[Concatenate[Any, _contract.SerializedDataStream, P], Awaitable[R]],
) -> Callable[Concatenate[Any, SerializedDataStream | LoadedDataStream, P], R]:
    """Make a blocking method from a coroutine method whose first argument is a stream with its content type."""

    @wraps(method)
    def saving(
        self: "_Blocking[Any]",
        serialized: SerializedDataStream | LoadedDataStream,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        def start(stream: AsyncIterable[bytes]) -> Awaitable[R]:
            content = {**serialized, "data_stream": stream}
            return cast("Awaitable[R]", getattr(self.wrapped, method.__name__)(content, *args, **kwargs))

        return self._call_with_stream(serialized["data_stream"], start)

    return saving


def _writing(
    method: Callable[Concatenate[Any, AsyncIterable[bytes], P], Awaitable[R]],
) -> Callable[Concatenate[Any, Iterable[bytes], P], R]:
    """Make a blocking method from a coroutine method whose first argument is a stream of bytes."""

    @wraps(method)
    def writing(self: "_Blocking[Any]", source: Iterable[bytes], /, *args: P.args, **kwargs: P.kwargs) -> R:
        def start(stream: AsyncIterable[bytes]) -> Awaitable[R]:
            return cast("Awaitable[R]", getattr(self.wrapped, method.__name__)(stream, *args, **kwargs))

        return self._call_with_stream(source, start)

    return writing


def _loading(
    method: Callable[Concatenate[Any, P], _contract.SerializedDataStream],
) -> Callable[Concatenate[Any, P], LoadedDataStream]:
    """Make a method that returns a blocking stream with its content type."""

    @wraps(method)
    def loading(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> LoadedDataStream:
        loaded = getattr(self.wrapped, method.__name__)(*args, **kwargs)
        return cast("LoadedDataStream", {**loaded, "data_stream": self._iterate(loaded["data_stream"])})

    return loading


def _mapping(
    method: Callable[Concatenate[Any, AsyncIterable[T] | Iterable[T], P], AsyncGenerator[R]],
) -> Callable[Concatenate[Any, Iterable[T], P], Generator[R]]:
    """Make a method that takes an iterable and returns a generator from one that returns an asynchronous generator."""

    @wraps(method)
    def mapping(self: "_Blocking[Any]", items: Iterable[T], /, *args: P.args, **kwargs: P.kwargs) -> Generator[R]:
        caller = Caller()
        results = getattr(self.wrapped, method.__name__)(caller.items(items), *args, **kwargs)
        return self._iterate(results, caller, items)

    return mapping


class _Blocking(Generic[W]):
    """An asynchronous object with its event loop."""

    def __init__(self, wrapped: W) -> None:
        self._wrapped = wrapped
        self._loop = BackgroundLoop()
        # The finalizer also runs at the interpreter's exit, while threads still run.
        self._finalizer = weakref.finalize(self, self._loop.stop, wrapped.aclose)

    @property
    def wrapped(self) -> W:
        """The asynchronous original. Use it for methods that never wait, such as those for names and settings."""
        return self._wrapped

    def close(self) -> None:
        """Close open streams and connections, and end the thread. Cancels calls of other threads."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        return self._loop.call(lambda _: getattr(self._wrapped, name)(*args, **kwargs))

    def _iterate(
        self, source: AsyncGenerator[R], caller: Caller | None = None, items: Iterable[Any] = ()
    ) -> Generator[R]:
        # A generator of its own, since its reference to self keeps the loop open until it is closed.
        try:
            yield from self._loop.iterate(source, caller)
        finally:
            if isinstance(items, Generator):
                items.close()

    def _call_with_stream(self, source: Iterable[bytes], start: Callable[[AsyncIterable[bytes]], Awaitable[R]]) -> R:
        try:
            return self._loop.call(lambda caller: start(caller.items(source)))
        finally:
            if isinstance(source, Generator):
                source.close()


class StorageRegistry(_Blocking[_registry.StorageRegistry]):
    """The blocking form of a `lakery_cloud.StorageRegistry`."""

    save = _blocking(_registry.StorageRegistry.save)
    save_many = _mapping(_registry.StorageRegistry.save_many)
    save_stream = _saving(_registry.StorageRegistry.save_stream)
    save_file = _blocking(_registry.StorageRegistry.save_file)
    save_written = _blocking(_registry.StorageRegistry.save_written)
    load = _blocking(_registry.StorageRegistry.load)
    load_many = _mapping(_registry.StorageRegistry.load_many)
    load_stream = _loading(_registry.StorageRegistry.load_stream)
    load_file = _blocking(_registry.StorageRegistry.load_file)
    read_range = _blocking(_registry.StorageRegistry.read_range)
    exists = _blocking(_registry.StorageRegistry.exists)
    delete = _blocking(_registry.StorageRegistry.delete)
    presign = _blocking(_registry.StorageRegistry.presign)
    list = _iterating(_registry.StorageRegistry.list)

    def open_stream(self, record: ContentRecord) -> ContentFile:
        """Open content as a binary file, for libraries that read files. Nothing is requested before the first read.

        Raises:
            NotRegistered, InvalidRecord: As for `load`.
        """
        record.check()
        self.wrapped.get(record.storage_name)
        return ContentFile(record, partial(self.read_range, record))


class Storage(_Blocking[S]):
    """The blocking form of a `lakery_cloud.Storage`."""

    write_data = _blocking(_contract.Storage.write_data)
    write_data_stream = _writing(_contract.Storage.write_data_stream)
    read_data = _blocking(_contract.Storage.read_data)
    read_data_stream = _iterating(_contract.Storage.read_data_stream)
    read_range = _blocking(_contract.Storage.read_range)
    find = _blocking(_contract.Storage.find)
    exists = _blocking(_contract.Storage.exists)
    delete = _blocking(_contract.Storage.delete)
    list = _iterating(_contract.Storage.list)


class ObjectStorage(Storage[S]):
    """The blocking form of a `lakery_cloud.ObjectStorage`."""

    write_data = _blocking(_engine.ObjectStorage.write_data)
    write_data_stream = _writing(_engine.ObjectStorage.write_data_stream)
    read_data = _blocking(_engine.ObjectStorage.read_data)
    read_data_stream = _iterating(_engine.ObjectStorage.read_data_stream)
    read_range = _blocking(_engine.ObjectStorage.read_range)
    find = _blocking(_engine.ObjectStorage.find)
    exists = _blocking(_engine.ObjectStorage.exists)
    delete = _blocking(_engine.ObjectStorage.delete)
    stat = _blocking(_engine.ObjectStorage.stat)
    digest_of = _blocking(_engine.ObjectStorage.digest_of)
    tags_of = _blocking(_engine.ObjectStorage.tags_of)
    presign = _blocking(_engine.ObjectStorage.presign)
    list = _iterating(_engine.ObjectStorage.list)


@overload
def open(target: _registry.StorageRegistry) -> StorageRegistry: ...
@overload
def open(target: ObjectS) -> ObjectStorage[ObjectS]: ...
@overload
def open(target: S) -> Storage[S]: ...
def open(target: _contract.Storage[Any] | _registry.StorageRegistry) -> StorageRegistry | Storage[Any]:
    """Open a storage or a registry for blocking calls. The end of a `with` block, or `close`, closes the storages.

    Calls run on an event loop in a background thread. Ctrl-C cancels a call and waits for its clean-up. A call on a thread
    that runs an event loop blocks that loop.

    Args:
        target: A storage or a registry. It may be in use elsewhere at the same time.

    Raises:
        ConfigError: Raised by later calls, after `close` or in a forked process.
    """
    if isinstance(target, _registry.StorageRegistry):
        return StorageRegistry(target)
    return ObjectStorage(target) if isinstance(target, _engine.ObjectStorage) else Storage(target)
