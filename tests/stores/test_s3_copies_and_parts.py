"""Settings of `S3Storage` for stores with equal parts and slow copies, and buckets of tenants."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import ConfigError, S3Storage, StorageUnavailable, storage_from_url
from lakery_cloud.maintenance import sweep, verify
from lakery_cloud.providers.s3.settings import S3_LIMITS, GiB
from lakery_cloud.testing import S3_PROFILES, S3Profile, StrictS3, content, digest_of
from tests.helpers import write, write_stream
from tests.rigs.s3 import aws_session
from tests.stores.stores import BUCKET, PART, check_nothing_temporary, keys, operations, s3_store

NO_TAGS: dict[str, str] = {}
LARGE = content(8 * PART + 1)
FEW_PARTS = replace(S3_LIMITS, min_part_size=PART, max_parts=20)
"""With so few parts, the third one is larger."""


# Equal parts.


@pytest.mark.case("53")
async def test_store_that_wants_equal_parts_gets_them() -> None:
    async with s3_store("r2", limits=FEW_PARTS, equal_parts=True) as (server, storage):
        assert await storage.read_data(await write_stream(storage, LARGE, NO_TAGS)) == LARGE
        assert operations(server).count("UploadPart") == 9
        check_nothing_temporary(server)


@pytest.mark.case("53")
async def test_error_of_a_store_that_wants_equal_parts_names_the_setting() -> None:
    async with s3_store("r2", limits=FEW_PARTS) as (server, storage):
        with pytest.raises(ConfigError, match="Set equal_parts"):
            await write_stream(storage, LARGE, NO_TAGS)
        assert keys(server) == []
        check_nothing_temporary(server)


@pytest.mark.parametrize("parts", [20, 20.5, 21])
async def test_stream_past_the_last_equal_part_is_refused_and_leaves_nothing(parts: float) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(int(parts * 2)):
            yield bytes(PART // 2)

    async with s3_store("r2", limits=FEW_PARTS, equal_parts=True) as (server, storage):
        if parts == 20:
            await write_stream(storage, endless(), NO_TAGS)
            assert len(keys(server)) == 1
        else:
            with pytest.raises(ConfigError, match=r"20 parts \(with equal_parts, they don't grow\)"):
                await write_stream(storage, endless(), NO_TAGS)
            assert keys(server) == []
        check_nothing_temporary(server)


# Copies.


@pytest.mark.parametrize(("threshold", "count"), [(len(LARGE), 0), (len(LARGE) - 1, 4)])
async def test_copy_threshold_and_part_size(threshold: int, count: int) -> None:
    async with s3_store("aws", copy_threshold=threshold, copy_part_size=2 * PART + 1) as (server, storage):
        assert await storage.read_data(await write_stream(storage, LARGE, NO_TAGS)) == LARGE
        assert operations(server).count("UploadPartCopy") == count
        check_nothing_temporary(server)


@pytest.mark.case("57")
@pytest.mark.parametrize(("seconds", "is_enough"), [(30, True), (0.001, False)])
async def test_copies_have_the_time_of_the_setting(seconds: float, is_enough: bool) -> None:
    slow = S3Profile(name="slow", title="a store that copies slowly", copy_seconds=3)
    settings: dict[str, Any] = {"read_timeout": 1, "max_attempts": 1, "copy_timeout": seconds * GiB / len(LARGE)}
    async with s3_store(slow, **settings) as (_, storage):
        if is_enough:
            assert await storage.read_data(await write_stream(storage, LARGE, NO_TAGS)) == LARGE
            return
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, LARGE, NO_TAGS)


@pytest.mark.parametrize(
    "settings",
    [
        {"copy_threshold": 5 * GiB + 1},
        {"copy_threshold": 0},
        {"copy_part_size": 1},
        {"copy_part_size": 6 * GiB},
        {"copy_timeout": 0},
    ],
)
def test_impossible_limits_of_copies_are_refused(settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=name):
        S3Storage(BUCKET, **settings)


# Tenants.


@pytest.mark.case("63")
@pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
async def test_bucket_of_a_tenant(fast_lane: bool) -> None:
    profile = replace(S3_PROFILES["ceph"], copy_seconds=0)
    session = aws_session(StrictS3.access_key_id, StrictS3.secret_access_key)
    async with StrictS3(profile) as server:
        server.make_bucket("tenant:bucket")
        server.min_part_size = PART
        limits = replace(S3_LIMITS, min_part_size=PART)
        options: dict[str, Any] = {"endpoint_url": server.url, "region": server.region, "fast_lane": fast_lane}
        storage = S3Storage("tenant:bucket", session=session, limits=limits, part_size=PART, **options)
        async with storage:
            small, large = await write(storage, b"blob", NO_TAGS), await write_stream(storage, LARGE, NO_TAGS)
            assert await storage.read_data(small) == b"blob"
            assert await storage.read_data(large) == LARGE
            assert [verified.problem async for verified in verify(storage)] == [None, None]
            assert [leftover async for leftover in sweep(storage)] == []
            await storage.delete(small)
        assert [key for key in server.buckets["tenant:bucket"] if server.current("tenant:bucket", key)] == [
            digest_of(LARGE)["content_hash"]
        ]
        assert storage_from_url("s3://tenant%3Abucket/a").keys.bucket == "tenant:bucket"
