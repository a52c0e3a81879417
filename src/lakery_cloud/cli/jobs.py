"""What the commands share that work on whole buckets: where their job runs, its manifest, and its progress."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing, contextmanager
from multiprocessing import get_context
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lakery_cloud.cli.common import storage_of
from lakery_cloud.cli.progress import error_console
from lakery_cloud.cli.words import pluralize
from lakery_cloud.errors import ConfigError, MissingDependency, StorageUnavailable

if TYPE_CHECKING:
    from lakery_cloud.engine.object_storage import ObjectStorage
    from lakery_cloud.maintenance.jobs import Engine, Job
    from lakery_cloud.maintenance.manifest import Manifest
    from lakery_cloud.maintenance.shards import Shard, ShardResult

AtATime = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Processes = Annotated[
    int | None,
    Parameter(
        validator=validators.Number(gte=1),
        help="Number of processes to use. Each takes its credentials from the environment or the configuration.",
    ),
]
Dask = Annotated[
    str | None,
    Parameter(
        help="Address of the scheduler of a Dask cluster to use, such as tcp://scheduler:8786. Its workers have the same "
        "configuration, and credentials of their own.",
    ),
]
ManifestPlace = Annotated[
    str | None,
    Parameter(
        name="--manifest",
        help="Folder, or URL of a storage of its own, that keeps what is done, so that the same command continues after an "
        "interruption.",
    ),
]

DASK_TIMEOUT = 60
"""Seconds to wait for a scheduler."""


@contextmanager
def open_engine(processes: int | None, dask: str | None) -> Iterator["Engine | None"]:
    """Start processes or connect to a cluster; None is this process.

    Raises:
        ConfigError: Both were chosen.
        MissingDependency: Dask is not installed.
        StorageUnavailable: The scheduler can't be reached.
    """
    if dask is not None:
        if processes is not None:
            raise ConfigError("select either --processes or --dask")
        with _dask_client(dask) as client:
            yield client
    elif processes is not None:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as executor:
            try:
                yield executor
            finally:
                executor.shutdown(cancel_futures=True)
    else:
        yield None


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


def manifest_of(place: str | None) -> "Manifest | None":
    """Return the manifest in a folder or a storage.

    Raises:
        ConfigError: It is neither.
    """
    if place is None:
        return None
    from lakery_cloud.maintenance.manifest import Manifest

    return Manifest(storage_of(place) if "://" in place else place)


async def plan_for(storage: "ObjectStorage[Any]", *, is_split: bool) -> list["Shard"]:
    """Split a storage: into many shards if they are to be worked on elsewhere or kept, else only if it is large."""
    from lakery_cloud.maintenance.shards import SHARDS, plan

    return await plan(storage, shards=SHARDS if is_split else 1)


async def results_of(
    job: "Job", shards: "Sequence[Shard]", *, engine: "Engine | None", manifest: "Manifest | None", quiet: bool
) -> AsyncGenerator[tuple["ShardResult", Progress]]:
    """Run a job and yield its results, with the objects, bytes, rate, share and time left on a terminal."""
    from lakery_cloud.maintenance.jobs import run_job

    console, counts, began = error_console(), Counter[str](), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    is_shown = console.is_terminal and not quiet
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=not is_shown) as progress:
        task = progress.add_task("", total=len(shards))

        def show(objects: int, size: int) -> None:
            counts.update(objects=objects, bytes=size)
            rate = decimal(int(counts["bytes"] / max(perf_counter() - began, 1)))
            progress.update(
                task,
                description=f"{pluralize(counts['objects'], 'object')}, {decimal(counts['bytes'])}, {rate}/s",
            )

        if engine is None:
            job.watch = show
        async with aclosing(run_job(job, shards, engine=engine, manifest=manifest)) as results:
            async for result in results:
                if engine is not None:
                    show(result.counts.get("objects", 0), result.counts.get("bytes", 0))
                progress.advance(task)
                yield result, progress
