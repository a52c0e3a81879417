"""Concurrent tasks with a limit, ordered results, and shielded clean-up."""

import asyncio
import sys
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any, TypeVar

from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.chunks import close_stream
from lakery_cloud.streams.limiter import current_clock
from lakery_cloud.streams.pace import Pace

T = TypeVar("T")
R = TypeVar("R")


class BoundedTasks:
    """Starts tasks in a group, as many at a time as the pace says."""

    def __init__(self, group: asyncio.TaskGroup, pace: Pace) -> None:
        self._group = group
        self._pace = pace
        self.failures: list[BaseException] = []

    def start_at_once(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task regardless of the limit."""
        task = self._group.create_task(coroutine)
        task.add_done_callback(self._note_failure)
        return task

    async def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task when there is a slot for it."""
        try:
            await self._pace.acquire()
        except BaseException:
            coroutine.close()
            raise
        task = self.start_at_once(coroutine)
        task.add_done_callback(lambda _: self._pace.release())
        return task

    def _note_failure(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)


@asynccontextmanager
async def bounded_tasks(limit: int | Pace) -> AsyncIterator[BoundedTasks]:
    """Run tasks that end before the block does. The first failure cancels the others and is raised unchanged.

    Args:
        limit: The most tasks at a time, or their pace.
    """
    pace = _pace_of(limit)
    failures: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = BoundedTasks(group, pace)
            failures = tasks.failures
            try:
                with pace.current():
                    yield tasks
            except BaseException as failure:
                failures.append(failure)
                raise
    except BaseExceptionGroup:
        # The group has the failures too, but not their order.
        context = failures[0].__context__
        try:
            raise failures[0]
        finally:
            failures[0].__context__ = context


def _pace_of(limit: int | Pace) -> Pace:
    return Pace(limit, first=limit) if isinstance(limit, int) else limit


async def ordered_map(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    size_of: Callable[[T], int],
    budget: ByteBudget,
    limit: int | Pace,
) -> AsyncGenerator[R]:
    """Yield results in the order of their items, with concurrent calls. A result counts until the next one is requested.

    The first call needs no budget, so that a consumer can pause to wait for another generator on the same budget without a
    deadlock. Further calls start only while the budget has room for their items.

    Args:
        function: The coroutine function to call.
        items: Its arguments.
        size_of: The bytes of an item's result.
        budget: Limits the bytes of all results.
        limit: The most calls and results at a time, or their pace.
    """
    pace = _pace_of(limit)
    running: deque[tuple[asyncio.Task[R], int]] = deque()
    pending = deque(items)
    try:
        while running or pending:
            while pending and pace.has_slot:
                size = size_of(pending[0])
                if budget.try_acquire(size):
                    acquired = size
                elif not running:
                    acquired = 0
                else:
                    break
                await pace.acquire()
                with pace.current():
                    running.append((asyncio.create_task(function(pending.popleft())), acquired))
            has_arrived = running[0][0].done()
            began = pace.clocks()
            result = await running[0][0]
            ended = pace.clocks()
            yield result
            del result
            budget.release(running.popleft()[1])
            pace.release()
            if not has_arrived:
                pace.note_wait(began, ended, used=pace.clocks()[0] - ended[0])
    finally:
        for task, _ in running:
            task.cancel()
        if running:
            await finish(asyncio.wait([task for task, _ in running]))
        budget.release(sum(acquired for _, acquired in running))


async def side_by_side(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: AsyncIterable[T] | Iterable[T],
    *,
    limit: int,
    ahead: int = 1000,
    size_of: Callable[[T], int] = lambda _: 0,
    max_size: int = 1,
) -> AsyncGenerator[R]:
    """Yield results in the order of their items, with up to `limit` concurrent calls. A slow call does not block others.

    An item is taken only when its call can start. A failure of a call or of the items is raised in its place in the order
    and cancels the running calls; so does closing the generator. The items are closed at the end.

    Args:
        function: The coroutine function to call.
        items: Its arguments.
        limit: Concurrent calls.
        ahead: Results that may wait for an earlier one.
        size_of: The bytes of an item or of its result.
        max_size: Bytes of all items from the start of their calls until the consumer asks for the next result. One larger
            item is called alone.
    """
    started: asyncio.Queue[tuple[asyncio.Task[R], int] | None] = asyncio.Queue()
    slots, waiting, budget = asyncio.Semaphore(limit), asyncio.Semaphore(ahead), ByteBudget(max_size)
    tasks: set[asyncio.Task[R]] = set()

    async def start_all() -> None:
        async with aclosing(each(items)) as source:
            await slots.acquire()
            async for item in source:
                size = size_of(item)
                await budget.acquire(size)
                task = asyncio.create_task(function(item))
                task.add_done_callback(lambda _: slots.release())
                tasks.add(task)
                started.put_nowait((task, size))
                del item, task  # they would keep the bytes until the next item arrives
                await waiting.acquire()
                await slots.acquire()

    starting = asyncio.create_task(start_all())
    starting.add_done_callback(lambda _: started.put_nowait(None))
    try:
        while (entry := await started.get()) is not None:
            waiting.release()
            task, size = entry
            tasks.discard(task)
            del entry
            yield await task
            del task
            budget.release(size)
        await starting
    finally:
        for left in (starting, *tasks):
            left.cancel()
        await finish(asyncio.wait([starting, *tasks]))
        for left in (starting, *tasks):
            if not left.cancelled():
                left.exception()  # retrieved, so that asyncio does not log it as lost


async def each(items: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T]:
    """Yield the items, and close them at the end."""
    iterator = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
    try:
        if isinstance(iterator, AsyncIterator):
            async for item in iterator:
                yield item
                del item
        else:
            for item in iterator:
                yield item
                del item
    finally:
        for source in (iterator, items):
            if isinstance(source, Generator):
                source.close()
            else:
                await close_stream(source)


async def finish(coroutine: Coroutine[Any, Any, T], *, seconds: float | None = None) -> T:
    """Run a coroutine to its end even if the caller is cancelled, and then raise the cancellation.

    Raises:
        TimeoutError: The coroutine took longer than `seconds`, not counting its waits for a slot of a `Limiter`; None is
            no limit.
    """
    task = asyncio.create_task(_within(seconds, coroutine))
    cancelled: asyncio.CancelledError | None = None
    with _shielded_from_anyio():  # it cancels repeatedly; the loop catches each single cancellation of asyncio
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it as lost
        raise cancelled
    return task.result()


def _shielded_from_anyio() -> AbstractContextManager[object]:
    if "anyio" not in sys.modules:  # then no scope of it is around the running task
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


async def _within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    if seconds is None:
        return await awaitable
    clock = current_clock()
    with clock.measuring():
        async with clock.limit(seconds):
            return await awaitable
