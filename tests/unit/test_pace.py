"""How many parts travel at a time."""

import asyncio
from collections.abc import Callable

import pytest

from lakery_cloud import MemoryStorage
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.pace import FIRST_PARTS, Link, Pace, note_throttle
from lakery_cloud.streams.tasks import bounded_tasks, ordered_map
from lakery_cloud.testing import content, stream_of, tap
from tests.helpers import let_others_run


class Clocks:
    """Clocks that the test moves: each wait takes a second, in which the process works for `load` seconds."""

    def __init__(self, load: float) -> None:
        self.load, self.now, self.cpu = load, 0.0, 0.0

    def __call__(self) -> tuple[float, float]:
        self.now, self.cpu = self.now + 1, self.cpu + self.load
        return self.now, self.cpu


async def run(pace: Pace, parts: int, part: Callable[[int], None] = lambda _: None) -> list[int]:
    """Send parts, each of which ends when all others wait; return how many travelled at a time when each began."""
    travelling, seen = 0, list[int]()

    async def send(number: int) -> None:
        nonlocal travelling
        travelling += 1
        seen.append(travelling)
        part(number)
        await let_others_run(50)
        travelling -= 1

    async with bounded_tasks(pace) as tasks:
        for number in range(parts):
            await tasks.start(send(number))
    return seen


@pytest.mark.parametrize(
    ("load", "most", "reached"), [(0.0, 16, 16), (0.5, 16, 16), (0.9, 16, 4), (2.0, 16, 4), (0.0, 6, 6), (0.0, 2, 2)]
)
async def test_parts_grow_while_the_process_waits_for_the_link(load: float, most: int, reached: int) -> None:
    pace = Pace(most, clocks=Clocks(load))
    seen = await run(pace, 60)
    assert pace.limit == reached
    assert reached - 2 <= max(seen) <= reached
    assert max(seen[:4]) <= 4


async def test_throttle_halves_the_parts_once_for_all_that_travel() -> None:
    pace = Pace(16, first=16, clocks=Clocks(1.0))
    seen = await run(pace, 60, lambda number: note_throttle() if number in range(16) else None)
    assert pace.limit == 8
    assert max(seen[24:]) <= 8


async def test_throttles_that_go_on_leave_one_part_at_a_time_and_parts_grow_again() -> None:
    pace = Pace(16, clocks=Clocks(1.0))
    await run(pace, 30, lambda _: note_throttle())
    assert pace.limit == 1
    pace.clocks = Clocks(0.0)
    assert max(await run(pace, 60)) > 8


async def test_throttle_of_another_stream_changes_nothing() -> None:
    pace = Pace(16, clocks=Clocks(1.0))
    note_throttle()
    async with bounded_tasks(3):
        note_throttle()
    assert pace.limit == 4


async def test_next_stream_begins_with_as_many_parts_as_the_link_took() -> None:
    link = Link()
    await run(Pace(16, link=link, clocks=Clocks(1.0)), 60)
    assert link.parts == FIRST_PARTS
    await run(Pace(16, link=link, clocks=Clocks(0.0)), 60)
    assert max((await run(Pace(16, link=link, clocks=Clocks(1.0)), 60))[:16]) == 16
    assert max(await run(Pace(6, link=link, clocks=Clocks(1.0)), 60)) == 6
    await run(Pace(16, link=link, clocks=Clocks(1.0)), 10, lambda _: note_throttle())
    assert max(await run(Pace(16, link=link, clocks=Clocks(1.0)), 60)) == link.parts < 16


@pytest.mark.parametrize("known", [FIRST_PARTS, 16])
@pytest.mark.parametrize("most", [1, 3, 16])
async def test_writes_have_no_more_parts_at_a_time_than_their_setting(most: int, known: int) -> None:
    travelling, seen = 0, []
    storage = MemoryStorage(part_size=1000, max_concurrent_parts=most)
    wire, data = tap(storage), content(80_000)

    async def begin() -> None:
        nonlocal travelling
        travelling += 1
        seen.append(travelling)
        await asyncio.sleep(0.002)

    async def end() -> None:
        nonlocal travelling
        travelling -= 1

    for number in range(1, 81):
        wire.before("upload_part", begin, nth=number)
        wire.after("upload_part", end, nth=number)
    async with storage:
        (await storage._session()).link.parts = known
        stream = stream_of([data])
        storage_data = await storage.write_data_stream(stream, stream.get_digest, {})
        assert await storage.read_data(storage_data) == data
    assert len(seen) == 80
    assert min(most, known) <= max(seen) <= most


ARRIVAL = 50
"""How long a range takes, in rounds of the loop."""


async def read(
    pace: Pace,
    ranges: int,
    *,
    load: float = 0.0,
    use: int = 1,
    throttled: Callable[[int], bool] = lambda _: False,
    budget: int = 1000,
) -> list[int]:
    """Read ranges ahead; return how many were ahead when each began. A round of the loop is a second of the pace's clocks.

    Args:
        pace: How many.
        ranges: How many in all.
        load: Seconds that the process works in each second.
        use: Seconds in which the reader uses a range.
        throttled: Whether the store throttles a range.
        budget: Room for so many.
    """
    now, ahead, seen = 0, 0, list[int]()

    async def tick() -> None:
        nonlocal now
        while True:
            now += 1
            await asyncio.sleep(0)

    async def read_range(number: int) -> int:
        nonlocal ahead
        ahead += 1
        seen.append(ahead)
        if throttled(number):
            note_throttle()
        await let_others_run(ARRIVAL)
        return number

    pace.clocks = lambda: (now, load * now)
    ticking = asyncio.create_task(tick())
    found, room = list[int](), ByteBudget(budget)
    async for number in ordered_map(read_range, range(ranges), size_of=lambda _: 1, budget=room, limit=pace):
        found.append(number)
        await let_others_run(use)
        ahead -= 1
    ticking.cancel()
    assert found == list(range(ranges))
    return seen


@pytest.mark.parametrize(
    ("load", "most", "reached"), [(0.0, 16, 16), (0.5, 16, 16), (0.9, 16, 4), (2.0, 16, 4), (0.0, 6, 6), (0.0, 2, 2)]
)
async def test_ranges_ahead_grow_while_the_process_waits_for_the_link(load: float, most: int, reached: int) -> None:
    pace = Pace(most)
    seen = await read(pace, 60, load=load)
    assert pace.limit == max(seen) == reached
    assert max(seen[:4]) <= 4


@pytest.mark.parametrize("first", [2, 4, 8])
async def test_ranges_ahead_of_a_slow_reader_do_not_grow(first: int) -> None:
    assert max(await read(Pace(16, first=first), 60, use=ARRIVAL // first + 1)) == first
    assert max(await read(Pace(16, first=first), 60, use=ARRIVAL // first // 3)) > first


async def test_ranges_ahead_stay_within_the_budget() -> None:
    assert max(await read(Pace(16), 60, budget=5)) == 5


async def test_throttle_halves_the_ranges_ahead_once_for_all_that_travel() -> None:
    pace = Pace(16, first=16)
    seen = await read(pace, 60, load=1.0, throttled=range(16).__contains__)
    assert pace.limit == 8
    assert max(seen[24:]) == 8


async def test_throttles_that_go_on_leave_one_range_at_a_time() -> None:
    assert (await read(Pace(16), 30, load=1.0, throttled=lambda _: True))[-5:] == [1] * 5


async def test_wait_for_what_the_store_throttled_is_no_wait_for_the_link() -> None:
    pace = Pace(16, first=16)
    seen = await read(pace, 60, throttled=range(16).__contains__)
    assert max(seen[16:24]) == 8, "eight pass before more are tried"
    assert max(seen[24:]) == 16
