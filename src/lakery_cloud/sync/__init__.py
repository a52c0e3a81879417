"""Storages and registries for code without asyncio: each asynchronous method, blocking, under its own name.

```python
from lakery_cloud import MemoryStorage, sync

with sync.open(MemoryStorage()) as storage:
    ...
```

An event loop in a thread of its own does the work. So it also serves where a loop is running already, as in a notebook,
and several threads at once. Nothing is written twice: the methods are made out of the asynchronous ones.
"""

import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypedDict, TypeVar, cast, overload

import lakery_cloud.engine.object_storage as _engine
import lakery_cloud.registry as _registry
import lakery_cloud.storage as _contract
from lakery_cloud.sync.background import BackgroundLoop

__all__ = ["LoadedDataStream", "ObjectStorage", "SerializedDataStream", "Storage", "StorageRegistry", "open"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="_contract.Storage[Any]")
ObjectS = TypeVar("ObjectS", bound="_engine.ObjectStorage[Any]")
W = TypeVar("W", bound="_contract.Storage[Any] | _registry.StorageRegistry")


class SerializedDataStream(TypedDict):
    """A stream of serialized data, in chunks of any size. A generator runs in the thread that saves, and is closed."""

    data_stream: Iterable[bytes]
    content_type: str
    content_encoding: str | None


class LoadedDataStream(TypedDict):
    """A stream that is loaded. Close `data_stream` if you leave it early."""

    data_stream: Generator[bytes]
    content_type: str
    content_encoding: str | None


def _blocking(method: Callable[Concatenate[Any, P], Awaitable[R]]) -> Callable[Concatenate[Any, P], R]:
    """The method that waits for the asynchronous one."""

    @wraps(method)
    def blocking(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self._call(method.__name__, *args, **kwargs))

    return blocking


def _iterating(method: Callable[Concatenate[Any, P], AsyncGenerator[R]]) -> Callable[Concatenate[Any, P], Generator[R]]:
    """The method whose generator waits for the asynchronous one."""

    @wraps(method)
    def iterating(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> Generator[R]:
        return self._iterate(getattr(self.wrapped, method.__name__)(*args, **kwargs))

    return iterating


def _saving(
    method: Callable[Concatenate[Any, _contract.SerializedDataStream, P], Awaitable[R]],
) -> Callable[Concatenate[Any, SerializedDataStream | LoadedDataStream, P], R]:
    """The blocking method that is given a stream with its content type."""

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
    """The blocking method that is given a bare stream."""

    @wraps(method)
    def writing(self: "_Blocking[Any]", source: Iterable[bytes], /, *args: P.args, **kwargs: P.kwargs) -> R:
        def start(stream: AsyncIterable[bytes]) -> Awaitable[R]:
            return cast("Awaitable[R]", getattr(self.wrapped, method.__name__)(stream, *args, **kwargs))

        return self._call_with_stream(source, start)

    return writing


def _loading(
    method: Callable[Concatenate[Any, P], _contract.SerializedDataStream],
) -> Callable[Concatenate[Any, P], LoadedDataStream]:
    """The method that gives a blocking stream with its content type."""

    @wraps(method)
    def loading(self: "_Blocking[Any]", /, *args: P.args, **kwargs: P.kwargs) -> LoadedDataStream:
        loaded = getattr(self.wrapped, method.__name__)(*args, **kwargs)
        return cast("LoadedDataStream", {**loaded, "data_stream": self._iterate(loaded["data_stream"])})

    return loading


class _Blocking(Generic[W]):
    """What is open, with its event loop."""

    def __init__(self, wrapped: W) -> None:
        self._wrapped = wrapped
        self._loop = BackgroundLoop()
        # Also at the interpreter's exit, while threads still run.
        self._closing = weakref.finalize(self, self._loop.stop, wrapped.aclose)

    @property
    def wrapped(self) -> W:
        """The asynchronous original, with all that never waits: names, settings, storage data as strings."""
        return self._wrapped

    def close(self) -> None:
        """Close open streams and connections, and end the thread. A call that another thread waits for is cancelled."""
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        return self._loop.call(lambda _: getattr(self._wrapped, name)(*args, **kwargs))

    def _iterate(self, source: AsyncGenerator[R]) -> Generator[R]:
        # A generator of this object: who holds it holds the loop open.
        yield from self._loop.iterate(source)

    def _call_with_stream(self, source: Iterable[bytes], start: Callable[[AsyncIterable[bytes]], Awaitable[R]]) -> R:
        try:
            return self._loop.call(lambda caller: start(caller.chunks(source)))
        finally:
            if isinstance(source, Generator):
                source.close()


class StorageRegistry(_Blocking[_registry.StorageRegistry]):
    """A `lakery_cloud.StorageRegistry` that blocks."""

    save = _blocking(_registry.StorageRegistry.save)
    save_stream = _saving(_registry.StorageRegistry.save_stream)
    save_file = _blocking(_registry.StorageRegistry.save_file)
    load = _blocking(_registry.StorageRegistry.load)
    load_stream = _loading(_registry.StorageRegistry.load_stream)
    load_file = _blocking(_registry.StorageRegistry.load_file)
    exists = _blocking(_registry.StorageRegistry.exists)
    delete = _blocking(_registry.StorageRegistry.delete)
    presign = _blocking(_registry.StorageRegistry.presign)
    list = _iterating(_registry.StorageRegistry.list)


class Storage(_Blocking[S]):
    """A `lakery_cloud.Storage` that blocks."""

    write_data = _blocking(_contract.Storage.write_data)
    write_data_stream = _writing(_contract.Storage.write_data_stream)
    read_data = _blocking(_contract.Storage.read_data)
    read_data_stream = _iterating(_contract.Storage.read_data_stream)
    find = _blocking(_contract.Storage.find)
    exists = _blocking(_contract.Storage.exists)
    delete = _blocking(_contract.Storage.delete)
    list = _iterating(_contract.Storage.list)


class ObjectStorage(Storage[S]):
    """A `lakery_cloud.ObjectStorage` that blocks."""

    write_data = _blocking(_engine.ObjectStorage.write_data)
    write_data_stream = _writing(_engine.ObjectStorage.write_data_stream)
    read_data = _blocking(_engine.ObjectStorage.read_data)
    read_data_stream = _iterating(_engine.ObjectStorage.read_data_stream)
    find = _blocking(_engine.ObjectStorage.find)
    exists = _blocking(_engine.ObjectStorage.exists)
    delete = _blocking(_engine.ObjectStorage.delete)
    stat = _blocking(_engine.ObjectStorage.stat)
    digest_of = _blocking(_engine.ObjectStorage.digest_of)
    presign = _blocking(_engine.ObjectStorage.presign)
    list = _iterating(_engine.ObjectStorage.list)


@overload
def open(target: _registry.StorageRegistry) -> StorageRegistry: ...
@overload
def open(target: ObjectS) -> ObjectStorage[ObjectS]: ...
@overload
def open(target: S) -> Storage[S]: ...
def open(target: _contract.Storage[Any] | _registry.StorageRegistry) -> StorageRegistry | Storage[Any]:
    """Open a storage or a registry for blocking calls. Use it with `with`, or call `close`: that closes the storages.

    A call runs on an event loop of its own, in the background. Ctrl-C cancels it and waits for its clean-up. A call on a
    thread that runs an event loop blocks that loop meanwhile.

    Args:
        target: What is to be opened. A storage may be in use elsewhere at the same time.

    Raises:
        ConfigError: By later calls, in a process that was forked meanwhile, or when it was closed.
    """
    if isinstance(target, _registry.StorageRegistry):
        return StorageRegistry(target)
    return ObjectStorage(target) if isinstance(target, _engine.ObjectStorage) else Storage(target)
