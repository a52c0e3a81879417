"""`verify` names problems; `sweep` uses the younger of two ages. The conformance suite runs both on every store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lakery_cloud import ConfigError, MemoryStorage
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.model import Upload
from lakery_cloud.maintenance import (
    Problem,
    leftovers,
    sweep,
    verify,
)
from lakery_cloud.testing import content, digest_of, tap

PLAIN = ObjectAttributes("text/plain", None, {}, {})


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage() as storage:
        yield storage


async def write(storage: MemoryStorage, data: bytes, **options: str) -> str:
    digest = digest_of(data, **options)
    await storage.write_data(data, digest, {})
    return digest["content_hash"]


async def problems(storage: MemoryStorage) -> dict[str, Problem | None]:
    return {verified.content_hash: verified.problem async for verified in verify(storage)}


async def test_each_problem_has_its_name(storage: MemoryStorage) -> None:
    blobs = [content(1000, seed=seed) for seed in range(4)]
    right, damaged, truncated, misplaced = [await write(storage, blob) for blob in blobs]
    objects = storage.contents.objects
    objects[damaged] = replace(objects[damaged], data=bytes(1000))
    objects[truncated] = replace(objects[truncated], data=blobs[2][:999])
    objects[misplaced] = objects[right]
    assert await problems(storage) == {
        right: None,
        damaged: Problem.DAMAGED,
        truncated: Problem.TRUNCATED,
        misplaced: Problem.MISPLACED,
    }


async def test_content_of_another_algorithm_is_hashed_by_it(storage: MemoryStorage) -> None:
    hashes = [await write(storage, b"data", algorithm=algorithm) for algorithm in ("sha256", "sha3_256", "md5")]
    assert await problems(storage) == dict.fromkeys(hashes)


async def test_object_that_is_deleted_before_it_is_read_is_left_out(storage: MemoryStorage) -> None:
    deleted = await write(storage, b"data")
    wire = tap(storage)

    async def delete() -> None:
        del storage.contents.objects[deleted]

    wire.before("get", delete)
    assert await problems(storage) == {}
    assert wire.count("get") == 2, "at its key, and in quarantine"


async def test_many_objects_are_verified_in_order_and_several_at_a_time(storage: MemoryStorage) -> None:
    await asyncio.gather(*(write(storage, b"%d" % number) for number in range(2500)))
    found = [verified.content_hash async for verified in verify(storage)]
    assert len(found) == 2500
    assert found == sorted(found)
    rest = [verified.content_hash async for verified in verify(storage, after=found[1999])]
    assert rest == found[2000:]


async def test_sweep_goes_by_the_younger_of_two_ages(storage: MemoryStorage) -> None:
    now = datetime.now(UTC)
    old_name = "20200101T000000Z-00000000-0000-4000-8000-000000000000"
    ages = {
        f".tmp/{old_name}": (now - timedelta(hours=1), False),
        f".tmp/{old_name}0": (now - timedelta(days=9), True),
        storage.keys.temporary().key: (now - timedelta(days=9), False),
        "a" * 64: (now - timedelta(days=9), True),
        "b" * 64: (None, False),
        "somebody-else": (now - timedelta(days=9), False),
    }
    for number, (key, (begun, _)) in enumerate(ages.items()):
        upload = Upload(storage.keys.content(key), str(number), PLAIN, begun=begun)
        storage.contents.uploads[upload.id] = (upload, {})
    assert {found.address.key async for found in sweep(storage)} == {key for key, (_, is_old) in ages.items() if is_old}
    left = {upload.address.key for upload, _ in storage.contents.uploads.values()}
    assert left == {key for key, (_, is_old) in ages.items() if not is_old}


async def test_thousands_are_swept(storage: MemoryStorage) -> None:
    transport = await storage.transport()
    for number in range(2500):
        key = f".tmp/20200101T000000Z-00000000-0000-4000-8000-{number:012}"
        await transport.put(storage.keys.content(key), b"", PLAIN)
    assert len([found async for found in sweep(storage)]) == 2500
    assert storage.contents.objects == {}


async def test_negative_age_is_refused(storage: MemoryStorage) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        assert [found async for found in leftovers(storage, older_than=timedelta(seconds=-1))] == []
