"""Jobs on inventories: in this and in other processes, continued from a manifest, and garbage collection."""

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import FileStorage, MemoryStorage
from lakery_cloud.maintenance import (
    CollectJob,
    CopyJob,
    InventoryJob,
    Manifest,
    VerifyJob,
    live_set,
    plan,
    run_job,
    total,
)
from lakery_cloud.maintenance.inventories import Inventory
from lakery_cloud.maintenance.shards import EVERYTHING, listed
from tests.helpers import hash_of, write

BUCKET = "bucket"
LATER = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
async def full(tmp_path: Path) -> tuple[FileStorage, Inventory]:
    """A folder with thirty blobs, and an inventory of it that has one more, and lacks one."""
    storage = FileStorage(tmp_path / "store")
    for number in range(30):
        await write(storage, b"%d" % number)
    Path(tmp_path, "store", hash_of(b"7")).write_bytes(b"x")
    inventory = Inventory("test")
    async for content_hash, info in listed(storage):
        if content_hash != hash_of(b"3"):
            inventory.add(content_hash, info)
    inventory.add(hash_of(b"deleted"), replace_info(storage, hash_of(b"deleted")))
    return storage, inventory


def replace_info(storage: Any, content_hash: str) -> Any:
    from lakery_cloud.engine.model import ObjectInfo

    return ObjectInfo(storage.keys.content(content_hash), 1, "v", modified=LATER)


async def test_jobs_read_what_an_inventory_lists_wherever_they_run(full: Any, tmp_path: Path):
    storage, inventory = full
    with inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        here = [result async for result in run_job(VerifyJob(storage, reports_all=True), shards)]
        assert total(here) == {"objects": 29, "bytes": 49, "damaged": 1}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            job = VerifyJob(partial(FileStorage, tmp_path / "store"), reports_all=True)
            there = [result async for result in run_job(job, shards, engine=processes)]
        assert there == here
        assert {result.shard for result in here} == set(EVERYTHING.split())
        rows = [row async for result in run_job(InventoryJob(storage), shards) for row in result.findings]
        assert hash_of(b"deleted") in {row["content_hash"] for row in rows}
    await storage.aclose()


async def test_what_the_inventory_of_the_source_lists_is_copied(full: Any):
    storage, inventory = full
    async with MemoryStorage() as destination:
        await write(destination, b"11")
        with inventory:
            shards = await plan(storage, shards=16, inventory=inventory)
            results = [result async for result in run_job(CopyJob(storage, destination), shards)]
        counts = total(results)
        assert (counts["copied"], counts["deduplicated"], counts["failed"]) == (27, 1, 1), counts
        copied = {content_hash async for content_hash, _ in listed(destination)}
        assert copied == {hash_of(b"%d" % number) for number in range(30)} - {hash_of(b"3"), hash_of(b"7")}
    await storage.aclose()


async def test_a_manifest_continues_with_the_same_inventory_alone(full: Any, tmp_path: Path):
    storage, inventory = full
    with inventory:
        shards = await plan(storage, shards=16, inventory=inventory)
        job = InventoryJob(storage)
        first = [result async for result in run_job(job, shards[:4], manifest=Manifest(tmp_path / "kept"))]
        inventory.add(hash_of(b"later"), replace_info(storage, hash_of(b"later")))
        again = [result async for result in run_job(job, shards, manifest=Manifest(tmp_path / "kept"))]
        assert again == first, "the plan and the results are those of the first run"
        listing = [result async for result in run_job(job, EVERYTHING.split(), manifest=Manifest(tmp_path / "kept"))]
        assert total(listing)["objects"] == 30, "a job on listings is another one"
    await storage.aclose()


async def test_garbage_in_an_inventory_is_looked_at_again_before_anything_happens(tmp_path: Path):
    import os

    storage = FileStorage(tmp_path / "store")
    old, young = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 20))
    for name, time in {"garbage": old, "live": old, "written anew": young, "missed": old}.items():
        await write(storage, name.encode())
        os.utime(tmp_path / "store" / hash_of(name), (time.timestamp(),) * 2)
    with Inventory("test") as inventory, await live_set([[hash_of("live")]]) as live:
        for name in ("garbage", "live", "written anew", "gone"):
            info = replace_info(storage, hash_of(name))._replace(modified=old)
            inventory.add(hash_of(name), info)
        shards = await plan(storage, shards=1, inventory=inventory)
        options: dict[str, Any] = {"live": live, "began": datetime(2026, 1, 21, tzinfo=UTC), "grace": timedelta(days=7)}
        dry = [result async for result in run_job(CollectJob(storage, **options), shards)]
        assert total(dry)["quarantined"] == 3, "a dry run believes the inventory"
        for quarantine in (True, False):
            job = CollectJob(storage, dry_run=False, quarantine=quarantine, **options)
            results = [result async for result in run_job(job, shards)]
            done = {finding["content_hash"] for result in results for finding in result.findings}
            assert done == ({hash_of("garbage")} if quarantine else set())
    left = {path.name for path in (tmp_path / "store").iterdir() if path.is_file()}
    assert left == {hash_of(name) for name in ("live", "written anew", "missed")}
    await storage.aclose()


async def test_a_plan_of_an_inventory_sends_no_request_and_splits_large_shards():
    storage = MemoryStorage(BUCKET)
    storage.wrap_transports(lambda _: pytest.fail("a request was sent"))
    with Inventory("test") as inventory:
        for number in range(3000):
            content_hash = hash_of(f"{number}")
            inventory.add(content_hash if number % 2 else "ab" + content_hash[2:], replace_info(storage, content_hash))
        shards = await plan(storage, shards=1, max_objects=200, inventory=inventory)
        prefixes = [shard.hash_prefix for shard in shards]
        assert prefixes == sorted([*(f"{digit:x}" for digit in range(16) if digit != 10), *_split("a", "ab")])
        sizes = [len(inventory.entries(storage.keys, prefix)) for prefix in prefixes]
        assert sum(sizes) == 3000
        assert max(sizes) < 300


def _split(*crowded: str) -> list[str]:
    """The shards below these, which are split themselves."""
    return [prefix + digit for prefix in crowded for digit in "0123456789abcdef" if prefix + digit not in crowded]
