"""`save_many` and `load_many`: ordered results within limits of calls and bytes; one error doesn't stop the others."""

import asyncio
import dataclasses
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from lakery_cloud import (
    ConfigError,
    ContentRecord,
    IntegrityError,
    InvalidRecord,
    InvalidTags,
    MemoryStorage,
    NoStorageData,
    NotRegistered,
    ReadOnlyStorage,
    SerializedData,
    Storage,
    StorageRegistry,
    StorageUnavailable,
)
from lakery_cloud.testing import tap
from tests.helpers import blob, each, let_others_run
from tests.stores.stores import s3_store
from tests.unit.test_pipeline import Calls

FAILURE = StorageUnavailable("the disk is on fire")


def data_of(number: int) -> bytes:
    return f"content {number}".encode()


def blobs(count: int) -> list[SerializedData]:
    return [blob(data_of(number)) for number in range(count)]


async def save_all(registry: StorageRegistry, count: int) -> list[ContentRecord]:
    return [await registry.save(content) for content in blobs(count)]


class Source:
    """Items that record how many were taken, and whether their iterator was closed."""

    def __init__(self, items, *, failure=None):
        self.items, self.failure = items, failure
        self.taken, self.is_closed = 0, False

    def plain(self):
        try:
            for item in self.items:
                self.taken += 1
                yield item
            if self.failure is not None:
                raise self.failure
        finally:
            self.is_closed = True

    async def asynchronous(self):
        try:
            for item in self.items:
                self.taken += 1
                yield item
            if self.failure is not None:
                raise self.failure
        finally:
            await asyncio.sleep(0)
            self.is_closed = True

    def iterable(self):
        """An object whose iterator is another one."""
        source = self

        class Items:
            def __aiter__(self):
                return source.asynchronous()

        return Items()


KINDS = pytest.mark.parametrize("kind", ["plain", "asynchronous", "iterable"])


class Gate(Storage[str]):
    """A storage that keeps nothing, and whose calls wait for an event."""

    name = "tests.batches.gate@v1"
    verifies_reads = True

    def __init__(self):
        self.calls, self.go = Calls(), asyncio.Event()

    async def write_data(self, data, digest, tags, /):
        return await self.calls.wait(self.go, digest["content_hash"])

    async def read_data(self, storage_data, /):
        return await self.calls.wait(self.go, bytes(10))

    write_data_stream = read_data_stream = None


def record_of_size(storage: Storage, size: int) -> ContentRecord:
    return ContentRecord(
        content_type="x/y",
        content_encoding=None,
        content_hash="0" * 64,
        content_hash_algorithm="sha256",
        content_size=size,
        storage_name=storage.name,
        storage_data='"place"',
    )


async def check_nothing_runs() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Results.


@KINDS
@pytest.mark.parametrize("at_a_time", [1, 3, 64])
async def test_results_are_ordered_and_the_items_are_closed(kind, at_a_time):
    async with StorageRegistry([MemoryStorage()]) as registry:
        contents = Source(blobs(20))
        saved = [result async for result in registry.save_many(getattr(contents, kind)(), at_a_time=at_a_time)]
        assert [(result.index, result.error) for result in saved] == [(index, None) for index in range(20)]
        assert [result.record for result in saved] == await save_all(registry, 20)

        records = Source([result.record for result in saved])
        loaded = [result async for result in registry.load_many(getattr(records, kind)(), at_a_time=at_a_time)]
        assert [result.content for result in loaded] == blobs(20)
        assert [result.record for result in loaded] == records.items
        assert contents.is_closed
        assert records.is_closed
    await check_nothing_runs()


async def test_nothing_gives_nothing():
    registry = StorageRegistry([MemoryStorage()])
    assert [result async for result in registry.save_many([])] == []
    assert [result async for result in registry.load_many(each([]))] == []


async def test_options_are_those_of_a_save():
    archive = MemoryStorage.named("tests.batches.archive@v1")()
    registry = StorageRegistry([MemoryStorage(), archive], default="lakery_cloud.memory@v1")
    options = {"tags": {"a": "b"}, "storage": archive.name, "algorithm": "sha512"}
    async for result in registry.save_many(blobs(3), **options):
        assert result.record == await registry.save(blob(data_of(result.index)), **options)
        stored = await archive.stat(archive.deserialize_storage_data(result.record.storage_data))
        assert stored.tags == {"a": "b"}


async def test_result_comes_as_soon_as_those_before_it():
    storage = MemoryStorage()
    held = tap(storage).hold("put", nth=3)
    async with aclosing(StorageRegistry([storage]).save_many(blobs(10), at_a_time=2)) as results:
        assert [(await anext(results)).index for _ in range(2)] == [0, 1]
        third = asyncio.create_task(anext(results))
        await let_others_run(500)
        assert not third.done()
        assert len(storage.contents.objects) == 9  # the others don't wait for it
        held.release()
        assert (await third).index == 2


async def test_items_are_taken_when_their_calls_can_start():
    gate = Gate()
    source = Source(blobs(100))
    async with aclosing(StorageRegistry([gate]).save_many(source.asynchronous(), at_a_time=5)) as results:
        first = asyncio.create_task(anext(results))
        await let_others_run(50)
        assert (source.taken, gate.calls.running) == (5, 5)
        gate.go.set()
        await first
    assert gate.calls.most == 5


# Errors.


async def test_failed_saves_stop_no_others():
    storage = MemoryStorage()
    wire = tap(storage)

    async def fail():
        raise FAILURE

    wire.before("put", fail, nth=2)
    wire.before("put", fail, nth=5)
    malformed = {7: {"content_type": "x/y"}, 8: blob("text"), 9: None, 10: blob(b"", content_type="")}  # type: ignore[arg-type]
    contents = [malformed.get(number, content) for number, content in enumerate(blobs(12))]
    results = [result async for result in StorageRegistry([storage]).save_many(contents, at_a_time=1)]
    assert {result.index: type(result.error) for result in results if result.error} == {
        1: StorageUnavailable,
        4: StorageUnavailable,
        7: KeyError,
        8: TypeError,
        9: TypeError,
        10: InvalidRecord,
    }
    assert [result.record is None for result in results] == [result.error is not None for result in results]
    assert results[1].error is FAILURE
    assert len(storage.contents.objects) == 6


async def test_failed_loads_stop_no_others():
    registry = StorageRegistry([MemoryStorage()])
    records = await save_all(registry, 8)
    await registry.delete(records[1])
    replaced = dataclasses.replace
    records[2] = replaced(records[2], content_size=1)
    records[3] = replaced(records[3], storage_name="nobody@v1")
    records[4] = replaced(records[4], content_size=-1)
    records[5] = replaced(records[5], storage_data="{")
    records[6] = None  # type: ignore[call-overload]
    results = [result async for result in registry.load_many(records)]
    assert [type(result.error) for result in results] == [
        type(None),
        NoStorageData,
        IntegrityError,
        NotRegistered,
        InvalidRecord,
        InvalidRecord,
        AttributeError,
        type(None),
    ]
    assert [result.record for result in results] == records
    assert [result.content and result.content["data"] for result in results] == [
        data_of(0),
        *[None] * 6,
        data_of(7),
    ]


@KINDS
async def test_failure_of_the_items_comes_after_the_results_before_it(kind):
    registry, failure = StorageRegistry([MemoryStorage()]), OSError("the list broke off")
    for many, items in ((registry.save_many, blobs(3)), (registry.load_many, await save_all(registry, 3))):
        source = Source(items, failure=failure)
        results = many(getattr(source, kind)())
        found = [(await anext(results)).error for _ in range(3)]
        with pytest.raises(OSError, match="broke off") as caught:
            await anext(results)
        assert caught.value is failure
        assert found == [None] * 3
        assert source.is_closed
    await check_nothing_runs()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"at_a_time": 0}, ConfigError),
        ({"max_buffered_bytes": 0}, ConfigError),
        ({"algorithm": "md0"}, ConfigError),
        ({"tags": {"": "b"}}, InvalidTags),
        ({"storage": "nobody@v1"}, NotRegistered),
        ({"storage": "lakery_cloud.memory@v1"}, ReadOnlyStorage),
    ],
    ids=str,
)
def test_wrong_options_are_refused_at_once(options, error):
    registry = StorageRegistry([MemoryStorage()], retired={"lakery_cloud.memory@v1": "lakery_cloud.memory@v1"})
    source = Source(blobs(3))
    with pytest.raises(error):
        registry.save_many(source.plain(), **options)
    if options.keys() <= {"at_a_time", "max_buffered_bytes"}:
        with pytest.raises(error):
            registry.load_many(source.plain(), **options)
    assert source.taken == 0


# The end before the end.


@KINDS
@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_leaving_early_leaves_nothing_running(kind, way):
    storage = MemoryStorage()
    wire = tap(storage)
    held = wire.hold("put", nth=4)
    source = Source(blobs(100))
    results = StorageRegistry([storage]).save_many(getattr(source, kind)(), at_a_time=3)

    async def read():
        async with aclosing(results):
            async for result in results:
                if way == "close" and result.index == 2:
                    break

    reading = asyncio.create_task(read())
    if way == "cancel":
        await held.reached_by(reading)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await asyncio.wait([reading])
    assert source.is_closed
    await check_nothing_runs()
    started = wire.count("put")
    await let_others_run(50)
    assert wire.count("put") == started < 100


async def test_source_that_waits_is_cancelled_and_closed():
    never, closed = asyncio.Event(), []

    async def source():
        try:
            yield blob()
            await never.wait()
        finally:
            closed.append(True)

    async with aclosing(StorageRegistry([MemoryStorage()]).save_many(source())) as results:
        assert (await anext(results)).record
    assert closed
    await check_nothing_runs()


# Memory.


@pytest.mark.parametrize(
    ("size", "limit", "expected"), [(10, 100, 10), (10, 10, 1), (10, 1, 1), (10, 39, 3), (10, 10**9, 64), (0, 1, 64)]
)
async def test_bytes_of_saves_stay_within_the_limit(size, limit, expected):
    gate = Gate()
    source = Source([blob(bytes(size)) for _ in range(100)])
    results = StorageRegistry([gate]).save_many(source.plain(), max_buffered_bytes=limit)
    async with aclosing(results):
        first = asyncio.create_task(anext(results))
        await let_others_run(300)
        assert gate.calls.running == expected
        assert source.taken <= expected + 1
        gate.go.set()
        assert [(await first).error, *[result.error async for result in results]] == [None] * 100


async def test_bytes_of_loads_count_until_the_next_result_is_requested():
    gate = Gate()
    gate.go.set()
    records = [record_of_size(gate, 10) for _ in range(100)]
    async with aclosing(StorageRegistry([gate]).load_many(records, max_buffered_bytes=50)) as results:
        for number in range(20):
            await anext(results)
            await let_others_run(100)
            assert gate.calls.started == number + 5  # this result, and four that wait
        assert [result.error async for result in results] == [None] * 80


async def test_size_in_a_record_is_not_trusted_to_fit():
    gate = Gate()
    gate.go.set()
    records = [record_of_size(gate, size) for size in (10, 2**62, 10, -5, 10)]
    results = [result async for result in StorageRegistry([gate]).load_many(records)]
    assert [type(result.error) for result in results] == [type(None)] * 3 + [InvalidRecord, type(None)]


class Counted(bytes):
    """Content that counts how much of it is alive."""

    alive = most = 0

    def __new__(cls, data):
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, data)

    def __del__(self):
        type(self).alive -= 1


class Sink(Storage[str]):
    """A storage that keeps nothing; some calls fail, and the first one is slow."""

    name = "tests.batches.sink@v1"
    verifies_reads = True

    def __init__(self):
        self.calls = 0

    async def use(self, result):
        self.calls += 1
        number = self.calls
        await let_others_run(500 if number == 1 else number % 3)
        if number % 10 == 0:
            raise StorageUnavailable("a tenth of the calls fail")
        return result

    async def write_data(self, data, digest, tags, /):
        return await self.use(digest["content_hash"])

    async def read_data(self, storage_data, /):
        return await self.use(Counted(bytes(100)))

    write_data_stream = read_data_stream = None


@pytest.mark.parametrize("many", ["save_many", "load_many"])
async def test_many_tiny_blobs_need_constant_memory(many):
    async def items() -> AsyncIterator:
        for number in range(3_000):
            yield blob(Counted(str(number).encode().rjust(100))) if many == "save_many" else record_of_size(sink, 100)

    sink, failed = Sink(), 0
    gc.disable()  # so that nothing needs it
    try:
        async for result in getattr(StorageRegistry([sink]), many)(items(), max_buffered_bytes=100 * 50):
            failed += result.error is not None
    finally:
        gc.enable()
    assert failed == 300
    del result
    assert Counted.most <= 50 + 3
    assert Counted.alive == 0
    Counted.most = 0


async def test_saved_blob_is_released_while_the_next_one_is_awaited():
    more = asyncio.Event()

    async def items() -> AsyncIterator:
        yield blob(Counted(b"first"))
        await more.wait()

    async with aclosing(StorageRegistry([Sink()]).save_many(items())) as results:
        assert (await anext(results)).record
        second = asyncio.create_task(anext(results, None))
        await let_others_run(50)
        assert Counted.alive == 0
        more.set()
        assert await second is None


# On a store.


async def test_store_keeps_no_temporary_objects_and_gets_each_request_once():
    async with s3_store("aws") as (server, storage), StorageRegistry([storage]) as registry:
        saved = [result.record async for result in registry.save_many(each(blobs(100)), at_a_time=32)]
        loaded = [result.content async for result in registry.load_many(saved, at_a_time=32)]
        assert loaded == blobs(100)
        assert len(server.received) == 200
