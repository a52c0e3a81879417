"""`side_by_side`: ordered results of concurrent calls. A slow call delays no others."""

import asyncio
from contextlib import aclosing

import pytest

from lakery_cloud.streams.tasks import side_by_side
from tests.helpers import PATIENCE, let_others_run
from tests.unit.test_pipeline import Calls


async def test_results_come_in_order_however_long_each_takes():
    async def work(number):
        await let_others_run(10 - number)
        return number

    assert [result async for result in side_by_side(work, range(10), limit=4)] == list(range(10))


@pytest.mark.parametrize("limit", [1, 3])
async def test_number_of_calls_stays_within_the_limit(limit):
    calls, go = Calls(), asyncio.Event()
    async with aclosing(side_by_side(lambda item: calls.wait(go, item), range(10), limit=limit)) as results:
        first = asyncio.create_task(anext(results))
        await let_others_run(20)
        assert (calls.started, calls.running) == (limit, limit)
        go.set()
        assert [await first, *[result async for result in results]] == list(range(10))
    assert calls.most == limit


async def test_slow_call_delays_no_others():
    calls, slow, go = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    work = side_by_side(lambda item: calls.wait(go if item else slow, item), range(50), limit=2, ahead=1000)
    async with aclosing(work) as results:
        first = asyncio.create_task(anext(results))
        await let_others_run(1000)
        assert (calls.started, len(calls.ended)) == (50, 49)
        slow.set()
        assert [await first, *[result async for result in results]] == list(range(50))


async def test_only_so_many_results_wait_for_a_slow_call():
    calls, slow, go = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    work = side_by_side(lambda item: calls.wait(go if item else slow, item), range(50), limit=2, ahead=5)
    async with aclosing(work) as results:
        first = asyncio.create_task(anext(results))
        await let_others_run(1000)
        assert calls.started <= 7  # the slow one, five that wait, and one that can't wait yet
        slow.set()
        assert [await first, *[result async for result in results]] == list(range(50))


async def test_item_is_taken_only_when_its_call_can_start():
    calls, go, taken = Calls(), asyncio.Event(), []

    async def items():
        for number in range(5):
            taken.append(number)
            yield number

    async with aclosing(side_by_side(lambda item: calls.wait(go, item), items(), limit=2)) as results:
        first = asyncio.create_task(anext(results))
        await let_others_run(20)
        assert taken == [0, 1]
        go.set()
        await first


async def test_failure_comes_in_its_turn_and_ends_the_others():
    calls, go, never = Calls(), asyncio.Event(), asyncio.Event()
    go.set()
    waits = [calls.wait(go, "first"), calls.wait(go, error=OSError("second")), calls.wait(never)]
    results = side_by_side(lambda item: item, waits, limit=3)
    assert await anext(results) == "first"
    with pytest.raises(OSError, match="second"):
        await anext(results)
    assert (calls.running, calls.ended[-1]) == (0, "cancelled")


async def test_failure_of_the_source_comes_after_its_results():
    async def items():
        yield "first"
        raise OSError("the list broke off")

    async def work(item):
        return item

    results = side_by_side(work, items(), limit=2)
    assert await anext(results) == "first"
    with pytest.raises(OSError, match="the list broke off"):
        await anext(results)


async def test_source_that_is_cancelled_by_others_ends_the_results():
    async def items():
        yield "first"
        raise asyncio.CancelledError

    async def work(item):
        return item

    results = side_by_side(work, items(), limit=2)
    assert await anext(results) == "first"
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(anext(results), PATIENCE)


@pytest.mark.parametrize("is_left_early", [True, False])
async def test_generators_are_closed_as_soon_as_the_results_end(is_left_early):
    closed = []

    def items():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    class Items:
        async def __aiter__(self):
            try:
                for number in range(10):
                    yield number
            finally:
                closed.append(True)

    async def work(item):
        return item

    for source in (items(), Items()):
        closed.clear()
        results = side_by_side(work, source, limit=3)
        async for result in results:
            if is_left_early and result == 1:
                break
        await results.aclose()
        assert closed == [True]


async def test_leaving_early_ends_all_calls_and_closes_the_items():
    calls, go, never, closed = Calls(), asyncio.Event(), asyncio.Event(), []
    go.set()

    async def items():
        try:
            for number in range(100):
                yield number
        finally:
            closed.append(True)

    results = side_by_side(lambda item: calls.wait(never if item else go, item), items(), limit=3)
    assert await anext(results) == 0
    await results.aclose()
    assert (calls.running, closed) == (0, [True])
    assert set(calls.ended[1:]) <= {"cancelled"}
