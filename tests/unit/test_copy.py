"""`copy`: copied, skipped and failed content, by records and by shards."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
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
from lakery_cloud.maintenance import CopyJob, CopyOutcome, ShardResult, copied_of, copy
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import content, digest_of, tap
from tests.helpers import TAGS, hash_of, write

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

    wire.before("get", delete)
    assert await outcomes(source, destination) == []
    assert wire.count("get") == 2, "at its key, and in quarantine"


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


# Shards.


async def run(source: MemoryStorage, destination: MemoryStorage, **options: Any) -> ShardResult:
    """Copy everything as one shard, with a report of each object."""
    return await CopyJob(source, destination, reports_all=True, **options).run(EVERYTHING)


async def test_shards_report_what_records_do(source, destination) -> None:
    from_here = source.default
    blobs = [content(size) for size in (0, 10, 1000, 5555)]
    for blob in blobs:
        await write(from_here, blob)
    await write(destination, blobs[1])
    expected = [copied async for copied in copy(source, destination, dry_run=True)]
    planned = await run(from_here, destination, dry_run=True)
    assert [copied_of(from_here, destination, finding) for finding in planned.findings] == expected
    result = await run(from_here, destination)
    sizes = sum(map(len, blobs))
    assert dict(result.counts) == {
        "objects": 4,
        "bytes": sizes,
        "copied": 3,
        "copied bytes": sizes - 10,
        "deduplicated": 1,
        "deduplicated bytes": 10,
    }
    for copied in [copied_of(from_here, destination, finding) for finding in result.findings]:
        assert copied.record is not None
        loaded = await StorageRegistry([destination]).load(copied.record)
        assert hash_of(loaded["data"]) == copied.source.content_hash
        assert loaded["content_type"] == digest_of(b"")["content_type"]
        assert destination.contents.objects[copied.source.content_hash].attributes.tags == TAGS
    again = await run(from_here, destination)
    assert again.counts["deduplicated"] == 4


async def test_a_shard_has_its_own_content_alone(source, destination) -> None:
    for seed in range(40):
        await save(source, content(10, seed=seed))
    job = CopyJob(source.default, destination)
    for shard in EVERYTHING.split():
        result = await job.run(shard)
        there = {each for each in destination.contents.objects if each.startswith(shard.hash_prefix)}
        assert there == {each for each in source.default.contents.objects if each.startswith(shard.hash_prefix)}
        assert (result.shard, result.findings) == (shard, []), "without `reports_all`, success is only counted"
        assert result.counts.get("copied", 0) == len(there)
    assert len(destination.contents.objects) == 40


async def test_content_that_fails_is_a_finding(source, destination) -> None:
    damaged, longer, right, weird = [await save(source, content(10, seed=seed)) for seed in range(4)]
    objects = source.default.contents.objects
    objects[damaged.content_hash] = replace(objects[damaged.content_hash], data=bytes(10))
    objects["0123456789abcdef0"] = objects.pop(weird.content_hash)
    other = objects[longer.content_hash]
    destination.contents.objects[longer.content_hash] = replace(other, data=other.data + b"x")
    result = await CopyJob(source.default, destination).run(EVERYTHING)
    assert (result.counts["copied"], result.counts["failed"]) == (1, 3)
    errors = {
        copied.source.content_hash: copied.error
        for copied in (copied_of(source.default, destination, finding) for finding in result.findings)
    }
    assert {each: type(error) for each, error in errors.items()} == dict.fromkeys(
        (damaged.content_hash, longer.content_hash, "0123456789abcdef0"), IntegrityError
    )
    assert set(destination.contents.objects) == {right.content_hash, longer.content_hash}


@pytest.mark.parametrize("algorithm", ["blake2b", "sha3_256", "none such"])
async def test_the_algorithm_comes_with_the_object(source, destination, algorithm: str) -> None:
    known = algorithm if algorithm != "none such" else "sha256"
    digest = digest_of(b"data", algorithm=known)
    await source.default.write_data(b"data", digest, {})
    objects = source.default.contents.objects
    for content_hash, found in objects.items():
        metadata = {**found.attributes.metadata, "content-hash-algorithm": algorithm}
        objects[content_hash] = replace(found, attributes=found.attributes._replace(metadata=metadata))
    result = await run(source.default, destination)
    (copied,) = [copied_of(source.default, destination, finding) for finding in result.findings]
    if algorithm == known:
        assert copied.record is not None
        assert copied.record.digest == digest
    else:
        assert "none such" in str(copied.error)


@pytest.mark.parametrize("others", [0, 5000])
async def test_listings_replace_look_ups_if_they_cost_less(source, destination, others: int) -> None:
    blobs = [content(10, seed=seed) for seed in range(3)]
    for blob in blobs:
        await write(source.default, blob)
    await write(destination, blobs[0])
    objects = destination.contents.objects
    objects |= {f"{number:064x}": objects[hash_of(blobs[0])] for number in range(others)}
    looking = tap(destination)
    result = await run(source.default, destination)
    assert (result.counts["copied"], result.counts["deduplicated"]) == (2, 1)
    assert (looking.count("head"), looking.count("put")) == (3 if others else 0, 2)


async def test_content_in_quarantine_is_copied_if_asked_for(source, destination) -> None:
    digests = [await save(source, data, project="apollo") for data in (b"one", b"two")]
    hidden, shown = (digest.content_hash for digest in digests)
    objects = source.default.contents.objects
    objects[f".trash/{hidden}"] = objects.pop(hidden)
    objects[f".trash/{shown}"] = objects[shown]
    assert (await run(source.default, destination)).counts["objects"] == 1
    result = await run(source.default, destination, quarantine=True)
    assert [(finding["content_hash"], finding["result"]) for finding in result.findings] == sorted(
        [(hidden, "copied"), (shown, "deduplicated")]
    )
    assert destination.contents.objects[hidden].attributes.tags == {"project": "apollo"}
    assert not any(key.startswith(".trash/") for key in destination.contents.objects)


async def test_a_destination_that_must_not_be_listed_is_looked_at(source, destination) -> None:
    await write(source.default, b"data")

    class Unlistable:
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        async def list(self, *_: Any) -> AsyncIterator[Any]:
            raise AccessDenied("not listable")
            yield

    destination.wrap_transports(Unlistable)
    assert (await run(source.default, destination)).counts["copied"] == 1
    assert (await run(source.default, destination)).counts["deduplicated"] == 1
