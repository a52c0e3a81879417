"""`temporary_bucket` beside buckets that keep versions, retain or lock objects: these have content alone, and no warning."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud import GCSStorage
from lakery_cloud.emulators import Azurite
from lakery_cloud.maintenance import Outcome, diagnose
from lakery_cloud.testing import StrictGCS, StrictS3, content, digest_of
from tests.helpers import PATIENCE, write, write_stream
from tests.stores.azure_store import azure_store
from tests.stores.stores import BUCKET, s3_storage

pytestmark = [pytest.mark.case("55"), pytest.mark.usefixtures("short_pauses")]

BESIDE = "uploads"
PART_OF_GCS = 256 * 1024
LARGE = content(3 * PART_OF_GCS + 1)
NO_TAGS: dict[str, str] = {}


async def use(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Save a blob and a stream, and cancel another stream; nothing is logged."""
    caplog.set_level(logging.WARNING, "lakery_cloud")

    async def endless() -> AsyncGenerator[bytes]:
        yield LARGE
        await asyncio.sleep(PATIENCE)

    async with storage:
        await write(storage, b"blob", NO_TAGS)
        assert await storage.read_data(await write_stream(storage, LARGE, NO_TAGS)) == LARGE
        writing = asyncio.create_task(write_stream(storage, endless(), NO_TAGS))
        await asyncio.sleep(0.1)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    assert [record.getMessage() for record in caplog.records if record.name.startswith("lakery_cloud")] == []


CONTENT = {digest_of(data)["content_hash"] for data in (b"blob", LARGE)}


@pytest.mark.parametrize("profile", ["aws-versioned", "aws-locked"])
async def test_s3_bucket_with_versions_has_one_of_each_content(profile: str, caplog: pytest.LogCaptureFixture) -> None:
    async with StrictS3() as server:
        server.make_bucket(BUCKET, profile)
        server.make_bucket(BESIDE)
        await use(s3_storage(server, temporary_bucket=BESIDE), caplog)
        assert {key: len(versions) for key, versions in server.buckets[BUCKET].items()} == dict.fromkeys(CONTENT, 1)
        assert server.buckets[BESIDE] == {}
        assert not server.unfinished_uploads(BUCKET)
        assert not server.unfinished_uploads(BESIDE)


@pytest.mark.parametrize("composite_uploads", [False, True], ids=["resumable", "composite"])
@pytest.mark.parametrize("profile", ["google-retained", "google-held", "google-versioned", "google"])
async def test_gcs_bucket_that_keeps_objects_has_content_alone(
    profile: str, composite_uploads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with StrictGCS("google-xml-errors") as server:  # a bucket that keeps nothing
        server.make_bucket(BUCKET, profile)
        server.make_bucket(BESIDE)
        settings = {"endpoint_url": server.url, "temporary_bucket": BESIDE, "composite_uploads": composite_uploads}
        await use(GCSStorage(BUCKET, part_size=PART_OF_GCS, **settings), caplog)
        assert server.buckets[BUCKET].keys() == CONTENT
        assert server.buckets[BESIDE] == {}
        assert not server.described[BUCKET].noncurrent
        assert not server.described[BUCKET].soft_deleted


@pytest.mark.parametrize("profile", ["immutable", "legal-hold"])
async def test_azure_container_that_is_immutable_has_content_alone(
    azurite: Azurite, profile: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        azure_store(azurite, profile) as store,
        BlobServiceClient.from_connection_string(azurite.connection_string) as service,
        await service.create_container(f"uploads-{uuid4()}") as beside,
    ):
        store.double.retained = {store.container.container_name}
        await use(store.another(temporary_container=beside.container_name), caplog)
        assert set(await store.all_keys()) == CONTENT
        assert [blob async for blob in beside.list_blobs(include=["uncommittedblobs"])] == []
        await beside.delete_container()


async def test_doctor_leaves_nothing_in_a_bucket_with_retention() -> None:
    async with StrictGCS("google-xml-errors") as server:
        server.make_bucket(BUCKET, "google-retained")
        server.make_bucket(BESIDE)
        async with GCSStorage(BUCKET, endpoint_url=server.url, temporary_bucket=BESIDE) as storage:
            found = {finding.check: finding async for finding in diagnose(storage)}
        assert {found[check].outcome for check in found} <= {Outcome.OK, Outcome.SKIPPED}
        assert "would keep it" in found["copy"].seen
        assert server.buckets == {BUCKET: {}, BESIDE: {}}
