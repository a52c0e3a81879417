"""Jobs on a Dask cluster of two worker processes, one of which is lost."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from lakery_cloud import FileStorage, StorageUnavailable
from lakery_cloud.maintenance.copy import CopyJob
from lakery_cloud.maintenance.jobs import Job, run_job, total
from lakery_cloud.maintenance.manifest import FILE_NAME, Manifest
from lakery_cloud.maintenance.shards import Shard, ShardResult, listed, plan
from lakery_cloud.maintenance.verify import VerifyJob
from tests.cli.desk import Desk
from tests.helpers import until, write

BLOBS = [b"blob %d" % number for number in range(60)]


opened_cluster = partial(
    LocalCluster, n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with opened_cluster() as opened:
        yield opened


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    async with FileStorage(tmp_path / "store") as storage:
        for data in BLOBS:
            await write(storage, data)
    return tmp_path / "store"


class Dying(Job):
    """Counts objects; the first process that works on the shard `7` ends."""

    def __init__(self, root: Path, marker: Path) -> None:
        super().__init__(FileStorage(root))
        self._marker = marker

    def description(self) -> Mapping[str, Any]:
        return {"name": "dying"}

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        if shard.hash_prefix == "7" and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ShardResult(shard, {"objects": len([entry async for entry in listed(self.storage, shard)])})


class DyingCopy(CopyJob):
    """A copy. The first process that has copied the shard `7` ends before it says so. It notes the shards that begin."""

    def __init__(self, source: Path, destination: Path, manifest: Path, *, notes: Path) -> None:
        super().__init__(FileStorage(source), FileStorage(destination), reports_all=True)
        self._manifest, self._notes = manifest / FILE_NAME, notes

    async def run(self, shard: Shard, payload: bytes = b"") -> ShardResult:
        lines = self._manifest.read_text().splitlines()
        done = {json.loads(line).get("shard") for line in lines if line}
        with self._notes.open("a") as notes:
            notes.write(f"{'again' if shard.hash_prefix in done else 'begun'}\n")
        result = await super().run(shard, payload)
        if shard.hash_prefix == "7" and "died" not in self._notes.read_text():
            with self._notes.open("a") as notes:
                notes.write("died\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Lethal:
    """Ends the process that sent it, when it is received, and is a text afterwards."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return _end, (os.getpid(), self._marker)


def _end(pid: int, marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(pid, signal.SIGKILL)
        time.sleep(2)  # until the scheduler has told the client, which reads such long results in another thread
    return "received"


class DyingWithResult(Dying):
    """The process that has done the shard `7` ends while the client reads the result, which is then lost for Dask."""

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        findings: list[Any] = []
        if shard.hash_prefix == "7":
            await asyncio.sleep(4 if self._marker.exists() else 0)  # still lost when the client has read it
            findings = [Lethal(self._marker), bytes(16 << 20)]
        return ShardResult(shard, {"objects": len([entry async for entry in listed(self.storage, shard)])}, findings)


async def test_a_worker_may_be_lost_while_its_result_is_read(cluster: LocalCluster, folder: Path, tmp_path: Path):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    with await asyncio.to_thread(Client, cluster.scheduler_address) as client:
        job = DyingWithResult(folder, tmp_path / "died")
        results = [result async for result in run_job(job, shards, engine=client)]
    assert (tmp_path / "died").exists()
    assert total(results)["objects"] == len(BLOBS)
    assert [result.findings[0] for result in results if result.findings] == ["received"]


async def test_a_copy_is_complete_although_a_worker_is_lost(cluster: LocalCluster, folder: Path, tmp_path: Path):
    there, kept, notes = tmp_path / "there", tmp_path / "kept", tmp_path / "notes"
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    with await asyncio.to_thread(Client, cluster.scheduler_address) as client:
        job = DyingCopy(folder, there, kept, notes=notes)
        results = [result async for result in run_job(job, shards, engine=client, manifest=Manifest(kept))]
    begun = Counter(notes.read_text().split())
    assert (begun["died"], begun["again"]) == (1, 0), "what is in the manifest is not done again"
    assert begun["begun"] > len(shards)
    entries = [json.loads(line) for line in (kept / FILE_NAME).read_text().splitlines() if line]
    assert sorted(entry["shard"] for entry in entries if "counts" in entry) == [shard.hash_prefix for shard in shards]
    counts = total(results)
    assert (counts["objects"], counts["copied"] + counts["deduplicated"]) == (len(BLOBS), len(BLOBS))
    async with FileStorage(there) as storage:
        found = [result async for result in run_job(VerifyJob(storage, reports_all=True), shards)]
    assert total(found) == {"objects": len(BLOBS), "bytes": sum(map(len, BLOBS))}
    here = [result async for result in run_job(CopyJob(FileStorage(folder), FileStorage(tmp_path / "other")), shards)]
    assert [result.counts["objects"] for result in here] == [result.counts["objects"] for result in results]


async def test_a_lost_worker_changes_nothing(cluster: LocalCluster, folder: Path, tmp_path: Path):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    with await asyncio.to_thread(Client, cluster.scheduler_address) as client:
        manifest = Manifest(tmp_path / "manifest")
        results = [
            result
            async for result in run_job(Dying(folder, tmp_path / "died"), shards, engine=client, manifest=manifest)
        ]
        assert (tmp_path / "died").exists()
        assert [result.shard for result in results] == shards
        assert total(results) == {"objects": len(BLOBS)}
        job = VerifyJob(FileStorage(folder), reports_all=True)
        assert [result async for result in run_job(job, shards, engine=client)] == [
            result async for result in run_job(job, shards)
        ]


class Lost(Dying):
    """Each process that works on the shard `7` ends."""

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        self._marker.unlink(missing_ok=True)
        return await super().run(shard, payload)


async def test_the_loss_of_each_worker_that_tries_is_an_error(cluster: LocalCluster, folder: Path, tmp_path: Path):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    client = await asyncio.to_thread(Client, cluster.scheduler_address)
    with client, pytest.raises(StorageUnavailable, match="run the job again"):
        [result async for result in run_job(Lost(folder, tmp_path / "died"), shards, engine=client)]


class Waiting(Dying):
    """Waits until it is cancelled."""

    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        self._marker.touch()
        await asyncio.sleep(3600)
        raise AssertionError


async def test_the_loss_of_the_scheduler_is_an_error(folder: Path, tmp_path: Path):
    async with FileStorage(folder) as storage:
        shards = await plan(storage)
    job = Waiting(folder, tmp_path / "begun")

    async def end(cluster: LocalCluster) -> None:
        await until((tmp_path / "begun").exists)
        await asyncio.to_thread(cluster.close)

    with opened_cluster() as cluster, await asyncio.to_thread(Client, cluster.scheduler_address) as client:
        async with asyncio.TaskGroup() as both:
            both.create_task(end(cluster))
            with pytest.raises(StorageUnavailable, match="run the job again"):
                [result async for result in run_job(job, shards, engine=client)]


def test_the_command_uses_the_cluster(cluster: LocalCluster, desk: Desk):
    desk.run("put", *desk.files(**{f"file{number}": str(number) for number in range(30)}), "--quiet")
    here = desk.run("verify", "--json")
    there = desk.run("verify", "--json", "--dask", cluster.scheduler_address)
    assert (there.code, there.out) == (0, here.out)
    source, folder = desk.objects.as_uri(), desk.folder.as_uri()
    copied = desk.run("copy", source, f"{folder}/there", "--dask", cluster.scheduler_address)
    assert (copied.code, copied.out) == (0, desk.run("copy", source, f"{folder}/here").out)


def test_a_cluster_that_is_not_there_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lakery_cloud.cli.jobs.DASK_TIMEOUT", 0.5)
    done = desk.run("verify", "--dask", "tcp://127.0.0.1:1")
    assert done.code == 6
    assert "can't be reached" in "".join(done.errors)
