"""Which storages are of one store, so that it copies content between them."""

from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import FileStorage, MemoryStorage, ObjectStorage
from lakery_cloud.providers.s3.copies import store_of
from tests.rigs.azure import AzureRig
from tests.rigs.base import CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.s3 import S3Rig

HERE, THERE = "http://127.0.0.1:9", "http://127.0.0.1:10"


async def store(storage: ObjectStorage[Any]) -> str | None:
    async with storage:
        return (await storage.transport()).store


@pytest.mark.parametrize("rig", [S3Rig, GCSRig, AzureRig])
async def test_an_endpoint_is_a_store(rig: type[CloudRig]) -> None:
    here, again, there = [await store(rig.storage_at(url)) for url in (HERE, HERE, THERE)]
    assert here is not None
    assert here == again != there


async def test_accounts_of_azure_are_different_stores() -> None:
    mine = await store(AzureRig.storage_at(HERE))
    other = AzureRig.storage_class("container", endpoint_url=f"{HERE}/you", account_name="you", account_key="c2VjcmV0")
    assert await store(other) != mine


async def test_memory_and_folders_are_none(tmp_path: Path) -> None:
    assert (await store(MemoryStorage()), await store(FileStorage(tmp_path))) == (None, None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "https://s3.us-east-1.amazonaws.com"),
        ("https://s3.amazonaws.com", "https://s3.dualstack.us-west-2.amazonaws.com"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "https://s3.cn-northwest-1.amazonaws.com.cn"),
        ("http://localhost:9000", "http://localhost:9000/"),
    ],
)
def test_regions_of_amazon_are_one_store(one: str, other: str) -> None:
    assert store_of(one) == store_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://s3.us-east-1.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("https://s3.us-east-1.amazonaws.com", "https://s3.example.com"),
        ("https://s3.us-east-1.amazonaws.com.example.com", "https://s3.us-east-1.amazonaws.com"),
        ("http://localhost:9000", "http://localhost:9001"),
        ("https://fsn1.example.com", "https://nbg1.example.com"),
    ],
)
def test_partitions_and_endpoints_are_different_stores(one: str, other: str) -> None:
    assert store_of(one) != store_of(other)
