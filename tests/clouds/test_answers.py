"""Responses that are not what they should be: the same ones on each cloud, from a proxy before its server."""

import gzip
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from lakery_cloud import (
    BucketNotFound,
    ConfigError,
    CredentialsError,
    IntegrityError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.engine.writer import MAX_REFUSALS
from lakery_cloud.maintenance import verify
from lakery_cloud.testing import Rule, content, digest_of
from lakery_cloud.testing.faults import Answer, Delay
from tests.helpers import proxy_before, scripted_proxy_before, write, write_stream
from tests.rigs.base import CloudRig
from tests.rigs.pairs import LOCAL_PAIRS, PROFILE_PAIRS, params, params_of

pytestmark = pytest.mark.usefixtures("short_pauses")

one_server_a_cloud = pytest.mark.parametrize(
    "cloud_rig",
    params(pair for pair in (*PROFILE_PAIRS, *LOCAL_PAIRS) if pair.name in ("s3-aws", "gcs-strict", "azure-azurite")),
    indirect=True,
)
both_senders = pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])

PROOFS = {"ETag": '"1"', "x-ms-request-id": "0", "x-goog-generation": "1", "Content-Type": "text/plain"}
"""What proves on some cloud that a response comes from the store."""
DATA = content(100)


@pytest.mark.case("49")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize(
    "value",
    [
        "bytes 0-3/*",
        "bytes a-b/*",
        "bytes 0-3",
        "bytes 3-0/100",
        "bytes 0-3/3",
        "items 0-3/100",
        "*",
        "9" * 5000,
        f"bytes 0-3/{'9' * 5000}",
        f"bytes 0-{'9' * 5000}/5",
    ],
    ids=lambda value: value[:16],
)
async def test_malformed_content_range_is_named(cloud_rig: CloudRig, value: str, fast_lane: bool) -> None:
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    answer = Answer(206, headers={**PROOFS, "Content-Range": value}, body="0123")
    async with (
        proxy_before(cloud_rig, Rule(answer, "get", times=None)),
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        transport = await storage.transport()
        with pytest.raises(StorageUnavailable, match="(?i)content-?range|can't be read"):
            async with transport.get(storage.keys.content(digest_of(DATA)["content_hash"]), start=0, stop=4) as body:
                assert [chunk async for chunk in body.chunks] == []


SIZES: Mapping[str, str] = {"no number": "many", "negative": "-1", "fraction": "1.5", "endless": "9" * 5000}


@pytest.mark.case("49")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_malformed_size_is_an_error_of_ours(cloud_rig: CloudRig, size: str, fast_lane: bool) -> None:
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    headers = {**PROOFS, "x-goog-stored-content-length": size, "Content-Range": f"bytes 0-3/{size}"}
    async with (
        proxy_before(cloud_rig, Rule(Answer(206, headers=headers, body="0123"), "get", times=None)),
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        with pytest.raises(StorageUnavailable):
            await storage.read_data(storage.storage_data_of(digest_of(DATA)))


@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("code", [None, "PreconditionFailed", "ConditionNotMet", "conditionNotMet"])
async def test_refused_condition_of_a_request_without_one_is_an_error_of_ours(
    cloud_rig: CloudRig, code: str | None, fast_lane: bool
) -> None:
    answer = Answer(412, code)
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    for operation in ("delete", "head"):
        async with (
            proxy_before(cloud_rig, Rule(answer, operation, times=None)),
            cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
        ):
            stored = storage.storage_data_of(digest_of(DATA))
            with pytest.raises(LakeryCloudError, match="(?i)412|condition"):
                await (storage.delete(stored) if operation == "delete" else storage.stat(stored))


@pytest.mark.case("54")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("operation", ["put", "copy"])
async def test_refused_condition_without_an_object_is_quoted(
    cloud_rig: CloudRig, operation: str, fast_lane: bool
) -> None:
    data = content(cloud_rig.part_size + 1) if operation == "copy" else DATA
    code = "TargetConditionNotMet" if cloud_rig.storage_class.__name__ == "AzureBlobStorage" else None
    refusal = Answer(412, code, "An organization policy forbids it.")
    async with (
        proxy_before(cloud_rig, Rule(refusal, operation, times=None)) as proxy,
        cloud_rig.storage(fast_lane=fast_lane) as storage,
    ):
        with pytest.raises(StorageUnavailable, match="An organization policy forbids it"):
            await write_stream(storage, data)
        assert len(proxy.exchanges_of(operation)) <= MAX_REFUSALS
    await cloud_rig.check_nothing_left()


# Successes of the wrong kind.

STATUSES = (200, 202, 204, 206, 308)


async def _read(storage: Any) -> object:
    return await storage.read_data(storage.storage_data_of(digest_of(DATA)))


async def _stat(storage: Any) -> object:
    return await storage.stat(storage.storage_data_of(digest_of(DATA)))


async def _delete(storage: Any) -> object:
    return await storage.delete(storage.storage_data_of(digest_of(DATA)))


async def _list(storage: Any) -> object:
    return [info async for info in storage.list()]


async def _verify(storage: Any) -> object:
    return [verified async for verified in verify(storage)]


async def _write(storage: Any) -> object:
    return await write(storage, b"new", {})


async def _write_stream(storage: Any) -> object:
    return await write_stream(storage, content(storage.settings.part_size + 1), {})


# Request -> what sends it, and the statuses with which it succeeds on some cloud even without a body.
REQUESTS: Mapping[str, tuple[Callable[[Any], Awaitable[object]], frozenset[int]]] = {
    "put": (_write, frozenset()),
    "copy": (_write_stream, frozenset()),
    "get": (_read, frozenset()),
    "head": (_stat, frozenset()),
    "list": (_list, frozenset()),
    "delete": (_delete, frozenset({200, 202, 204})),
}


@pytest.mark.case("48")
@one_server_a_cloud
@both_senders
@pytest.mark.parametrize("operation", REQUESTS)
async def test_success_of_another_kind_is_an_error_that_names_the_endpoint(
    cloud_rig: CloudRig, operation: str, fast_lane: bool
) -> None:
    send, successes = REQUESTS[operation]
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    async with proxy_before(cloud_rig) as proxy:
        for status in STATUSES:
            if status in successes:
                continue
            armed = proxy.arm(Rule(Answer(status, body=""), operation, times=None))
            async with cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage:
                with pytest.raises(StorageUnavailable, match=proxy.url):
                    await send(storage)
                    pytest.fail(f"{status} counts as success")
            proxy.disarm(armed)
    await cloud_rig.check_nothing_temporary()
    assert await cloud_rig.keys() == [digest_of(DATA)["content_hash"]]


@pytest.mark.case("48")
@one_server_a_cloud
@both_senders
async def test_verify_calls_nothing_damaged_because_of_a_page(cloud_rig: CloudRig, fast_lane: bool) -> None:
    await cloud_rig.put(digest_of(DATA)["content_hash"], DATA)
    page = Answer(200, headers={"Content-Type": "text/html"}, body="<html><body>Please log in</body></html>")
    async with (
        proxy_before(cloud_rig, Rule(page, "get", times=None)) as proxy,
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        with pytest.raises(StorageUnavailable, match=proxy.url):
            await _verify(storage)


@pytest.mark.case("66")
@one_server_a_cloud
@both_senders
async def test_content_that_a_proxy_decodes_is_never_returned(cloud_rig: CloudRig, fast_lane: bool) -> None:
    data = gzip.compress(DATA, mtime=0)
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage:
        stored = await storage.write_data(data, digest_of(data, content_encoding="gzip"), {})
        assert await storage.read_data(stored) == data
        proxy.arm(Rule(Answer(200, headers=PROOFS, body=DATA.decode("latin-1")), "get", times=None))
        with pytest.raises((StorageUnavailable, IntegrityError)):
            await storage.read_data(stored)


@pytest.mark.case("47")
@one_server_a_cloud
@both_senders
async def test_success_that_proves_nothing_is_an_error_for_content_in_parts(
    cloud_rig: CloudRig, fast_lane: bool
) -> None:
    """Content with a known digest, whose parts go straight to its key on S3."""
    data = content(2 * cloud_rig.part_size + 1)
    limits = replace(cloud_rig.storage().settings.limits, max_put_size=cloud_rig.part_size)
    invented = Answer(200, headers={"Content-Type": "application/xml"}, body="")
    async with proxy_before(cloud_rig) as proxy, cloud_rig.storage(limits=limits, fast_lane=fast_lane) as storage:
        await write(storage, data, {})
        await storage.delete(storage.storage_data_of(digest_of(data)))
        for operation in ("complete_upload", "copy", "upload_part"):
            if not proxy.exchanges_of(operation):
                continue
            armed = proxy.arm(Rule(invented, operation, times=None))
            with pytest.raises(StorageUnavailable):
                await write(storage, data, {})
                pytest.fail(f"{operation} counts as success")
            proxy.disarm(armed)
    await cloud_rig.check_nothing_left()


REFUSED = [
    (ConfigError, "s3-aws", 400, "InvalidBucketName"),
    (ConfigError, "gcs-strict", 400, "userProjectInvalid"),
    (ConfigError, "azure-azurite", 400, "InvalidResourceName"),
    (BucketNotFound, "s3-aws", 404, "NoSuchBucket"),
    (CredentialsError, "s3-aws", 403, "InvalidAccessKeyId"),
    (CredentialsError, "gcs-strict", 401, "authError"),
    (CredentialsError, "azure-azurite", 403, "AuthenticationFailed"),
]
"""Refusals after which the store has nothing of an upload: error, server, status and code."""


@pytest.mark.case("34")
@pytest.mark.parametrize(
    ("error", "cloud_rig", "status", "code"),
    [
        pytest.param(error, *pair.values, status, code, id=f"{name}-{code}")
        for error, name, status, code in REFUSED
        for pair in params_of(name)
    ],
    indirect=["cloud_rig"],
)
@both_senders
@pytest.mark.parametrize("parts_hang", [False, True], ids=["parts refused", "parts hang"])
async def test_stream_whose_requests_are_all_refused_leaves_nothing_to_warn_of(
    error: type[LakeryCloudError],
    cloud_rig: CloudRig,
    status: int,
    code: str,
    fast_lane: bool,
    parts_hang: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        scripted_proxy_before(cloud_rig) as proxy,
        cloud_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage,
    ):
        if parts_hang:
            proxy.script(lambda exchange: exchange.neutral == "upload_part", Delay(None), times=3)
        proxy.script(lambda _: True, Answer(status, code), times=100)
        with pytest.raises(error):
            await write_stream(storage, content(2 * cloud_rig.part_size + 1))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
