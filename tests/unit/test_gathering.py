"""Batches: what concurrent callers want is sent together, and nobody waits for ever."""

import asyncio

import pytest

from lakery_cloud.streams.gathering import Batches
from tests.helpers import let_others_run


class Store:
    """Receives batches, each when it is let through."""

    def __init__(self):
        self.batches = []
        self.open = asyncio.Event()
        self.failure = None

    async def send(self, items):
        self.batches.append([*items])
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return len(items)


async def adding_to(batches, count):
    """Calls that wait for their batches, of which the first one is being sent."""
    calls = [asyncio.create_task(batches.add(number)) for number in range(count)]
    await let_others_run()
    return calls


async def test_while_one_batch_is_sent_the_next_one_gathers():
    store = Store()
    batches = Batches(store.send, most=3)
    adding = await adding_to(batches, 8)
    assert store.batches == [[0, 1, 2]]
    late = asyncio.create_task(batches.add(8))
    await let_others_run()
    store.open.set()
    assert await asyncio.gather(*adding, late) == [3] * 9
    assert store.batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert await batches.add(9) == 1


async def test_a_failure_is_that_of_all_callers_of_the_batch():
    store = Store()
    batches = Batches(store.send, most=2)
    adding = await adding_to(batches, 3)
    store.failure = ValueError("no")
    store.open.set()
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    store.failure = None
    assert await batches.add(3) == 1


async def test_nothing_is_sent_for_callers_that_were_cancelled():
    store = Store()
    batches = Batches(store.send, most=2)
    adding = await adding_to(batches, 6)
    for number in (1, 2, 3):
        adding[number].cancel()
    await let_others_run()
    store.open.set()
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, True, True, False, False]
    assert store.batches == [[0, 1], [4, 5]]


@pytest.mark.parametrize("waits", [1, 5])
async def test_no_caller_waits_after_the_sender_was_cancelled(waits):
    store = Store()
    batches = Batches(store.send, most=2)
    adding = await adding_to(batches, waits)
    (sender,) = asyncio.all_tasks() - {asyncio.current_task(), *adding}
    sender.cancel()
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    store.open.set()
    assert await batches.add(9) == 1
