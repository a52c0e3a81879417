"""More streams than a slow store can serve: all are saved or cancelled, and nothing temporary is left.

A clean-up waits longer for a slot of the limiter than its time limit, and each of its requests is well within it.
"""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import Delay
from tests.helpers import PATIENCE, proxy_before, until, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, params

pytestmark = pytest.mark.case("68")

STREAMS = 10
OVERLOAD = {"max_concurrent_requests": 2, "cleanup_timeout": 1.0}
EACH_DELETION, EACH_ABORT = Delay(0.35), Delay(0.2)
"""All of them need more than `cleanup_timeout`: 10 deletions, or 10 aborts of two requests, at two requests at a time."""

one_server_a_cloud = pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    indirect=True,
)


@one_server_a_cloud
async def test_streams_of_an_overloaded_store_leave_nothing_temporary(cloud_rig: CloudRig) -> None:
    data = content(cloud_rig.part_size + 1)
    contents = [data + bytes([number]) for number in range(STREAMS)]
    async with (
        asyncio.timeout(PATIENCE),
        proxy_before(cloud_rig, Rule(EACH_DELETION, "delete", times=None)),
        cloud_rig.storage(**OVERLOAD) as storage,
    ):
        await asyncio.gather(*(write_stream(storage, each) for each in contents))
    await cloud_rig.check_nothing_temporary()
    assert set(await cloud_rig.keys()) == {digest_of(each)["content_hash"] for each in contents}


@pytest.mark.parametrize("cloud_rig", params(PROFILE_PAIRS[:1]), indirect=True)
async def test_cancelled_streams_of_an_overloaded_store_leave_nothing(cloud_rig: CloudRig) -> None:
    data = content(cloud_rig.part_size + 1)

    async def endless() -> AsyncGenerator[bytes]:
        yield data
        await asyncio.sleep(PATIENCE)

    async with (
        asyncio.timeout(PATIENCE),
        proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(**OVERLOAD) as storage,
    ):
        writes = [asyncio.create_task(write_stream(storage, endless())) for _ in range(STREAMS)]
        await until(lambda: len(proxy.exchanges_of("upload_part")) == STREAMS)
        proxy.arm(Rule(EACH_ABORT, times=None))
        for each in writes:
            each.cancel()
        await asyncio.wait(writes)
        assert all(each.cancelled() for each in writes)
    await cloud_rig.check_nothing_left()
