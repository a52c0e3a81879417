"""Large objects are read by one GET until its connection shows to be slow, and in ranges from there on."""

import asyncio
import selectors
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lakery_cloud import IntegrityError, MemoryStorage, S3Storage
from lakery_cloud.engine import reader
from lakery_cloud.engine.model import Body
from lakery_cloud.engine.reader import FIRST_RANGES, MOST_RANGES, ConnectionRate
from lakery_cloud.streams import pace
from lakery_cloud.streams.pace import note_throttle
from lakery_cloud.testing import content, digest_of, tap
from tests.helpers import let_others_run, write

KiB = 1024
SIZE = 4096 * KiB
ANY_RATE, ANY_SHARE = 1e18, 1e9


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is slow, and shows it early."""
    monkeypatch.setattr(reader, "SAMPLE", 100 * KiB)
    monkeypatch.setattr(reader, "SLOW", ANY_RATE)
    monkeypatch.setattr(reader, "IDLE", ANY_SHARE)


@asynccontextmanager
async def written(**options: Any) -> AsyncIterator[tuple[MemoryStorage, Any]]:
    async with MemoryStorage(range_size=500 * KiB, **options) as storage:
        data = content(SIZE)
        yield storage, await write(storage, data)


async def test_slow_connection_is_left_for_ranges() -> None:
    async with written() as (storage, storage_data):
        wire = tap(storage)
        assert await storage.read_data(storage_data) == content(SIZE)
        assert wire.count("get") > SIZE // (500 * KiB)
        assert wire.count("head") == 0


async def test_next_read_begins_with_ranges_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    async with written() as (storage, storage_data):
        wire = tap(storage)  # which begins a session
        (await storage._session()).link.clock = lambda: now[0]

        async def requests() -> int:
            before = wire.count("get")
            assert await storage.read_data(storage_data) == content(SIZE)
            return wire.count("get") - before

        assert await requests() == (first := await requests()) + 1, "the first one also asks for a byte"
        monkeypatch.setattr(reader, "SLOW", 0)
        now[0] = pace.REMEMBERED - 1
        assert await requests() == first
        now[0] += 2
        assert await requests() == 1
        assert wire.count("head") == 0


async def test_fast_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SLOW", 0)
    async with written() as (storage, storage_data):
        wire = tap(storage)
        assert await storage.read_data(storage_data) == content(SIZE)
        assert wire.count("get") == 1


async def test_plain_get_that_was_asked_for_stays_one() -> None:
    async with written(concurrent_ranges=1) as (storage, storage_data):
        wire = tap(storage)
        assert await storage.read_data(storage_data) == content(SIZE)
        assert wire.count("get") == 1


async def test_connection_is_kept_where_there_is_room_for_one_alone() -> None:
    async with written(max_concurrent_reads=1) as (storage, storage_data):
        wire = tap(storage)
        assert await storage.read_data(storage_data) == content(SIZE)
        assert wire.count("get") == 1


async def test_endpoint_that_ignores_ranges_is_asked_for_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    data, asked = content(SIZE), []

    async def whole(request: web.Request) -> web.Response:
        asked.append("Range" in request.headers)
        return web.Response(body=data, headers={"ETag": '"1"', "Content-Type": "text/plain"})

    application = web.Application()
    application.router.add_get("/{key:.*}", whole)
    async with TestServer(application) as server:
        options: Any = {"region": "us-east-1", "range_size": 500 * KiB}
        async with S3Storage("bucket", endpoint_url=str(server.make_url("/")).rstrip("/"), **options) as storage:
            assert await storage.read_data(storage.storage_data_of(digest_of(data))) == data
    assert asked == [False, True]


async def test_object_that_changes_before_the_ranges_is_an_error() -> None:
    async with written() as (storage, storage_data):
        wire = tap(storage)

        async def replace() -> None:
            transport, (address, *_) = await storage.transport(), storage.contents.objects
            found = storage.contents.objects.pop(address)
            await transport.put(storage.keys.content(address), content(SIZE, seed=1), found.attributes)

        wire.before("get", replace, nth=3)
        with pytest.raises(IntegrityError, match="changed"):
            await storage.read_data(storage_data)


async def test_rate_is_slow_only_while_the_process_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SLOW", 1e6)
    monkeypatch.setattr(reader, "IDLE", 0.5)
    passed = [0.0, 0.0]
    monkeypatch.setattr(reader, "time", SimpleNamespace(perf_counter=lambda: passed[0], process_time=lambda: passed[1]))

    async def arrive(seconds: float, computed: float) -> bytes:
        passed[0] += seconds
        passed[1] += computed
        return bytes(100 * KiB)

    rate = ConnectionRate()
    found = []
    for seconds, computed in [(9.0, 0.0), (0.05, 0.0), (0.2, 0.15), (0.2, 0.05), (0.05, 0.0)]:
        await rate.timed(arrive(seconds, computed))
        found.append(rate.is_slow)
    assert found == [False, False, False, True, False], "latency, fast, busy, slow, fast"


RANGE = SIZE // 40


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clocks of the pace: those ranges move them that arrive."""
    clocks = SimpleNamespace(now=0.0, worked=0.0)
    moved = SimpleNamespace(monotonic=lambda: clocks.now, process_time=lambda: clocks.worked)
    monkeypatch.setattr(pace, "time", moved)
    return clocks


async def peaks(clocks: SimpleNamespace, *, load: float = 0.0, throttled: int = 0, **options: Any) -> list[int]:
    """Read an object; return how many requests were under way when each of them began.

    Args:
        clocks: Each response takes a second.
        load: In which the process works for so long.
        throttled: So many of the first requests are throttled.
        options: Settings of the storage.
    """
    under_way, seen = 0, list[int]()
    async with MemoryStorage(range_size=RANGE, **options) as storage:
        storage_data = await write(storage, content(SIZE))
        wire = tap(storage)

        async def travel() -> None:
            nonlocal under_way
            under_way += 1
            seen.append(under_way)
            if len(seen) <= throttled:
                note_throttle()
            await let_others_run(50)
            clocks.now, clocks.worked = clocks.now + 1, clocks.worked + load
            under_way -= 1

        for number in range(1, 60):
            wire.before("get", travel, nth=number)
        assert await storage.read_data(storage_data) == content(SIZE)
    return seen


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "unverified"])
async def test_ranges_grow_while_the_link_is_the_limit(verify: bool, clocks: SimpleNamespace) -> None:
    seen = await peaks(clocks, verify=verify)
    assert max(seen[:10]) == FIRST_RANGES
    assert max(seen) == MOST_RANGES


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"concurrent_ranges": 1}, 1),
        ({"concurrent_ranges": 3}, 3),
        ({"concurrent_ranges": 30}, 30),
        ({"max_buffered_bytes": 30 * RANGE}, 10),
        ({"max_buffered_bytes": 5 * RANGE}, 5),
    ],
    ids=str,
)
async def test_no_more_ranges_are_read_than_settings_allow(
    options: dict[str, Any], most: int, clocks: SimpleNamespace
) -> None:
    assert max(await peaks(clocks, verify=False, **options)) == most


async def test_ranges_of_a_busy_process_stay_as_many(clocks: SimpleNamespace) -> None:
    assert max(await peaks(clocks, load=1.0)) == FIRST_RANGES


async def test_throttle_halves_the_ranges(clocks: SimpleNamespace) -> None:
    seen = await peaks(clocks, load=1.0, throttled=8, concurrent_ranges=8)
    assert max(seen[:8]) == 8
    assert max(seen[8:]) == 4


class Jumps(selectors.SelectSelector):
    """Waits only for threads: the clock jumps to the next timer of the loop."""

    def __init__(self, clocks: SimpleNamespace) -> None:
        super().__init__()
        self._clocks = clocks

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(None if timeout is None else 0)
        if not found:
            self._clocks.now += timeout
        return found


class Network:
    """A transport behind a network: each response takes 20 ms, and a connection carries a range of `RANGE` in 80 ms.

    The process works for a nanosecond for each byte of a range of 8 MiB, which is what reads over HTTP cost.
    """

    latency, piece = 0.02, RANGE // 128
    seconds_a_piece = 0.08 / 128
    work_a_piece = 8 * 1024**2 * 1e-9 / 128

    def __init__(self, transport: Any, clocks: SimpleNamespace) -> None:
        self._transport = transport
        self._clocks = clocks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def head(self, *args: Any) -> Any:
        await asyncio.sleep(self.latency)
        return await self._transport.head(*args)

    @asynccontextmanager
    async def get(self, *args: Any, **options: Any) -> AsyncGenerator[Body]:
        async with self._transport.get(*args, **options) as body:
            await asyncio.sleep(self.latency)
            yield body._replace(chunks=self._slowly(body))

    async def _slowly(self, body: Body) -> AsyncGenerator[bytes]:
        async for chunk in body.chunks:
            for start in range(0, len(chunk), self.piece):
                await asyncio.sleep(self.seconds_a_piece)
                self._clocks.worked += self.work_a_piece
                yield chunk[start : start + self.piece]


def seconds_of_a_read(clocks: SimpleNamespace, **options: Any) -> float:
    """How long a read of 40 ranges over a network takes, of which the reader hashes one in 6 ms."""

    async def read() -> float:
        async with MemoryStorage(range_size=RANGE, verify=False, **options) as storage:
            storage_data = await write(storage, content(SIZE))
            storage.wrap_transports(lambda transport: Network(transport, clocks))  # type: ignore[arg-type, return-value]
            began, found = clocks.now, 0
            async with aclosing(storage.read_data_stream(storage_data)) as chunks:
                async for chunk in chunks:
                    found += len(chunk)
                    await asyncio.sleep(0.006 * len(chunk) / RANGE)
            assert found == SIZE
            return clocks.now - began

    loop = asyncio.SelectorEventLoop(Jumps(clocks))
    loop.time = lambda: clocks.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(read())
    finally:
        loop.close()


def test_ranges_that_grow_are_faster_than_eight_from_the_start(
    clocks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "time", SimpleNamespace(perf_counter=lambda: clocks.now, process_time=lambda: 0.0))
    monkeypatch.setattr(reader, "SAMPLE", RANGE // 2)
    assert seconds_of_a_read(clocks) < seconds_of_a_read(clocks, concurrent_ranges=8)
