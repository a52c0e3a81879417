"""`copy`: copied, skipped and failed content."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from lakery_cloud import (
    BucketNotFound,
    ConfigError,
    ContentRecord,
    FileStorage,
    IntegrityError,
    MemoryStorage,
    NoStorageData,
    SerializedData,
    StorageRegistry,
)
from lakery_cloud.maintenance import CopyOutcome, copy
from lakery_cloud.testing import content, tap

Destination = MemoryStorage.named("test.destination@v1")


@pytest.fixture
async def source() -> AsyncIterator[StorageRegistry]:
    async with StorageRegistry([MemoryStorage()]) as registry:
        yield registry


@pytest.fixture
async def destination() -> AsyncIterator[MemoryStorage]:
    async with Destination(part_size=1000) as storage:
        yield storage


async def save(registry: StorageRegistry, data: bytes, **tags: str) -> ContentRecord:
    blob = SerializedData(data=data, content_type="text/x-test", content_encoding="gzip")
    return await registry.save(blob, tags=tags)


async def outcomes(*arguments, **options) -> list[str]:
    return [copied.outcome.value async for copied in copy(*arguments, **options)]


async def test_all_content_arrives_with_its_type_and_tags(source, destination) -> None:
    blobs = {(await save(source, content(size), size=str(size))).content_hash: size for size in (0, 10, 1000, 5555)}
    found = [copied async for copied in copy(source, destination)]
    assert [copied.outcome for copied in found] == [CopyOutcome.COPIED] * 4
    for copied in found:
        size = blobs[copied.record.content_hash]
        assert copied.record.storage_name == "test.destination@v1"
        assert copied.record.digest == copied.source.digest
        assert (await StorageRegistry([destination]).load(copied.record))["data"] == content(size)
        attributes = destination.contents.objects[copied.record.content_hash].attributes
        assert (attributes.content_type, attributes.content_encoding) == ("text/x-test", "gzip")
        assert attributes.tags == {"size": str(size)}


async def test_records_choose_content_and_order(source, destination) -> None:
    records = [await save(source, content(10, seed=seed)) for seed in range(5)]
    chosen = [records[3], records[1]]
    assert [copied.source async for copied in copy(source, destination, records=chosen)] == chosen
    assert set(destination.contents.objects) == {record.content_hash for record in chosen}


async def test_record_is_the_authority_on_the_type(source, destination) -> None:
    record = replace(await save(source, b"data"), content_type="text/plain", content_encoding=None)
    (copied,) = [each async for each in copy(source, destination, records=[record])]
    assert (copied.record.content_type, copied.record.content_encoding) == ("text/plain", None)


async def test_existing_content_is_not_read(source, destination) -> None:
    for seed in range(3):
        await save(source, content(10, seed=seed))
    async with aclosing(copy(source, destination, at_a_time=1)) as copying:
        await anext(copying)  # and then it is interrupted
    copied_already = len(destination.contents.objects)
    assert 1 <= copied_already < 3
    wire = tap(source.default)
    assert (
        sorted(await outcomes(source, destination))
        == ["copied"] * (3 - copied_already) + ["deduplicated"] * copied_already
    )
    assert wire.count("get") == 3 - copied_already


async def test_dry_run_copies_nothing(source, destination) -> None:
    await save(source, b"data")
    assert await outcomes(source, destination, dry_run=True) == ["would be copied"]
    assert destination.contents.objects == {}


async def test_tags_can_be_left_behind(source, destination) -> None:
    record = await save(source, b"data", project="apollo")
    await outcomes(source, destination, keep_tags=False)
    assert destination.contents.objects[record.content_hash].attributes.tags == {}


async def test_damaged_content_does_not_arrive_and_does_not_stop_the_others(source, destination) -> None:
    records = [await save(source, content(3000, seed=seed)) for seed in range(3)]
    objects = source.default.contents.objects
    damaged = records[1].content_hash
    objects[damaged] = replace(objects[damaged], data=bytes(3000))
    found = [copied async for copied in copy(source, destination, records=records)]
    assert [copied.outcome.value for copied in found] == ["copied", "failed", "copied"]
    assert isinstance(found[1].error, IntegrityError)
    assert set(destination.contents.objects) == {records[0].content_hash, records[2].content_hash}
    assert destination.contents.uploads == {}


async def test_record_whose_content_is_gone_fails(source, destination) -> None:
    record = await save(source, b"data")
    source.default.contents.objects.clear()
    (copied,) = [each async for each in copy(source, destination, records=[record])]
    assert isinstance(copied.error, NoStorageData)


async def test_listed_content_that_is_deleted_meanwhile_is_left_out(source, destination) -> None:
    await save(source, b"data")
    wire = tap(source.default)

    async def delete() -> None:
        source.default.contents.objects.clear()

    wire.after("head", delete)
    assert await outcomes(source, destination) == []
    assert wire.count("head") == 3, "twice at its key, and in quarantine"


async def test_missing_destination_ends_the_copy(source, tmp_path) -> None:
    records = [await save(source, content(10, seed=seed)) for seed in range(3)]
    async with FileStorage(tmp_path / "missing", create=False) as missing:
        with pytest.raises(BucketNotFound):
            await outcomes(source, missing, records=records)


async def test_watch_sees_the_bytes_that_travel(source, destination) -> None:
    await save(source, content(5000))
    seen = []

    async def watch(record, chunks):
        async for chunk in chunks:
            seen.append(len(chunk))
            yield chunk

    await outcomes(source, destination, watch=watch)
    assert sum(seen) == 5000


async def test_no_calls_at_all_at_a_time_are_refused(source, destination) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        await outcomes(source, destination, at_a_time=0)
