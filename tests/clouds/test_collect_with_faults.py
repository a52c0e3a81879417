"""Garbage collection on a server of each cloud while requests fail: what records need stays readable, and garbage goes."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud import NoStorageData, ObjectStorage, StorageUnavailable
from lakery_cloud.maintenance.collect import CollectJob, store_time
from lakery_cloud.maintenance.jobs import run_job
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import Exchange, ScriptedProxy, digest_of
from lakery_cloud.testing.faults import Answer, CutAnswer, Fault, ResetAfter, ResetBefore, SwallowAnswer
from tests.conftest import rig_on
from tests.helpers import hash_of
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

LATER = timedelta(days=7, hours=2)
FAULTS: tuple[Fault, ...] = (Answer(500), Answer(503), ResetBefore(), ResetAfter(), SwallowAnswer(), CutAnswer(0))
BLOBS = [b"blob %d" % number for number in range(6)]
STEPS = 24

rig = rig_on(
    *(pair for pair in (*LOCAL_PAIRS, *PROFILE_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
)


class World:
    """A storage behind a proxy that lets requests fail, the same around it, and the records."""

    def __init__(self, storage: ObjectStorage[Any], direct: ObjectStorage[Any], seed: int) -> None:
        self.storage, self.direct = storage, direct
        self.random = random.Random(seed)
        self.records: set[bytes] = set()
        self.laps = 0

    async def save(self) -> None:
        """Save content; it has a record if that succeeded."""
        data = self.random.choice(BLOBS)
        with suppress(StorageUnavailable):
            await self.storage.write_data(data, digest_of(data), {})
            self.records.add(data)

    async def remember(self) -> None:
        """Commit a record of content that was found before it went into quarantine."""
        data = self.random.choice(BLOBS)
        if await self.direct.exists(self.direct.storage_data_of(digest_of(data))):
            self.records.add(data)

    async def forget(self) -> None:
        """Delete a record."""
        self.records.discard(self.random.choice(BLOBS))

    async def collect(self, storage: ObjectStorage[Any] | None = None) -> None:
        """Collect as if everything had been there for longer than the grace period."""
        storage = storage or self.storage
        self.laps += 1
        with LiveSet() as live:
            await live.add_all(map(hash_of, sorted(self.records)))
            began = await store_time(self.direct) + self.laps * LATER
            job = CollectJob(storage, live=live, began=began, dry_run=False)
            with suppress(StorageUnavailable):
                async for _ in run_job(job, [EVERYTHING]):
                    pass

    async def check(self) -> None:
        """Read what has a record, with no fault."""
        for data in self.records:
            assert await self.direct.read_data(self.direct.storage_data_of(digest_of(data))) == data


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_that_a_record_names_is_lost_when_requests_fail(seed: int, rig: CloudRig, short_pauses: None):
    endpoint_url = rig.endpoint_url
    async with ScriptedProxy(rig.server_url) as proxy, rig.storage() as direct:
        rig.point_to(proxy.url)
        async with rig.storage(max_attempts=2) as storage:
            rig.endpoint_url = endpoint_url
            world = World(storage, direct, seed)
            steps = [world.save, world.save, world.remember, world.forget, world.collect]
            scripts = []
            for _ in range(STEPS):
                fault, odds = world.random.choice(FAULTS), world.random.choice([0.1, 0.3, 0.6])
                scripts.append(proxy.script(_some(world.random, odds), fault, times=10**6))
                await world.random.choice(steps)()
                scripts[-1].times = 0
                await world.check()
            assert sum(script.fired for script in scripts) > STEPS // 4
            assert world.laps > 2
            # Without faults, what is garbage for long enough goes, and what is needed comes back.
            for _ in range(2):
                await world.collect(direct)
                await world.check()
            for data in BLOBS:
                if data not in world.records:
                    with pytest.raises(NoStorageData):
                        await direct.read_data(direct.storage_data_of(digest_of(data)))
            assert {key for key in await rig.keys() if "/" not in key} == set(map(hash_of, world.records))


def _some(random_: random.Random, odds: float) -> Callable[[Exchange], bool]:
    return lambda _: random_.random() < odds
