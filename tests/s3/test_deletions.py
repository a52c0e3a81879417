"""Deletions of versions that were judged: those of concurrent calls share requests, and another version stays."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lakery_cloud.engine.model import ObjectInfo, VersionChanged
from lakery_cloud.providers.s3.storage import S3Storage
from lakery_cloud.testing import Exchange, ScriptedProxy
from tests.conftest import rig_on
from tests.helpers import scripted_proxy_before
from tests.rigs.pairs import PROFILE_PAIRS
from tests.rigs.s3 import S3Rig

pytestmark = pytest.mark.usefixtures("short_pauses")

s3_rig = rig_on(*(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))

KEYS = [f"{number:064x}" for number in range(20)]


@pytest.fixture
async def proxy(s3_rig: S3Rig) -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy_before(s3_rig) as proxy:
        yield proxy


async def stored(rig: S3Rig, storage: S3Storage) -> list[ObjectInfo]:
    for key in KEYS:
        await rig.put(key, key.encode())
    found = [info async for info in storage.list()]
    assert len(found) == len(KEYS)
    return found


async def delete_side_by_side(storage: S3Storage, infos: list[ObjectInfo]) -> list[BaseException]:
    transport = await storage.transport()
    results = await asyncio.gather(*map(transport.delete_if, infos), return_exceptions=True)
    return [result for result in results if result is not None]


def is_deletion(exchange: Exchange) -> bool:
    return exchange.operation in ("delete_object", "delete_objects")


async def test_deletions_of_concurrent_calls_share_requests(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        infos = await stored(s3_rig, storage)
        assert await delete_side_by_side(storage, infos) == []
    assert [exchange.operation for exchange in proxy.exchanges if is_deletion(exchange)] == ["delete_objects"]
    await s3_rig.check_nothing_left()


async def test_another_version_stays(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        infos = await stored(s3_rig, storage)
        await s3_rig.put(KEYS[3], b"other")
        await s3_rig.delete(KEYS[4])
        (refusal,) = await delete_side_by_side(storage, infos)
        assert isinstance(refusal, VersionChanged)
    assert await s3_rig.keys() == [KEYS[3]]
    assert [exchange.operation for exchange in proxy.exchanges if is_deletion(exchange)].count("delete_object") == 1


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [(501, "NotImplemented", 1), (400, "MalformedXML", 1), (403, "AccessDenied", 1), (503, "SlowDown", 2)],
)
async def test_a_store_that_deletes_one_object_a_request(
    s3_rig: S3Rig, proxy: ScriptedProxy, status: int, code: str, requests: int
) -> None:
    """It is asked for more only once, unless it was overloaded."""
    refusal = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    proxy.answer(lambda e: e.operation == "delete_objects", status=status, body=refusal, times=1000)
    async with s3_rig.storage(max_attempts=1) as storage:
        infos = await stored(s3_rig, storage)
        assert await delete_side_by_side(storage, infos[:10]) == []
        assert await delete_side_by_side(storage, infos[10:]) == []
    sent = [exchange.operation for exchange in proxy.exchanges if is_deletion(exchange)]
    assert sent.count("delete_object") == len(KEYS)
    assert sent.count("delete_objects") == requests
    await s3_rig.check_nothing_left()
