"""Jobs on shards: the same report from this process and from others, errors, and manifests that continue."""

import asyncio
import gc
import json
import os
import pickle
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import ConfigError, FileStorage, MemoryStorage, StorageUnavailable
from lakery_cloud.maintenance import jobs
from lakery_cloud.maintenance.jobs import SHARDS_AT_A_TIME, Job, run_job, shards_of_call, total
from lakery_cloud.maintenance.known_checksums import KnownChecksums
from lakery_cloud.maintenance.live import live_set
from lakery_cloud.maintenance.manifest import FILE_NAME, Manifest
from lakery_cloud.maintenance.shards import EVERYTHING, Shard, ShardResult, listed, plan
from lakery_cloud.maintenance.stock import CompareJob, Difference
from lakery_cloud.maintenance.verify import VerifyJob
from tests.helpers import hash_of, write

BLOBS = [b"blob %d" % number for number in range(60)]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder with sixty blobs, one of them damaged."""
    async with FileStorage(tmp_path / "store") as storage:
        for data in BLOBS:
            await write(storage, data)
    Path(tmp_path, "store", hash_of(BLOBS[7])).write_bytes(b"flob 7")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


class Counting(Job):
    """Counts objects, notes its shards in a file, and fails or ends its process at one of them."""

    def __init__(self, root: Path, notes: Path, *, fails_at: str = "", dies_at: str = "") -> None:
        super().__init__(FileStorage(root))
        self._notes, self._fails_at, self._dies_at = notes, fails_at, dies_at

    def description(self) -> Mapping[str, Any]:
        return {"name": "count", "storage": repr(self.storage)}

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        with self._notes.open("a") as notes:
            notes.write(f"{shard.hash_prefix}\n")
        if shard.hash_prefix == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.hash_prefix == self._fails_at:
            raise StorageUnavailable("it is a bad day")
        found = [content_hash async for content_hash, _ in listed(self.storage, shard)]
        return ShardResult(shard, {"objects": len(found)}, [{"payload": payload.decode(), "hashes": found}])

    def payload(self, shard: Shard) -> bytes:
        return f"for {shard.hash_prefix}".encode()

    def shards_done(self) -> list[str]:
        return self._notes.read_text().split() if self._notes.exists() else []


async def test_the_report_is_the_same_whatever_runs_the_job(folder: Path, processes: ProcessPoolExecutor):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
        job = VerifyJob(storage, reports_all=True)
        here = [result async for result in run_job(job, shards)]
        there = [result async for result in run_job(VerifyJob(partial(FileStorage, folder), reports_all=True), shards)]
        with ThreadPoolExecutor(3) as threads:
            engines = [
                [result async for result in run_job(job, shards, engine=engine)] for engine in (processes, threads)
            ]
    assert [result.shard for result in here] == shards
    assert there == here
    assert engines == [here, here]
    assert total(here) == {"objects": 60, "bytes": sum(map(len, BLOBS)), "damaged": 1}
    hashes = [finding["content_hash"] for result in here for finding in result.findings]
    assert hashes == sorted(map(hash_of, BLOBS))


async def test_an_interrupted_job_continues_with_the_shards_that_are_not_done(folder: Path, tmp_path: Path):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    manifest = tmp_path / "made" / "manifest"
    broken = Counting(folder, tmp_path / "broken", fails_at="7")
    with pytest.raises(StorageUnavailable, match="bad day"):
        [result async for result in run_job(broken, shards, manifest=Manifest(manifest))]
    assert "7" in broken.shards_done()
    with (manifest / FILE_NAME).open("ab") as file:
        file.write(b'{"plan": "cut off')
    kept = [json.loads(line) for line in (manifest / FILE_NAME).read_bytes().splitlines()[:-1] if line][1:]
    whole = Counting(folder, tmp_path / "whole")
    # The plan of the first run counts, since the results are for its shards.
    results = [result async for result in run_job(whole, [EVERYTHING], manifest=Manifest(manifest))]
    assert [result.shard for result in results] == shards
    assert total(results) == {"objects": len(BLOBS)}
    assert sorted(whole.shards_done()) == sorted({shard.hash_prefix for shard in shards} - {e["shard"] for e in kept})
    again = Counting(folder, tmp_path / "again")
    assert [result async for result in run_job(again, shards, manifest=Manifest(manifest))] == results
    assert again.shards_done() == []


async def test_a_manifest_in_a_storage_continues_too(folder: Path, tmp_path: Path):
    kept = MemoryStorage()
    await write(kept, b"something else")
    with pytest.raises(StorageUnavailable):
        await _all(Counting(folder, tmp_path / "broken", fails_at="7"), Shard("").split(), manifest=Manifest(kept))
    whole = Counting(folder, tmp_path / "whole")
    results = await _all(whole, EVERYTHING.split(), manifest=Manifest(kept))
    assert total(results) == {"objects": len(BLOBS)}
    assert 0 < len(whole.shards_done()) < 16
    await _all(whole, EVERYTHING.split(), manifest=Manifest(kept))
    assert len(whole.shards_done()) < 16


async def test_jobs_share_a_manifest_without_mixing(folder: Path, tmp_path: Path):
    manifest = tmp_path / "manifest"
    verified = await _all(VerifyJob(FileStorage(folder)), EVERYTHING.split(), manifest=Manifest(manifest))
    counted = await _all(Counting(folder, tmp_path / "notes"), EVERYTHING.split(), manifest=Manifest(manifest))
    assert total(verified) != total(counted)
    assert await _all(VerifyJob(FileStorage(folder)), [EVERYTHING], manifest=Manifest(manifest)) == verified


async def test_a_manifest_continues_with_the_same_records_and_checksums_alone(folder: Path, tmp_path: Path):
    manifest, storage = tmp_path / "manifest", FileStorage(folder)

    async def orphans(*named: bytes) -> int:
        with await live_set([map(hash_of, named)]) as live:
            job = CompareJob(storage, live=live, differences=frozenset({Difference.ORPHAN}))
            return total(await _all(job, EVERYTHING.split(), manifest=Manifest(manifest)))[Difference.ORPHAN]

    assert await orphans(BLOBS[0], BLOBS[1]) == len(BLOBS) - 2
    assert await orphans(BLOBS[0], b"not stored") == len(BLOBS) - 1, "as many records, but others"
    kept = (manifest / FILE_NAME).read_bytes()
    assert await orphans(BLOBS[1], BLOBS[0], BLOBS[1]) == len(BLOBS) - 2
    assert (manifest / FILE_NAME).read_bytes() == kept, "the same records in another order"
    descriptions = []
    for checksum in ("00000000", "00000001", "00000001"):
        with KnownChecksums() as known:
            known.add(hash_of(BLOBS[0]), {"crc32c": checksum})
            descriptions.append(VerifyJob(storage, by_checksum=True, known=known).description())
    assert descriptions[0] != descriptions[1] == descriptions[2]
    await storage.aclose()


@pytest.mark.parametrize(("planned", "at_a_time"), [(16, 1), (256, 4)])
async def test_of_the_shards_of_one_call_only_the_failed_one_is_done_again(
    folder: Path, tmp_path: Path, planned: int, at_a_time: int
):
    assert shards_of_call(planned) == at_a_time
    assert at_a_time <= SHARDS_AT_A_TIME
    shards = [Shard(f"{number:0{len(f'{planned - 1:x}')}x}") for number in range(planned)]
    failing = shards[-2].hash_prefix  # all calls but the last one have ended
    manifest = tmp_path / "manifest"
    with ThreadPoolExecutor(1) as worker:
        broken = Counting(folder, tmp_path / "broken", fails_at=failing)
        with pytest.raises(StorageUnavailable, match="bad day"):
            await _all(broken, shards, engine=worker, manifest=Manifest(manifest))
        whole = Counting(folder, tmp_path / "whole")
        results = await _all(whole, shards, engine=worker, manifest=Manifest(manifest))
    assert [result.shard for result in results] == shards
    assert total(results) == {"objects": len(BLOBS)}
    again = whole.shards_done()
    assert failing in again
    assert again in ([failing], [failing, shards[-1].hash_prefix])  # the last one was perhaps not begun


async def test_a_job_of_a_thread_is_closed_wherever_it_is_collected(folder: Path, tmp_path: Path):
    place = jobs._Workplace(pickle.dumps(Counting(folder, tmp_path / "notes")))
    results = await asyncio.to_thread(place.run, [(shard, b"") for shard in EVERYTHING.split()])
    assert total(results) == {"objects": len(BLOBS)}
    loop, place.itself = place._runner._loop, place  # a cycle, which only the garbage collector finds
    del place
    async with asyncio.timeout(30):
        while not loop.is_closed():
            gc.collect()  # the thread may still keep what it called
            await asyncio.sleep(0.01)


async def test_a_worker_that_dies_ends_the_job_with_what_to_do(folder: Path, tmp_path: Path):
    manifest = Manifest(tmp_path / "manifest")
    dying = Counting(folder, tmp_path / "died", dies_at="9")
    with (
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor,
        pytest.raises(StorageUnavailable, match="run the job again, with the same manifest"),
    ):
        await _all(dying, EVERYTHING.split(), engine=executor, manifest=manifest)
    assert total(await _all(Counting(folder, tmp_path / "notes"), EVERYTHING.split(), manifest=manifest)) == {
        "objects": len(BLOBS)
    }


async def test_an_error_of_a_worker_arrives_as_it_is(folder: Path, tmp_path: Path, processes: ProcessPoolExecutor):
    with pytest.raises(StorageUnavailable, match="bad day"):
        await _all(Counting(folder, tmp_path / "notes", fails_at="3"), EVERYTHING.split(), engine=processes)


async def test_a_job_that_does_not_pickle_is_refused_before_anything_starts(
    tmp_path: Path, processes: ProcessPoolExecutor
):
    manifest = tmp_path / "manifest"
    with pytest.raises(ConfigError, match="modules that the workers can import"):
        await _all(
            VerifyJob(lambda: FileStorage(tmp_path)), EVERYTHING.split(), engine=processes, manifest=Manifest(manifest)
        )
    assert not manifest.exists()


async def test_an_unwritable_manifest_is_named(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match=r"manifest\.jsonl can't be"):
        await _all(VerifyJob(FileStorage(folder)), [EVERYTHING], manifest=Manifest(tmp_path / "file"))


async def _all(job: Job, shards: Any, **options: Any) -> list[ShardResult]:
    return [result async for result in run_job(job, shards, **options)]
