"""A job on a real bucket in a process of its own, which may kill one of its workers, and itself with all it has started.

Its folder gets the manifest, the report, the shards that have begun, and the state at the kill of the worker. It prints its
progress, and its figures as JSON at the end.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.scale.work import engine_of, open_bucket
from lakery_cloud import AzureBlobStorage
from lakery_cloud.maintenance import CopyJob, Engine, Job, Manifest, Shard, ShardResult, VerifyJob, plan, run_job
from lakery_cloud.maintenance.manifest import FILE_NAME

BEGUN, REPORT, WORKER_KILLED = "begun", "report.jsonl", "worker-killed.json"
PROGRESS_EVERY = 5.0
"""Seconds between two lines of progress."""
PATIENCE = 60.0
"""Seconds until a process that was killed has ended."""


def _note(begun: Path, shard: Shard) -> None:
    """Note that a shard has begun."""
    with begun.open("a") as file:
        file.write(f"{shard.hash_prefix}\n")


class NotingVerify(VerifyJob):
    """`verify`, which notes what it begins."""

    begun: Path

    async def run(self, shard: Shard, payload: bytes = b"") -> ShardResult:
        _note(self.begun, shard)
        return await super().run(shard, payload)


class NotingCopy(CopyJob):
    """`copy`, which notes what it begins."""

    begun: Path

    async def run(self, shard: Shard, payload: bytes = b"") -> ShardResult:
        _note(self.begun, shard)
        return await super().run(shard, payload)


def open_container(name: str) -> AzureBlobStorage:
    """Open a container with the settings of the environment."""
    return AzureBlobStorage(name)


def done_of(folder: Path) -> list[str]:
    """The shards that the manifest in a folder has, in the order in which they were done."""
    entries = entries_of(folder / FILE_NAME)
    return [entry["shard"] for entry in entries if "shard" in entry]


def begun_in(folder: Path) -> list[str]:
    """The shards that have begun, in this order; some more than once."""
    path = folder / BEGUN
    return path.read_text("utf-8").split("\n")[:-1] if path.exists() else []


def entries_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def make_job(options: argparse.Namespace) -> Job:
    """Return the job of the options; all reports name each object."""
    source, destination = partial(open_bucket, options.bucket), partial(open_container, options.container)
    job: NotingVerify | NotingCopy
    if options.task == "copy":
        job = NotingCopy(source, destination, reports_all=True)
    else:
        job = NotingVerify(source if options.task == "verify" else destination, reports_all=True)
    job.begun = options.folder / BEGUN
    return job


class KillingManifest(Manifest):
    """A manifest that prints progress, and kills what the options say when it has so many results.

    Results arrive in the order of their shards, and so those of a lost worker late; here they are counted as they are done.
    """

    def __init__(self, options: argparse.Namespace, shards: int, workers: list[int]) -> None:
        super().__init__(options.folder)
        self._options, self._shards, self._workers = options, shards, workers
        self._step, self._done, self._objects = _progress(shards), 0, 0

    async def add(self, result: ShardResult) -> None:
        await super().add(result)
        self._done += 1
        self._objects += result.counts.get("objects", 0)
        self._step(self._done, self._objects)
        if self._workers and self._done == int(self._options.worker_at * self._shards):
            await asyncio.to_thread(_kill_worker, self._workers[0], self._options.folder)
        if self._options.all_at and self._done == int(self._options.all_at * self._shards):
            os.killpg(0, signal.SIGKILL)


async def run(options: argparse.Namespace, engine: Engine | None, workers: list[int]) -> dict[str, Any]:
    """Run the job, and kill what the options say when they say so."""
    began, job = time.perf_counter(), make_job(options)
    shards = await plan(job.storage)
    manifest = KillingManifest(options, len(shards), workers)
    results = [result async for result in run_job(job, shards, engine=engine, manifest=manifest)]
    objects = sum(result.counts.get("objects", 0) for result in results)
    with (options.folder / REPORT).open("w", encoding="utf-8") as file:
        for result in results:
            entry = {"shard": result.shard.hash_prefix, "counts": result.counts, "findings": result.findings}
            file.write(f"{json.dumps(entry, sort_keys=True)}\n")
    await job.aclose()
    return {"objects": objects, "seconds": time.perf_counter() - began, "shards": len(shards)}


def _kill_worker(pid: int, folder: Path) -> None:
    done, worker = done_of(folder), psutil.Process(pid)
    worker.kill()
    worker.wait(PATIENCE)  # now nothing that it began can be missing
    (folder / WORKER_KILLED).write_text(json.dumps({"done": done, "begun": begun_in(folder)}), "utf-8")


def _progress(shards: int) -> Callable[[int, int], None]:
    began = last = time.monotonic()

    def step(done: int, objects: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY:
            last = now
            rate, left = objects / (now - began), (now - began) / done * (shards - done)
            print(f"  {done} of {shards} shards, {objects:,} objects, {rate:,.0f}/s, {left:.0f} s left", flush=True)

    return step


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.killed_job", description=__doc__)
    parser.add_argument("task", choices=["verify", "copy", "verify-destination"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bucket", default="")
    parser.add_argument("--container", default="")
    parser.add_argument("--engine", choices=["here", "dask"], default="here")
    parser.add_argument("--worker-at", type=float, default=0, help="part of the shards after which a worker is killed")
    parser.add_argument("--all-at", type=float, default=0, help="part after which everything is killed")
    options = parser.parse_args()
    with engine_of(options.engine) as engine:
        client: Any = engine
        workers = sorted(client.run(os.getpid).values()) if options.worker_at else []
        figures = asyncio.run(run(options, engine, workers))
    print(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
