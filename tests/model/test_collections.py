"""Writers, readers and two collectors of one storage, in any order, with a clock that jumps between their requests.

Each request waits until the model lets it go. Content-derived versions are those of S3: a new object with the same content
has the same one, so that no condition tells it from the old one.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakery_cloud import MemoryStorage, NoStorageData
from lakery_cloud.engine.transport import Transport
from lakery_cloud.maintenance import collect as module
from lakery_cloud.maintenance.collect import CollectJob
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import digest_of
from tests.helpers import hash_of

GRACE = timedelta(hours=8)
FLIGHT = timedelta(minutes=29)
"""How long a request may take to arrive: a little less than the protocol allows."""
BLOBS = [b"one", b"two", b"three"]


class World:
    """The clock, the records, and the requests that wait."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.records: set[str] = set()
        self.deadlines: dict[object, datetime] = {}
        self._waiting: list[tuple[asyncio.Future[None], datetime]] = []
        self.trace: list[str] = []

    async def turn(self, *, may_jump: bool = False) -> None:
        """Wait until the model chooses this task. A request that is on its way arrives in time."""
        future = asyncio.get_running_loop().create_future()
        latest = self.now + (timedelta(days=30) if may_jump else FLIGHT)
        self._waiting.append((future, latest))
        await future

    async def run(self) -> None:
        """Let one waiting task go after the other, and time pass."""
        while True:
            await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            if not self._waiting:
                continue
            self._pass_time()
            due = [entry for entry in self._waiting if entry[1] <= self.now]
            entry = due[0] if due else self.random.choice(self._waiting)
            self._waiting.remove(entry)
            if not entry[0].done():
                entry[0].set_result(None)

    def _pass_time(self) -> None:
        step = self.random.choice([*[timedelta(0)] * 4, *[timedelta(minutes=m) for m in (1, 7, 25)], GRACE / 2, GRACE])
        limits = [latest for _, latest in self._waiting] + list(self.deadlines.values())
        self.now = max(self.now, min([self.now + step, *limits]))


class ModelTransport:
    """A transport whose requests arrive when the model wants, and whose store has the model's clock."""

    def __init__(self, transport: Transport, storage: MemoryStorage, world: World, *, has_etags: bool) -> None:
        self._transport, self._storage, self._world, self._has_etags = transport, storage, world, has_etags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def server_time(self, bucket: str) -> datetime:
        return self._world.now

    async def _changed(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        await self._world.turn()
        objects = self._storage.contents.objects
        before = dict(objects)
        try:
            return await function(*args, **options)
        finally:
            for key, found in list(objects.items()):
                if before.get(key) is not found:
                    version = hash_of(found.data) if self._has_etags else found.version
                    objects[key] = replace(found, modified=self._world.now, version=version)

    async def put(self, *args: Any, **options: Any) -> Any:
        return await self._changed(self._transport.put, *args, **options)

    async def copy_as_is(self, *args: Any, **options: Any) -> Any:
        return await self._changed(self._transport.copy_as_is, *args, **options)

    async def delete_if(self, *args: Any, **options: Any) -> Any:
        return await self._changed(self._transport.delete_if, *args, **options)

    async def head(self, *args: Any, **options: Any) -> Any:
        await self._world.turn()
        return await self._transport.head(*args, **options)


async def write_and_record(world: World, storage: MemoryStorage) -> None:
    """Write content, and commit its record within the grace period, or never."""
    for _ in range(4):
        await world.turn(may_jump=True)
        data = world.random.choice(BLOBS)
        token = object()
        world.deadlines[token] = world.now + GRACE
        try:
            await storage.write_data(data, digest_of(data), {})
            if world.random.random() < 0.3:
                continue  # the writer died
            await world.turn(may_jump=True)
            world.records.add(hash_of(data))
        finally:
            del world.deadlines[token]
        if world.random.random() < 0.5:
            await world.turn(may_jump=True)
            world.records.discard(hash_of(data))


async def read(world: World, storage: MemoryStorage) -> None:
    """Read content that a record names, all the time."""
    for _ in range(12):
        await world.turn(may_jump=True)
        for data in BLOBS:
            if hash_of(data) in world.records:
                assert await storage.read_data(storage.storage_data_of(digest_of(data))) == data, data


async def collect_again(world: World, storage: MemoryStorage, *, runs: int = 5) -> None:
    for _ in range(runs):
        await world.turn(may_jump=True)
        began = world.now
        with LiveSet() as live:
            await live.add_all(sorted(world.records))
            job = CollectJob(storage, live=live, began=began, grace=GRACE, dry_run=False, at_a_time=2)
            payload = job.payload(EVERYTHING)
        await world.turn()
        await job.run(EVERYTHING, payload)


def check_nothing_lost(world: World, storage: MemoryStorage) -> None:
    stored = {key.rpartition("/")[2] for key in storage.contents.objects}
    assert world.records <= stored


@pytest.mark.parametrize("has_etags", [True, False], ids=["etags", "generations"])
@pytest.mark.parametrize("seed", range(60))
async def test_no_content_that_a_record_needs_is_lost(seed: int, has_etags: bool, monkeypatch: pytest.MonkeyPatch):
    world = World(seed)
    monkeypatch.setattr(module, "monotonic", lambda: world.now.timestamp())  # noqa: PLW0108, the time changes
    storage = MemoryStorage()
    storage.wrap_transports(lambda each: ModelTransport(each, storage, world, has_etags=has_etags))  # type: ignore[arg-type, return-value]
    running = asyncio.create_task(world.run())
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(write_and_record(world, storage))
            group.create_task(read(world, storage))
            for _ in range(2):
                group.create_task(collect_again(world, storage))
        check_nothing_lost(world, storage)
        # What is garbage for long enough goes, and what is needed comes back.
        for _ in range(4):
            world.now += 3 * GRACE / 2
            await collect_again(world, storage, runs=1)
            check_nothing_lost(world, storage)
        for data in BLOBS:
            storage_data = storage.storage_data_of(digest_of(data))
            if hash_of(data) in world.records:
                assert await storage.read_data(storage_data) == data
                assert hash_of(data) in storage.contents.objects
            else:
                with pytest.raises(NoStorageData):
                    await storage.read_data(storage_data)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
