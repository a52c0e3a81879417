"""Many blobs: ordered results of concurrent saves and loads, within limits of calls and bytes. Knows no storage."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from lakery_cloud.digest import is_size
from lakery_cloud.errors import ConfigError
from lakery_cloud.records import ContentRecord
from lakery_cloud.storage import SerializedData
from lakery_cloud.streams.tasks import side_by_side

__all__ = ["Loaded", "Saved"]

T = TypeVar("T")
R = TypeVar("R")

AT_A_TIME = 64
"""Saves or loads at a time: as many as the requests of a storage, see `max_concurrent_requests`."""
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
"""Bytes of content in memory."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The result of one save of `StorageRegistry.save_many`: a record or an error.

    Attributes:
        index: The position of the blob, from 0.
        record: The record, or None if the save failed.
        error: The error, or None if the blob is saved.
    """

    index: int
    record: ContentRecord | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of one load of `StorageRegistry.load_many`: content or an error.

    Attributes:
        record: The record.
        content: The content, or None if the load failed.
        error: The error, or None if the content is loaded.
    """

    record: ContentRecord
    content: SerializedData | None = None
    error: Exception | None = None


def save_all(
    save: Callable[[SerializedData], Awaitable[ContentRecord]],
    blobs: AsyncIterable[SerializedData] | Iterable[SerializedData],
    *,
    at_a_time: int,
    max_buffered_bytes: int,
) -> AsyncGenerator[Saved]:
    """Save blobs with a function; see `StorageRegistry.save_many`."""
    positions = count()

    async def save_one(index: int, blob: SerializedData) -> Saved:
        try:
            return Saved(index, record=await save(blob))
        except Exception as error:  # noqa: BLE001, it is part of the result
            return Saved(index, error=error)

    return _ordered(lambda blob: save_one(next(positions), blob), blobs, _size_of_blob, at_a_time, max_buffered_bytes)


def load_all(
    load: Callable[[ContentRecord], Awaitable[SerializedData]],
    records: AsyncIterable[ContentRecord] | Iterable[ContentRecord],
    *,
    at_a_time: int,
    max_buffered_bytes: int,
) -> AsyncGenerator[Loaded]:
    """Load records with a function; see `StorageRegistry.load_many`."""

    async def load_one(record: ContentRecord) -> Loaded:
        try:
            return Loaded(record, content=await load(record))
        except Exception as error:  # noqa: BLE001, it is part of the result
            return Loaded(record, error=error)

    return _ordered(load_one, records, _size_of_record, at_a_time, max_buffered_bytes)


def _ordered(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: AsyncIterable[T] | Iterable[T],
    size_of: Callable[[T], int],
    at_a_time: int,
    max_buffered_bytes: int,
) -> AsyncGenerator[R]:
    for name, value in (("at_a_time", at_a_time), ("max_buffered_bytes", max_buffered_bytes)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    return side_by_side(function, items, limit=at_a_time, size_of=size_of, max_size=max_buffered_bytes)


# A malformed blob or record is an error of its own save or load.


def _size_of_blob(blob: SerializedData) -> int:
    try:
        return len(blob["data"])
    except (KeyError, TypeError):
        return 0


def _size_of_record(record: ContentRecord) -> int:
    size: object = getattr(record, "content_size", None)
    return size if isinstance(size, int) and is_size(size) else 0
