"""The double of Azure accounts itself, by Microsoft's SDK: a profile that allowed everything would prove nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any
from uuid import uuid4

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud.emulators import Azurite
from lakery_cloud.testing import AZURE_PROFILES, AzureDouble, AzureProfile


@asynccontextmanager
async def blob_of(azurite: Azurite, profile: str) -> AsyncIterator[tuple[AzureDouble, Any]]:
    """A blob in a new container of an account."""
    async with (
        AzureDouble(azurite, profile) as double,
        BlobServiceClient.from_connection_string(double.connection_string, retry_total=0) as service,
    ):
        async with await service.create_container(f"double-{uuid4()}") as container:
            yield double, container.get_blob_client("blob")
        async with BlobServiceClient.from_connection_string(azurite.connection_string) as itself:
            await itself.delete_container(container.container_name)


async def refused(request: Any, code: str) -> None:
    with pytest.raises(HttpResponseError) as raised:
        await request
    assert getattr(raised.value.error_code, "value", raised.value.error_code) == code


@pytest.mark.parametrize("profile", AZURE_PROFILES.values(), ids=AZURE_PROFILES)
def test_each_difference_has_a_source(profile: AzureProfile) -> None:
    plain = AZURE_PROFILES["azure"]
    different = {each.name for each in fields(profile) if getattr(profile, each.name) != getattr(plain, each.name)} - {
        "name",
        "title",
        "sources",
    }
    assert different == set(profile.sources)


@pytest.mark.parametrize(
    ("profile", "code"), [("immutable", "BlobImmutableDueToPolicy"), ("legal-hold", "BlobImmutableDueToLegalHold")]
)
async def test_retention_keeps_what_is_committed(azurite: Azurite, profile: str, code: str) -> None:
    async with blob_of(azurite, profile) as (_, blob):
        await blob.stage_block("1", b"data")
        await blob.delete_blob()  # not committed yet
        with pytest.raises(ResourceNotFoundError):
            await blob.get_block_list("uncommitted")
        await blob.upload_blob(b"data")
        await refused(blob.upload_blob(b"other", overwrite=True), code)
        await refused(blob.commit_block_list([]), code)
        await refused(blob.delete_blob(), code)
        assert await (await blob.download_blob()).readall() == b"data"


async def test_versions_stay_until_they_are_deleted_by_name(azurite: Azurite) -> None:
    async with blob_of(azurite, "versioned") as (double, blob):
        name = (await blob.upload_blob(b"data"))["version_id"]
        assert (await blob.get_blob_properties()).version_id == name
        await refused(blob.delete_blob(version_id=name), "OperationNotAllowedOnRootBlob")
        await blob.delete_blob()
        assert double.kept_versions(blob.container_name) == ["blob"]
        await blob.delete_blob(version_id=name)
        assert double.kept_versions(blob.container_name) == []


async def test_version_of_a_replaced_blob_stays(azurite: Azurite) -> None:
    async with blob_of(azurite, "versioned") as (double, blob):
        await blob.upload_blob(b"data")
        await blob.stage_block("1", b"data")
        await blob.commit_block_list(["1"])
        assert double.kept_versions(blob.container_name) == ["blob"]


async def test_soft_deleted_versions_go_by_a_third_request(azurite: Azurite) -> None:
    async with blob_of(azurite, "soft-delete") as (double, blob):
        name = (await blob.upload_blob(b"data"))["version_id"]
        await blob.delete_blob()
        await refused(blob.delete_blob(version_id=name, blob_delete_type="Permanent"), "BlobSnapshotNotSoftDeleted")
        await blob.delete_blob(version_id=name)
        assert double.kept_versions(blob.container_name) == ["blob"]
        await blob.delete_blob(version_id=name, blob_delete_type="Permanent")
        assert double.kept_versions(blob.container_name) == []


async def test_archived_content_is_not_read(azurite: Azurite) -> None:
    async with blob_of(azurite, "archive") as (_, blob):
        await blob.upload_blob(b"data")
        await refused(blob.download_blob(), "BlobArchived")
        assert (await blob.get_blob_properties()).size == 4


async def test_signature_without_delete_deletes_nothing(azurite: Azurite) -> None:
    async with blob_of(azurite, "sas-without-delete") as (_, blob):
        await blob.upload_blob(b"data")
        await refused(blob.delete_blob(), "AuthorizationPermissionMismatch")
        assert await blob.exists()


async def test_network_removes_content_range(azurite: Azurite) -> None:
    async with blob_of(azurite, "cdn") as (_, blob):
        await blob.upload_blob(b"data")
        with pytest.raises(ValueError, match="Content-Range"):
            await blob.download_blob()


async def test_each_request_is_throttled_once(azurite: Azurite) -> None:
    async with AzureDouble(azurite, "throttling") as double:
        for _ in range(2):
            async with BlobServiceClient.from_connection_string(double.connection_string, retry_total=0) as service:
                for name in ("one", "two"):
                    with pytest.raises(HttpResponseError):
                        await service.get_blob_client(f"missing-{uuid4()}", name).get_blob_properties()
        assert sorted({exchange.status for exchange in double.exchanges}) == [429, 503]


async def test_endless_listing(azurite: Azurite) -> None:
    async with (
        AzureDouble(azurite, "same-marker") as double,
        BlobServiceClient.from_connection_string(double.connection_string) as service,
    ):
        pages = service.get_container_client("any").list_blobs().by_page()
        for _ in range(3):
            assert [blob async for blob in await anext(pages)] == []
            assert pages.continuation_token == "same"
