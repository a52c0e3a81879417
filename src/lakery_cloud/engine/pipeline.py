"""Bounded concurrency and shielded clean-up. Nothing here knows what a storage is."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from lakery_cloud.engine.parts import ByteBudget

T = TypeVar("T")
R = TypeVar("R")


class BoundedTasks:
    """Starts tasks in a group, so many at a time."""

    def __init__(self, group: asyncio.TaskGroup, limit: int) -> None:
        self._group = group
        self._slots = asyncio.Semaphore(limit)

    def start_at_once(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task whatever the limit says."""
        return self._group.create_task(coroutine)

    async def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task when fewer than the limit are running."""
        try:
            await self._slots.acquire()
        except BaseException:
            coroutine.close()
            raise
        task = self._group.create_task(coroutine)
        task.add_done_callback(lambda _: self._slots.release())
        return task


@asynccontextmanager
async def bounded_tasks(limit: int) -> AsyncIterator[BoundedTasks]:
    """Tasks that all end before the block does. The first failure ends the others and comes out as it is."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield BoundedTasks(group, limit)
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        # Outside of the except block, so that its own cause and context stay.
        raise failure


async def ordered_map(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    size_of: Callable[[T], int],
    budget: ByteBudget,
    limit: int,
) -> AsyncGenerator[R]:
    """Results in the order of their items, with up to `limit` calls ahead.

    One call is always under way; a further one starts only while the budget has room for its item. So a consumer that
    stops in the middle, to wait for another generator of the same budget, can't block it.
    """
    running: deque[tuple[asyncio.Task[R], int]] = deque()
    pending = deque(items)
    try:
        while running or pending:
            while pending and len(running) < limit:
                size = size_of(pending[0])
                if budget.try_acquire(size):
                    held = size
                elif not running:
                    held = 0
                else:
                    break
                running.append((asyncio.create_task(function(pending.popleft())), held))
            yield await running[0][0]
            budget.release(running.popleft()[1])
    finally:
        for task, held in running:
            task.cancel()
            budget.release(held)
        await asyncio.gather(*(task for task, _ in running), return_exceptions=True)


async def finish(coroutine: Coroutine[Any, Any, T], *, seconds: float | None = None) -> T:
    """Run to the end whatever cancels the caller in the meantime; then let the cancellation through.

    Raises:
        TimeoutError: It took longer than `seconds`; None is no limit.
    """
    task = asyncio.create_task(_within(seconds, coroutine))
    cancelled: asyncio.CancelledError | None = None
    # The scope holds off anyio's cancellation, which is repeated; the loop holds off asyncio's, which comes once each.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen here, so that asyncio does not report it as lost
        raise cancelled
    return task.result()


async def _within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await awaitable
