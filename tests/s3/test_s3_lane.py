"""The fast lane of `S3Storage`: what goes over it, and what it leaves to the SDK, as the SDK's first attempt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aioboto3
import aiobotocore.session
import pytest
from aiobotocore.credentials import AioRefreshableCredentials

from lakery_cloud import IntegrityError, S3Storage, StorageUnavailable
from lakery_cloud.emulators import Emulator
from lakery_cloud.engine import hot_requests as lane
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    Rule,
    content,
    digest_of,
    stream_of,
)
from lakery_cloud.testing.faults import (
    Answer,
    ResetAfter,
    ResetBefore,
    ResetDuring,
)
from tests.rigs.s3 import S3Rig
from tests.tls import tls_before

HOT = {"put_object", "get_object", "head_object", "upload_part"}
RESETS = (ResetBefore, ResetDuring, ResetAfter)


@pytest.fixture
async def s3_rig(moto: Emulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Rig]:
    """One server is enough: the lane's requests are the same everywhere, and the other suites run on all."""
    async with S3Rig("MotoServer", moto) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        yield rig


@pytest.fixture
async def proxy(s3_rig: S3Rig) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(s3_rig.server_url) as proxy:
        s3_rig.point_to(proxy.url)
        yield proxy


async def write(storage: S3Storage, data: bytes) -> Any:
    return await storage.write_data(data, digest_of(data), {"tag": "a b"})


async def use(storage: S3Storage, *, seed: int = 0) -> None:
    """Send each hot request, and check what becomes of them."""
    data, parts = content(1000, seed=seed), content(2 * storage.settings.part_size, seed=seed)
    assert await storage.read_data(await write(storage, data)) == data
    await write(storage, data)
    stream = stream_of([parts])
    assert await storage.read_data(await storage.write_data_stream(stream, stream.get_digest, {})) == parts


@asynccontextmanager
async def warmed(rig: S3Rig, proxy: FaultProxy, **options: Any) -> AsyncIterator[S3Storage]:
    """A storage that has learned what the lane must know."""
    async with rig.storage(**options) as storage:
        await use(storage)
        proxy.exchanges.clear()
        yield storage


def is_fast(exchange: Exchange) -> bool:
    return "amz-sdk-invocation-id" not in exchange.headers


def over_the_lane(proxy: FaultProxy) -> set[str]:
    return {exchange.operation for exchange in proxy.exchanges if is_fast(exchange)}


async def test_calls_that_begin_at_once_wait_for_what_the_first_one_learns(
    s3_rig: S3Rig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MAX_WAIT", 60)
    async with s3_rig.storage() as storage:
        await asyncio.gather(*(write(storage, b"%d" % number) for number in range(20)))
    assert [is_fast(exchange) for exchange in proxy.exchanges].count(False) == 1


async def test_blob_is_signed_with_its_hash(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    (put,) = proxy.exchanges
    assert put.headers["x-amz-content-sha256"] == digest_of(b"data")["content_hash"]
    assert put.headers["if-none-match"] == "*"


# What the lane leaves to the SDK


async def test_failure_on_the_lane_is_the_first_attempt_of_the_sdk(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy, max_attempts=3) as storage:
        proxy.arm(Rule(Answer(503), "put_object", times=2))
        await write(storage, b"data")
    assert "amz-sdk-request" not in proxy.exchanges[0].headers
    told = [exchange.headers["amz-sdk-request"].partition("; ")[2] for exchange in proxy.exchanges[1:]]
    assert told == ["attempt=2; max=3", "attempt=3; max=3"]


async def test_blob_that_is_not_what_its_signed_hash_says_is_damaged(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        proxy.arm(Rule(Answer(400, "XAmzContentSHA256Mismatch"), "put_object"))
        with pytest.raises(IntegrityError):
            await write(storage, b"data")
    assert len(proxy.exchanges) == 1


async def test_content_that_somebody_else_wrote_costs_one_look_over_the_lane(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    await s3_rig.put(digest_of(b"data")["content_hash"], b"data")
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    assert [(exchange.method, is_fast(exchange)) for exchange in proxy.exchanges] == [("PUT", True), ("HEAD", True)]


async def test_redirect_is_followed_by_the_sdk_and_learned_from(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        there = {"x-amz-bucket-region": s3_rig.server.region if s3_rig.server else ""}
        proxy.arm(Rule(Answer(301, "PermanentRedirect", headers=there), "get_object"))
        await use(storage, seed=1)
        gets = [is_fast(exchange) for exchange in proxy.exchanges if exchange.operation == "get_object"]
        assert gets == [True, False, True]


async def test_hook_of_the_users_that_changes_requests_keeps_them_off_the_lane(
    s3_rig: S3Rig, proxy: FaultProxy
) -> None:
    def add_header(request: Any, **_: Any) -> None:
        request.headers["x-amz-expected-bucket-owner"] = "123456789012"

    session = aioboto3.Session()
    session._session.get_component("event_emitter").register("before-sign.s3.PutObject", add_header)
    async with warmed(s3_rig, proxy, session=session) as storage:
        await use(storage, seed=1)
    assert over_the_lane(proxy) == HOT - {"put_object"}


async def test_credentials_that_change_with_each_request_stay_with_the_sdk(
    s3_rig: S3Rig, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    made = 0

    async def refresh() -> dict[str, str]:
        nonlocal made
        made += 1
        until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()  # which is so near that they are renewed at once
        return {"access_key": f"KEY{made}", "secret_key": "secret", "token": "t", "expiry_time": until}

    botocore_session = aiobotocore.session.AioSession()
    botocore_session._credentials = AioRefreshableCredentials.create_from_metadata(
        metadata=await refresh(), refresh_using=refresh, method="test"
    )
    caplog.set_level("INFO", "lakery_cloud")
    async with s3_rig.storage(session=aioboto3.Session(botocore_session=botocore_session)) as storage:
        for number in range(lane.MAX_IN_VAIN + 1):
            await write(storage, b"%d" % number)
    assert not any(map(is_fast, proxy.exchanges))
    assert caplog.text.count("goes without the fast lane") == 1


async def test_proxy_of_the_environment_keeps_all_off_the_lane(
    s3_rig: S3Rig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with warmed(s3_rig, proxy) as storage:
        await use(storage, seed=1)
    assert over_the_lane(proxy) == set()


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
    botocore_session = aiobotocore.session.AioSession()
    botocore_session._credentials = credentials
    async with warmed(s3_rig, proxy, session=aioboto3.Session(botocore_session=botocore_session)) as storage:
        await write(storage, b"first")
        credentials._expiry_time = datetime.now(UTC)
        await write(storage, b"second")
    assert [is_fast(exchange) for exchange in proxy.exchanges] == [True, True]
    assert [exchange.headers["x-amz-security-token"] for exchange in proxy.exchanges] == ["token1", "token2"]
    assert "Credential=KEY2/" in proxy.exchanges[1].headers["authorization"]


# TLS


async def test_lane_speaks_tls(
    s3_rig: S3Rig, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    async with tls_before(proxy.url, tmp_path, name="127.0.0.1") as url:
        s3_rig.point_to(url)
        async with warmed(s3_rig, proxy) as storage:
            await use(storage, seed=1)
    assert over_the_lane(proxy) == HOT


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_certificate_for_another_host_is_refused(
    s3_rig: S3Rig, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_lane: bool
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    async with tls_before(proxy.url, tmp_path, name="s3.example.com") as url:
        s3_rig.point_to(url)
        async with s3_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage:
            with pytest.raises(StorageUnavailable, match="no TLS connection"):
                await write(storage, b"data")
    assert proxy.exchanges == []
