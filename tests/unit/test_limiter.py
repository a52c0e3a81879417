"""`Limiter` and the time limit of a clean-up, which does not count waits for a slot."""

import asyncio

import pytest

from lakery_cloud.streams.limiter import Limiter, WorkClock
from lakery_cloud.streams.tasks import finish
from tests.helpers import PATIENCE

pytestmark = pytest.mark.case("68")

LIMIT = 0.05
LONG = 4 * LIMIT


async def use(limiter: Limiter, *, seconds: float = 0) -> str:
    async with limiter:
        await asyncio.sleep(seconds)
    return "done"


async def occupy(limiter: Limiter, *, seconds: float) -> asyncio.Task[str]:
    """Take a slot for some seconds."""
    task = asyncio.create_task(use(limiter, seconds=seconds))
    await asyncio.sleep(0)
    assert limiter.locked()
    return task


async def test_wait_for_a_slot_does_not_count() -> None:
    limiter = Limiter(1)
    other = await occupy(limiter, seconds=LONG)
    assert await finish(use(limiter), seconds=LIMIT) == "done"
    assert other.done()


async def test_waits_of_several_requests_one_after_another_do_not_count() -> None:
    limiter = Limiter(1)

    async def clean_up() -> None:
        for _ in range(3):
            await occupy_and_wait()

    async def occupy_and_wait() -> None:
        other = asyncio.create_task(use(limiter, seconds=LIMIT))
        await asyncio.sleep(0)
        await use(limiter)
        await other

    await finish(clean_up(), seconds=LIMIT)


async def test_waits_of_tasks_that_the_clean_up_starts_do_not_count() -> None:
    limiter = Limiter(1)
    await occupy(limiter, seconds=LONG)

    async def clean_up() -> list[str]:
        return await asyncio.gather(use(limiter), use(limiter))

    assert await finish(clean_up(), seconds=LIMIT) == ["done", "done"]


async def test_waits_of_earlier_tasks_of_the_same_clock_do_not_count() -> None:
    limiter = Limiter(1)
    await occupy(limiter, seconds=LONG)
    with WorkClock().measuring():
        waiting = asyncio.create_task(use(limiter))
        await asyncio.sleep(0)
        assert await finish(asyncio.wait_for(waiting, PATIENCE), seconds=LIMIT) == "done"


async def test_waits_of_other_tasks_count() -> None:
    limiter = Limiter(1)
    await occupy(limiter, seconds=PATIENCE)
    stranger = asyncio.create_task(use(limiter))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await finish(asyncio.sleep(PATIENCE), seconds=LIMIT)
    assert not stranger.done()


@pytest.mark.parametrize("is_busy", [False, True])
async def test_time_with_a_slot_counts(is_busy: bool) -> None:
    limiter = Limiter(1)
    if is_busy:
        await occupy(limiter, seconds=LONG)
    with pytest.raises(TimeoutError):
        await finish(use(limiter, seconds=PATIENCE), seconds=LIMIT)
    assert not limiter.locked()


async def test_time_before_a_wait_counts_after_it() -> None:
    limiter = Limiter(1)

    async def clean_up() -> None:
        await asyncio.sleep(LIMIT / 2)
        await use(limiter)
        await asyncio.sleep(PATIENCE)

    await occupy(limiter, seconds=LONG)
    with pytest.raises(TimeoutError):
        await finish(clean_up(), seconds=LIMIT)


async def test_cancelled_wait_gives_its_slot_to_the_next() -> None:
    limiter = Limiter(1)
    other = await occupy(limiter, seconds=LIMIT)
    with WorkClock().measuring():
        cancelled, waiting = asyncio.create_task(use(limiter)), asyncio.create_task(use(limiter))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await waiting == "done"
    assert cancelled.cancelled()
    assert other.done()
