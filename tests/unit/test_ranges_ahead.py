"""Large objects are read by one GET until its connection shows to be slow, and in ranges from there on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from lakery_cloud import IntegrityError, MemoryStorage, S3Storage
from lakery_cloud.engine import reader
from lakery_cloud.engine.reader import Pace
from lakery_cloud.testing import content, digest_of, tap
from tests.helpers import write

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


async def test_pace_is_slow_only_while_the_process_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SLOW", 1e6)
    monkeypatch.setattr(reader, "IDLE", 0.5)
    passed = [0.0, 0.0]
    monkeypatch.setattr(reader, "time", SimpleNamespace(perf_counter=lambda: passed[0], process_time=lambda: passed[1]))

    async def arrive(seconds: float, computed: float) -> bytes:
        passed[0] += seconds
        passed[1] += computed
        return bytes(100 * KiB)

    pace = Pace()
    found = []
    for seconds, computed in [(9.0, 0.0), (0.05, 0.0), (0.2, 0.15), (0.2, 0.05), (0.05, 0.0)]:
        await pace.timed(arrive(seconds, computed))
        found.append(pace.is_slow)
    assert found == [False, False, False, True, False], "latency, fast, busy, slow, fast"
