"""Parts and memory: streams are cut without losing a byte, part sizes grow in time, and the budget is always given back."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakery_cloud import ConfigError
from lakery_cloud.providers.s3.settings import S3_LIMITS
from lakery_cloud.streams.budget import ByteBudget
from lakery_cloud.streams.parts import (
    SMALL_PIECE,
    Part,
    PartSizes,
    cut,
)
from tests.helpers import PATIENCE, each, let_others_run

MiB = 1024**2
GiB = 1024**3
TiB = 1024**4

LIKE_BYTES = st.builds(lambda kind, data: kind(data), st.sampled_from([bytes, bytearray, memoryview]), st.binary())
CHUNKS = st.lists(LIKE_BYTES, max_size=20)

relaxed = settings(deadline=None)


def constant(size):
    return PartSizes(size, max_part_size=size, max_parts=1_000_000, max_object_size=10**12)


def assert_free(budget, size):
    """Exactly so many bytes of the budget are free."""
    assert budget.try_acquire(size)
    assert not budget.try_acquire(1)
    budget.release(size)


async def take_all(chunks, sizes, *, budget_size=10**9):
    """Cut all parts, release each as a sender would, and check the lease at each."""
    budget = ByteBudget(budget_size)
    parts = []
    with budget.lease() as lease:
        async with aclosing(cut(each(chunks), sizes, lease)) as cutting:
            async for part in cutting:
                assert_free(budget, budget_size - len(part.data))
                lease.release(len(part.data))
                parts.append(part)
        assert_free(budget, budget_size)
    assert_free(budget, budget_size)
    return parts


# Cutting.


@relaxed
@given(CHUNKS, st.integers(1, 30))
async def test_any_chunks_are_cut_into_parts_of_the_right_size(chunks, size):
    data = b"".join(chunks)
    parts = await take_all(chunks, constant(size))
    assert b"".join(part.data for part in parts) == data
    assert [len(part.data) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts) == max(1, -(-len(data) // size))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.offset for part in parts] == [size * number for number in range(len(parts))]
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(type(part.data) is bytes for part in parts)


@relaxed
@given(CHUNKS, st.integers(1, 4), st.integers(1, 40))
async def test_growing_parts_are_contiguous_and_have_the_planned_sizes(chunks, first, max_parts):
    sizes = PartSizes(first, max_part_size=10**6, max_parts=max_parts, max_object_size=10**6)
    data = b"".join(chunks)
    if not can_hold(sizes, len(data)):
        with pytest.raises(ConfigError):
            await take_all(chunks, sizes)
        return
    parts = await take_all(chunks, sizes)
    assert b"".join(part.data for part in parts) == data
    for part in parts[:-1]:
        assert len(part.data) == sizes.at(part.number, part.offset)
    assert len(parts[-1].data) <= sizes.at(parts[-1].number, parts[-1].offset)
    assert parts[-1].data or not data


def can_hold(sizes, size):
    offset = 0
    for number in range(1, sizes.max_parts + 1):
        offset += sizes.at(number, offset) if offset < size else 0
    return offset >= size


@relaxed
@given(CHUNKS, st.integers(1, 30), st.integers(0, 10))
async def test_leaving_in_the_middle_gives_everything_back(chunks, size, taken):
    budget = ByteBudget(10**6)
    with budget.lease() as lease:
        async with aclosing(cut(each(chunks), constant(size), lease)) as parts:
            for _ in range(taken):
                if await anext(parts, None) is None:
                    break
    assert_free(budget, 10**6)


async def test_an_empty_stream_is_one_empty_part():
    for chunks in ([], [b""], [b"", bytearray(), b""]):
        (part,) = await take_all(chunks, constant(4))
        assert (part.number, part.offset, part.data, part.is_last) == (1, 0, b"", True)


async def test_a_source_that_breaks_breaks_the_cutting_and_gives_everything_back():
    async def breaks():
        yield b"12345"
        raise OSError("the source broke")

    budget = ByteBudget(100)
    with pytest.raises(OSError, match="the source broke"), budget.lease() as lease:
        [part async for part in cut(breaks(), constant(2), lease)]
    assert_free(budget, 100)


async def test_chunks_that_are_not_bytes_break_the_cutting():
    budget = ByteBudget(100)
    with pytest.raises(TypeError, match="must yield bytes, not str"), budget.lease() as lease:
        [part async for part in cut(each([b"1", "text"]), constant(2), lease)]
    assert_free(budget, 100)


async def test_a_buffer_that_the_producer_uses_again_is_copied():
    async def reuses():
        buffer = bytearray(3)
        for text in (b"one", b"two", b"six"):
            buffer[:] = text
            yield buffer

    with ByteBudget(1000).lease() as lease:
        parts = [part.data async for part in cut(reuses(), constant(5), lease)]
    assert parts == [b"onetw", b"osix"]


async def test_no_byte_is_collected_before_there_is_room_for_its_part():
    budget = ByteBudget(10)
    asked = []

    async def source():
        for number in range(10):
            asked.append(number)
            yield b"x"

    await budget.acquire(7)
    with budget.lease() as lease:
        parts = cut(source(), constant(4), lease)
        first = asyncio.ensure_future(anext(parts))
        await let_others_run()
        assert asked == []
        budget.release(7)
        assert (await first).data == b"xxxx"
        second = asyncio.ensure_future(anext(parts))
        await let_others_run()
        assert asked == [0, 1, 2, 3, 4, 5, 6, 7, 8]
        await second
        third = asyncio.ensure_future(anext(parts))
        await let_others_run()
        assert not third.done()
        lease.release(4)
        assert (await third).data == b"xx"
        await parts.aclose()
    assert_free(budget, 10)


async def test_a_part_larger_than_the_whole_budget_is_cut_all_the_same():
    budget = ByteBudget(3)
    with budget.lease() as lease:
        cutting = cut(each([b"0123456789"]), constant(4), lease)
        found = []
        async for part in cutting:
            found.append(part.data)
            lease.release(len(part.data))
    assert found == [b"0123", b"4567", b"89"]
    assert_free(budget, 3)


# Part sizes.


@pytest.mark.parametrize("first", [5 * MiB, 8 * MiB, 8 * MiB + 1, 100 * MiB, 5 * GiB])
def test_part_sizes_grow_before_the_parts_run_out(first):
    limits = S3_LIMITS
    sizes = PartSizes(first, limits.max_part_size, limits.max_parts, limits.max_object_size)
    found, offset = [], 0
    while True:
        try:
            size = sizes.at(len(found) + 1, offset)
        except ConfigError:
            break
        found.append(size)
        offset += size
        assert len(found) <= limits.max_parts
        assert offset <= limits.max_object_size
    assert offset >= 5 * TiB
    assert found == sorted(found)
    assert limits.min_part_size <= found[0] == first
    assert found[-1] <= limits.max_part_size


def test_small_streams_travel_in_small_parts():
    sizes = PartSizes(8 * MiB, 5 * GiB, 10_000, 50_000 * GiB)
    assert {sizes.at(number, (number - 1) * 8 * MiB) for number in range(1, 1001)} == {8 * MiB}
    assert sizes.at(1002, 1001 * 8 * MiB) > 8 * MiB


@relaxed
@given(st.integers(1, 10**6), st.integers(1, 10**7), st.integers(1, 500), st.integers(1, 10**9))
def test_part_sizes_keep_every_limit(first, largest, max_parts, max_object_size):
    sizes = PartSizes(min(first, largest), largest, max_parts, max_object_size)
    found, offset = [], 0
    while offset < max_object_size and len(found) < max_parts:
        size = sizes.at(len(found) + 1, offset)
        assert 1 <= size <= largest
        found.append(size)
        offset += size
    assert offset <= max_object_size
    assert found[:-1] == sorted(found[:-1])
    with pytest.raises(ConfigError):
        sizes.at(len(found) + 1, offset)


def test_one_part_too_many_is_refused_with_the_limits():
    sizes = PartSizes(10, max_part_size=10, max_parts=3, max_object_size=1000)
    assert sizes.at(3, 20) == 10
    with pytest.raises(ConfigError, match=r"longer than 30 bytes in 3 parts.*at most 3 parts and 1000 bytes"):
        sizes.at(4, 30)


@pytest.mark.parametrize("part_size", [5 * MiB, 8 * MiB])
def test_equal_parts_do_not_grow(part_size):
    sizes = PartSizes(part_size, 5 * GiB, 10_000, 50_000 * GiB, are_equal=True)
    assert {sizes.at(number, (number - 1) * part_size) for number in range(1, 10_001)} == {part_size}
    with pytest.raises(ConfigError, match=r"10000 parts \(with equal_parts, they don't grow\).*set a larger part_size"):
        sizes.at(10_001, 10_000 * part_size)


def test_one_byte_too_many_is_refused_with_the_limits():
    sizes = PartSizes(10, max_part_size=10, max_parts=100, max_object_size=25)
    assert sizes.at(3, 20) == 5
    with pytest.raises(ConfigError, match="at most 100 parts and 25 bytes"):
        sizes.at(4, 25)


async def test_a_stream_of_exactly_the_largest_size_is_cut_and_one_byte_more_is_refused():
    sizes = PartSizes(10, max_part_size=10, max_parts=100, max_object_size=25)
    assert [len(part.data) for part in await take_all([bytes(25)], sizes)] == [10, 10, 5]
    with pytest.raises(ConfigError):
        await take_all([bytes(26)], sizes)


# The budget.


async def test_waiters_are_served_in_order():
    budget = ByteBudget(10)
    await budget.acquire(10)
    served = []

    async def want(name, size):
        await budget.acquire(size)
        served.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(want("large", 8))
        group.create_task(want("small", 1))
        await let_others_run()
        budget.release(5)
        await let_others_run()
        assert served == []  # the small one would fit, but it came later
        assert not budget.try_acquire(1)
        budget.release(3)
        await let_others_run()
        assert served == ["large"]
        budget.release(2)
    assert served == ["large", "small"]
    budget.release(9)
    assert_free(budget, 10)


async def test_a_waiter_that_is_cancelled_makes_room_for_the_next():
    budget = ByteBudget(10)
    await budget.acquire(5)
    large = asyncio.create_task(budget.acquire(8))
    small = asyncio.create_task(budget.acquire(5))
    await let_others_run()
    assert not small.done()
    large.cancel()
    await let_others_run()
    assert large.cancelled()
    assert small.done()
    budget.release(10)
    assert_free(budget, 10)


async def test_waiter_that_is_cancelled_after_it_was_served_releases_its_bytes():
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiting = asyncio.create_task(budget.acquire(6))
    await let_others_run()
    budget.release(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert_free(budget, 10)


async def test_a_waiter_that_is_cancelled_just_before_it_would_be_served_is_cancelled():
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiting = asyncio.create_task(budget.acquire(6))
    await let_others_run()
    waiting.cancel()
    budget.release(10)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert_free(budget, 10)


async def test_a_request_larger_than_the_budget_runs_alone():
    budget = ByteBudget(10)
    await budget.acquire(1)
    large = asyncio.create_task(budget.acquire(25))
    await let_others_run()
    assert not large.done()
    budget.release(1)
    await large
    assert not budget.try_acquire(0)
    assert not budget.try_acquire(1)
    budget.release(25)
    assert_free(budget, 10)


async def test_lease_releases_its_remaining_bytes():
    budget = ByteBudget(10)
    with pytest.raises(OSError, match="in the block"), budget.lease() as lease:
        await lease.acquire(4)
        await lease.acquire(5)
        lease.release(4)
        assert_free(budget, 5)
        raise OSError("in the block")
    assert_free(budget, 10)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(0, 6), st.integers(0, 6), st.none() | st.integers(0, 12)),
        max_size=30,
    ),
)
async def test_everything_is_released_whichever_waiter_is_cancelled(limit, visitors):
    budget = ByteBudget(limit)
    held = []

    async def visit(size, arrival, stay):
        await let_others_run(arrival)
        await budget.acquire(size)
        held.append(size)
        try:
            assert sum(held) <= limit or len(held) == 1
            await let_others_run(stay)
        finally:
            held.remove(size)
            budget.release(size)

    tasks = [
        (asyncio.create_task(visit(size, arrival, stay)), cancelled_at)
        for size, arrival, stay, cancelled_at in visitors
    ]
    for tick in range(13):
        for task, cancelled_at in tasks:
            if cancelled_at == tick:
                task.cancel()
        await let_others_run(1)
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert_free(budget, limit)


async def test_large_chunks_become_pieces_without_a_copy_and_small_ones_are_joined():
    large, small = bytes(SMALL_PIECE), b"x" * 1000
    (part,) = await take_all([large, *[small] * 3, large, small], constant(10**9))
    assert [len(piece) for piece in part.pieces] == [SMALL_PIECE, 3000 + SMALL_PIECE, 1000]
    assert part.pieces[0] is large
    assert part.size == 2 * SMALL_PIECE + 4000


async def test_a_source_that_never_waits_lets_others_work_meanwhile():
    turns = 0

    async def work():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(work())
    parts = await take_all([bytes(SMALL_PIECE // 4)] * 64, constant(8 * SMALL_PIECE))
    working.cancel()
    assert len(parts) == 2
    assert turns >= 15


def test_the_rest_of_a_part_begins_anywhere():
    pieces = (b"abc", b"", b"d", b"efg")
    part = Part(1, 0, pieces, is_last=True)
    assert [b"".join(part.rest(start)) for start in range(9)] == [part.data[start:] for start in range(9)]
    assert part.rest(0) == (b"abc", b"d", b"efg")
