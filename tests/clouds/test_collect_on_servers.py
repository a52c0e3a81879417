"""Garbage collection on each cloud's servers: quarantine, reads meanwhile, restoration and deletion."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud import NoStorageData, ObjectStorage
from lakery_cloud.maintenance.collect import CollectJob, Fate, restore_quarantined, store_time
from lakery_cloud.maintenance.jobs import run_job, total
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING
from lakery_cloud.testing import content, digest_of
from tests.helpers import TAGS, hash_of, write, write_stream
from tests.rigs.base import PairRig

GRACE = timedelta(days=7)


async def collect(
    storage: ObjectStorage[Any], live: Iterable[str], *, after: timedelta = timedelta(0), **options: Any
) -> tuple[dict[str, str], dict[str, int]]:
    """Collect as if it were so much later; the hashes with what was done, and the counts."""
    with LiveSet() as needed:
        await needed.add_all(live)
        job = CollectJob(storage, live=needed, began=await store_time(storage) + after, **{"dry_run": False, **options})
        results = [result async for result in run_job(job, [EVERYTHING])]
    found = {finding["content_hash"]: finding["result"] for result in results for finding in result.findings}
    return found, dict(total(results))


LATER = GRACE + timedelta(hours=1)


async def test_garbage_goes_by_quarantine_and_nothing_else_does(rig: PairRig, caplog: pytest.LogCaptureFixture):
    needed, garbage, large = b"needed", b"garbage", content(3 * rig.part_size)
    async with rig.storage(prefix="p") as storage:
        kept = await write(storage, needed)
        lost = [await write(storage, garbage), await write_stream(storage, large)]
        orphans = {hash_of(garbage), hash_of(large)}
        await rig.put("p/notes", b"not ours")
        keys = set(await rig.keys())
        young, _ = await collect(storage, [hash_of(needed)])
        assert young == {}, "within the grace period nothing is garbage"
        planned, counts = await collect(storage, [hash_of(needed)], after=LATER, dry_run=True)
        assert planned == dict.fromkeys(orphans, "would be quarantined")
        assert (counts["objects"], counts["live"], counts[Fate.QUARANTINED]) == (3, 1, 2)
        assert set(await rig.keys()) == keys, "a dry run changes nothing"

        done, counts = await collect(storage, [hash_of(needed)], after=LATER)
        assert done == dict.fromkeys(orphans, "quarantined")
        assert counts["quarantined bytes"] == len(garbage) + len(large)
        assert set(await rig.keys()) == {f"p/{hash_of(needed)}", "p/notes", *(f"p/.trash/{each}" for each in orphans)}

        caplog.set_level(logging.WARNING)
        assert [await storage.read_data(each) for each in lost] == [garbage, large]
        assert await storage.exists(lost[0])
        described = await storage.stat(lost[0])
        assert (described.info.size, described.info.content_type) == (
            len(garbage),
            digest_of(garbage)["content_type"],
        )
        assert dict(described.tags) == TAGS or not described.tags
        assert "is read from quarantine" in caplog.text
        assert await storage.find(digest_of(garbage)) is None, "a save must write it anew"
        assert [info.size async for info in storage.list()] == [len(needed)]
        assert await storage.read_data(kept) == needed

        waiting, _ = await collect(storage, [hash_of(needed)], after=GRACE)
        assert waiting == {}, "it stays in quarantine for the grace period"
        missed, _ = await collect(storage, [hash_of(needed), hash_of(garbage)], after=2 * LATER)
        assert missed == {hash_of(garbage): "restored", hash_of(large): "deleted"}
        assert await storage.read_data(lost[0]) == garbage
        with pytest.raises(NoStorageData):
            await storage.read_data(lost[1])
        assert set(await rig.keys()) == {
            *(f"p/{hash_of(each)}" for each in (needed, garbage)),
            f"p/.trash/{hash_of(garbage)}",
            "p/notes",
        }


async def test_content_that_is_written_again_is_new(rig: PairRig):
    async with rig.storage() as storage:
        await write(storage, b"data")
        await collect(storage, [], after=LATER)
        storage_data = await write(storage, b"data")
        assert hash_of(b"data") in await rig.keys()
        found, _ = await collect(storage, [], after=2 * LATER)
        assert found == {hash_of(b"data"): "quarantined"}
        assert await storage.read_data(storage_data) == b"data"
        assert await rig.keys() == [f".trash/{hash_of(b'data')}"]


async def test_restore_brings_back_what_is_asked_for(rig: PairRig):
    blobs = [b"one", b"two", b"three"]
    async with rig.storage() as storage:
        stored = [await write(storage, data) for data in blobs]
        await collect(storage, [], after=LATER)
        assert [each async for each in restore_quarantined(storage, [hash_of(b"two")])] == [(hash_of(b"two"), 3)]
        assert hash_of(b"two") in await rig.keys()
        with pytest.raises(NoStorageData, match="not in quarantine"):
            [each async for each in restore_quarantined(storage, [hash_of(b"four")])]
        assert {each async for each in restore_quarantined(storage)} == {(hash_of(data), len(data)) for data in blobs}
        assert [await storage.read_data(each) for each in stored] == blobs
        assert {key for key in await rig.keys() if "/" not in key} == {hash_of(data) for data in blobs}


async def test_without_quarantine_garbage_is_deleted_at_once(rig: PairRig):
    async with rig.storage() as storage:
        for data in (b"needed", b"garbage"):
            await write(storage, data)
        found, _ = await collect(storage, [hash_of(b"needed")], after=LATER, quarantine=False)
        assert found == {hash_of(b"garbage"): "deleted"}
        assert await rig.keys() == [hash_of(b"needed")]
