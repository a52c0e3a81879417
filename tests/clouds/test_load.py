"""One storage under load: a thousand streams and ten thousand blobs at once keep to its limits, and all come to an end.

No test asserts on time. `PATIENCE` only distinguishes a slow server from a deadlock.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import psutil
import pytest
from yarl import URL

from benchmarks.null_server import null_server
from lakery_cloud import AzureBlobStorage, ObjectStorage
from lakery_cloud.emulators.system import http_status
from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing import (
    Rule,
    content,
    digest_of,
    stream_of,
    tap,
)
from lakery_cloud.testing.faults import Answer, FaultProxy
from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import FaultMatch
from tests.helpers import PATIENCE, proxy_before, until, write, write_stream
from tests.rigs.azure_profiles import AZURE_PROFILE_PAIRS
from tests.rigs.base import CloudRig, MiB, PairRig
from tests.rigs.gcs import GCSRig
from tests.rigs.pairs import PROFILE_PAIRS, params_of
from tests.rigs.s3 import S3Rig

STREAMS = 1000
BLOBS = 10_000
KEYS = 1200
"""Of so many contents, which are more than one page of S3 and of Cloud Storage."""
LONG_STREAMS = 100
"""How many of the streams take several parts."""
ALL_BLOBS = {"MemoryStorage"}
"""Servers and disks are slow, or cost money, and are asked to write each content once."""

# The storage is tested, not the server: one fast local server for each cloud.
one_rig_a_cloud = pytest.mark.parametrize(
    "rig", params_of("memory", "file", "s3-aws", "gcs-strict", "azure-azurite"), indirect=True
)
one_server_a_cloud = pytest.mark.parametrize(
    "cloud_rig", params_of("s3-aws", "gcs-strict", "azure-azurite"), indirect=True
)


def numbered(number: int) -> bytes:
    """Return 200 bytes that only this number gives."""
    return number.to_bytes(4, "big") * 50


def sockets_to(url: str) -> int:
    """ConnectionPool of this process to a server."""
    port = URL(url).port
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.raddr and each.raddr.port == port
        for each in psutil.Process().net_connections("tcp")
    )


def tasks_of(storage: ObjectStorage[Any]) -> list[str]:
    """Tasks that still run, apart from the test's and the proxy's own."""
    return [
        repr(task)
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and "lakery_cloud/engine" in repr(task)
    ]


class Meter:
    """Counts bytes that sources have given out and that the store has not yet acknowledged."""

    def __init__(self) -> None:
        self.given = 0
        self.acknowledged = 0
        self.peak = 0

    async def source(self, data: bytes, chunk_size: int) -> AsyncGenerator[bytes]:
        for start in range(0, len(data), chunk_size):
            chunk = data[start : start + chunk_size]
            self.given += len(chunk)
            self.peak = max(self.peak, self.given - self.acknowledged)
            yield chunk

    async def watch(self, storage: ObjectStorage[Any]) -> None:
        """Count the acknowledged requests from now on."""
        transport: Any = await storage.transport()
        transport.put = self._watched(transport.put)
        transport.upload_part = self._watched(transport.upload_part)

    def _watched(self, send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*arguments: Any) -> Any:
            answer = await send(*arguments)
            _, body, *_ = arguments
            self.acknowledged += body.size if isinstance(body, Part) else len(body)
            return answer

        return run


@one_rig_a_cloud
async def test_thousand_streams_at_once_keep_to_the_memory_and_the_connections(rig: PairRig) -> None:
    part, budget = rig.part_size, 4 * rig.part_size
    chunk_size = part // 16
    contents = [
        content(64, seed=number) * (part * 2 // 64 + number if number < LONG_STREAMS else 1 + number % 10)
        for number in range(STREAMS)
    ]
    meter = Meter()
    storage = rig.storage(max_buffered_bytes=budget, max_concurrent_requests=16, max_concurrent_reads=16)
    # Readers and writers at the same time; the rig's own client may keep a connection as well.
    await rig.keys()
    own = sockets_to(rig.server_url) if isinstance(rig, CloudRig) else 0
    async with asyncio.timeout(PATIENCE), storage:
        await meter.watch(storage)

        async def round_trip(data: bytes) -> None:
            storage_data = await write_stream(storage, meter.source(data, chunk_size))
            assert await storage.read_data(storage_data) == data

        await asyncio.gather(*map(round_trip, contents))
        if isinstance(rig, CloudRig):
            assert 0 < sockets_to(rig.server_url) - own <= storage.settings.connections
    assert meter.acknowledged == meter.given == sum(map(len, contents))
    # Each stream that waits for room in the middle has one chunk in its hands, which the storage did not ask for in advance.
    assert meter.peak <= budget + LONG_STREAMS * chunk_size
    if isinstance(rig, CloudRig):
        assert sockets_to(rig.server_url) <= own
    assert tasks_of(storage) == []
    await rig.check_nothing_temporary()
    assert len(await rig.keys()) == len({digest_of(data)["content_hash"] for data in contents})


@one_rig_a_cloud
@pytest.mark.case("41")
async def test_ten_thousand_blobs_at_once_are_listed_once_each(rig: PairRig) -> None:
    writes = BLOBS if rig.name in ALL_BLOBS else KEYS
    async with asyncio.timeout(PATIENCE), rig.storage() as storage:

        async def write_once(number: int) -> None:
            storage_data = await write(storage, numbered(number))
            if number % 10 == 0:
                assert await storage.read_data(storage_data) == numbered(number)

        await asyncio.gather(*(write_once(number % KEYS) for number in range(writes)))
        listed = [rig.own_key(info.address.key) async for info in storage.list()]
        assert len(listed) == KEYS
        assert set(listed) == {digest_of(numbered(number))["content_hash"] for number in range(KEYS)}
    assert tasks_of(storage) == []
    await rig.check_nothing_temporary()


def azure_storage_at(url: str) -> AzureBlobStorage:
    account = {"account_name": "devstoreaccount1", "account_key": "c2VjcmV0"}
    return AzureBlobStorage("bucket", endpoint_url=f"{url}/devstoreaccount1", **account)


@pytest.mark.parametrize(
    ("api", "storage_at"), [("s3", S3Rig.storage_at), ("gcs", GCSRig.storage_at), ("azure", azure_storage_at)]
)
async def test_ten_thousand_blobs_at_once_keep_to_the_connections(api: str, storage_at: Any) -> None:
    # On a server that does nothing else, and so keeps up.
    with null_server(api) as server:
        assert http_status(f"{server.url}/bucket", method="PUT") == 200
        storage = storage_at(server.url)
        async with asyncio.timeout(PATIENCE), storage:
            await asyncio.gather(*(write(storage, numbered(number)) for number in range(BLOBS)))
            assert 0 < sockets_to(server.url) <= storage.settings.connections
            assert await storage.find(digest_of(numbered(BLOBS - 1))) is not None
            assert await storage.find(digest_of(numbered(BLOBS))) is None
        assert sockets_to(server.url) == 0
    assert tasks_of(storage) == []


class Slow:
    """A source that stops in the middle until it is let go."""

    def __init__(self, before: bytes, after: bytes = b"") -> None:
        self._before, self._after = before, after
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self._before
        self.arrived.set()
        await self.released.wait()
        yield self._after

    @property
    def data(self) -> bytes:
        return self._before + self._after


@one_rig_a_cloud
async def test_slow_sources_that_hold_all_room_stop_no_blob_and_one_that_ends_lets_all_streams_pass(
    rig: PairRig,
) -> None:
    slow = [Slow(content(100, seed=seed), b"the end") for seed in range(4)]
    begun = 0

    async def quick(number: int) -> AsyncGenerator[bytes]:
        nonlocal begun
        begun += 1
        yield content(100, seed=1000 + number)

    async with (
        asyncio.timeout(PATIENCE),
        rig.storage(max_buffered_bytes=4 * rig.part_size) as storage,
        asyncio.TaskGroup() as group,
    ):
        for source in slow:
            group.create_task(write_stream(storage, source.chunks()))
            await source.arrived.wait()
        waiting = [group.create_task(write_stream(storage, quick(number))) for number in range(100)]
        # Blobs wait for no room: their bytes are the caller's.
        for number in range(3):
            assert await storage.read_data(await write(storage, numbered(number))) == numbered(number)
        assert begun == 0, "a stream that waits for room has not even begun its source"
        slow[-1].released.set()
        await asyncio.gather(*waiting)
        assert begun == 100
        for source in slow:
            source.released.set()
    assert len(await rig.keys()) == 4 + 100 + 3
    await rig.check_nothing_temporary()


@one_rig_a_cloud
@pytest.mark.parametrize("growth", [1, 3], ids=["same", "larger-than-all-room"])
async def test_streams_that_hold_all_room_and_want_more_do_not_block_each_other(rig: PairRig, growth: int) -> None:
    # All of them wait with a full part until each has one. No bytes have been released until then.
    part, writers = rig.part_size, 2
    options: dict[str, Any] = {"max_buffered_bytes": writers * part}
    if growth > 1:  # the second part is 10/3 of the first
        options["limits"] = replace(rig.storage().settings.limits, max_parts=3, part_multiple=1)
    sources = [Slow(content(part, seed=seed), content(part * growth, seed=seed + writers)) for seed in range(writers)]
    async with asyncio.timeout(PATIENCE), rig.storage(**options) as storage, asyncio.TaskGroup() as group:
        written = [group.create_task(write_stream(storage, source.chunks())) for source in sources]
        late = Slow(b"late")
        written.append(group.create_task(write_stream(storage, late.chunks())))
        for source in sources:
            await source.arrived.wait()
        assert not late.arrived.is_set()
        for source in (*sources, late):
            source.released.set()
        for task, source in zip(written, (*sources, late), strict=True):
            assert await storage.read_data(await task) == source.data
    await rig.check_nothing_temporary()


@one_rig_a_cloud
async def test_parts_larger_than_all_room_travel_one_by_one(rig: PairRig) -> None:
    contents = [content(rig.part_size * 2 + 1, seed=seed) for seed in range(4)]
    async with asyncio.timeout(PATIENCE), rig.storage(max_buffered_bytes=1) as storage:
        streams = [stream_of([data[:100], data[100:]]) for data in contents]
        written = await asyncio.gather(*(write_stream(storage, stream) for stream in streams))
        assert [await storage.read_data(storage_data) for storage_data in written] == contents


@one_rig_a_cloud
async def test_five_hundred_streams_cancelled_at_once_leave_nothing_and_release_the_budget(rig: PairRig) -> None:
    part, long = rig.part_size, 8
    sources = [Slow(content(part * 2 if number < long else 100, seed=number), b"more") for number in range(500)]
    storage = rig.storage(max_buffered_bytes=64 * part, max_concurrent_requests=4)
    wire = tap(storage)
    last = wire.hold("upload_part", nth=long, moment="after")

    async def write_all() -> None:
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(write_stream(storage, source.chunks()))

    async with asyncio.timeout(PATIENCE), storage:
        writing = asyncio.create_task(write_all())
        await last.reached.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await rig.check_nothing_left()
        # All room and all requests are free again: this needs each byte of it.
        holders = [Slow(content(100, seed=1000 + number)) for number in range(64)]
        async with asyncio.TaskGroup() as group:
            for source in holders:
                group.create_task(write_stream(storage, source.chunks()))
            for source in holders:
                await source.arrived.wait()
            for source in holders:
                source.released.set()
    assert len(await rig.keys()) == len(holders)


THROTTLED = [Rule(Answer(status), times=None, probability=0.05) for status in (429, 503)]
"""Each tenth request is refused. Eight attempts fail once in a hundred million requests."""


# On Cloud Storage, only the parts of composite uploads are sent concurrently.
THROTTLING = dict.fromkeys(("s3-aws", "gcs-google-versioned", "azure-versioned"), (4, 16))
"""Pair -> `max_concurrent_parts`: 4 do not grow."""


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    ("cloud_rig", "max_concurrent_parts"),
    [
        pytest.param(pair, most, id=f"{pair.name}-{most}")
        for pair in (*PROFILE_PAIRS, *AZURE_PROFILE_PAIRS)
        for most in THROTTLING.get(pair.name, ())
    ],
    indirect=["cloud_rig"],
)
async def test_thousand_streams_on_a_store_that_throttles_end_without_loss(
    cloud_rig: CloudRig, max_concurrent_parts: int
) -> None:
    part, long, parts = cloud_rig.part_size, 12, 10
    budget = 3 * 16 * part  # as many as three streams may have at a time
    contents = [
        content(64, seed=number) * (part * parts // 64 if number < long else 1 + number % 10)
        for number in range(STREAMS)
    ]
    meter = Meter()
    of_others = {id(held) for held in parts_in_memory()}
    async with (
        asyncio.timeout(PATIENCE),
        proxy_before(cloud_rig, *THROTTLED) as proxy,
        cloud_rig.storage(
            max_buffered_bytes=budget,
            max_concurrent_requests=32,
            max_concurrent_parts=max_concurrent_parts,
            max_attempts=8,
        ) as storage,
    ):
        await meter.watch(storage)
        streams = [write_stream(storage, meter.source(data, part // 4)) for data in contents]
        written = await asyncio.gather(*streams)
        await until(lambda: {id(held) for held in parts_in_memory()} <= of_others)
        for data, storage_data in zip(contents[: long + 1], written, strict=False):
            assert await storage.read_data(storage_data) == data
        refused = {TEMPORARY_FOLDER in each.key for each in proxy.exchanges if each.status in (429, 503)}
    assert refused == {True, False}, "requests for parts, and others"
    assert meter.acknowledged == meter.given == sum(map(len, contents))
    assert meter.peak <= budget + long * part // 4
    assert set(await cloud_rig.keys()) == {digest_of(data)["content_hash"] for data in contents}
    assert tasks_of(storage) == []
    await cloud_rig.check_nothing_temporary()


def parts_in_memory() -> list[Part]:
    gc.collect()
    return [
        held for held in gc.get_objects() if type(held) is Part
    ]  # isinstance fails for a weak reference to a dead object


@one_rig_a_cloud
async def test_sent_parts_are_released(rig: PairRig) -> None:
    part, writers = rig.part_size, 8
    of_others = {id(held) for held in parts_in_memory()}
    waiting = [Slow(content(part + 100, seed=seed), b"the end") for seed in range(writers)]
    # The first parts gave back what these need.
    later = [Slow(content(100, seed=seed), b"the end") for seed in range(writers)]
    async with (
        asyncio.timeout(PATIENCE),
        rig.storage(max_buffered_bytes=2 * writers * part) as storage,
        asyncio.TaskGroup() as group,
    ):
        for source in (*waiting, *later):
            group.create_task(write_stream(storage, source.chunks()))
        for source in (*waiting, *later):
            await source.arrived.wait()
        # A thread that has returned its result keeps its arguments for a moment.
        await until(lambda: {id(held) for held in parts_in_memory()} <= of_others)
        for source in (*waiting, *later):
            source.released.set()
    await rig.check_nothing_temporary()


@one_rig_a_cloud
async def test_repeated_use_leaks_no_task_and_no_descriptor(rig: PairRig) -> None:
    process = psutil.Process()
    large = content(4 * MiB)
    await rig.keys()

    def own() -> int:
        """Count open files, or connections to the server, since this process also runs servers of other tests."""
        gc.collect()
        return sockets_to(rig.server_url) if isinstance(rig, CloudRig) else process.num_fds()

    before = own()
    seen = []
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            async with rig.storage(max_buffered_bytes=8 * rig.part_size) as storage:
                read_only_begun = await write(storage, large)
                await asyncio.gather(*(write(storage, numbered(number)) for number in range(100)))
                broken = [
                    stream_of([content(rig.part_size + 1)], failure=ValueError("the source broke")) for _ in range(4)
                ]
                failed = await asyncio.gather(
                    *(write_stream(storage, stream) for stream in broken),
                    return_exceptions=True,
                )
                assert all(isinstance(failure, ValueError) for failure in failed), failed
                for _reader in range(20):
                    async with aclosing(storage.read_data_stream(read_only_begun)) as chunks:
                        await anext(chunks)
                cancelled = [asyncio.create_task(storage.read_data(read_only_begun)) for _ in range(20)]
                await asyncio.sleep(0)
                for task in cancelled:
                    task.cancel()
                outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
                assert all(isinstance(outcome, asyncio.CancelledError | bytes) for outcome in outcomes), outcomes
                assert tasks_of(storage) == []
            seen.append(own())
    assert max(seen) <= before, seen
    await rig.check_nothing_temporary()


class CountingProxy(FaultProxy):
    """Counts how many requests are on their way to an answer at a time.

    Attributes:
        peak: The most.
    """

    peak = 0

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        found = await super().match_fault(exchange, body)
        self.peak = max(self.peak, sum(each.status is None for each in self.exchanges))
        return found


@one_server_a_cloud
async def test_requests_and_reads_stay_within_their_limits(cloud_rig: CloudRig) -> None:
    large = content(8 * MiB)
    async with CountingProxy(cloud_rig.server_url) as proxy:
        cloud_rig.point_to(proxy.url)
        storage = cloud_rig.storage(max_concurrent_requests=8, max_concurrent_reads=4)
        async with asyncio.timeout(PATIENCE), storage:
            await asyncio.gather(*(write(storage, numbered(number)) for number in range(300)))
            assert proxy.peak == 8
            storage_data = await write(storage, large)
            hold = asyncio.Event()
            begun = asyncio.Semaphore(0)

            async def read_slowly() -> None:
                async with aclosing(storage.read_data_stream(storage_data)) as chunks:
                    await anext(chunks)
                    begun.release()
                    await hold.wait()

            readers = [asyncio.create_task(read_slowly()) for _ in range(20)]
            for _ in range(4):
                await begun.acquire()
            # Readers that stop hold their connections; writers have others.
            await asyncio.gather(*(write(storage, numbered(1000 + number)) for number in range(50)))
            assert begun.locked(), "a fifth body is open"
            assert sockets_to(proxy.url) <= storage.settings.connections == 12
            hold.set()
            await asyncio.gather(*readers)
        assert sockets_to(proxy.url) == 0
