"""One measurement in a process of its own, so that its memory is its own. It prints its figures as JSON."""

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

from benchmarks.null_server.simulated import PREFIX, live_keys
from benchmarks.payload import unique
from lakery_cloud import S3Storage, SerializedData, StorageRegistry
from lakery_cloud.cli.loops import use_uvloop
from lakery_cloud.maintenance import (
    READS_AT_A_TIME,
    CollectJob,
    Engine,
    Job,
    Shard,
    VerifyJob,
    live_set,
    plan,
    run_job,
    store_time,
)
from lakery_cloud.maintenance.jobs import SHARDS_AT_A_TIME, shards_of_call
from lakery_cloud.maintenance.shards import listed

EVERY = 2
"""The records of the collection name each second object."""
SAVES_AT_A_TIME = 32

Figures = dict[str, Any]


async def list_all(storage: S3Storage, *_: Any) -> Figures:
    """List each object, one page after the other."""
    objects = 0
    async for _ in listed(storage):
        objects += 1
    return {"objects": objects}


async def plan_all(storage: S3Storage, *_: Any) -> Figures:
    """Split the bucket into shards."""
    shards = await plan(storage)
    return {"shards": len(shards)}


async def compare_all(storage: S3Storage, engine: Engine | None, _: argparse.Namespace) -> Figures:
    """Read the records of a collection, and find the garbage: a dry run."""
    number = int(storage.keys.bucket.removeprefix(PREFIX))
    began = await store_time(storage)
    with await live_set([live_keys(number, every=EVERY)]) as live:
        job = CollectJob(storage, live=live, began=began, grace=timedelta(hours=1))
        counts = await _counts(job, await plan(storage), engine)
    found = counts["quarantined"]
    if (counts["objects"], found) != (number, number - -(-number // EVERY)):
        raise SystemExit(f"wrong counts: {dict(counts)}")
    return {"objects": counts["objects"], "garbage": found}


async def fill(storage: S3Storage, _: Engine | None, options: argparse.Namespace) -> Figures:
    """Save blobs."""
    contents = (
        SerializedData(
            data=unique(options.size, number), content_type="application/octet-stream", content_encoding=None
        )
        for number in range(options.blobs)
    )
    objects = 0
    async for saved in StorageRegistry([storage]).save_many(contents, at_a_time=SAVES_AT_A_TIME):
        if saved.error is not None:
            raise saved.error
        objects += 1
    return {"objects": objects}


async def collect_half(storage: S3Storage, _: Engine | None, options: argparse.Namespace) -> Figures:
    """Collect what no record names, each second blob, and check that exactly the others are left."""
    kept = [sha256(unique(options.size, number)).hexdigest() for number in range(0, options.blobs, EVERY)]
    began = await store_time(storage) + timedelta(hours=2)  # as if the blobs were older than the grace period
    with await live_set([kept]) as live:
        job = CollectJob(storage, live=live, began=began, grace=timedelta(hours=1), dry_run=False)
        counts = await _counts(job, await plan(storage), None)
    left = [content_hash async for content_hash, _ in listed(storage)]
    if sorted(left) != sorted(kept):
        raise SystemExit(f"{len(left)} blobs are left, not the {len(kept)} that records name: {dict(counts)}")
    return {"objects": counts["quarantined"]}


async def verify_all(storage: S3Storage, engine: Engine | None, _: argparse.Namespace) -> Figures:
    """Read and hash each object."""
    shards = await plan(storage)
    together = SHARDS_AT_A_TIME if engine is None else shards_of_call(len(shards))
    job = VerifyJob(_source(storage, engine), at_a_time=READS_AT_A_TIME // together)  # as the command does
    counts = await _counts(job, shards, engine)
    return {"objects": counts["objects"]}


async def _counts(job: Job, shards: list[Shard], engine: Engine | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    async for result in run_job(job, shards, engine=engine):  # whose findings are not kept
        counts.update(result.counts)
    return counts


def _source(storage: S3Storage, engine: Engine | None) -> Any:
    return storage if engine is None else partial(open_bucket, storage.keys.bucket)


def open_bucket(bucket: str) -> S3Storage:
    """Open a bucket with the settings of the environment."""
    return S3Storage(bucket)


TASKS: dict[str, Callable[..., Awaitable[Figures]]] = {
    "list": list_all,
    "plan": plan_all,
    "gc": compare_all,
    "fill": fill,
    "collect": collect_half,
    "verify": verify_all,
}


@contextmanager
def engine_of(name: str) -> Iterator[Engine | None]:
    """Start what runs the job, before the measurement begins."""
    if name == "here":
        yield None
    elif name == "processes":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=use_uvloop) as executor:
            for future in [executor.submit(time.sleep, 0.5) for _ in range(2)]:
                future.result()
            yield executor
    else:
        from distributed import Client, LocalCluster

        make: Any = LocalCluster
        connect: Any = Client
        with make(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, connect(cluster) as client:
            yield client


async def measure(options: argparse.Namespace, engine: Engine | None) -> Figures:
    """Run a task, and add its time and memory."""
    async with open_bucket(options.bucket) as storage:
        began, used = time.perf_counter(), time.process_time()
        figures = await TASKS[options.task](storage, engine, options)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**figures, "seconds": seconds, "cpu": used, "peak": peak}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.work", description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("bucket")
    parser.add_argument("--engine", choices=["here", "processes", "dask"], default="here")
    parser.add_argument("--blobs", type=int, default=0)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    use_uvloop()  # as the command does
    with engine_of(options.engine) as engine:
        print(json.dumps(asyncio.run(measure(options, engine))))


if __name__ == "__main__":
    main()
