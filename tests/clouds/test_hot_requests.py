"""Hot requests on every cloud: which of them the pool sends, by which proxy and TLS, and how failures end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem
from aiobotocore.config import AioConfig
from gcsfs.core import GCSFileSystem

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
    content,
    digest_of,
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
from tests.conftest import rig_on
from tests.forward_proxy import ForwardProxy
from tests.helpers import (
    HOT_REQUESTS,
    LOST,
    NOT_SEEN,
    is_by_the_sdk,
    name_of,
    proxy_before,
    use_hot_requests,
    write,
)
from tests.rigs.azure import AzureRig
from tests.rigs.base import BY_THE_SDK_ALONE, CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.pairs import LOCAL_PAIRS
from tests.rigs.s3 import S3Rig
from tests.tls import tls_before

# One server of each cloud, since the requests are the same on all. Other suites run on all servers.
pytestmark = [
    pytest.mark.skipif(bool(BY_THE_SDK_ALONE), reason="the SDK sends all requests"),
    pytest.mark.usefixtures("short_pauses"),
]

cloud_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name in ("s3-moto", "gcs-strict", "azure-azurite")))
signed_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.name in ("s3-seaweedfs", "azure-azurite")))
"""Servers that verify signatures."""

MAX_ATTEMPTS = 2
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
        hot = [exchange for exchange in proxy.exchanges if exchange.neutral in HOT_REQUESTS]
        assert {exchange.neutral for exchange in hot} == HOT_REQUESTS
        assert all(is_pooled(cloud_rig, exchange) for exchange in hot), options
        for key in await cloud_rig.keys():
            await cloud_rig.delete(key)


async def test_pool_that_is_switched_off_sends_nothing(cloud_rig: CloudRig, proxy: FaultProxy) -> None:
    async with warmed(cloud_rig, proxy, fast_lane=False) as storage:
        await use_hot_requests(storage, seed=1)
    assert not any(pooled(cloud_rig, proxy))


async def test_client_of_the_users_own_sends_all_requests(cloud_rig: CloudRig, proxy: FaultProxy) -> None:
    async with own_client(cloud_rig, proxy.url) as options:
        storage = cloud_rig.storage_class(cloud_rig.bucket, part_size=cloud_rig.part_size, **options)
        async with storage:
            await use_hot_requests(storage)
    assert proxy.exchanges
    assert not any(pooled(cloud_rig, proxy))


@asynccontextmanager
async def own_client(rig: CloudRig, url: str) -> AsyncIterator[dict[str, Any]]:
    """A client as users bring it: the setting of the storage that takes it."""
    if isinstance(rig, S3Rig):
        assert rig.server
        config = AioConfig(s3={"addressing_style": "path"})
        async with rig.session().create_client(
            "s3", endpoint_url=url, region_name=rig.server.region, config=config
        ) as client:
            yield {"client": client}
    elif isinstance(rig, GCSRig):
        fs = GCSFileSystem(token="anon", endpoint_url=url, asynchronous=True, skip_instance_cache=True)
        async with await fs._set_session():
            yield {"fs": fs}
    else:
        assert isinstance(rig, AzureRig)
        connection_string = rig.server.connection_string.replace(rig.server_url, url)
        azure_fs = AzureBlobFileSystem(connection_string=connection_string, skip_instance_cache=True)
        yield {"fs": azure_fs}
        await azure_fs.service_client.close()


# The way to the store


async def test_proxy_of_the_environment_is_used(
    cloud_rig: CloudRig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ForwardProxy() as forward:
        with monkeypatch.context() as environment:
            environment.setenv("HTTP_PROXY", forward.url)
            environment.delenv("NO_PROXY", raising=False)
            async with cloud_rig.storage() as storage:
                await use_hot_requests(storage)
        assert forward.connections >= len(proxy.exchanges)  # it closes each after one request
    hot = [exchange for exchange in proxy.exchanges if exchange.neutral in HOT_REQUESTS]
    assert {exchange.neutral for exchange in hot} == HOT_REQUESTS
    assert not any(map(is_by_the_sdk, hot))


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("name", ["127.0.0.1", "storage.example.com"])
async def test_certificate_must_be_for_the_host(
    cloud_rig: CloudRig, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fast_lane: bool
) -> None:
    for variable in ("AWS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    async with tls_before(proxy.url, tmp_path, name=name) as url:
        cloud_rig.point_to(url)
        async with cloud_rig.storage(max_attempts=1, fast_lane=fast_lane) as storage:
            if name == "127.0.0.1":  # no parts, since StrictGCS names sessions by the scheme that it sees
                data = content(200_000)
                assert await storage.read_data(await write(storage, data)) == data
            else:
                with pytest.raises(StorageUnavailable, match="no TLS connection"):
                    await write(storage, b"data")
    hot = [exchange for exchange in proxy.exchanges if exchange.neutral in HOT_REQUESTS]
    assert [exchange.neutral for exchange in hot] == (["put", "get"] if name == "127.0.0.1" else [])
    assert all(is_pooled(cloud_rig, exchange) == fast_lane for exchange in hot)


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_spaces_in_headers_are_signed_as_the_store_reads_them(signed_rig: CloudRig, fast_lane: bool) -> None:
    async with signed_rig.storage(fast_lane=fast_lane) as storage:
        digest: Any = {**digest_of(b"data"), "content_type": "text/plain;  a=b;   c"}
        await storage.write_data(b"data", digest, {})


# Failures


@pytest.mark.parametrize("fault", [*NOT_SEEN, *LOST], ids=name_of)
async def test_failed_hot_request_is_retried(cloud_rig: CloudRig, proxy: FaultProxy, fault: Fault) -> None:
    async with warmed(cloud_rig, proxy) as storage:
        for seed, operation in enumerate(sorted(HOT_REQUESTS), start=1):
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
    puts = [exchange for exchange in proxy.exchanges if exchange.fault]  # the others look for the object
    assert MAX_ATTEMPTS <= len(puts) <= MAX_ATTEMPTS * repeated
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
