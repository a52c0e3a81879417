"""The requests that end a stream, as lakery-cloud signs them itself: the same requests, results and errors as by the SDK."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import pytest

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import (
    CopyTooLarge,
    KeyExists,
    ObjectInfo,
    Receipt,
    Signal,
    Uncertain,
    Unsupported,
    Upload,
    UploadGone,
    VersionChanged,
    WriteConflict,
)
from lakery_cloud.providers.azure.copies import MAX_COPY_BLOB_SIZE
from lakery_cloud.testing.faults import Answer, FaultProxy, Rule
from tests.azure.senders import both_senders, shown
from tests.conftest import rig_on
from tests.helpers import is_by_the_sdk, proxy_before
from tests.rigs.azure import AzureRig
from tests.rigs.pairs import Pair

pytestmark = pytest.mark.usefixtures("short_pauses")
azure_rig = rig_on(Pair("azure-azurite", lambda server: AzureRig("Azurite", server, fast_lane=True), "azurite"))

TO = Address("container", "a b/ä%41+~'()?#&=.txt")
ATTRIBUTES = ObjectAttributes(
    "text/plain; charset=utf-8", "gzip", {"project": "lakery cloud", "a/b": "c=d+e-f_g.h"}, {"content-hash": "sha256:0"}
)
MADE = {"ETag": '"0x8D"', "x-ms-request-id": "0"}


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(azure_rig) as proxy:
        yield proxy


async def complete(transport: Any, *, is_temporary: bool, create_only: bool = True) -> Any:
    upload = Upload(TO, "id", ATTRIBUTES, is_temporary)
    receipts = [Receipt(1, "id000001"), Receipt(2, "id000002")]
    return await transport.complete_upload(upload, receipts, size=10, create_only=create_only)


def source(*, is_large: bool) -> ObjectInfo:
    return ObjectInfo(Address("other", "ä/from"), MAX_COPY_BLOB_SIZE + is_large, '"0x8C"', tags={"a b": "c"})


async def copy(transport: Any, *, is_large: bool = False) -> Any:
    return await transport.copy(source(is_large=is_large), TO, ATTRIBUTES)


async def copy_as_is(transport: Any, *, is_large: bool = False, replaces: bool = False) -> Any:
    return await transport.copy_as_is(source(is_large=is_large), TO, replace=replaces)


DELETED = ObjectInfo(TO, 4, '"0x8C"')


class Call(NamedTuple):
    """A request.

    Attributes:
        operation: The proxy's name.
        send: Sends it.
        status: Of success.
        headers: Of success.
        result: What a success means.
    """

    operation: str
    send: Callable[[Any], Awaitable[Any]]
    status: int
    headers: Mapping[str, str]
    result: Any


COPIED = {"ETag": '"0x8D"', "x-ms-copy-status": "success"}
CALLS = {
    "commit": Call(
        "put_block_list",
        lambda transport: complete(transport, is_temporary=False),
        201,
        {**MADE, "x-ms-version-id": "v"},
        "v",
    ),
    "commit of a temporary blob": Call(
        "put_block_list",
        lambda transport: complete(transport, is_temporary=True, create_only=False),
        201,
        MADE,
        None,
    ),
    "copy": Call("copy_blob", copy, 202, COPIED, None),
    "copy as it is": Call("copy_blob", copy_as_is, 202, COPIED, None),
    "copy over a blob": Call("copy_blob", partial(copy_as_is, replaces=True), 202, COPIED, None),
    "large copy": Call("put_blob_from_url", partial(copy, is_large=True), 201, MADE, None),
    "large copy as it is": Call("put_blob_from_url", partial(copy_as_is, is_large=True), 201, MADE, None),
    "large copy over a blob": Call(
        "put_blob_from_url", partial(copy_as_is, is_large=True, replaces=True), 201, MADE, None
    ),
    "deletion": Call(
        "delete_blob", lambda transport: transport.delete_if(DELETED), 202, {"x-ms-request-id": "0"}, None
    ),
}


@pytest.mark.parametrize("settings", [{}, {"blob_tags": False, "access_tier": "Cool"}], ids=["index tags", "metadata"])
@pytest.mark.parametrize("name", CALLS)
async def test_request_is_the_same_as_the_sdk_s(
    proxy: FaultProxy, azure_rig: AzureRig, name: str, settings: dict[str, Any]
) -> None:
    call = CALLS[name]
    proxy.arm(Rule(Answer(call.status, headers=call.headers, body=""), call.operation, times=None))
    for fast_lane in (True, False):
        async with azure_rig.storage(fast_lane=fast_lane, **settings) as storage:
            assert await call.send(await storage.transport()) == call.result
    ours, theirs = proxy.exchanges
    assert (is_by_the_sdk(ours), is_by_the_sdk(theirs)) == (False, True)
    assert sent_alike(shown(ours)) == sent_alike(shown(theirs))


def sent_alike(request: tuple[Any, ...]) -> tuple[Any, ...]:
    """A request without what may be written in more than one way."""
    method, path, query, headers = request
    headers = {
        name: value for name, value in headers.items() if name != "content-length"
    }  # XML has two kinds of quotes
    if tags := headers.get("x-ms-tags"):
        headers["x-ms-tags"] = parse_qsl(tags, strict_parsing=True)
    if "x-ms-requires-sync" in headers:
        headers["x-ms-requires-sync"] = headers["x-ms-requires-sync"].lower()  # the SDK sends Python's True
    if media := headers.get("content-type"):
        headers["content-type"] = media.partition(";")[0]
    return method, unquote(path), query, headers


XML = {"Content-Type": "application/xml"}
COMMON: list[tuple[Answer, type[Exception]]] = [
    (Answer(403, "AuthenticationFailed"), CredentialsError),
    (Answer(403, "AuthorizationPermissionMismatch"), AccessDenied),
    (Answer(403, headers=XML, body=""), AccessDenied),
    (Answer(404, "ContainerNotFound"), BucketNotFound),
    (Answer(404, "ContainerBeingDeleted"), BucketNotFound),
    (Answer(412, "LeaseIdMissing"), LakeryCloudError),
    (Answer(400, headers=XML, body="<Error><Code>Invalid"), LakeryCloudError),
    (Answer(302, headers={"Location": "https://example.com/"}, body=""), Uncertain),
    (Answer(500, "InternalError"), StorageUnavailable),
    (Answer(503, "ServerBusy"), StorageUnavailable),
    (Answer(504, headers={"Content-Type": "text/html"}, body="<html>Gateway Timeout</html>"), Uncertain),
]
CREATING: list[tuple[Answer, type[Exception]]] = [
    (Answer(409, "BlobAlreadyExists"), KeyExists),
    (Answer(403, "UnauthorizedBlobOverwrite"), KeyExists),
    (Answer(409, "BlobImmutableDueToPolicy"), KeyExists),
    (Answer(409, "PendingCopyOperation"), WriteConflict),
    (Answer(400, "InvalidBlobTier"), ConfigError),
    (Answer(400, "MetadataTooLarge"), ConfigError),
]
COPYING: list[tuple[Answer, type[Exception]]] = [
    (Answer(404, "BlobNotFound"), VersionChanged),
    (Answer(412, "SourceConditionNotMet"), VersionChanged),
    (Answer(412, "ConditionNotMet"), VersionChanged),  # there is no blob at the destination
    (Answer(412, "TargetConditionNotMet"), KeyExists),
    (Answer(404, "CannotVerifyCopySource"), VersionChanged),
    (Answer(401, "CannotVerifyCopySource"), CredentialsError),
    (Answer(403, "CannotVerifyCopySource"), AccessDenied),
    (Answer(500, "CannotVerifyCopySource"), StorageUnavailable),
    (Answer(409, "CopyAcrossAccountsNotSupported"), ConfigError),
]
REFUSALS: dict[str, list[tuple[Answer, type[Exception]]]] = {
    "commit": [
        *COMMON,
        *CREATING,
        (Answer(412, "ConditionNotMet"), KeyExists),
        (Answer(400, "InvalidBlockList"), UploadGone),
    ],
    "commit of a temporary blob": [(Answer(409, "BlobAlreadyExists"), UploadGone)],
    "copy": [*COMMON, *CREATING, *COPYING],
    "large copy": [*COMMON, *CREATING, *COPYING, (Answer(501, "APINotImplemented"), CopyTooLarge)],
    "deletion": [
        *COMMON,
        (Answer(412, "ConditionNotMet"), VersionChanged),
        (Answer(409, "BlobImmutableDueToPolicy"), AccessDenied),
        (Answer(409, "SnapshotsPresent"), LakeryCloudError),
    ],
    "copy over a blob": [(Answer(501, "APINotImplemented"), Unsupported)],
}


@both_senders
@pytest.mark.parametrize(
    ("name", "answer", "error"),
    [
        pytest.param(name, answer, error, id=f"{name}-{answer.status}-{answer.code or number}")
        for name, refusals in REFUSALS.items()
        for number, (answer, error) in enumerate(refusals)
    ],
)
async def test_refusal_means_the_same_as_to_the_sdk(
    proxy: FaultProxy, azure_rig: AzureRig, name: str, answer: Answer, error: type[Exception], fast_lane: bool
) -> None:
    proxy.arm(Rule(answer, CALLS[name].operation, times=None))
    # After a 504 the store may still be copying, so that the blob is waited for.
    limits = {"read_timeout": 1, "copy_timeout": 0.1} if answer.status == 504 else {}
    async with azure_rig.storage(fast_lane=fast_lane, max_attempts=2, **limits) as storage:
        transport = await storage.transport()
        with pytest.raises((Signal, LakeryCloudError)) as raised:
            await CALLS[name].send(transport)
    assert type(raised.value) is error
    assert not re.search(r"sig=\w", f"{raised.value!s} {raised.value.__cause__!r}")


@both_senders
@pytest.mark.parametrize("name", CALLS)
async def test_success_that_proves_nothing_is_none(
    proxy: FaultProxy, azure_rig: AzureRig, name: str, fast_lane: bool
) -> None:
    call = CALLS[name]
    complete = {header: value for header, value in call.headers.items() if header != "x-ms-version-id"}
    answers = [Answer(call.status, headers=complete, body="<html>Please log in</html>")]
    answers += [
        Answer(call.status, headers={header: complete[header] for header in complete if header != missing}, body="")
        for missing in complete
    ]
    answers += [Answer(status, headers=complete, body="") for status in {200, 201, 202, 204, 206} - {call.status}]
    for answer in answers:
        armed = proxy.arm(Rule(answer, call.operation, times=None))
        async with azure_rig.storage(fast_lane=fast_lane, max_attempts=1) as storage:
            with pytest.raises(Uncertain, match="no usable response"):
                await call.send(await storage.transport())
                pytest.fail(f"{answer} counts as success")
        proxy.disarm(armed)


@pytest.mark.parametrize("is_kept", ["true", "false", None])
async def test_versions_are_deleted_by_the_same_requests_as_the_sdk_s(
    proxy: FaultProxy, azure_rig: AzureRig, is_kept: str | None
) -> None:
    headers = {"x-ms-request-id": "0", **({"x-ms-delete-type-permanent": is_kept} if is_kept else {})}
    proxy.arm(Rule(Answer(202, headers=headers, body=""), "delete", times=None))
    for fast_lane in (True, False):
        async with azure_rig.storage(fast_lane=fast_lane) as storage:
            transport = await storage.transport()
            await transport.delete_version(TO, "2026-11-26T00:00:00.0000001Z")
    sent = [sent_alike(shown(exchange)) for exchange in proxy.exchanges]
    assert len(sent) == 2 * (3 if is_kept == "false" else 2)
    assert sent[: len(sent) // 2] == sent[len(sent) // 2 :]


@both_senders
async def test_blob_that_is_missing_is_deleted(proxy: FaultProxy, azure_rig: AzureRig, fast_lane: bool) -> None:
    proxy.arm(Rule(Answer(404, "BlobNotFound"), "delete", times=None))
    async with azure_rig.storage(fast_lane=fast_lane) as storage:
        transport = await storage.transport()
        await transport.delete(TO)
        await transport.delete_if(DELETED)
    assert len(proxy.exchanges) == 2


@both_senders
@pytest.mark.parametrize("version", [None, 'W/"0x8C"'])
async def test_nothing_is_deleted_without_an_etag_to_compare(
    proxy: FaultProxy, azure_rig: AzureRig, version: str | None, fast_lane: bool
) -> None:
    async with azure_rig.storage(fast_lane=fast_lane) as storage:
        transport = await storage.transport()
        with pytest.raises(StorageUnavailable, match="no strong ETag"):
            await transport.delete_if(DELETED._replace(version=version))
    assert proxy.exchanges == []
