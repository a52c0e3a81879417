"""Jobs: work on the content of a storage, shard by shard, in this process, in an executor's processes, or on Dask.

The executor schedules, and repeats what a lost worker left. A job only has to give the same result for a shard each time.
"""

import abc
import asyncio
import pickle
import threading
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError, StorageUnavailable
from lakery_cloud.maintenance.cluster import Cluster, call_on_cluster
from lakery_cloud.maintenance.manifest import Manifest
from lakery_cloud.maintenance.shards import Shard, ShardResult
from lakery_cloud.streams.tasks import side_by_side

R = TypeVar("R")

SHARDS_AT_A_TIME = 4
"""Shards of one process at a time: while one is listed, or its last objects are read, objects of others are."""
IN_FLIGHT = 64
"""Calls that an executor has at a time; the results of as many may wait for that of an earlier one."""

StorageSource = ObjectStorage[Any] | Callable[[], ObjectStorage[Any]]
"""A storage, or a function that opens it and can be pickled, for storages that each worker finds in its configuration."""


class OpenedOnUse:
    """A storage that is opened when it is used first, and pickled as its source."""

    def __init__(self, source: StorageSource) -> None:
        self._source = source
        self._storage: ObjectStorage[Any] | None = None

    @property
    def storage(self) -> ObjectStorage[Any]:
        """The storage, opened in this process."""
        if self._storage is None:
            self._storage = self._source if isinstance(self._source, ObjectStorage) else self._source()
        return self._storage

    async def aclose(self) -> None:
        """Close the storage on the running event loop, if it was used."""
        if self._storage is not None:
            await self._storage.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_storage": None}


class Job(abc.ABC):
    """Work on one shard at a time. A job that runs in other processes is pickled: it can't have credentials.

    Args:
        source: The storage.

    Attributes:
        watch: Called in this process with the number of objects and bytes of each step, for progress displays.
    """

    def __init__(self, source: StorageSource) -> None:
        self.watch: Callable[[int, int], None] = _ignore
        self._place = OpenedOnUse(source)

    @property
    def storage(self) -> ObjectStorage[Any]:
        """The storage, opened in this process."""
        return self._place.storage

    @abc.abstractmethod
    def description(self) -> Mapping[str, Any]:
        """The name of the job and what its results depend on, as JSON. A manifest of another job is refused."""

    @abc.abstractmethod
    async def run(self, shard: Shard, payload: bytes) -> ShardResult:
        """Do the work on one shard. It may have been done before, in part or whole."""

    def payload(self, shard: Shard) -> bytes:
        """What this process gives to the one that works on the shard."""
        return b""

    async def aclose(self) -> None:
        """Close the storage on the running event loop."""
        await self._place.aclose()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watch": _ignore}


def _ignore(objects: int, size: int) -> None:
    """Show no progress."""


Engine = Executor | Cluster
"""What runs a job in other processes: a `ProcessPoolExecutor` or the like, or a `distributed.Client`."""


Portion = tuple[Shard, bytes]
"""A shard, and what the process that plans gives with it."""
Results = list[ShardResult | BaseException]
"""The result of each shard of a call, or its failure."""


async def run_job(
    job: Job,
    shards: Iterable[Shard],
    *,
    engine: Engine | None = None,
    manifest: Manifest | None = None,
    at_a_time: int = SHARDS_AT_A_TIME,
) -> AsyncGenerator[ShardResult]:
    """Run a job on shards, and yield the result of each, in their order.

    Args:
        job: The job.
        shards: The shards. A manifest of an earlier run has its own, which replace these.
        engine: What runs the job; by default this process.
        manifest: Where results are kept, so that a later run repeats only shards without one.
        at_a_time: Shards at a time in this process.

    Raises:
        ConfigError: The job can't be sent to other processes, or the manifest is of another job.
        StorageUnavailable: A worker process died.
        LakeryCloudError: The work on a shard failed.
    """
    call, planned = _caller(job, engine), list(shards)
    done: dict[Shard, ShardResult] = {}
    if manifest is not None:
        listing = planned[0].listing if planned else None
        description = job.description() if listing is None else {**job.description(), "inventory": listing.name}
        kept, results_kept = await manifest.begin(description, planned)
        planned, done = [shard._replace(listing=listing) for shard in kept], {**results_kept}

    async def results_of(together: Sequence[Shard]) -> list[ShardResult]:
        left = [shard for shard in together if shard.plain() not in done]
        failures = []
        for result in await call(left) if left else ():
            if isinstance(result, BaseException):
                failures.append(result)
                continue
            if manifest is not None:
                await manifest.add(result)
            done[result.shard] = result
        if failures:
            raise failures[0]
        return [done.pop(shard.plain()) for shard in together]

    size = 1 if engine is None else shards_of_call(len(planned))
    calls = [planned[start : start + size] for start in range(0, len(planned), size)]
    limit = at_a_time if engine is None else IN_FLIGHT
    async with aclosing(side_by_side(results_of, calls, limit=limit, ahead=limit)) as found:
        async for results in found:
            for result in results:
                yield result


def shards_of_call(shards: int) -> int:
    """How many of so many shards a process of an executor has at a time: fewer of few, so that each process gets some."""
    return max(1, min(SHARDS_AT_A_TIME, shards // IN_FLIGHT))


def _caller(job: Job, engine: Engine | None) -> Callable[[Sequence[Shard]], Awaitable[Results]]:
    """A function that runs the job on shards, wherever the engine does."""
    if engine is None:

        async def call(shards: Sequence[Shard]) -> Results:
            return [await _run(job, shard, job.payload(shard)) for shard in shards]

        return call

    pickled = _pickled(job)

    async def portions(shards: Sequence[Shard]) -> list[Portion]:
        return await asyncio.to_thread(lambda: [(shard.portable(), job.payload(shard)) for shard in shards])

    if isinstance(engine, Cluster):

        async def submit_to_cluster(shards: Sequence[Shard]) -> Results:
            return await call_on_cluster(engine, _run_in_worker, pickled, await portions(shards))

        return submit_to_cluster

    broken = threading.Event()

    async def submit(shards: Sequence[Shard]) -> Results:
        future: Future[Results] | None = None
        try:
            future = engine.submit(_run_in_worker, pickled, await portions(shards))
            return await asyncio.shield(asyncio.wrap_future(future))
        except BrokenExecutor as error:
            broken.set()
            raise StorageUnavailable(
                f"a worker process ended during shard {shards[0].hash_prefix!r}: {error}; run the job again, with the "
                "same manifest to keep what is done"
            ) from error
        except asyncio.CancelledError:
            if future is not None and not broken.is_set():  # a broken pool fails at futures that someone else ended
                future.cancel()
            raise

    return submit


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except ConfigError as error:
        raise ConfigError(f"the job can't be sent to other processes: {error}") from error
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the job can't be sent to other processes, since a part of it does not pickle: {error}; use functions of "
            "modules that the workers can import"
        ) from error


async def _run(job: Job, shard: Shard, payload: bytes) -> ShardResult:
    """Run a job on a shard. Its result is for the digits alone, without the rows of an inventory."""
    return replace(await job.run(shard, payload), shard=shard.plain())


class _Workplace:
    """A job in one thread of a worker, with an event loop that keeps its connections from one shard to the next."""

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled
        self._job: Job = pickle.loads(pickled)  # noqa: S301, from the process that started this one
        self._runner = asyncio.Runner()
        # The end of its thread is not announced otherwise. A `__del__` would run after that of the loop's sockets, if both
        # are found in one cycle. At the exit of a process, a loop that waits for its threads would wait for ever.
        weakref.finalize(self, _close, self._runner, self._job).atexit = False

    def run(self, portions: Sequence[Portion]) -> Results:
        return self._runner.run(self._run(portions))

    async def _run(self, portions: Sequence[Portion]) -> Results:
        running = (_run(self._job, shard, payload) for shard, payload in portions)
        return await asyncio.gather(*running, return_exceptions=True)


def _close(runner: asyncio.Runner, job: Job) -> None:
    """Close the storages of a job, and its event loop."""

    def close() -> None:
        with suppress(RuntimeError), runner:  # no thread can start at the exit of a process
            runner.run(job.aclose())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        close()
    else:  # the garbage collector of a thread whose own loop runs
        with suppress(RuntimeError):
            threading.Thread(target=close).start()


_here = threading.local()


def _run_in_worker(pickled: bytes, portions: Sequence[Portion]) -> Results:
    place: _Workplace | None = getattr(_here, "place", None)
    if place is None or place.pickled != pickled:
        place = _here.place = _Workplace(pickled)
    return place.run(portions)


def total(results: Iterable[ShardResult]) -> Counter[str]:
    """The sum of the counts of results."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts)
    return counts
