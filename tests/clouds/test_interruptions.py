"""Cancellations at random moments leave nothing, on any storage."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator

from tests.conftest import rig_on
from tests.helpers import write_stream
from tests.rigs.base import PairRig
from tests.rigs.pairs import PAIRS, PROFILE_PAIRS

PIECES = 18
"""Four parts and a half."""

EACH = {"memory", "file", "s3-aws", "gcs-strict", "azure-azurite"}
rig = rig_on(*(pair for pair in (*PAIRS, *PROFILE_PAIRS) if pair.is_live or pair.name in EACH))


async def test_twenty_cancellations_at_random_moments_leave_nothing(rig: PairRig) -> None:
    chance = random.Random(20)
    sent = 0

    async def source() -> AsyncGenerator[bytes]:
        nonlocal sent
        for number in range(PIECES):
            sent += 1
            yield bytes([number]) * (rig.part_size // 4)
            await asyncio.sleep(0)

    async def write() -> float:
        """Return how long a whole write takes."""
        started = time.monotonic()
        async with rig.storage(max_concurrent_parts=3) as storage:
            await storage.delete(await write_stream(storage, source()))
        return time.monotonic() - started

    longest = await write()
    assert sent == PIECES

    cancelled = 0
    for _ in range(200):
        task = asyncio.create_task(write())
        done, _ = await asyncio.wait([task], timeout=chance.uniform(0, longest))
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if done:  # quicker than the last whole one
            assert isinstance(outcome, float)
            longest = outcome
            continue
        assert isinstance(outcome, asyncio.CancelledError)
        cancelled += 1
        await rig.check_nothing_temporary()
        for key in await rig.keys():  # cancelled after the copy
            await rig.delete(key)
        if cancelled == 20:
            break
    assert cancelled == 20
    assert sent > PIECES + 20
