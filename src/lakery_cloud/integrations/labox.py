"""Storages for labox: they save and load its storables, and read the records of its own storages. Needs labox 0.1."""

import types
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from labox.core.storage import Storage as LaboxStorage

from lakery_cloud.errors import ReadOnlyStorage
from lakery_cloud.storage import Digest, GetStreamDigest, Storage, TagMap


class _Bridge(LaboxStorage[Any]):  # type: ignore[misc]  # labox has no types
    """A storage as labox calls it. Each has a class of its own, since labox reads names from classes."""

    name = "lakery_cloud.labox_bridge@v1"

    def __init__(self, storage: Storage[Any]) -> None:
        self._storage = storage

    async def write_data(self, data: bytes, digest: Digest, tags: TagMap, /) -> Any:
        return await self._storage.write_data(data, digest, tags)

    async def read_data(self, config: Any, /) -> bytes:
        return await self._storage.read_data(config)

    async def write_data_stream(
        self, data_stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /
    ) -> Any:
        return await self._storage.write_data_stream(data_stream, get_digest, tags)

    def read_data_stream(self, info: Any, /) -> AsyncGenerator[bytes]:
        return self._storage.read_data_stream(info)

    def serialize_config(self, config: Any, /) -> str:
        return self._storage.serialize_storage_data(config)

    def deserialize_config(self, config: str, /) -> Any:
        return self._storage.deserialize_storage_data(config)


class _Reader(_Bridge):
    """A storage under a name of labox's own: it only reads, so that nothing new gets the old name."""

    name = "lakery_cloud.labox_reader@v1"

    async def write_data(self, data: bytes, digest: Digest, tags: TagMap, /) -> Any:
        raise self._refusal()

    async def write_data_stream(
        self, data_stream: AsyncIterable[bytes], get_digest: GetStreamDigest, tags: TagMap, /
    ) -> Any:
        raise self._refusal()

    def _refusal(self) -> ReadOnlyStorage:
        return ReadOnlyStorage(f"{self.name} only reads records of labox; save to {self._storage.name}")


def labox_storages(*storages: Storage[Any]) -> list[LaboxStorage[Any]]:
    """Return storages for labox's `Registry`: one for each of ours, then readers for the names of labox's own storages.

    The first is a good `default_storage`. Keep ours open while labox uses them, and close them yourself.

    Args:
        storages: Storages of lakery-cloud, each with another permanent name.
    """
    bridges = [_named(_Bridge, storage.name)(storage) for storage in storages]
    readers = {alias: storage for storage in reversed(storages) for alias in storage.aliases}
    return [*bridges, *(_named(_Reader, alias)(storage) for alias, storage in readers.items())]


def _named(base: type[_Bridge], name: str) -> type[_Bridge]:
    return types.new_class(base.__name__, (base,), exec_body=lambda body: body.update(name=name))
