"""Requests, prices and times of jobs: the table of requests is what jobs send, at a store that counts."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from lakery_cloud import ConfigError, MemoryStorage
from lakery_cloud.engine.transport import Transport
from lakery_cloud.maintenance import (
    JOBS,
    PRICES,
    CollectJob,
    CopyJob,
    InventoryJob,
    Job,
    Prices,
    VerifyJob,
    estimate,
    price_of,
    requests_of_collection,
    run_job,
    store_time,
    total,
)
from lakery_cloud.maintenance.inventories import Inventory
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING, Shard, listed
from tests.helpers import hash_of, write

KINDS = {
    "head": "read",
    "get": "read",
    "copy_as_is": "write",
    "put": "write",
    "delete_if": "delete",
    "delete": "delete",
}
BLOBS = [b"%d" % number for number in range(20)]
LATER = timedelta(days=30)


class CountingTransport:
    """Counts requests by kind, and the objects that are listed."""

    def __init__(self, transport: Transport, requests: Counter[str]) -> None:
        self._transport, self._requests = transport, requests

    def __getattr__(self, name: str) -> Any:
        if name in KINDS:
            self._requests[KINDS[name]] += 1
        return getattr(self._transport, name)

    async def list(self, bucket: str, root: str) -> AsyncIterator[Any]:
        async for info in self._transport.list(bucket, root):
            self._requests["list"] += 1
            yield info

    async def list_described(self, bucket: str, root: str) -> AsyncIterator[Any]:
        async for info in self._transport.list_described(bucket, root):
            self._requests["list"] += 1
            yield info


class Store:
    """A storage in memory with twenty objects, and its requests."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.requests: Counter[str] = Counter()
        self.storage.wrap_transports(lambda each: CountingTransport(each, self.requests))  # type: ignore[arg-type, return-value]

    async def counted(self, job: Job, shard: Shard = EVERYTHING) -> tuple[Counter[str], Counter[str]]:
        """The requests of a job, and its counts."""
        self.requests.clear()
        counts = total([result async for result in run_job(job, [shard])])
        return +self.requests, counts

    async def collected(
        self, *live: bytes, after: timedelta = LATER, shard: Shard = EVERYTHING, **options: Any
    ) -> tuple[Counter[str], Counter[str]]:
        """The requests of a collection, and its counts."""
        with LiveSet() as needed:
            await needed.add_all(map(hash_of, live))
            began: datetime = await store_time(self.storage) + after
            job = CollectJob(self.storage, live=needed, began=began, **{"dry_run": False, **options})
            return await self.counted(job, shard)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    async with store.storage:
        for data in BLOBS:
            await write(store.storage, data)
        yield store


async def test_jobs_send_what_the_table_says(store: Store):
    def expected(job: str) -> Counter[str]:
        return Counter({kind: round(number * len(BLOBS)) for kind, number in JOBS[job].items()})

    assert (await store.counted(VerifyJob(store.storage)))[0] == expected("verify")
    assert (await store.counted(InventoryJob(store.storage)))[0] == expected("inventory")
    with Inventory("test") as inventory:
        async for content_hash, info in listed(store.storage):
            inventory.add(content_hash, info)
        found, _ = await store.counted(VerifyJob(store.storage), Shard("", inventory))
        assert found == expected("verify, inventory")
    assert (await store.collected(*BLOBS))[0] == expected("gc, nothing to collect")
    async with MemoryStorage() as destination:
        destination.wrap_transports(lambda each: CountingTransport(each, store.requests))  # type: ignore[arg-type, return-value]
        copied, _ = await store.counted(CopyJob(store.storage, destination))
        assert copied == expected("copy to another provider")
    moved, _ = await store.collected()
    assert moved == expected("gc, all to quarantine")
    deleted, _ = await store.collected(after=2 * LATER)
    assert deleted == expected("gc, all deleted from quarantine")


@pytest.mark.parametrize("has_inventory", [False, True])
async def test_a_dry_run_counts_what_will_be_sent(store: Store, has_inventory: bool):
    with Inventory("test") as inventory:
        async for content_hash, info in listed(store.storage):
            inventory.add(content_hash, info)
        shard = Shard("", inventory if has_inventory else None)
        for live, after in ((BLOBS[:5], LATER), (BLOBS[3:9], 2 * LATER), ([], 2 * LATER), ([], 3 * LATER)):
            _, counts = await store.collected(*live, after=after, shard=shard, dry_run=True)
            said = requests_of_collection(counts, page=1, has_inventory=has_inventory)
            found, _ = await store.collected(*live, after=after, shard=shard)
            for kind in ("read", "write", "delete"):
                # What an inventory says may be gone, so that fewer are needed.
                assert found[kind] == said[kind] if not has_inventory else found[kind] <= said[kind], (kind, live)


def test_prices_are_sums():
    mine = Prices(list=5, read=1, write=10, delete=2, page=100)
    assert price_of({"list": 1000, "read": 2000, "delete": 500}, mine) == 5 + 2 + 1
    found = estimate("copy to another provider", 250_000, prices=mine, objects_per_second=100, processes=5)
    assert found.requests == {"list": 2500, "read": 250_000, "write": 250_000}
    assert found.dollars == pytest.approx(12.5 + 250 + 2500)
    assert found.duration == timedelta(seconds=500)
    assert estimate("verify", 0, prices=mine).dollars == 0
    assert estimate("verify", 1, prices=PRICES["az"]).requests["list"] == 1
    assert estimate("verify, inventory", 10**8, prices=PRICES["s3"]).requests == {"read": 10**8}


def test_wrong_numbers_are_refused():
    for options in ({"list": -1, "read": 0, "write": 0}, {"list": 0, "read": 0, "write": 0, "page": 0}):
        with pytest.raises(ConfigError, match="a price is at least 0"):
            Prices(**options)  # type: ignore[arg-type]
    prices = PRICES["s3"]
    for job, objects, more in (("nothing", 1, {}), ("verify", -1, {}), ("verify", 1, {"processes": 0})):
        with pytest.raises(ConfigError):
            estimate(job, objects, prices=prices, **more)
    with pytest.raises(ConfigError):
        estimate("verify", 1, prices=prices, objects_per_second=0)
