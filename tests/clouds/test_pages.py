"""Listings in pages that are smaller than the listing."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from lakery_cloud.testing import digest_of
from tests.helpers import proxy_before, write
from tests.rigs.base import CloudRig

PAGE_SIZE, KEYS = 3, 8


@pytest.mark.case("41")
async def test_listing_in_several_pages_returns_each_key_once(cloud_rig: CloudRig) -> None:
    contents = [bytes([number]) for number in range(KEYS)]
    limits = replace(cloud_rig.storage().settings.limits, page_size=PAGE_SIZE)
    async with (
        nullcontext() if cloud_rig.is_live else proxy_before(cloud_rig) as proxy,  # none stands before a real account
        cloud_rig.storage(limits=limits, prefix="p") as storage,
    ):
        for data in contents:
            await write(storage, data)
        await cloud_rig.put("p/below/other", b"")
        listed = [cloud_rig.own_key(info.address.key) async for info in storage.list()]
    assert sorted(listed) == sorted(f"p/{digest_of(data)['content_hash']}" for data in contents)
    assert proxy is None or len(proxy.exchanges_of("list")) >= KEYS / PAGE_SIZE
