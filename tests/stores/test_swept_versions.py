"""`sweep` in buckets that keep versions: it deletes all versions of old temporary objects, and no others."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lakery_cloud import GCSStorage
from lakery_cloud.emulators import Azurite
from lakery_cloud.engine.keys import Address
from lakery_cloud.maintenance import leftovers, sweep
from lakery_cloud.maintenance.check_context import attributes_of
from lakery_cloud.testing import S3_PROFILES, S3Profile, StrictGCS, StrictS3, digest_of
from tests.helpers import write
from tests.stores.azure_store import azure_store
from tests.stores.stores import BUCKET, operations, s3_store

pytestmark = [pytest.mark.case("56")]

CONTENT = digest_of(b"content")["content_hash"]
NO_TAGS: dict[str, str] = {}


def old_key(number: int) -> str:
    return f".tmp/20200101T000000Z-00000000-0000-4000-8000-{number:012}"


async def fill(storage: Any, *, deleted: int = 1) -> str:
    """Put an old temporary object, some old ones, a young one and content that are deleted; return the young key."""
    transport, bucket = await storage.transport(), storage.keys.bucket
    young = storage.keys.temporary().key
    attributes = await attributes_of(b"part", {})
    await transport.put(Address(bucket, old_key(0)), b"part", attributes)
    for key in (*map(old_key, range(1, deleted + 1)), young):
        await transport.put(Address(bucket, key), b"part", attributes)
        await transport.delete(Address(bucket, key))
    stored = await write(storage, b"content", NO_TAGS)
    await storage.delete(stored)
    await write(storage, b"content", NO_TAGS)
    return str(young)


async def check_swept(storage: Any) -> list[tuple[str, bool]]:
    """Check that a dry run finds what the sweep deletes, and return that."""
    found = [(each.address.key, each.is_noncurrent) async for each in leftovers(storage)]
    swept = [(each.address.key, each.is_noncurrent) async for each in sweep(storage)]
    assert sorted(swept) == sorted(found)
    assert [each async for each in sweep(storage)] == []
    return sorted(swept)


def versions(server: StrictS3) -> dict[str, int]:
    return {key: len(found) for key, found in server.buckets[BUCKET].items()}


async def test_s3_versions_and_markers_are_swept() -> None:
    async with s3_store("aws-versioned") as (server, storage):
        young = await fill(storage)
        before = versions(server)
        # A version and a marker.
        assert await check_swept(storage) == [(old_key(0), False), (old_key(1), True), (old_key(1), True)]
        assert versions(server) == {key: before[key] for key in (young, CONTENT)}


async def test_s3_versions_are_swept_from_listings_of_several_pages() -> None:
    async with s3_store("aws-versioned") as (server, storage):
        young = await fill(storage, deleted=7)
        server.page_size = 3
        assert len(await check_swept(storage)) == 15
        assert versions(server).keys() == {young, CONTENT}


async def test_only_old_versions_are_swept() -> None:
    async with s3_store("aws-versioned") as (server, storage):
        await fill(storage)
        before = versions(server)
        assert [each async for each in sweep(storage, older_than=timedelta(days=36_500))] == []
        assert versions(server) == before


@pytest.mark.parametrize(
    "profile",
    [replace(S3_PROFILES["aws-versioned"], no_operations=("ListObjectVersions",)), S3_PROFILES["aws-locked"]],
    ids=["no listing", "locked"],
)
async def test_s3_versions_that_the_store_keeps_stay_noncurrent(profile: S3Profile) -> None:
    async with s3_store(profile) as (server, storage):
        await fill(storage)
        assert [each.address.key async for each in sweep(storage)] == [old_key(0)]
        for number in range(2):
            version, marker = server.buckets[BUCKET][old_key(number)]
            assert version.data == b"part"
            assert marker.data is None


async def test_s3_bucket_without_versions_is_swept_by_key() -> None:
    async with s3_store("aws") as (server, storage):
        await fill(storage)
        server.received.clear()
        assert await check_swept(storage) == [(old_key(0), False)]
        assert versions(server) == {CONTENT: 1}
        assert not [request for request in server.received if "versionId" in request]
        assert "DeleteObject" in operations(server)


async def test_gcs_generations_are_swept() -> None:
    async with StrictGCS("google-versioned") as server:
        server.make_bucket(BUCKET)
        async with GCSStorage(BUCKET, endpoint_url=server.url) as storage:
            young = await fill(storage)
            assert await check_swept(storage) == [(old_key(0), False), (old_key(1), True)]
        assert server.buckets[BUCKET].keys() == {CONTENT}
        assert {name for name, _ in server.described[BUCKET].noncurrent} == {young, CONTENT}


@pytest.mark.parametrize("profile", ["versioned", "soft-delete"])
async def test_azure_versions_are_swept(azurite: Azurite, profile: str) -> None:
    async with azure_store(azurite, profile) as store:
        young = await fill(store.storage)
        assert await check_swept(store.storage) == [(old_key(0), False), (old_key(1), True)]
        assert await store.keys() == [CONTENT]
        assert set(store.double.kept_versions(store.container.container_name)) == {young, CONTENT}
