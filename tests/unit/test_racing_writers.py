"""Writers of content that another client deletes and creates again at the same time."""

import uuid
from datetime import UTC, datetime

import pytest

from lakery_cloud import MemoryStorage, StorageUnavailable
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.providers.memory import MemoryObject
from lakery_cloud.testing import Wire, content, digest_of, tap
from tests.helpers import write, write_stream

WRITES = pytest.mark.parametrize(
    ("save", "operation"), [(write, "put"), (write_stream, "copy")], ids=["blob", "stream"]
)
PART_SIZE = 1000
DATA = content(PART_SIZE + 1)


def race(storage: MemoryStorage, operation: str, *, times: int) -> Wire:
    """Create the content just before each create-only request of a writer, and delete it before the writer looks."""
    wire, objects, key = tap(storage), storage.contents.objects, digest_of(DATA)["content_hash"]

    async def create() -> None:
        plain = ObjectAttributes("application/octet-stream", None, {}, {})
        objects[key] = MemoryObject(DATA, plain, str(uuid.uuid4()), datetime.now(UTC))

    async def delete() -> None:
        objects.pop(key, None)

    for nth in range(1, times + 1):
        wire.before(operation, create, nth=nth)
    for nth in range(1, times + 3):  # a stream looks for its content and for its temporary object before it is copied
        wire.before("head", delete, nth=nth)
    return wire


@WRITES
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_writer_succeeds_after_three_races(save, operation, times):
    storage = MemoryStorage(part_size=PART_SIZE)
    wire = race(storage, operation, times=times)
    async with storage:
        assert await storage.read_data(await save(storage, DATA)) == DATA
    assert wire.count(operation) == times + 1
    assert list(storage.contents.objects) == [digest_of(DATA)["content_hash"]]


@WRITES
async def test_writer_gives_up_after_the_fourth_race(save, operation):
    storage = MemoryStorage(part_size=PART_SIZE)
    wire = race(storage, operation, times=100)
    async with storage:
        with pytest.raises(StorageUnavailable, match="refused although the key has no object.*writes and deletes it"):
            await save(storage, DATA)
    assert wire.count(operation) == 4
    assert storage.contents.objects == {}
