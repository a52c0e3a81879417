"""The hot requests of `S3Storage`: how they are signed, and which of them the SDK sends."""

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession

from lakery_cloud import (
    ConfigError,
    CredentialsError,
    IntegrityError,
    S3Storage,
    SerializedData,
    digest_data,
)
from lakery_cloud.engine.checksums import crc32c_header
from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    digest_of,
)
from lakery_cloud.testing.faults import (
    Answer,
)
from tests.helpers import is_by_the_sdk, ours, proxy_before, use_hot_requests, write
from tests.rigs.s3 import S3Rig

has_moto = importlib.util.find_spec("moto") is not None  # not beside the newest aiobotocore
only_moto = pytest.mark.skipif(not has_moto, reason="only moto accepts any key")


@pytest.fixture
async def s3_rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Rig]:
    """One server is enough: hot requests are the same everywhere, and the other suites run on all."""
    server = request.getfixturevalue("moto" if has_moto else "seaweedfs")
    async with S3Rig(server.name, server, fast_lane=True) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        yield rig


@pytest.fixture
async def proxy(s3_rig: S3Rig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(s3_rig) as proxy:
        yield proxy


@asynccontextmanager
async def warmed(rig: S3Rig, proxy: FaultProxy, **options: Any) -> AsyncIterator[S3Storage]:
    """A storage that has sent each hot request once."""
    async with rig.storage(**options) as storage:
        await use_hot_requests(storage)
        proxy.exchanges.clear()
        yield storage


async def test_sdk_is_asked_for_the_route_without_a_request(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with s3_rig.storage() as storage:
        await asyncio.gather(*(write(storage, b"%d" % number) for number in range(20)))
    assert [exchange.method for exchange in proxy.exchanges] == ["PUT"] * 20
    assert not any(map(is_by_the_sdk, proxy.exchanges))


async def test_blob_is_signed_with_its_hash(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    (put,) = proxy.exchanges
    assert put.headers["x-amz-content-sha256"] == digest_of(b"data")["content_hash"]
    assert put.headers["if-none-match"] == "*"


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("algorithm", ["sha512", "md5"])
async def test_blob_with_another_hash_has_a_checksum_that_the_store_verifies(
    s3_rig: S3Rig, proxy: FaultProxy, algorithm: str, fast_lane: bool
) -> None:
    digest = await digest_data(
        SerializedData(data=b"data", content_type="text/plain", content_encoding=None), algorithm=algorithm
    )
    async with s3_rig.storage(fast_lane=fast_lane) as storage:
        await storage.write_data(b"data", digest, {})
    (put,) = (exchange for exchange in proxy.exchanges if exchange.method == "PUT")
    assert put.headers["x-amz-checksum-crc32c"] == await crc32c_header(b"data")


async def test_blob_that_is_not_what_its_signed_hash_says_is_damaged(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        proxy.arm(Rule(Answer(400, "XAmzContentSHA256Mismatch"), "put_object"))
        with pytest.raises(IntegrityError):
            await write(storage, b"data")
    assert len(proxy.exchanges) == 1


async def test_content_that_somebody_else_wrote_costs_one_look_ours(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    await s3_rig.put(digest_of(b"data")["content_hash"], b"data")
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    assert [exchange.method for exchange in proxy.exchanges] == ["PUT", "HEAD"]
    assert not any(map(is_by_the_sdk, proxy.exchanges))


async def test_sdk_follows_a_redirect_and_is_asked_again(
    s3_rig: S3Rig, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lakery_cloud")
    async with warmed(s3_rig, proxy) as storage:
        there = {"x-amz-bucket-region": s3_rig.server.region if s3_rig.server else ""}
        proxy.arm(Rule(Answer(301, "PermanentRedirect", headers=there), "get_object"))
        await use_hot_requests(storage, seed=1)
        gets = [is_by_the_sdk(exchange) for exchange in proxy.exchanges if exchange.operation == "get_object"]
    # The SDK names the same place again, so it keeps the requests of this bucket.
    assert gets == [False, True, True, True]
    assert caplog.text.count("only it follows their redirects") == 1


async def test_hook_of_a_session_that_signs_more_headers_leaves_all_requests_to_the_sdk(
    s3_rig: S3Rig, proxy: FaultProxy
) -> None:
    def add_header(request: Any, **_: Any) -> None:
        request.headers["x-amz-expected-bucket-owner"] = "123456789012"

    session = AioSession()
    session.get_component("event_emitter").register("before-sign.s3", add_header)
    async with s3_rig.storage(session=session) as storage:
        await use_hot_requests(storage)
    assert ours(proxy) == set()


async def test_signature_that_is_not_ours_leaves_all_requests_to_the_sdk(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    """As those of directory buckets and of multi-region access points."""
    session = AioSession()

    def sign_by_version_2(**_: Any) -> str:
        return "s3"

    session.get_component("event_emitter").register_first("choose-signer.s3.HeadObject", sign_by_version_2)
    async with s3_rig.storage(session=session) as storage:
        await use_hot_requests(storage)
    assert ours(proxy) == set()


@only_moto
async def test_credentials_that_change_with_each_request_are_used(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    made = 0

    async def refresh() -> dict[str, str]:
        nonlocal made
        made += 1
        until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()  # so near that they are renewed at once
        return {"access_key": f"KEY{made}", "secret_key": "secret", "token": "t", "expiry_time": until}

    session = AioSession()
    session._credentials = AioRefreshableCredentials.create_from_metadata(
        metadata=await refresh(), refresh_using=refresh, method="test"
    )
    async with s3_rig.storage(session=session) as storage:
        for number in range(3):
            await write(storage, b"%d" % number)
    assert not any(map(is_by_the_sdk, proxy.exchanges))
    assert len({exchange.headers["authorization"].partition("/")[0] for exchange in proxy.exchanges}) == 3


async def test_credentials_that_cannot_be_loaded_are_an_error_of_ours(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async def refresh() -> dict[str, str]:
        raise OSError("the source is broken")

    session = AioSession()
    soon = datetime.now(UTC) + timedelta(minutes=1)
    session._credentials = AioRefreshableCredentials("key", "secret", "t", soon, refresh, "test")
    session._credentials._mandatory_refresh_timeout = timedelta(hours=1).total_seconds()
    async with s3_rig.storage(session=session) as storage:
        with pytest.raises(CredentialsError):
            await write(storage, b"data")
    assert proxy.exchanges == []


@only_moto
@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_credentials_with_minutes_left_are_used_although_they_can_t_be_renewed(
    s3_rig: S3Rig, proxy: FaultProxy, fast_lane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def refresh() -> dict[str, str]:
        nonlocal attempts
        attempts += 1
        raise OSError("the issuer is away")

    botocore_session = AioSession()
    soon = datetime.now(UTC) + timedelta(minutes=5)
    found = AioRefreshableCredentials("test", "testtest", "token", soon, refresh, "test")
    found._mandatory_refresh_timeout = found._advisory_refresh_timeout = 0  # until the first request
    botocore_session._credentials = found
    async with s3_rig.storage(session=botocore_session, fast_lane=fast_lane) as storage:
        await write(storage, b"first")
        del found._mandatory_refresh_timeout, found._advisory_refresh_timeout
        with caplog.at_level(logging.INFO, "lakery_cloud"):
            for number in range(3):
                await write(storage, b"%d" % number)
        assert attempts == 1
        assert "the issuer is away" in caplog.text
        found._expiry_time = datetime.now(UTC)
        with pytest.raises(CredentialsError, match="the issuer is away"):
            await write(storage, b"late")


@only_moto
async def test_credentials_are_those_that_the_sdk_has_refreshed(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    made = 0

    async def refresh() -> dict[str, str]:
        nonlocal made
        made += 1
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return {"access_key": f"KEY{made}", "secret_key": "secret", "token": f"token{made}", "expiry_time": until}

    credentials = AioRefreshableCredentials.create_from_metadata(
        metadata=await refresh(), refresh_using=refresh, method="test"
    )
    session = AioSession()
    session._credentials = credentials
    async with warmed(s3_rig, proxy, session=session) as storage:
        await write(storage, b"first")
        credentials._expiry_time = datetime.now(UTC)
        await write(storage, b"second")
    assert [is_by_the_sdk(exchange) for exchange in proxy.exchanges] == [False, False]
    assert [exchange.headers["x-amz-security-token"] for exchange in proxy.exchanges] == ["token1", "token2"]
    assert "Credential=KEY2/" in proxy.exchanges[1].headers["authorization"]


async def test_setting_that_http_cannot_carry_is_a_config_error(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with s3_rig.storage(storage_class="STANDARD\r\nx-amz-acl: public-read") as storage:
        with pytest.raises(ConfigError, match="a character that HTTP can't carry"):
            await write(storage, b"data")
    assert proxy.exchanges == []
