"""`allowed_buckets`: to which buckets storage data may lead a storage's credentials."""

import pickle
import re
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    AzureBlobStorage,
    ConfigError,
    ContentRecord,
    FileStorage,
    GCSStorage,
    InvalidRecord,
    MemoryStorage,
    ObjectStorage,
    S3Storage,
    StorageRegistry,
    storage_from_url,
)
from lakery_cloud.testing import digest_of
from tests.rigs.base import CloudRig
from tests.security.audit import watched
from tests.security.hostile import uses

DATA = b"content of another bucket"
DIGEST = digest_of(DATA)
CLOUD_STORAGES = (S3Storage, GCSStorage, AzureBlobStorage)


async def written(rig: CloudRig) -> Any:
    async with rig.storage(prefix="old") as storage:
        return await storage.write_data(DATA, DIGEST, {})


async def assert_all_are_denied(storage: ObjectStorage[Any], storage_data: Any) -> None:
    record = ContentRecord(
        **DIGEST, storage_name=storage.name, storage_data=storage.serialize_storage_data(storage_data)
    )
    bucket = storage_data[storage.place_names[0]]
    said = re.escape(f"'{bucket}', which is neither '{storage.keys.bucket}' nor among allowed_buckets; add it")
    async with storage:
        with watched() as deeds:
            for use in (*uses(storage, DIGEST).values(), lambda _: StorageRegistry([storage]).load(record)):
                with pytest.raises(AccessDenied, match=said):
                    await use(storage_data)
        assert (deeds.addresses, deeds.names) == (set(), set())


@pytest.mark.case("36")
async def test_by_default_any_bucket_is_allowed(cloud_rig: CloudRig) -> None:
    storage_data = await written(cloud_rig)
    storage = cloud_rig.elsewhere()
    assert storage.settings.allowed_buckets is None
    async with storage:
        assert await storage.read_data(storage_data) == DATA
        await storage.delete(storage_data)
    assert await cloud_rig.keys() == []


async def test_bucket_that_is_not_allowed_is_denied_before_any_request(cloud_rig: CloudRig) -> None:
    storage_data = await written(cloud_rig)
    for allowed in ([], ["some-other-bucket"]):
        await assert_all_are_denied(cloud_rig._storage("own-bucket", allowed_buckets=allowed), storage_data)
    await assert_all_are_denied(storage_from_url(cloud_rig.url(bucket="own-bucket", allowed_buckets="")), storage_data)
    async with cloud_rig.storage() as storage:
        assert await storage.read_data(storage_data) == DATA


async def test_bucket_that_is_allowed_serves(cloud_rig: CloudRig) -> None:
    storage_data = await written(cloud_rig)
    async with cloud_rig._storage("own-bucket", allowed_buckets=["a-b", cloud_rig.bucket]) as storage:
        for name, use in uses(storage, DIGEST).items():
            if name != "delete":
                assert await use(storage_data), name
        await storage.delete(storage_data)
    assert await cloud_rig.keys() == []


async def test_own_bucket_is_always_allowed_whatever_the_prefix(cloud_rig: CloudRig) -> None:
    storage_data = await written(cloud_rig)
    async with cloud_rig.storage(prefix="new", allowed_buckets=[]) as storage:
        assert await storage.read_data(storage_data) == DATA
        await storage.delete(storage_data)
    assert await cloud_rig.keys() == []


@pytest.mark.parametrize("storage_class", CLOUD_STORAGES)
def test_it_is_kept_in_urls_and_pickles(storage_class: Any) -> None:
    url = f"{storage_class.url_scheme}://bucket?allowed_buckets="
    for names, expected in (("a-1,b-c", {"a-1", "b-c"}), ("", set()), ("a-1", {"a-1"})):
        storage = storage_from_url(url + names)
        assert storage.settings.allowed_buckets == expected
        assert pickle.loads(pickle.dumps(storage)).settings.allowed_buckets == expected


@pytest.mark.parametrize("storage_class", CLOUD_STORAGES)
@pytest.mark.parametrize(
    "wrong", ["bucket", b"bucket", 5, [5], [None], [""], ["a/b"], ["a,b"], [".."], ["a b"], iter("a")]
)
def test_invalid_list_of_names_is_refused(storage_class: Any, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="allowed_buckets"):
        storage_class("bucket", allowed_buckets=wrong)


@pytest.mark.parametrize("text", ["a,,b", ",", "a/b", "a, b", "*"])
def test_what_is_no_list_of_names_is_refused_in_a_url(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed_buckets"):
        storage_from_url(f"s3://bucket?allowed_buckets={text}")


def test_storages_without_buckets_refuse_it() -> None:
    for make in (
        lambda: MemoryStorage(allowed_buckets=[]),
        lambda: FileStorage("folder", allowed_buckets=["a"]),
        lambda: storage_from_url("file:///folder?allowed_buckets=a"),
        lambda: storage_from_url("memory://memory?allowed_buckets="),
    ):
        with pytest.raises(ConfigError, match="names no bucket; leave allowed_buckets out"):
            make()


def test_arn_serves_only_where_the_configuration_names_it() -> None:
    arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/archive"
    storage_data = {"bucket": arn, "key": "a"}
    for storage in (S3Storage(arn), S3Storage("bucket", allowed_buckets=[arn])):
        assert storage.complete_storage_data(storage_data, DIGEST)["bucket"] == arn
    with pytest.raises(ValueError, match="no name of a bucket"):
        S3Storage("bucket").complete_storage_data(storage_data, DIGEST)


SPECIAL = (
    "anything-o0b1d075431d83bebde8xz5w8ijx1qzlbp3i3kuse10--op-s3",
    "anything--usw2-az1--x-s3",
    "anything--usw2-az1--xa-s3",
    "anything--table-s3",
    "access-point-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias",
    "anything--ol-s3",
    "mfzwi23gnjvgw.mrap",
    "MFZWI23GNJVGW.MRAP",
)
"""Names that botocore sends to another host, or signs in another way, than those of buckets."""


@pytest.mark.parametrize("bucket", SPECIAL)
def test_name_with_a_meaning_serves_only_where_the_configuration_names_it(bucket: str) -> None:
    storage_data = {"bucket": bucket, "key": "a"}
    for storage in (S3Storage(bucket), S3Storage("bucket", allowed_buckets=[bucket])):
        assert storage.complete_storage_data(storage_data, DIGEST)["bucket"] == bucket
    with pytest.raises(InvalidRecord, match="leads to another host; add it to allowed_buckets"):
        S3Storage("bucket").complete_storage_data(storage_data, DIGEST)
