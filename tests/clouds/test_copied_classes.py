"""The storage class or access tier of copies inside each store: that of the destination's settings, as of its writes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud import ObjectStorage
from lakery_cloud.maintenance import CollectJob, CopyJob, Inventory, plan, restore_quarantined, run_job, store_time
from lakery_cloud.maintenance.live import LiveSet
from lakery_cloud.maintenance.shards import EVERYTHING, in_quarantine, listed
from lakery_cloud.testing import content, digest_of
from tests.conftest import rig_on
from tests.helpers import TAGS, hash_of
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

SETTINGS = {
    "s3": {"storage_class": "STANDARD_IA"},
    "gs": {"storage_class": "NEARLINE"},
    "az": {"access_tier": "Cool"},
}
"""Scheme -> the setting of the destination."""


@asynccontextmanager
async def storages(rig: CloudRig, *, in_parts: bool) -> AsyncIterator[tuple[Any, Any, list[bytes]]]:
    """A source with content in the default class, and a destination with a class of its own."""
    own: dict[str, Any] = SETTINGS[rig.storage_class.url_scheme]
    limits = rig.storage().settings.limits
    if in_parts and limits.max_copy_size is not None:
        limits = replace(limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)
    blobs = [content(100), content(2 * rig.part_size if in_parts else 200)]
    async with rig.storage(prefix="from") as source, rig.storage(prefix="to", limits=limits, **own) as destination:
        for data in blobs:
            await source.write_data(data, digest_of(data, content_encoding="gzip"), TAGS)
        yield source, destination, blobs


async def check(rig: CloudRig, storage: ObjectStorage[Any], root: str, blobs: list[bytes]) -> None:
    """Check that content has the class of the settings, and the attributes that it was written with."""
    (own,) = SETTINGS[rig.storage_class.url_scheme].values()
    places = listed if root == "to" else in_quarantine
    found = [entry async for entry in places(storage, EVERYTHING, described=True)]
    assert {content_hash: info.storage_class for content_hash, info in found} == dict.fromkeys(map(hash_of, blobs), own)
    for data in blobs:
        stored = await rig.get(f"{root}/{hash_of(data)}")
        assert stored is not None
        assert (stored.data, stored.content_encoding, stored.tags) == (data, "gzip", TAGS)
        assert stored.metadata


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("by_inventory", [False, True])
async def test_copies_have_the_class_of_the_destination(
    cloud_rig: CloudRig, by_inventory: bool, in_parts: bool
) -> None:
    async with storages(cloud_rig, in_parts=in_parts) as (source, destination, blobs):
        with Inventory("test") as inventory:
            async for entry in listed(source):
                inventory.add(*entry)
            shards = await plan(source, shards=1, inventory=inventory if by_inventory else None)
            (result,) = [result async for result in run_job(CopyJob(source, destination), shards)]
        assert result.counts["copied in store"] == 2
        await check(cloud_rig, destination, "to", blobs)


async def test_quarantine_and_restored_content_have_the_class_of_the_settings(cloud_rig: CloudRig) -> None:
    async with storages(cloud_rig, in_parts=True) as (source, destination, blobs):
        await CopyJob(source, destination).run(EVERYTHING)
        with LiveSet() as live:
            began = await store_time(destination) + timedelta(days=8)
            job = CollectJob(destination, live=live, began=began, dry_run=False)
            results = [result async for result in run_job(job, [EVERYTHING])]
        assert sum(result.counts["quarantined"] for result in results) == 2
        await check(cloud_rig, destination, "to/.trash", blobs)
        assert len([each async for each in restore_quarantined(destination)]) == 2
        await check(cloud_rig, destination, "to", blobs)
