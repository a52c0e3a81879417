"""Hot requests on every cloud: which of them the pool sends, and how failures end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    CredentialsError,
    StorageUnavailable,
)
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    Rule,
)
from lakery_cloud.testing.faults import (
    Answer,
    CutAnswer,
    ExpiredCredentials,
    Fault,
    ResetAfter,
    ResetBefore,
    ResetDuring,
)
from tests.clouds.test_faults import LOST, MAX_ATTEMPTS, NOT_SEEN, name_of
from tests.conftest import rig_on
from tests.helpers import proxy_before, use_hot_requests, write
from tests.rigs.base import BY_THE_SDK_ALONE, CloudRig
from tests.rigs.pairs import LOCAL_PAIRS

# One server of each cloud, since the requests are the same on all. Other suites run on all servers.
pytestmark = [
    pytest.mark.skipif(bool(BY_THE_SDK_ALONE), reason="the SDK sends all requests"),
    pytest.mark.usefixtures("short_pauses"),
]

cloud_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name in ("s3-moto", "gcs-strict", "azure-azurite")))

HOT = {"put", "get", "head", "upload_part"}
# Headers that only the SDK or its HTTP library sends.
MARKS = {"s3": "amz-sdk-invocation-id", "gcs": "accept", "azure": "x-ms-client-request-id"}

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "s3": [
        {"requester_pays": True, "storage_class": "STANDARD_IA", "sse": "AES256"},
        {"sse": "aws:kms", "kms_key_id": "alias/x", "conditional_writes": False},
    ],
    "gcs": [{"storage_class": "NEARLINE"}],
    "azure": [{"access_tier": "Cool"}, {"blob_tags": False}],
}
SHARED: list[dict[str, Any]] = [{}, {"prefix": "a b/ä+%/~"}, {"concurrent_ranges": 2, "range_size": 150_000}]


@pytest.fixture
async def proxy(cloud_rig: CloudRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(cloud_rig) as proxy:
        yield proxy


def cloud_of(rig: CloudRig) -> str:
    return {"s3": "s3", "gs": "gcs", "az": "azure"}[rig.storage_class.url_scheme]


def is_pooled(rig: CloudRig, exchange: Exchange) -> bool:
    return MARKS[cloud_of(rig)] not in exchange.headers


def pooled(rig: CloudRig, proxy: FaultProxy) -> list[bool]:
    """Return for each request whether the pool sent it."""
    return [is_pooled(rig, exchange) for exchange in proxy.exchanges]


@asynccontextmanager
async def warmed(rig: CloudRig, proxy: FaultProxy, **options: Any) -> AsyncIterator[Any]:
    """A storage with open connections."""
    async with rig.storage(max_attempts=MAX_ATTEMPTS, max_concurrent_parts=1, **options) as storage:
        await use_hot_requests(storage)
        proxy.exchanges.clear()
        yield storage


async def test_hot_requests_are_sent_by_the_pool_with_any_settings(cloud_rig: CloudRig, proxy: FaultProxy) -> None:
    cloud = cloud_of(cloud_rig)
    for options in (*SHARED, *SETTINGS[cloud]):
        async with warmed(cloud_rig, proxy, **options) as storage:
            await use_hot_requests(storage, seed=1)
        hot = [exchange for exchange in proxy.exchanges if exchange.neutral in HOT]
        assert {exchange.neutral for exchange in hot} == HOT
        assert all(is_pooled(cloud_rig, exchange) for exchange in hot), options
        for key in await cloud_rig.keys():
            await cloud_rig.delete(key)


async def test_pool_that_is_switched_off_sends_nothing(cloud_rig: CloudRig, proxy: FaultProxy) -> None:
    async with warmed(cloud_rig, proxy, fast_lane=False) as storage:
        await use_hot_requests(storage, seed=1)
    assert not any(pooled(cloud_rig, proxy))


@pytest.mark.parametrize("fault", [*NOT_SEEN, *LOST], ids=name_of)
async def test_failed_hot_request_is_retried(cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault) -> None:
    async with warmed(cloud_rig, proxy) as storage:
        for seed, operation in enumerate(sorted(HOT), start=1):
            if isinstance(fault, ResetDuring) and operation not in ("put", "upload_part"):
                continue
            if isinstance(fault, CutAnswer) and operation != "get":
                continue
            proxy.exchanges.clear()
            proxy.arm(Rule(fault, operation, key=r"[0-9a-f]{64}$|\.tmp"))
            await use_hot_requests(storage, seed=seed)
            failed = next(exchange for exchange in proxy.exchanges if exchange.fault)
            assert is_pooled(cloud_rig, failed), failed
    await cloud_rig.check_nothing_temporary()


@pytest.mark.parametrize("fault", NOT_SEEN, ids=name_of)
async def test_attempts_of_the_pool_and_the_sdk_are_counted_together(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault
) -> None:
    async with warmed(cloud_rig, proxy) as storage:
        proxy.arm(Rule(fault, "put", times=None))
        with pytest.raises(StorageUnavailable):
            await write(storage, b"data")
    # A request on an idle connection may be sent a second time at once, since the server may just have closed it.
    repeated = 2 if isinstance(fault, ResetBefore | ResetDuring | ResetAfter) else 1
    assert MAX_ATTEMPTS <= len(proxy.exchanges) <= MAX_ATTEMPTS * repeated
    assert pooled(cloud_rig, proxy)[0]


@pytest.mark.parametrize(
    ("fault", "error"),
    [(ExpiredCredentials(), CredentialsError), (Answer(403), AccessDenied), (Answer(404), BucketNotFound)],
    ids=["expired", "denied", "missing"],
)
async def test_refused_hot_request_is_an_error_without_a_second_request(
    cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault, error: type[Exception]
) -> None:
    if isinstance(fault, Answer) and fault.status == 404:
        fault = Answer(
            404, {"s3": "NoSuchBucket", "gcs": "notFound", "azure": "ContainerNotFound"}[cloud_of(cloud_rig)]
        )
    async with warmed(cloud_rig, proxy) as storage:
        proxy.arm(Rule(fault, "put"))
        with pytest.raises(error):
            await write(storage, b"data")
    assert pooled(cloud_rig, proxy) == [True]


async def test_response_that_is_too_large_is_no_success(cloud_rig: CloudRig, proxy: FaultProxy) -> None:
    status = 201 if cloud_of(cloud_rig) == "azure" else 200
    async with warmed(cloud_rig, proxy) as storage:
        proxy.arm(Rule(Answer(status, body="x" * 2_000_000), "put"))
        data = await write(storage, b"data")
        assert pooled(cloud_rig, proxy) == [True, True]
        assert await storage.read_data(data) == b"data"
