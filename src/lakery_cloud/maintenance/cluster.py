"""Calls on a Dask cluster."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from lakery_cloud.errors import StorageUnavailable
from lakery_cloud.files import run_detached

R = TypeVar("R")

RETRIES = 3
"""How often Dask repeats a call whose worker was lost."""


@runtime_checkable
class Cluster(Protocol):
    """A `distributed.Client`. An executor has no `scheduler_info`."""

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a function on the cluster."""

    def scheduler_info(self) -> Any:
        """What the scheduler knows of its workers."""


async def call_on_cluster(cluster: Cluster, function: Callable[..., R], *arguments: Any) -> R:
    """Call a function, which must be idempotent, in a worker of a cluster.

    Dask's own executor fails with a `ValueError`, or never ends, if a worker is lost while its result is fetched
    (`distributed.cfexecutor`, as of 2026.8).

    Raises:
        StorageUnavailable: Each worker that made the call was lost, or the scheduler was.
        Exception: What the function raised.
    """
    from distributed import KilledWorker

    # Copies of the result of a call would be wrong if the store changed, hence `pure`.
    task = cluster.submit(function, *arguments, pure=False, retries=RETRIES)
    try:
        # A thread for each: to find a result lost may take as long as a connection to the lost worker.
        result, error = await run_detached(partial(_outcome, task))
    except asyncio.CancelledError:
        task.cancel()
        raise
    if error is None:
        return cast("R", result)
    if isinstance(error, KilledWorker) or task.status == "cancelled":
        raise StorageUnavailable(
            f"Dask gave up a call: {error}; look at the logs of its scheduler and workers, and run the job again, with the "
            "same manifest to keep what is done"
        ) from error
    raise error


def _outcome(task: Any) -> tuple[Any, BaseException | None]:
    """The result of a task or its failure. A task that Dask cancels must not seem to be a caller that is cancelled."""
    try:
        return task.result(), None
    except BaseException as error:  # noqa: BLE001, the caller raises it
        return None, error
