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
        self.failures: list[BaseException] = []

    def start_at_once(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task whatever the limit says."""
        task = self._group.create_task(coroutine)
        task.add_done_callback(self._note_failure)
        return task

    async def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task when fewer than the limit are running."""
        try:
            await self._slots.acquire()
        except BaseException:
            coroutine.close()
            raise
        task = self.start_at_once(coroutine)
        task.add_done_callback(lambda _: self._slots.release())
        return task

    def _note_failure(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)


@asynccontextmanager
async def bounded_tasks(limit: int) -> AsyncIterator[BoundedTasks]:
    """Tasks that all end before the block does. The first failure ends the others and comes out as it is."""
    failures: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = BoundedTasks(group, limit)
            failures = tasks.failures
            try:
                yield tasks
            except BaseException as failure:
                failures.append(failure)
                raise
    except BaseExceptionGroup:
        # The group knows them too, but not which of them was the first.
        context = failures[0].__context__
        try:
            raise failures[0]
        finally:
            failures[0].__context__ = context


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
        for task, _ in running:
            task.cancel()
        if running:
            await finish(asyncio.wait([task for task, _ in running]))
        budget.release(sum(held for _, held in running))


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
