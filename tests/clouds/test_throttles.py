"""A store that throttles (429, 503) gets fewer parts and ranges at a time, by hot requests and by the SDK."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lakery_cloud.engine.attributes import attributes_of_content
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.transport import Transport
from lakery_cloud.streams import pace
from lakery_cloud.streams.pace import Pace
from lakery_cloud.streams.parts import Part
from lakery_cloud.testing import Rule, content, digest_of, tap
from lakery_cloud.testing.faults import Answer
from tests.helpers import PATIENCE, let_others_run, proxy_before
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, params
from tests.rigs.s3 import S3Rig

pytestmark = [pytest.mark.case("24"), pytest.mark.usefixtures("short_pauses")]

IN_SUCCESS = Answer(200, code="SlowDown")
"""S3 may answer a copy so (API Reference, "CopyObject")."""

one_server_a_cloud = pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    indirect=True,
)


class Object:
    """An object that requests are about.

    Attributes:
        data: Its content.
        address: Its key.
        attributes: Its description.
    """

    def __init__(self, storage: Any, number: int, size: int) -> None:
        digest = digest_of(data := content(size, seed=number))
        self.data = data
        self.address: Address = storage.keys.content(digest["content_hash"])
        self.attributes = attributes_of_content(digest, {})


async def put(transport: Transport, made: Object) -> object:
    return await transport.put(made.address, made.data, made.attributes)


async def get(transport: Transport, made: Object) -> object:
    async with transport.get(made.address) as body:
        return [chunk async for chunk in body.chunks]


async def head(transport: Transport, made: Object) -> object:
    return await transport.head(made.address)


async def delete(transport: Transport, made: Object) -> object:
    return await transport.delete(made.address)


async def list_all(transport: Transport, made: Object) -> object:
    return [info async for info in transport.list(made.address.bucket, "")]


async def upload_part(transport: Transport, made: Object) -> object:
    upload = await transport.begin_upload(made.address, made.attributes, is_temporary=False)
    first = await transport.upload_part(upload, Part(1, 0, (made.data,), is_last=False))
    last = await transport.upload_part(upload, Part(2, len(made.data), (made.data,), is_last=True))
    return await transport.complete_upload(upload, [first, last], size=2 * len(made.data), create_only=False)


async def copy(transport: Transport, made: Object) -> object:
    source = await transport.head(made.address)
    assert source is not None
    return await transport.copy(source, Address(made.address.bucket, "copy"), made.attributes)


# The operation as the fault proxy names it, whether it needs an object, and what sends it.
REQUESTS: dict[str, tuple[bool, Callable[[Transport, Object], Awaitable[object]]]] = {
    "put": (False, put),
    "get": (True, get),
    "head": (True, head),
    "delete": (True, delete),
    "list": (False, list_all),
    "upload_part": (False, upload_part),
    "copy": (True, copy),
}


@pytest.mark.parametrize("fast_lane", [True, False], ids=["ours", "sdk"])
@one_server_a_cloud
async def test_every_request_that_is_throttled_halves_the_pace(cloud_rig: CloudRig, fast_lane: bool) -> None:
    missed = []
    for number, (operation, (needs_object, send)) in enumerate(REQUESTS.items()):
        in_success = [IN_SUCCESS] if operation == "copy" and isinstance(cloud_rig, S3Rig) else []
        for answer in (Answer(429), Answer(503), *in_success):
            async with (
                asyncio.timeout(PATIENCE),
                proxy_before(cloud_rig, Rule(answer, operation)),
                cloud_rig.storage(fast_lane=fast_lane) as storage,
            ):
                made = Object(storage, 1000 * number + answer.status, cloud_rig.part_size)
                if needs_object:
                    await cloud_rig.put(made.address.key, made.data)
                current = Pace(16, first=16)
                with current.current():
                    await send(await storage.transport(), made)
                if current.limit != 8:
                    missed.append((operation, answer.status, current.limit))
            for key in await cloud_rig.keys():
                await cloud_rig.delete(key)
    assert not missed


@pytest.mark.parametrize("fast_lane", [True, False], ids=["ours", "sdk"])
@one_server_a_cloud
async def test_throttled_ranges_are_read_fewer_at_a_time(
    cloud_rig: CloudRig, fast_lane: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "IDLE_SHARE", 0.0)  # no wait is for the link
    ranges, size = 40, 1000
    data = content(ranges * size)
    key = digest_of(data)["content_hash"]
    await cloud_rig.put(key, data)
    under_way, seen = 0, list[int]()
    async with (
        asyncio.timeout(PATIENCE),
        proxy_before(cloud_rig, Rule(Answer(503), "get", times=8)),
        cloud_rig.storage(fast_lane=fast_lane, concurrent_ranges=8, range_size=size) as storage,
    ):
        wire = tap(storage)

        async def begin() -> None:
            nonlocal under_way
            under_way += 1
            seen.append(under_way)
            await let_others_run(50)

        async def end() -> None:
            nonlocal under_way
            under_way -= 1

        for number in range(1, ranges + 1):
            wire.before("get", begin, nth=number)
            wire.after("get", end, nth=number)
        assert await storage.read_data(storage.storage_data_of(digest_of(data))) == data
    assert max(seen[:8]) == 8
    assert 1 < max(seen[8:]) <= 4
