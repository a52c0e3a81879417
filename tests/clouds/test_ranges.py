"""Large reads: one GET, and ranges ahead from where its connection turns out to be slow."""

from typing import Any

import pytest

from lakery_cloud.engine import reader
from lakery_cloud.testing import FaultProxy, content, digest_of
from tests.rigs.base import CloudRig

DATA = content(2_000_000)


@pytest.fixture(autouse=True)
def _look_early(monkeypatch: pytest.MonkeyPatch, cloud_rig: CloudRig) -> None:
    if cloud_rig.is_live:
        pytest.skip("no proxy stands before a real account")
    monkeypatch.setattr(reader, "FIRST_LOOK", 100_000)
    monkeypatch.setattr(reader, "IDLE", 1e9)


@pytest.mark.parametrize(("slow", "is_in_ranges"), [(0.0, False), (1e18, True)], ids=["fast", "slow"])
async def test_ranges_are_read_ahead_only_where_the_connection_is_slow(
    cloud_rig: CloudRig, monkeypatch: pytest.MonkeyPatch, slow: float, is_in_ranges: bool
) -> None:
    monkeypatch.setattr(reader, "SLOW_CONNECTION", slow)
    async with FaultProxy(cloud_rig.server_url) as proxy:
        cloud_rig.point_to(proxy.url)
        async with cloud_rig.storage(range_size=200_000) as storage:
            storage_data = await storage.write_data(DATA, digest_of(DATA), {})
            await storage.read_data(
                storage_data
            )  # Azure's SDK, which makes the first call, gives out nothing before the end
            proxy.exchanges.clear()
            assert await storage.read_data(storage_data) == DATA
    assert (len(proxy.exchanges_of("get")) > 2) == is_in_ranges
    await cloud_rig.check_nothing_temporary()


async def test_endpoint_that_ignores_ranges_is_read_by_one_get(
    cloud_rig: CloudRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SLOW_CONNECTION", 1e18)
    async with cloud_rig.storage(range_size=200_000) as storage:
        storage_data = await storage.write_data(DATA, digest_of(DATA), {})
        transport: Any = await storage.transport()
        get = transport.get
        transport.get = lambda address, *, start=0, stop=None, version=None: get(address, version=version)
        assert await storage.read_data(storage_data) == DATA
