"""Payloads of Temporal's own data converter, in each cloud."""

import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import temporalio.converter
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, ExternalStorage, StorageDriverClaim, StorageDriverRetrieveContext
from temporalio.exceptions import ApplicationError

from lakery_cloud import (
    AccessDenied,
    ContentRecord,
    IntegrityError,
    MemoryStorage,
    NotRegistered,
    StorageRegistry,
    StorageUnavailable,
)
from lakery_cloud.integrations import temporal
from lakery_cloud.integrations.temporal import LakeryDriver
from lakery_cloud.testing import content, tap
from tests.conftest import rig_on
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS

cloud_rig = rig_on(
    *(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite"))
)

LARGE, SMALL = "large " * 1000, "small"


@asynccontextmanager
async def converter_on(*storages: Any, **options: Any) -> AsyncIterator[tuple[StorageRegistry, DataConverter]]:
    async with StorageRegistry(storages, default=storages[0] if storages else None) as registry:
        external = ExternalStorage([LakeryDriver(registry, **options)], payload_size_threshold=1000)
        yield registry, dataclasses.replace(temporalio.converter.default(), external_storage=external)


def record_in(payload: Payload) -> ContentRecord:
    return ContentRecord.from_json(json.loads(payload.data)["claimData"][temporal.RECORD])


async def hashes_in(registry: StorageRegistry) -> set[str]:
    return {info.address.key.rpartition("/")[2] async for info in registry.list()}


async def test_large_payloads_are_kept_by_their_hash_in_each_cloud(cloud_rig: CloudRig) -> None:
    async with converter_on(cloud_rig.storage()) as (registry, converter):
        first = await converter.encode([LARGE, SMALL, {"blob": LARGE}])
        again = await converter.encode([LARGE])
        assert first[0] == again[0], "a history replays with the same bytes"
        assert json.loads(first[1].data) == SMALL
        records = [record_in(first[0]), record_in(first[2])]
        assert await hashes_in(registry) == {record.content_hash for record in records}
        assert await converter.decode(first) == [LARGE, SMALL, {"blob": LARGE}]
    await cloud_rig.check_nothing_temporary()


async def test_payload_past_a_size_is_streamed(cloud_rig: CloudRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "STREAMED", 2 * cloud_rig.part_size)
    data = content(3 * cloud_rig.part_size)
    async with converter_on(cloud_rig.storage()) as (registry, converter):
        parts: list[int] = []
        wire = tap(registry.default)

        async def note() -> None:
            parts.append(1)

        for number in range(1, 9):
            wire.before("upload_part", note, nth=number)
        (encoded,) = await converter.encode([data])
        assert len(parts) >= 3
        assert await converter.decode([encoded]) == [data]
        assert await converter.encode([data]) == [encoded]
    await cloud_rig.check_nothing_temporary()


async def test_payload_has_one_hash_whatever_the_order_of_its_metadata() -> None:
    async with converter_on(MemoryStorage()) as (registry, _):
        driver = LakeryDriver(registry)
        names = [f"name{number}" for number in range(20)]
        payloads = []
        for ordered in (names, names[::-1]):
            payload = Payload(data=b"data")
            for name in ordered:
                payload.metadata[name] = name.encode()
            payloads.append(payload)
        first, second = await driver.store(None, payloads)
        assert first == second


async def test_claims_are_read_from_the_storage_that_wrote_them() -> None:
    old, new = MemoryStorage.named("tests.temporal.old@v1")(), MemoryStorage()
    async with converter_on(old) as (_, converter):
        encoded = await converter.encode([LARGE])
    async with converter_on(new, old, storage=new.name) as (_, converter):
        assert await converter.decode(encoded) == [LARGE]
        (later,) = await converter.encode([LARGE])
        assert record_in(later).storage_name == new.name


def failing(error: Exception) -> Any:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "is_retryable"),
    [
        (StorageUnavailable("later"), True),
        (IntegrityError("damaged"), True),
        (AccessDenied("no"), False),
    ],
)
async def test_errors_say_whether_a_retry_can_help(error: Exception, is_retryable: bool) -> None:
    async with converter_on(MemoryStorage()) as (registry, converter):
        tap(registry.default).before("put", failing(error))
        with pytest.raises(ApplicationError) as raised:
            await converter.encode([LARGE])
        assert raised.value.non_retryable == (not is_retryable)
        assert raised.value.type == type(error).__name__
        assert str(error) in str(raised.value)


async def claim_of(registry: StorageRegistry, data: bytes) -> dict[str, str]:
    record = await registry.save({"data": data, "content_type": "a/b", "content_encoding": None})
    return {temporal.RECORD: record.to_json()}


async def missing(registry: StorageRegistry) -> dict[str, str]:
    claim = await claim_of(registry, b"gone")
    await registry.delete(ContentRecord.from_json(claim[temporal.RECORD]))
    return claim


async def of_another_driver(_: StorageRegistry) -> dict[str, str]:
    return {"bucket": "bucket", "key": "key"}


async def malformed(_: StorageRegistry) -> dict[str, str]:
    return {temporal.RECORD: "{}"}


async def no_payload(registry: StorageRegistry) -> dict[str, str]:
    return await claim_of(registry, b"\xff" * 10)


async def of_a_storage_that_is_not_there(registry: StorageRegistry) -> dict[str, str]:
    claim = await claim_of(registry, b"data")
    return {temporal.RECORD: claim[temporal.RECORD].replace(MemoryStorage.name, "acme.other@v1")}


@pytest.mark.parametrize(
    "make",
    [missing, of_another_driver, malformed, no_payload, of_a_storage_that_is_not_there],
    ids=lambda each: each.__name__,
)
async def test_claim_that_can_not_be_read_is_not_retried(make: Any) -> None:
    async with converter_on(MemoryStorage()) as (registry, _):
        claims: Sequence[StorageDriverClaim] = [StorageDriverClaim(claim_data=await make(registry))]
        with pytest.raises(ApplicationError) as raised:
            await LakeryDriver(registry).retrieve(StorageDriverRetrieveContext(), claims)
        assert raised.value.non_retryable


def test_driver_has_a_name_and_refuses_a_storage_that_is_not_registered() -> None:
    registry = StorageRegistry([MemoryStorage()])
    assert (LakeryDriver(registry).name(), LakeryDriver(registry, name="other").name()) == ("lakery_cloud", "other")
    assert LakeryDriver(registry, name="other").type() == "lakery_cloud"
    with pytest.raises(NotRegistered):
        LakeryDriver(registry, storage="acme.other@v1")
