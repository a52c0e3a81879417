"""What the commands share that work on whole buckets: where their job runs, its manifest, and its progress."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Self

from cyclopts import Parameter, validators
from rich.filesize import decimal

from lakery_cloud.cli.common import storage_of
from lakery_cloud.cli.inventories import open_inventory
from lakery_cloud.cli.loops import use_uvloop
from lakery_cloud.cli.progress import Display, new_progress
from lakery_cloud.cli.words import pluralize
from lakery_cloud.errors import ConfigError, MissingDependency, StorageUnavailable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from lakery_cloud.engine.object_storage import ObjectStorage
    from lakery_cloud.maintenance.jobs import Engine, Job, StorageSource
    from lakery_cloud.maintenance.manifest import Manifest
    from lakery_cloud.maintenance.shards import ShardResult

AtATime = Annotated[int, Parameter(validator=validators.Number(gte=1))]
LONGEST_PAUSE = timedelta(days=7)
"""The age of an unfinished run that the same command continues, although its time is another one."""
DASK_TIMEOUT = 60
"""Seconds to wait for a scheduler."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Workers:
    """The options of where a job runs, and where it keeps what is done."""

    processes: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1),
            help="Number of processes to use. Each takes its credentials from the environment or the configuration.",
        ),
    ] = None
    dask: Annotated[
        str | None,
        Parameter(
            help="Address of the scheduler of a Dask cluster to use, such as tcp://scheduler:8786. Its workers have the "
            "same configuration, and credentials of their own.",
        ),
    ] = None
    manifest: Annotated[
        str | None,
        Parameter(
            help="Folder, or URL of a storage of its own, that keeps what is done, so that the same command continues "
            "after an interruption.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """Whether any of these options was given."""
        return self != HERE

    @contextmanager
    def open_engine(self) -> Iterator["Engine | None"]:
        """Start processes or connect to a cluster; None is this process.

        Raises:
            ConfigError: Both were selected.
            MissingDependency: Dask is not installed.
            StorageUnavailable: The scheduler can't be reached.
        """
        if self.dask is not None:
            if self.processes is not None:
                raise ConfigError("select either --processes or --dask")
            with _dask_client(self.dask) as client:
                yield client
        elif self.processes is not None:
            spawn = get_context("spawn")
            with ProcessPoolExecutor(self.processes, mp_context=spawn, initializer=use_uvloop) as executor:
                try:
                    yield executor
                finally:
                    executor.shutdown(cancel_futures=True)
        else:
            yield None

    async def results(
        self,
        target: str | None,
        storage: "ObjectStorage[Any]",
        engine: "Engine | None",
        make_job: "Callable[[StorageSource, int], Job]",
        *,
        quiet: bool,
        inventory: str | None = None,
    ) -> AsyncGenerator[tuple["ShardResult", Display]]:
        """Run a job on all shards of a storage and yield its results, with progress on a terminal.

        Args:
            target: Name or URL of the storage, which other processes open themselves.
            storage: The storage, open in this process.
            engine: What runs the job.
            make_job: Makes the job from the storage and the number of shards of this process at a time.
            quiet: Show no progress.
            inventory: Name of an inventory that lists the storage.
        """
        from lakery_cloud.maintenance.jobs import SHARDS_AT_A_TIME, run_job, shards_of_call
        from lakery_cloud.maintenance.shards import SHARDS, plan

        is_split = engine is not None or self.manifest is not None
        async with open_inventory(storage, inventory) as listing:
            shards = await plan(storage, shards=SHARDS if is_split else 1, inventory=listing)
            if engine is None:
                job = make_job(storage, min(len(shards), SHARDS_AT_A_TIME))
            else:
                job = make_job(partial(storage_of, target), shards_of_call(len(shards)))
            with _Shown(len(shards), quiet=quiet) as shown:
                if engine is None:
                    job.watch = shown.count
                async with aclosing(run_job(job, shards, engine=engine, manifest=self.open_manifest())) as results:
                    async for result in results:
                        if engine is not None:
                            shown.count(result.counts.get("objects", 0), result.counts.get("bytes", 0))
                        shown.finish_shard()
                        yield result, shown.progress

    async def continued(self, name: str, time: datetime, job: "Job", *, longest: timedelta = LONGEST_PAUSE) -> datetime:
        """The time of an unfinished run that this one continues: of the same job, in the manifest, and begun lately.

        Args:
            name: Where the description of the job has it.
            time: That of this run, which is returned if there is none.
            job: The job of this run.
            longest: How long ago it may be, at most `LONGEST_PAUSE`.
        """
        if (manifest := self.open_manifest()) is None:
            return time
        ignored = {name: None, "inventory": None}
        wanted = {**job.description(), **ignored}
        times = (
            datetime.fromisoformat(kept[name])
            for kept in await manifest.unfinished()
            if kept.get(name) and {**kept, **ignored} == wanted
        )
        allowed = min(longest, LONGEST_PAUSE)
        return max((each for each in times if timedelta() <= time - each <= allowed), default=time)

    def open_manifest(self) -> "Manifest | None":
        """The manifest, if one is named.

        Raises:
            ConfigError: It is a file.
        """
        if self.manifest is None:
            return None
        if Path(self.manifest).is_file():
            raise ConfigError(f"--manifest {self.manifest!r} is a file; name a folder")
        from lakery_cloud.maintenance.manifest import Manifest

        return Manifest(storage_of(self.manifest) if "://" in self.manifest else self.manifest)


HERE = Workers()
"""This process, without a manifest."""


class _Shown:
    """A bar with the objects, bytes, rate, share and time left of a job, shown on a terminal."""

    def __init__(self, shards: int, *, quiet: bool) -> None:
        self.progress = new_progress(_columns, quiet=quiet)
        self._task = self.progress.add_task("", total=shards)
        self._objects = self._size = 0
        self._began = perf_counter()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def count(self, objects: int, size: int) -> None:
        """Count objects and their bytes."""
        self._objects, self._size = self._objects + objects, self._size + size
        rate = decimal(int(self._size / max(perf_counter() - self._began, 1)))
        description = f"{pluralize(self._objects, 'object')}, {decimal(self._size)}, {rate}/s"
        self.progress.update(self._task, description=description)

    def finish_shard(self) -> None:
        """Count a shard as done."""
        self.progress.advance(self._task)


def _columns() -> "Sequence[ProgressColumn]":
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependency('--dask needs Dask: pip install "lakery-cloud[dask]"') from error
    connect: Any = Client
    try:
        return connect(address, timeout=DASK_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise StorageUnavailable(
            f"the Dask scheduler {address} can't be reached: {error}; check its address, and that it runs"
        ) from error
