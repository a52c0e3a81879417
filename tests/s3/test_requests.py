"""What `S3Storage` sends: counted, answered and swallowed at a proxy in front of a server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.maintenance import sweep
from lakery_cloud.testing import (
    Exchange,
    ScriptedProxy,
    content,
    digest_of,
)
from tests.conftest import rig_on
from tests.helpers import scripted_proxy_before, write, write_stream
from tests.rigs.pairs import PROFILE_PAIRS
from tests.rigs.s3 import S3Rig

pytestmark = pytest.mark.usefixtures("short_pauses")

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
INTERNAL_ERROR = b"<Error><Code>InternalError</Code><Message>We had a problem.</Message></Error>"
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>"
NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>A header is not implemented.</Message></Error>"
ACCESS_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


# The requests are the same on all servers; on the double, parts are small.
s3_rig = rig_on(*(pair for pair in PROFILE_PAIRS if pair.name == "s3-aws"))


@pytest.fixture
async def proxy(s3_rig: S3Rig) -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy_before(s3_rig) as proxy:
        yield proxy


def is_put(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and "?" not in exchange.target and "x-amz-copy-source" not in exchange.headers


def is_part(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and "partNumber=" in exchange.target


def is_begin(exchange: Exchange) -> bool:
    return exchange.method == "POST" and exchange.target.rstrip("=").endswith("?uploads")


def is_complete(exchange: Exchange) -> bool:
    return exchange.method == "POST" and "uploadId=" in exchange.target


def is_copy(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and "?" not in exchange.target and "x-amz-copy-source" in exchange.headers


async def test_blob_is_one_request(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        await write(storage, content(100_000))
    assert [exchange.method for exchange in proxy.exchanges] == ["PUT"]
    headers = proxy.exchanges[0].headers
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-checksum-sha256"]
    assert headers["x-amz-content-sha256"] in (digest_of(content(100_000))["content_hash"], "UNSIGNED-PAYLOAD")
    assert proxy.exchanges[0].sent_bytes == 100_000


async def test_stream_shorter_than_one_part_is_one_request(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        await write_stream(storage, content(s3_rig.part_size))
    assert [exchange.method for exchange in proxy.exchanges] == ["PUT"]


async def test_second_write_of_a_blob_sends_none_of_it(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        await write(storage, content(100_000))
        proxy.exchanges.clear()
        await write(storage, content(100_000))
    assert [(exchange.method, exchange.sent_bytes) for exchange in proxy.exchanges] == [("HEAD", 0)]


async def test_verified_read_is_one_request(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        storage_data = await write(storage, content(1_000_000))
        proxy.exchanges.clear()
        assert await storage.read_data(storage_data) == content(1_000_000)
    assert [exchange.method for exchange in proxy.exchanges] == ["GET"]


async def test_each_part_travels_with_its_checksum(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        await write_stream(storage, content(s3_rig.part_size * 2))
    parts = [exchange for exchange in proxy.exchanges if is_part(exchange)]
    assert len(parts) == 2
    assert all(exchange.headers["x-amz-checksum-crc32c"] for exchange in parts)
    copies = [exchange for exchange in proxy.exchanges if is_copy(exchange)]
    assert [exchange.headers["if-none-match"] for exchange in copies] == ["*"]
    assert copies[0].headers["x-amz-copy-source-if-match"]


@pytest.mark.case("25")
@pytest.mark.parametrize("matches", [is_complete, is_copy])
async def test_error_inside_of_a_200_is_retried(s3_rig: S3Rig, proxy: ScriptedProxy, matches: Any) -> None:
    script = proxy.answer(matches, status=200, body=INTERNAL_ERROR)
    data = content(s3_rig.part_size * 2)
    async with s3_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 1
    await s3_rig.check_nothing_temporary()


@pytest.mark.case("25")
@pytest.mark.parametrize("matches", [is_complete, is_copy])
async def test_error_inside_of_a_200_each_time_is_an_error(s3_rig: S3Rig, proxy: ScriptedProxy, matches: Any) -> None:
    script = proxy.answer(matches, status=200, body=INTERNAL_ERROR, times=100)
    async with s3_rig.storage(max_attempts=2) as storage:
        with pytest.raises(StorageUnavailable, match="InternalError"):
            await write_stream(storage, content(s3_rig.part_size * 2))
    assert script.fired == 2
    await s3_rig.check_nothing_left()


@pytest.mark.case("24")
async def test_throttling_without_end_is_storage_unavailable(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    proxy.answer(is_put, status=503, body=SLOW_DOWN, times=100)
    async with s3_rig.storage(max_attempts=2) as storage:
        with pytest.raises(StorageUnavailable, match="SlowDown"):
            await write(storage, b"data")
    assert len(proxy.exchanges) == 2
    await s3_rig.check_nothing_left()


@pytest.mark.case("26")
async def test_conflict_without_end_is_storage_unavailable(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    proxy.answer(is_put, status=409, body=CONFLICT, times=100)
    async with s3_rig.storage() as storage:
        with pytest.raises(StorageUnavailable, match="conflicted with another write"):
            await write(storage, b"data")


async def test_upload_that_somebody_else_aborts_is_unavailable(s3_rig: S3Rig) -> None:
    async def source() -> AsyncGenerator[bytes]:
        for number in range(4):
            if number == 2:
                await s3_rig.abort_uploads()
            yield content(s3_rig.part_size, seed=number)

    async with s3_rig.storage(max_concurrent_parts=1) as storage:
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, source())
    await s3_rig.check_nothing_left()


async def test_upload_whose_begin_was_never_answered_leaves_nothing(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    script = proxy.swallow(is_begin, times=100)
    async with s3_rig.storage(max_attempts=2) as storage:
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, content(s3_rig.part_size * 2))
    assert script.fired == 2
    await s3_rig.check_nothing_left()


async def test_endpoint_that_knows_no_conditional_writes_is_noticed(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    script = proxy.answer(lambda e: "if-none-match" in e.headers, status=501, body=NOT_IMPLEMENTED, times=100)
    data = content(s3_rig.part_size * 2)
    async with s3_rig.storage() as storage:
        assert await storage.read_data(await write(storage, b"small")) == b"small"
        assert await storage.read_data(await write_stream(storage, data)) == data
        await write(storage, b"another")
    assert script.fired == 1
    await s3_rig.check_nothing_temporary()


async def test_endpoint_that_ignores_conditional_writes_is_asked_first(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    await s3_rig.put(digest_of(b"mine")["content_hash"], b"not yours")
    async with s3_rig.storage(conditional_writes=False) as storage:
        with pytest.raises(IntegrityError):
            await write(storage, b"mine")
        await write(storage, b"new")
    methods = [exchange.method for exchange in proxy.exchanges]
    assert methods == ["HEAD", "HEAD", "PUT"]
    assert "if-none-match" not in proxy.exchanges[-1].headers


@pytest.mark.case("34")
async def test_denied_read_says_that_the_object_may_be_missing(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    proxy.answer(lambda e: e.method == "GET", status=403, body=ACCESS_DENIED)
    async with s3_rig.storage() as storage:
        with pytest.raises(AccessDenied, match="without s3:ListBucket S3 answers like this for a missing object too"):
            await storage.read_data(storage.storage_data_of(digest_of(b"missing")))


@pytest.mark.case("34")
async def test_stream_is_written_though_heads_are_denied_for_missing_keys(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    script = proxy.answer(lambda e: e.method == "HEAD" and ".tmp" not in e.target, status=403)
    data = content(s3_rig.part_size * 2)
    async with s3_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 1


@pytest.mark.case("34")
async def test_expired_credentials_are_a_credentials_error(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    proxy.answer(is_put, status=400, body=EXPIRED, times=100)
    async with s3_rig.storage() as storage:
        with pytest.raises(CredentialsError, match="expired"):
            await write(storage, b"data")


async def test_unknown_refusal_keeps_what_the_store_said(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    odd = b"<Error><Code>MethodNotAllowed</Code><Message>Not against this resource.</Message></Error>"
    proxy.answer(is_put, status=405, body=odd)
    async with s3_rig.storage() as storage:
        with pytest.raises(LakeryCloudError, match="MethodNotAllowed") as raised:
            await write(storage, b"data")
    assert raised.value.__cause__ is not None


async def test_bucket_in_another_region_says_so(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting eu-central-1</Message></Error>"
    proxy.answer(is_put, status=400, body=body, times=100)
    async with s3_rig.storage() as storage:
        with pytest.raises(ConfigError, match="set region"):
            await write(storage, b"data")


@pytest.mark.case("27")
async def test_broken_body_is_resumed_where_it_broke(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    data = content(3_000_000)
    async with s3_rig.storage() as storage:
        storage_data = await write(storage, data)
        script = proxy.cut(lambda e: e.method == "GET", after=1_000_000, times=2)
        proxy.exchanges.clear()
        assert await storage.read_data(storage_data) == data
    assert script.fired == 2
    starts = [int(e.headers["range"].removeprefix("bytes=").split("-")[0]) for e in proxy.exchanges[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 1_000_000 < starts[1] <= 2_000_000
    assert all(exchange.headers["if-match"] for exchange in proxy.exchanges[1:])


@pytest.mark.case("27")
async def test_broken_range_is_resumed_where_it_broke(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    data = content(3_000_000)
    async with s3_rig.storage(concurrent_ranges=3, range_size=1_000_000) as storage:
        storage_data = await write(storage, data)
        script = proxy.cut(lambda e: e.method == "GET", after=300_000, times=4)
        assert await storage.read_data(storage_data) == data
    assert script.fired == 4


@pytest.mark.case("27")
async def test_body_that_breaks_each_time_is_unavailable_and_never_short(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    async with s3_rig.storage() as storage:
        storage_data = await write(storage, content(3_000_000))
        proxy.cut(lambda e: e.method == "GET", after=0, times=1000)
        with pytest.raises(StorageUnavailable, match="broke off"):
            await storage.read_data(storage_data)


@pytest.mark.case("33")
async def test_storage_class_holds_for_small_and_large_content_and_no_temporary_key(
    s3_rig: S3Rig, proxy: ScriptedProxy
) -> None:
    limits = replace(s3_rig.storage().settings.limits, max_copy_size=s3_rig.part_size, copy_part_size=s3_rig.part_size)
    data = content(s3_rig.part_size * 2)
    for options in ({}, {"limits": limits}):
        async with s3_rig.storage(storage_class="STANDARD_IA", prefix=str(len(options)), **options) as storage:
            await write(storage, b"small")
            await write_stream(storage, data)
    for exchange in proxy.exchanges:
        is_content = (is_put(exchange) or is_copy(exchange) or is_begin(exchange)) and "/.tmp/" not in exchange.target
        assert ("x-amz-storage-class" in exchange.headers) == is_content, exchange


@pytest.mark.case("14")
async def test_lost_answer_where_uploads_may_not_be_listed_does_not_fail_the_write(
    s3_rig: S3Rig, proxy: ScriptedProxy
) -> None:
    begin = proxy.swallow(is_begin)
    listing = proxy.answer(lambda e: e.method == "GET" and "uploads" in e.target, status=403, body=ACCESS_DENIED)
    data = content(s3_rig.part_size * 2)
    async with s3_rig.storage() as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert (begin.fired, listing.fired) == (1, 1)


@pytest.mark.case("14")
async def test_lost_answer_to_the_end_of_a_copy_in_parts_is_success(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    limits = replace(s3_rig.storage().settings.limits, max_copy_size=s3_rig.part_size, copy_part_size=s3_rig.part_size)
    data = content(s3_rig.part_size * 2)
    script = proxy.swallow(lambda e: is_complete(e) and "/.tmp/" not in e.target)
    async with s3_rig.storage(limits=limits) as storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert script.fired == 1
    await s3_rig.check_nothing_temporary()


@pytest.mark.case("33")
async def test_copy_in_parts_that_loses_a_race_succeeds(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    data = content(s3_rig.part_size * 2 + 1)
    limits = replace(s3_rig.storage().settings.limits, max_copy_size=s3_rig.part_size, copy_part_size=s3_rig.part_size)
    async with s3_rig.storage(limits=limits) as one, s3_rig.storage(limits=limits) as two:
        first, second = await asyncio.gather(write_stream(one, data), write_stream(two, data))
        assert first == second
        assert await one.read_data(first) == data
    await s3_rig.check_nothing_temporary()


async def leave_behind(rig: S3Rig, count: int) -> None:
    for number in range(count):
        await rig.put(f".tmp/20200101T000000Z-00000000-0000-4000-8000-{number:012}", b"")


async def test_sweep_deletes_many_objects_by_one_request(s3_rig: S3Rig, proxy: ScriptedProxy) -> None:
    await leave_behind(s3_rig, 3)
    async with s3_rig.storage() as storage:
        assert len([found async for found in sweep(storage)]) == 3
    assert [exchange.operation for exchange in proxy.exchanges].count("delete_objects") == 1
    assert not [exchange for exchange in proxy.exchanges if exchange.method == "DELETE"]
    await s3_rig.check_nothing_left()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (501, NOT_IMPLEMENTED),
        (200, b"<DeleteResult><Error><Key>KEY</Key><Code>InternalError</Code></Error></DeleteResult>"),
    ],
    ids=["unknown to the store", "one refused"],
)
async def test_what_is_not_deleted_with_many_is_deleted_alone(
    s3_rig: S3Rig, proxy: ScriptedProxy, status: int, body: bytes
) -> None:
    await leave_behind(s3_rig, 2)
    keys = await s3_rig.keys()
    if status == 200:
        await s3_rig.delete(keys[0])  # as the answer says
    proxy.answer(lambda e: e.operation == "delete_objects", status=status, body=body.replace(b"KEY", keys[1].encode()))
    async with s3_rig.storage() as storage:
        transport = await storage.transport()
        await transport.delete_all(s3_rig.bucket, dict.fromkeys(keys))
    await s3_rig.check_nothing_left()
    assert len([exchange for exchange in proxy.exchanges if exchange.method == "DELETE"]) == (1 if status == 200 else 2)
