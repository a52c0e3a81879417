"""A record, and storages for registries."""

import dataclasses
import hashlib
import uuid
from contextlib import aclosing

from hypothesis import settings

from lakery_cloud import ContentRecord, NoStorageData, Storage

RECORD = ContentRecord(
    content_type="text/plain",
    content_encoding=None,
    content_hash=hashlib.sha256(b"content").hexdigest(),
    content_hash_algorithm="sha256",
    content_size=7,
    storage_name="lakery_cloud.memory@v1",
    storage_data='{"key":"k"}',
)
relaxed = settings(deadline=None)


class Shelf(Storage[str]):
    """A third party's storage: it keeps data at a random place and verifies nothing."""

    name = "tests.registry.shelf@v1"

    def __init__(self):
        self.kept = {}
        self.is_closed = False

    async def write_data(self, data, digest, tags, /):
        place = str(uuid.uuid4())
        self.kept[place] = data
        return place

    async def read_data(self, storage_data, /):
        if storage_data not in self.kept:
            raise NoStorageData(storage_data)
        return self.kept[storage_data]

    async def write_data_stream(self, stream, get_digest, tags, /):
        data = b"".join([chunk async for chunk in stream])
        return await self.write_data(data, get_digest(), tags)

    async def read_data_stream(self, storage_data, /):
        data = await self.read_data(storage_data)
        for start in range(0, len(data), 3):
            yield data[start : start + 3]

    async def aclose(self):
        self.is_closed = True


def record_of(record, **changes):
    return dataclasses.replace(record, **changes)


def damage(storage):
    """Flip one bit of every object in a memory storage."""
    objects = storage.contents.objects
    for key, found in objects.items():
        objects[key] = dataclasses.replace(found, data=bytes([found.data[0] ^ 1]) + found.data[1:])


async def loaded(registry, record):
    async with aclosing(registry.load_stream(record)["data_stream"]) as chunks:
        return b"".join([chunk async for chunk in chunks])
