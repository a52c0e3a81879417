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

from lakery_cloud import AccessDenied, BucketNotFound, CredentialsError, IntegrityError, S3Storage, StorageUnavailable
from lakery_cloud.emulators import Emulator
from lakery_cloud.engine import lane
from lakery_cloud.testing import Exchange, FaultProxy, Rule, content, digest_of, stream_of
from lakery_cloud.testing.faults import Answer, ExpiredCredentials, Fault, ResetAfter, ResetBefore, ResetDuring
from tests.clouds.test_faults import LOST, MAX_ATTEMPTS, NOT_SEEN, name_of
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
    async with rig.storage(max_attempts=MAX_ATTEMPTS, max_concurrent_parts=1, **options) as storage:
        await use(storage)
        proxy.exchanges.clear()
        yield storage


def is_fast(exchange: Exchange) -> bool:
    return "amz-sdk-invocation-id" not in exchange.headers


def over_the_lane(proxy: FaultProxy) -> set[str]:
    return {exchange.operation for exchange in proxy.exchanges if is_fast(exchange)}


async def test_hot_requests_go_over_the_lane_once_it_has_seen_the_sdk_send_one(
    s3_rig: S3Rig, proxy: FaultProxy
) -> None:
    async with warmed(s3_rig, proxy) as storage:
        await use(storage, seed=1)
    assert over_the_lane(proxy) == HOT
    assert not [exchange for exchange in proxy.exchanges if exchange.operation in HOT and not is_fast(exchange)]


async def test_calls_that_begin_at_once_wait_for_what_the_first_one_learns(
    s3_rig: S3Rig, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "MAX_WAIT", 60)
    async with s3_rig.storage() as storage:
        await asyncio.gather(*(write(storage, b"%d" % number) for number in range(20)))
    assert [is_fast(exchange) for exchange in proxy.exchanges].count(False) == 1


async def test_lane_that_is_switched_off_carries_nothing(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy, fast_lane=False) as storage:
        await use(storage, seed=1)
    assert over_the_lane(proxy) == set()


async def test_blob_is_signed_with_its_hash(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    (put,) = proxy.exchanges
    assert put.headers["x-amz-content-sha256"] == digest_of(b"data")["content_hash"]
    assert put.headers["if-none-match"] == "*"


@pytest.mark.parametrize(
    "options",
    [
        {"requester_pays": True, "storage_class": "STANDARD_IA", "sse": "AES256"},
        {"sse": "aws:kms", "kms_key_id": "alias/x", "concurrent_ranges": 2, "range_size": 3_000_000},
        {"prefix": "a b/ä+%/~", "conditional_writes": False},
    ],
    ids=["headers", "ranges", "keys"],
)
async def test_every_setting_goes_over_the_lane_as_the_sdk_sends_it(
    s3_rig: S3Rig, proxy: FaultProxy, options: Any
) -> None:
    async with warmed(s3_rig, proxy, **options) as storage:
        await use(storage, seed=1)
    assert over_the_lane(proxy) == HOT


# What the lane leaves to the SDK


@pytest.mark.parametrize("fault", [*NOT_SEEN, *LOST], ids=name_of)
async def test_failure_on_the_lane_is_the_first_attempt_of_the_sdk(
    s3_rig: S3Rig, proxy: FaultProxy, fault: Fault
) -> None:
    async with warmed(s3_rig, proxy) as storage:
        for seed, operation in enumerate(sorted(HOT), start=1):
            if isinstance(fault, ResetDuring) and operation not in ("put_object", "upload_part"):
                continue
            if fault in LOST[1:] and operation != "get_object":
                continue
            proxy.exchanges.clear()
            proxy.arm(Rule(fault, operation))
            await use(storage, seed=seed)
            check_attempts(proxy, fault)
    await s3_rig.check_nothing_temporary()


def check_attempts(proxy: FaultProxy, fault: Fault) -> None:
    failed = next(place for place, exchange in enumerate(proxy.exchanges) if exchange.fault)
    assert is_fast(proxy.exchanges[failed])
    again = next(
        exchange
        for exchange in proxy.exchanges[failed + 1 :]
        if exchange.target.partition("?")[0] == proxy.exchanges[failed].target.partition("?")[0]
    )
    if isinstance(fault, RESETS) or fault in LOST:
        return  # an idle connection that ended may have been closed before: the lane asks again; a body is resumed
    assert again.headers["amz-sdk-request"].endswith("attempt=2; max=2"), again


@pytest.mark.parametrize("fault", NOT_SEEN, ids=name_of)
async def test_attempts_of_the_lane_and_of_the_sdk_are_counted_together(
    s3_rig: S3Rig, proxy: FaultProxy, fault: Fault
) -> None:
    async with warmed(s3_rig, proxy) as storage:
        proxy.arm(Rule(fault, "put_object", times=None))
        with pytest.raises(StorageUnavailable):
            await write(storage, b"data")
    repeated = 2 if isinstance(fault, RESETS) else 1
    assert MAX_ATTEMPTS <= len(proxy.exchanges) <= MAX_ATTEMPTS * repeated
    assert is_fast(proxy.exchanges[0])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ExpiredCredentials(), CredentialsError),
        (Answer(403, "SignatureDoesNotMatch"), CredentialsError),
        (Answer(403, "AccessDenied"), AccessDenied),
        (Answer(404, "NoSuchBucket"), BucketNotFound),
        (Answer(400, "XAmzContentSHA256Mismatch"), IntegrityError),
        (Answer(400, "BadDigest"), IntegrityError),
    ],
    ids=lambda value: getattr(value, "code", None) or getattr(value, "__name__", None),
)
async def test_refusal_is_the_error_that_the_sdk_makes_of_it_without_a_second_request(
    s3_rig: S3Rig, proxy: FaultProxy, fault: Fault, error: type[Exception]
) -> None:
    async with warmed(s3_rig, proxy) as storage:
        proxy.arm(Rule(fault, "put_object"))
        with pytest.raises(error):
            await write(storage, b"data")
    assert [is_fast(exchange) for exchange in proxy.exchanges] == [True]


async def test_content_that_somebody_else_wrote_costs_one_look_over_the_lane(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    await s3_rig.put(digest_of(b"data")["content_hash"], b"data")
    async with warmed(s3_rig, proxy) as storage:
        await write(storage, b"data")
    assert [(exchange.method, is_fast(exchange)) for exchange in proxy.exchanges] == [("PUT", True), ("HEAD", True)]


async def test_odd_answer_is_asked_for_again_and_the_lane_left(s3_rig: S3Rig, proxy: FaultProxy) -> None:
    async with warmed(s3_rig, proxy) as storage:
        proxy.arm(Rule(Answer(200, body="<Error/>"), "put_object"))
        await write(storage, b"first")
        await write(storage, b"second")
    assert [is_fast(exchange) for exchange in proxy.exchanges] == [True, False, False]


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
