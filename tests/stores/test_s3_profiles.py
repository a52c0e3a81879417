"""`S3Storage` on stores as people have them: each profile of the strict double, with and without hot requests."""

import gzip
import logging
import random
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import (
    ConfigError,
    DigestingStream,
    IntegrityError,
    LakeryCloudError,
    MemoryStorage,
    S3Storage,
    StorageRegistry,
    StorageUnavailable,
)
from lakery_cloud.maintenance import CopyOutcome, Problem, apply_lifecycle, copy, sweep, verify
from lakery_cloud.testing import S3_PROFILES, ScriptedProxy, StrictS3, content, digest_of
from tests.helpers import blob_stream, write, write_stream
from tests.rigs.s3 import aws_session
from tests.stores.stores import BUCKET, PART, check_nothing_temporary, keys, operations, s3_storage, s3_store

SMALL = b"some content"
LARGE = content(2 * PART + 1)
NO_TAGS: dict[str, str] = {}


@pytest.fixture(params=[True, False], ids=["hot requests", "SDK"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    """Whether lakery-cloud sends the hot requests itself."""
    return bool(request.param)


async def check_round_trip(storage: S3Storage, tags: dict[str, str] = NO_TAGS) -> None:
    """Write a blob and a stream of several parts, twice each; read, find and describe them."""
    for _ in range(2):
        small, large = await write(storage, SMALL, tags), await write_stream(storage, LARGE, tags)
    assert await storage.read_data(small) == SMALL
    assert await storage.read_data(large) == LARGE
    assert (await storage.stat(large)).tags == tags
    assert [verified.problem async for verified in verify(storage)] == [None, None]


# Features that stores lack.


@pytest.mark.case("53")
@pytest.mark.parametrize("profile", ["r2", "b2", "ceph", "oss", "minimal", "minio-behind-proxy", "needs-md5"])
async def test_content_is_written_and_read_without_tags(profile: str, fast_lane: bool) -> None:
    profile_without_pauses = replace(S3_PROFILES[profile], copy_seconds=0)
    async with s3_store(profile_without_pauses, fast_lane=fast_lane) as (server, storage):
        await check_round_trip(storage)
        check_nothing_temporary(server)


@pytest.mark.case("53")
@pytest.mark.parametrize(
    ("profile", "is_conditional"), [("r2", True), ("b2", False), ("oss", False), ("minimal", False), ("aws", True)]
)
async def test_only_a_refused_condition_switches_conditions_off(
    profile: str, is_conditional: bool, fast_lane: bool
) -> None:
    async with s3_store(replace(S3_PROFILES[profile], copy_seconds=0), fast_lane=fast_lane) as (_, storage):
        await write(storage, SMALL, NO_TAGS)
        await write_stream(storage, LARGE, NO_TAGS)
        assert (await storage.transport()).conditional_writes is is_conditional


@pytest.mark.case("53")
@pytest.mark.parametrize("profile", ["r2", "b2", "minimal"])
async def test_tags_are_named_by_a_store_without_them(profile: str, fast_lane: bool) -> None:
    async with s3_store(profile, fast_lane=fast_lane) as (server, storage):
        for save in (lambda: write(storage, SMALL), lambda: write_stream(storage, LARGE)):
            with pytest.raises(ConfigError, match="x-amz-tagging"):
                await save()
        assert not keys(server)
        check_nothing_temporary(server)
        await check_round_trip(storage)


@pytest.mark.case("53")
async def test_refusal_is_learned_once(fast_lane: bool) -> None:
    async with s3_store("b2", fast_lane=fast_lane) as (server, storage):
        for number in range(3):
            await write(storage, SMALL + bytes([number]), NO_TAGS)
    # The refused put, the look, the put without a condition; then a look and a put each.
    assert operations(server) == ["PutObject", "HeadObject", "PutObject", *(["HeadObject", "PutObject"] * 2)]


@pytest.mark.case("53")
async def test_existing_object_is_not_replaced_while_conditions_are_tried(fast_lane: bool) -> None:
    async with s3_store("b2", fast_lane=fast_lane) as (server, storage):
        key = digest_of(SMALL)["content_hash"]
        server.put(BUCKET, key, b"other content")
        with pytest.raises(IntegrityError):
            await write(storage, SMALL, NO_TAGS)
        found = server.current(BUCKET, key)
        assert found is not None
        assert found.data == b"other content"


@pytest.mark.case("53")
async def test_wrong_digest_is_refused_by_a_store_without_checksums(fast_lane: bool) -> None:
    async with s3_store("minimal", fast_lane=fast_lane) as (server, storage):
        for _ in range(2):
            with pytest.raises(IntegrityError):
                await storage.write_data(b"damaged", {**digest_of(b"content"), "content_size": 7}, {})
        assert not keys(server)


@pytest.mark.case("53")
async def test_unsupported_setting_is_named_and_changes_nothing(fast_lane: bool) -> None:
    rule = S3_PROFILES["r2"].headers[0]._replace(header="x-amz-server-side-encryption")
    profile = replace(S3_PROFILES["aws"], headers=(rule,))
    async with s3_store(profile, fast_lane=fast_lane, sse="AES256") as (server, storage):
        with pytest.raises(ConfigError, match="x-amz-server-side-encryption") as raised:
            await write(storage, SMALL)
        assert "after all retries" not in str(raised.value)
        assert (await storage.transport()).conditional_writes
        assert operations(server) == ["PutObject"]


@pytest.mark.case("53")
@pytest.mark.parametrize("profile", ["needs-md5", "oss", "minimal"])
async def test_requests_of_the_sdk_carry_an_md5_where_stores_want_it(profile: str, fast_lane: bool) -> None:
    supported = replace(S3_PROFILES[profile], no_operations=(), copy_seconds=0)
    async with s3_store(supported, fast_lane=fast_lane) as (server, storage):
        assert await apply_lifecycle(storage)
        assert server.lifecycle[BUCKET]
        for number in range(3):
            key = f".tmp/20200101T000000Z-00000000-0000-4000-8000-{number:012}"
            server.put(BUCKET, key, b"")
        server.received.clear()
        assert len([found async for found in sweep(storage)]) == 3
        assert not keys(server)
        assert "DeleteObject" not in operations(server)


@pytest.mark.case("53")
async def test_objects_are_deleted_one_by_one_without_delete_objects() -> None:
    async with s3_store("minimal") as (server, storage):
        for number in range(3):
            key = f".tmp/20200101T000000Z-00000000-0000-4000-8000-{number:012}"
            server.put(BUCKET, key, b"")
        assert len([found async for found in sweep(storage)]) == 3
        assert not keys(server)


# Answers that prove nothing.


@pytest.mark.case("47")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["blob", "stream"])
async def test_invented_success_is_not_reported(data: bytes, fast_lane: bool) -> None:
    async with s3_store("gateway", fast_lane=fast_lane) as (server, storage):
        with pytest.raises(StorageUnavailable):
            await write_stream(storage, data, NO_TAGS)
        assert not keys(server)


@pytest.mark.case("47")
@pytest.mark.parametrize("operation", ["PutObject", "CopyObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize("conditional_writes", [True, False])
async def test_success_without_proof_is_looked_up(operation: str, conditional_writes: bool, fast_lane: bool) -> None:
    """The store acts, but a proxy replaces its answer."""
    data = SMALL if operation == "PutObject" else LARGE
    profile = replace(S3_PROFILES["aws"], empties=(operation,))
    async with s3_store(profile, fast_lane=fast_lane, conditional_writes=conditional_writes) as (server, storage):
        assert await storage.read_data(await write_stream(storage, data, NO_TAGS)) == data
        check_nothing_temporary(server)


@pytest.mark.case("48")
async def test_login_page_counts_as_nothing(fast_lane: bool) -> None:
    async with s3_store("aws", fast_lane=fast_lane) as (server, storage):
        stored = await write(storage, SMALL, NO_TAGS)
        server.profile = S3_PROFILES["portal"]
        requests: list[Any] = [
            lambda: write(storage, b"new", NO_TAGS),
            lambda: write_stream(storage, LARGE, NO_TAGS),
            lambda: storage.read_data(stored),
            lambda: storage.stat(stored),
            lambda: storage.exists(stored),
            lambda: storage.delete(stored),
            lambda: _all(storage.list()),
            lambda: _all(verify(storage)),
        ]
        for request in requests:
            with pytest.raises(StorageUnavailable, match=server.url):
                await request()
        assert keys(server) == [digest_of(SMALL)["content_hash"]]


@pytest.mark.case("48")
async def test_login_page_counts_as_nothing_for_a_client_of_the_user() -> None:
    async with StrictS3() as server:
        server.make_bucket(BUCKET)
        session = aws_session(StrictS3.access_key_id, StrictS3.secret_access_key)
        opening = session.create_client("s3", endpoint_url=server.url, region_name=server.region)
        async with opening as client, S3Storage(BUCKET, client=client) as storage:
            stored = await write(storage, SMALL, NO_TAGS)
            server.profile = S3_PROFILES["portal"]
            for request in (
                lambda: storage.read_data(stored),
                lambda: storage.exists(stored),
                lambda: storage.delete(stored),
                lambda: _all(storage.list()),
            ):
                with pytest.raises(StorageUnavailable, match=server.url):
                    await request()
        assert keys(server) == [digest_of(SMALL)["content_hash"]]


@pytest.mark.case("48")
async def test_empty_success_is_no_listing_and_no_deletion(fast_lane: bool) -> None:
    profile = replace(S3_PROFILES["aws"], invents=("ListObjectsV2", "ListMultipartUploads", "GetObjectTagging"))
    async with s3_store(profile, fast_lane=fast_lane) as (_, storage):
        stored = await write(storage, SMALL, NO_TAGS)
        for request in (lambda: _all(storage.list()), lambda: _all(verify(storage)), lambda: storage.stat(stored)):
            with pytest.raises(StorageUnavailable):
                await request()


@pytest.mark.case("49")
async def test_missing_etag_is_named(fast_lane: bool) -> None:
    profile = replace(S3_PROFILES["aws"], missing=("etag",), missing_from=("HeadObject", "GetObject"))
    async with s3_store(profile, fast_lane=fast_lane) as (_, storage):
        stored = await write(storage, SMALL, NO_TAGS)
        for request in (lambda: storage.stat(stored), lambda: storage.read_data(stored)):
            with pytest.raises(StorageUnavailable, match="(?i)etag"):
                await request()


@pytest.mark.case("49")
@pytest.mark.parametrize(
    "page",
    [
        "<Contents><Key>{key}</Key><Size>12</Size><ETag>x</ETag></Contents>",
        "<Contents><Key>{key}</Key><ETag>x</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
        "<Contents><Key>{key}</Key><Size>12</Size><LastModified></LastModified></Contents>",
        "<Contents><Key>{key}</Key><Size>many</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
        "<Contents><Key>{key}</Key><Size>12</Size><LastModified>yesterday</LastModified></Contents>",
        "<Contents><Key>{key}</Key><Size>12</Size><LastModified>99999999999999999999</LastModified></Contents>",
        "<Contents><Key>{key}</Key><Size>12</Size>",
        "<Contents><Key>{key}</Key><Key>{key}</Key><Size>12</Size><LastModified>2026-01-01</LastModified></Contents>",
        "<IsTruncated>true</IsTruncated>" + 2 * "<NextContinuationToken>a</NextContinuationToken>",
    ],
    ids=[
        "no time",
        "no size",
        "empty time",
        "size is no number",
        "malformed time",
        "time that no calendar has",
        "broken off",
        "two keys",
        "two tokens",
    ],
)
async def test_malformed_listing_is_an_error(page: str) -> None:
    body = f"<ListBucketResult>{page.format(key=digest_of(SMALL)['content_hash'])}</ListBucketResult>".encode()
    async with StrictS3() as server, ScriptedProxy(server.url) as proxy:
        server.make_bucket(BUCKET)
        proxy.answer(lambda exchange: exchange.method == "GET", status=200, body=body, times=10)
        async with s3_storage(server, endpoint_url=proxy.url) as storage:
            with pytest.raises(StorageUnavailable):
                await _all(storage.list())


@pytest.mark.case("50")
@pytest.mark.parametrize("profile", ["same-token", "no-token"])
async def test_listing_that_does_not_advance_ends(profile: str, fast_lane: bool) -> None:
    async with s3_store(profile, fast_lane=fast_lane) as (server, storage):
        server.page_size = 2
        for number in range(5):
            await write(storage, bytes([number]), NO_TAGS)
        with pytest.raises(StorageUnavailable, match="(?i)token"):
            await _all(storage.list())


# Archives, locks, versions.


@pytest.mark.case("51")
async def test_archived_content_says_to_restore_it(fast_lane: bool) -> None:
    async with s3_store("aws-archive", fast_lane=fast_lane) as (server, storage):
        stored = await write(storage, SMALL, NO_TAGS)
        server.received.clear()
        with pytest.raises(StorageUnavailable, match="archived.*Restore it"):
            await storage.read_data(stored)
        assert operations(server) == ["GetObject"]  # a retry would not help


@pytest.mark.case("51")
async def test_verify_and_copy_go_on_past_archived_content(fast_lane: bool) -> None:
    async with s3_store("aws", fast_lane=fast_lane) as (server, storage):
        for number in range(3):
            await write(storage, SMALL + bytes([number]), NO_TAGS)
        server.profile = S3_PROFILES["aws-archive"]
        found = [verified.problem async for verified in verify(storage)]
        assert found == [Problem.ARCHIVED] * 3
        copied = [each async for each in copy(StorageRegistry([storage]), MemoryStorage(), keep_tags=False)]
        assert [each.outcome for each in copied] == [CopyOutcome.FAILED] * 3
        assert all("Restore it" in str(each.error) for each in copied)


@pytest.mark.case("55")
async def test_stream_is_saved_under_object_lock(fast_lane: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with s3_store("aws-locked", fast_lane=fast_lane) as (server, storage):
        await check_round_trip(storage, {"tag": "value"})
        check_nothing_temporary(server)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


@pytest.mark.case("56")
async def test_versioned_bucket_keeps_nothing_of_temporary_keys(fast_lane: bool) -> None:
    async with s3_store("aws-versioned", fast_lane=fast_lane) as (server, storage):
        await write_stream(storage, LARGE, NO_TAGS)
        assert list(server.buckets[BUCKET]) == [digest_of(LARGE)["content_hash"]]


@pytest.mark.case("56")
async def test_version_of_a_completion_without_an_answer_is_deleted(fast_lane: bool) -> None:
    async with StrictS3("aws-versioned") as server, ScriptedProxy(server.url) as proxy:
        server.make_bucket(BUCKET)
        proxy.swallow(lambda exchange: exchange.operation == "complete_multipart_upload", times=2)
        async with s3_storage(server, endpoint_url=proxy.url, fast_lane=fast_lane) as storage:
            await write_stream(storage, LARGE, NO_TAGS)
        assert list(server.buckets[BUCKET]) == [digest_of(LARGE)["content_hash"]]


@pytest.mark.case("55")
async def test_policy_is_not_answered_with_a_grant(fast_lane: bool) -> None:
    async with s3_store("aws-encrypted", fast_lane=fast_lane) as (_, storage):
        with pytest.raises(LakeryCloudError, match="policy") as raised:
            await write(storage, SMALL)
        assert "Grant" not in str(raised.value)
    async with s3_store("aws-encrypted", fast_lane=fast_lane, sse="aws:kms") as (_, storage):
        await check_round_trip(storage)


@pytest.mark.case("54")
@pytest.mark.parametrize("operation", ["PutObject", "CopyObject"])
@pytest.mark.usefixtures("short_pauses")
async def test_refused_condition_of_another_kind_is_quoted_after_one_look(operation: str, fast_lane: bool) -> None:
    refusal = b"<Error><Code>PreconditionFailed</Code><Message>An organization policy forbids it.</Message></Error>"
    async with StrictS3() as server, ScriptedProxy(server.url) as proxy:
        server.make_bucket(BUCKET)
        name = "put_object" if operation == "PutObject" else "copy_object"
        refused = proxy.answer(lambda exchange: exchange.operation == name, status=412, body=refusal, times=50)
        async with s3_storage(server, endpoint_url=proxy.url, fast_lane=fast_lane) as storage:
            with pytest.raises(StorageUnavailable, match="organization policy forbids"):
                await write_stream(storage, SMALL if operation == "PutObject" else LARGE, NO_TAGS)
        assert refused.met == 4  # a writer that races with deletions may need so many
        check_nothing_temporary(server)


@pytest.mark.case("69")
async def test_every_request_carries_the_payer(fast_lane: bool) -> None:
    async with s3_store("aws-requester-pays", fast_lane=fast_lane, requester_pays=True) as (_, storage):
        await check_round_trip(storage, {"tag": "value"})
        assert not await storage.exists(storage.storage_data_of(digest_of(b"missing")))


# Slow copies.


@pytest.mark.case("57")
@pytest.mark.parametrize("profile", ["aws-slow-copy", "oss"])
async def test_copy_slower_than_the_read_timeout_is_made_once(profile: str, fast_lane: bool) -> None:
    async with s3_store(profile, fast_lane=fast_lane, read_timeout=2, max_attempts=3) as (server, storage):
        assert await storage.read_data(await write_stream(storage, LARGE, NO_TAGS)) == LARGE
        assert server.buckets[BUCKET].keys() == {digest_of(LARGE)["content_hash"]}
    # Where conditions are refused, one copy is refused at once.
    assert operations(server).count("CopyObject") == (2 if profile == "oss" else 1)


# Damage and encodings.


@pytest.mark.case("58")
@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b"])
@pytest.mark.parametrize("size", [len(SMALL), len(LARGE)], ids=["blob", "parts"])
@pytest.mark.parametrize("profile", ["aws", "minimal"])
async def test_damage_on_the_wire_is_refused(profile: str, algorithm: str, size: int, fast_lane: bool) -> None:
    data = content(size)
    async with s3_store(profile, fast_lane=fast_lane) as (server, storage):
        await write(storage, b"first", NO_TAGS)
        server.damage = lambda body: bytes([body[0] ^ 1]) + body[1:]
        stream = DigestingStream(blob_stream([data]), algorithm=algorithm)
        with pytest.raises(IntegrityError):
            await storage.write_data_stream(stream, stream.get_digest, {})
        assert len(keys(server)) == 1
        check_nothing_temporary(server)


@pytest.mark.case("66")
async def test_weak_etags_do_not_break_resumed_reads(fast_lane: bool) -> None:
    data = random.Random(1).randbytes(1_000_000)
    async with StrictS3("minio-behind-proxy") as server, ScriptedProxy(server.url) as proxy:
        server.make_bucket(BUCKET)
        async with s3_storage(server, endpoint_url=proxy.url, fast_lane=fast_lane) as storage:
            stored = await write(storage, data, NO_TAGS)
            proxy.cut(lambda exchange: exchange.method == "GET", after=300_000, times=2)
            assert await storage.read_data(stored) == data


@pytest.mark.case("66")
async def test_decoded_content_comes_back_as_stored_or_as_an_error(fast_lane: bool) -> None:
    data = gzip.compress(SMALL * 100)
    async with s3_store("decoding", fast_lane=fast_lane) as (_, storage):
        stream = DigestingStream(blob_stream([data], content_encoding="gzip"))
        stored = await storage.write_data_stream(stream, stream.get_digest, {})
        if fast_lane:
            assert await storage.read_data(stored) == data
        else:  # the SDK asks for no encoding
            with pytest.raises(StorageUnavailable, match="(?i)content-?length"):
                await storage.read_data(stored)


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]
