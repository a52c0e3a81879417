"""How many parts travel at a time."""

import asyncio
from collections.abc import Callable

import pytest

from lakery_cloud import MemoryStorage
from lakery_cloud.streams.pace import FIRST_PARTS, Pace, note_throttle
from lakery_cloud.streams.tasks import bounded_tasks
from lakery_cloud.testing import content, stream_of, tap


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
        for _ in range(50):
            await asyncio.sleep(0)
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
    pace._clocks = Clocks(0.0)
    assert max(await run(pace, 60)) > 8


async def test_throttle_of_another_stream_changes_nothing() -> None:
    pace = Pace(16, clocks=Clocks(1.0))
    note_throttle()
    async with bounded_tasks(3):
        note_throttle()
    assert pace.limit == 4


@pytest.mark.parametrize("most", [1, 3, 16])
async def test_writes_have_no_more_parts_at_a_time_than_their_setting(most: int) -> None:
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
        stream = stream_of([data])
        storage_data = await storage.write_data_stream(stream, stream.get_digest, {})
        assert await storage.read_data(storage_data) == data
    assert len(seen) == 80
    assert min(most, FIRST_PARTS) <= max(seen) <= most
