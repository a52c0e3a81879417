"""Bounded tasks, ordered results and clean-up that nothing interrupts."""

import asyncio
import gc
from contextlib import aclosing

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.tasks import bounded_tasks, finish, ordered_map
from tests.helpers import let_others_run

relaxed = settings(deadline=None)


def all_free(budget, limit):
    """Return whether the whole budget is free."""
    if not budget.try_acquire(limit):
        return False
    has_more = budget.try_acquire(1)
    budget.release(limit)
    return not has_more


class Calls:
    """Counts running calls, and records how each of them ended."""

    def __init__(self):
        self.running = self.most = self.started = 0
        self.ended = []

    async def wait(self, event, name=None, *, error=None, clean_up_rounds=3):
        """Wait for an event, and take a while to clean up."""
        self.started += 1
        self.running += 1
        self.most = max(self.most, self.running)
        how = "cancelled"
        try:
            await event.wait()
            how = "done"
            if error is not None:
                how = "failed"
                raise error
            return name
        finally:
            await let_others_run(clean_up_rounds)
            self.running -= 1
            self.ended.append(how)


# Bounded tasks.


async def test_number_of_tasks_stays_within_the_limit():
    calls, go = Calls(), asyncio.Event()

    async def start_all():
        async with bounded_tasks(3) as tasks:
            return [await tasks.start(calls.wait(go, number)) for number in range(10)]

    starting = asyncio.create_task(start_all())
    await let_others_run(20)
    assert (calls.started, calls.running) == (3, 3)
    go.set()
    assert [task.result() for task in await starting] == list(range(10))
    assert (calls.most, calls.running) == (3, 0)


async def test_task_that_is_started_at_once_does_not_count():
    calls, go = Calls(), asyncio.Event()
    async with bounded_tasks(1) as tasks:
        first = await tasks.start(calls.wait(go, "first"))
        second = tasks.start_at_once(calls.wait(go, "second"))
        await let_others_run()
        assert calls.running == 2
        go.set()
    assert (first.result(), second.result()) == ("first", "second")


async def test_first_failure_is_raised_unchanged_with_its_cause():
    failure, reason = OSError("the request failed"), ConnectionError("the wire broke")

    async def fail():
        await let_others_run()
        raise failure from reason

    with pytest.raises(OSError, match="the request failed") as caught:
        async with bounded_tasks(2) as tasks:
            await tasks.start(fail())
            await asyncio.Event().wait()
    assert caught.value is failure
    assert failure.__cause__ is reason


async def test_a_failure_keeps_the_error_during_whose_handling_it_happened():
    async def fail():
        await let_others_run()
        try:
            raise ConnectionError("the wire broke")
        except ConnectionError:
            raise OSError("the request failed")  # noqa: B904

    with pytest.raises(OSError, match="the request failed") as caught:
        async with bounded_tasks(2) as tasks:
            await tasks.start(fail())
            await asyncio.Event().wait()
    assert isinstance(caught.value.__context__, ConnectionError)


async def test_the_other_tasks_are_cancelled_and_awaited_when_one_fails():
    calls, go, never = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    with pytest.raises(OSError, match="one of four"):
        async with bounded_tasks(4) as tasks:
            for _ in range(3):
                await tasks.start(calls.wait(never))
            await tasks.start(calls.wait(go, error=OSError("one of four")))
            await asyncio.Event().wait()
    assert calls.running == 0
    assert sorted(calls.ended) == ["cancelled", "cancelled", "cancelled", "failed"]


async def test_failure_also_ends_waiters():
    calls, go = Calls(), asyncio.Event()
    with pytest.raises(OSError, match="failed"):
        async with bounded_tasks(1) as tasks:
            await tasks.start(calls.wait(go, error=OSError("failed")))
            asyncio.get_running_loop().call_soon(go.set)
            for _ in range(3):
                await tasks.start(calls.wait(go))
    assert calls.running == 0


async def test_the_error_of_the_block_comes_out_as_itself():
    calls, reason = Calls(), KeyError("why")
    failure = ValueError("the source broke")
    with pytest.raises(ValueError, match="the source broke") as caught:
        async with bounded_tasks(2) as tasks:
            await tasks.start(calls.wait(asyncio.Event()))
            await let_others_run()
            raise failure from reason
    assert caught.value is failure
    assert failure.__cause__ is reason
    assert calls.ended == ["cancelled"]


async def test_error_of_the_block_wins_over_errors_of_cancelled_tasks():
    async def says_something_else():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the connection was dropped") from None

    with pytest.raises(ValueError, match="the source broke"):
        async with bounded_tasks(2) as tasks:
            await tasks.start(says_something_else())
            await let_others_run()
            raise ValueError("the source broke")


async def test_first_failure_wins_over_errors_of_cancelled_tasks():
    async def says_something_else():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the connection was dropped") from None

    async def fail():
        await let_others_run()
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        async with bounded_tasks(3) as tasks:
            await tasks.start(says_something_else())
            await tasks.start(fail())
            await tasks.start(says_something_else())


async def test_an_exception_group_of_a_task_comes_out_whole():
    async def fail():
        raise ExceptionGroup("both", [ValueError("one"), OSError("two")])

    with pytest.raises(ExceptionGroup) as caught:
        async with bounded_tasks(1) as tasks:
            await tasks.start(fail())
    assert caught.value.message == "both"


async def test_cancelling_the_block_cancels_and_awaits_its_tasks():
    calls = Calls()

    async def block():
        async with bounded_tasks(2) as tasks:
            for _ in range(5):
                await tasks.start(calls.wait(asyncio.Event()))

    running = asyncio.create_task(block())
    await let_others_run(20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert calls.running == 0
    assert calls.ended == ["cancelled", "cancelled"]


# Ordered results.


@relaxed
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12))), st.integers(1, 5), st.integers(1, 20))
async def test_results_come_in_the_order_of_their_items_within_limit_and_budget(items, limit, room):
    budget = ByteBudget(room)
    running = []

    async def work(item):
        duration, size = item
        running.append(size)
        assert len(running) <= limit
        await let_others_run(duration)
        running.remove(size)
        return item

    found = ordered_map(work, items, size_of=lambda item: item[1], budget=budget, limit=limit)
    assert [item async for item in found] == items
    assert all_free(budget, room)


async def test_calls_ahead_stay_within_the_limit():
    calls, go = Calls(), asyncio.Event()
    budget = ByteBudget(1000)
    results = ordered_map(lambda item: calls.wait(go, item), range(10), size_of=lambda item: 1, budget=budget, limit=4)
    first = asyncio.ensure_future(anext(results))
    await let_others_run()
    assert calls.started == 4
    go.set()
    assert await first == 0
    await let_others_run()
    assert calls.started == 4  # the fifth waits until the consumer comes back
    assert [item async for item in results] == list(range(1, 10))
    assert all_free(budget, 1000)


async def test_no_more_calls_are_ahead_than_the_budget_has_room_for():
    calls, go = Calls(), asyncio.Event()
    budget = ByteBudget(10)
    results = ordered_map(lambda item: calls.wait(go, item), range(9), size_of=lambda item: 4, budget=budget, limit=8)
    first = asyncio.ensure_future(anext(results))
    await let_others_run()
    assert calls.started == 2
    assert not budget.try_acquire(3)
    go.set()
    assert await first == 0
    assert [item async for item in results] == list(range(1, 9))
    assert all_free(budget, 10)


async def test_one_call_runs_even_if_others_have_the_whole_budget():
    calls, go = Calls(), asyncio.Event()
    go.set()
    budget = ByteBudget(10)
    await budget.acquire(10)
    results = ordered_map(lambda item: calls.wait(go, item), range(5), size_of=lambda item: 4, budget=budget, limit=3)
    assert [item async for item in results] == list(range(5))
    assert calls.most == 1
    budget.release(10)
    assert all_free(budget, 10)


async def test_a_call_that_fails_ends_the_others_and_gives_everything_back():
    calls, go, never = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    budget = ByteBudget(100)

    def work(item):
        return calls.wait(go if item < 2 else never, item, error=OSError("the second") if item == 1 else None)

    found = []
    with pytest.raises(OSError, match="the second"):
        async for item in ordered_map(work, range(9), size_of=lambda item: 1, budget=budget, limit=4):
            found.append(item)  # noqa: PERF401, the loop fails in the middle
    assert found == [0]
    assert calls.running == 0
    assert calls.started < 9
    assert all_free(budget, 100)


async def test_leaving_in_the_middle_cancels_and_awaits_the_calls_ahead():
    calls, go, never = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    budget = ByteBudget(100)
    results = ordered_map(
        lambda item: calls.wait(never if item else go, item),
        range(9),
        size_of=lambda item: 5,
        budget=budget,
        limit=4,
    )
    async with aclosing(results) as chunks:
        assert await anext(chunks) == 0
    assert calls.running == 0
    assert calls.ended == ["done", "cancelled", "cancelled", "cancelled"]
    assert all_free(budget, 100)


async def test_cancelling_the_consumer_cancels_and_awaits_the_calls_ahead():
    calls = Calls()
    budget = ByteBudget(100)

    async def consume():
        results = ordered_map(
            lambda item: calls.wait(asyncio.Event()), range(9), size_of=lambda item: 5, budget=budget, limit=4
        )
        async with aclosing(results) as chunks:
            await anext(chunks)

    consuming = asyncio.create_task(consume())
    await let_others_run()
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert (calls.running, calls.ended) == (0, ["cancelled"] * 4)
    assert all_free(budget, 100)


async def test_leaving_inside_a_cancelled_scope_also_awaits_the_calls_ahead():
    calls = Calls()
    budget = ByteBudget(100)
    with anyio.CancelScope() as scope:
        results = ordered_map(
            lambda item: calls.wait(asyncio.Event()), range(9), size_of=lambda item: 5, budget=budget, limit=4
        )
        asyncio.get_running_loop().call_soon(scope.cancel)
        async with aclosing(results) as chunks:
            await anext(chunks)
    assert scope.cancelled_caught
    assert calls.running == 0
    assert all_free(budget, 100)


# Running to the end.


async def test_finish_gives_the_result():
    async def work():
        await let_others_run()
        return "result"

    assert await finish(work()) == "result"
    assert await finish(work(), seconds=60) == "result"


async def test_finish_lets_an_error_out_as_itself():
    failure, reason = OSError("failed"), KeyError("why")

    async def work():
        await let_others_run()
        raise failure from reason

    with pytest.raises(OSError, match="failed") as caught:
        await finish(work())
    assert caught.value is failure
    assert failure.__cause__ is reason


@pytest.mark.parametrize("times", [1, 2, 10])
async def test_finish_runs_to_its_end_however_often_it_is_cancelled_and_then_is(times):
    calls, go = Calls(), asyncio.Event()
    task = asyncio.create_task(finish(calls.wait(go)))
    await let_others_run()
    for _ in range(times):
        task.cancel()
        await let_others_run(2)
        assert not task.done()
        assert calls.running == 1
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.ended == ["done"]


async def test_a_caller_that_was_cancelled_before_still_finishes():
    calls, go = Calls(), asyncio.Event()
    go.set()

    async def caller():
        asyncio.current_task().cancel()
        await finish(calls.wait(go))

    task = asyncio.create_task(caller())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.ended == ["done"]


async def test_finish_runs_to_its_end_in_a_cancelled_scope_and_the_next_step_is_cancelled():
    calls, go = Calls(), asyncio.Event()
    reached = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        asyncio.get_running_loop().call_later(0.01, go.set)
        reached.append(await finish(calls.wait(go, "result")))
        await anyio.lowlevel.checkpoint()
        reached.append("further")
    assert scope.cancelled_caught
    assert reached == ["result"]
    assert calls.ended == ["done"]


async def test_finish_runs_to_its_end_in_a_scope_that_is_cancelled_meanwhile():
    calls, go = Calls(), asyncio.Event()
    with anyio.move_on_after(0.01) as scope:
        asyncio.get_running_loop().call_later(0.05, go.set)
        await finish(calls.wait(go))
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert calls.ended == ["done"]


async def test_a_time_limit_around_finish_comes_after_its_end():
    calls, go = Calls(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, go.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await finish(calls.wait(go))
    assert calls.ended == ["done"]


async def test_finish_has_a_separate_time_limit():
    calls = Calls()
    with pytest.raises(TimeoutError):
        await finish(calls.wait(asyncio.Event()), seconds=0.01)
    assert calls.ended == ["cancelled"]


async def test_the_time_limit_also_ends_what_runs_on_after_a_cancellation():
    calls = Calls()
    task = asyncio.create_task(finish(calls.wait(asyncio.Event()), seconds=0.05))
    await let_others_run()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.ended == ["cancelled"]


async def test_an_error_behind_a_cancellation_is_not_reported_as_lost():
    calls, go = Calls(), asyncio.Event()
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
    task = asyncio.create_task(finish(calls.wait(go, error=OSError("behind"))))
    await let_others_run()
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    await let_others_run()
    assert calls.ended == ["failed"]
    assert lost == []
