"""Put Block From URL as lakery-cloud signs it itself: the same requests, results and errors as by the SDK."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AzureSasCredential
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo, Receipt, Uncertain, Upload, VersionChanged
from lakery_cloud.providers.azure.settings import GiB
from lakery_cloud.providers.azure.storage import AzureBlobStorage
from lakery_cloud.providers.azure.transport import AzureTransport
from lakery_cloud.testing import Exchange, content, stream_of
from lakery_cloud.testing.faults import Answer, Delay, FaultProxy, Rule
from lakery_cloud.testing.faults.rules import Fault, ResetBefore, SwallowAnswer
from tests.azure.proxy import AzureProxy
from tests.azure.senders import both_senders, shown
from tests.azure.test_azure_hot_requests import Service, Tokens, storage_with
from tests.conftest import rig_on
from tests.helpers import is_by_the_sdk, name_of, proxy_before, write_stream
from tests.rigs.azure import AzureRig
from tests.rigs.pairs import Pair

pytestmark = pytest.mark.usefixtures("short_pauses")
azure_rig = rig_on(Pair("azure-azurite", lambda server: AzureRig("Azurite", server, fast_lane=True), "azurite"))

ETAG = '"0x8D"'


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(azure_rig) as proxy:
        yield proxy


def is_copy_of_block(exchange: Exchange) -> bool:
    return exchange.operation == "put_block_from_url"


def small_copies(rig: AzureRig) -> dict[str, Any]:
    """Settings with which each stream is copied in blocks."""
    limits = rig.storage().settings.limits
    return {"limits": replace(limits, max_copy_size=rig.part_size, copy_part_size=rig.part_size)}


async def copy_block(storage: AzureBlobStorage, *, key: str = "from", version: str | None = ETAG) -> Receipt:
    transport = await storage.transport()
    upload = Upload(Address("container", "to"), "id", ObjectAttributes("", None, {}, {}), is_temporary=False)
    source = ObjectInfo(Address("other", key), 100, version)
    return await transport.copy_part(upload, 7, source, 10, 20)


def signature() -> str:
    return generate_container_sas(
        *(ACCOUNT_NAME, "container"),
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, write=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


CREDENTIALS: dict[str, Callable[[], dict[str, Any]]] = {
    "key": lambda: {"account_key": ACCOUNT_KEY},
    "signature": lambda: {"sas_token": signature()},
    "signature as a credential": lambda: {"credential": AzureSasCredential(f"?{signature()}")},
}


@pytest.mark.parametrize("version", [ETAG, None, 'W/"0x8D"'])
@pytest.mark.parametrize("key", ["from", "a b/ä%41+~'()?#&=.txt"])
@pytest.mark.parametrize("kind", CREDENTIALS)
async def test_request_is_the_same_as_the_sdk_s(proxy: FaultProxy, kind: str, key: str, version: str | None) -> None:
    given = CREDENTIALS[kind]()
    proxy.arm(Rule(Answer(201, headers={"x-ms-request-id": "0"}, body=""), "copy_part", times=None))
    receipts = []
    for fast_lane in (True, False):
        async with AzureBlobStorage(
            "container",
            account_name=ACCOUNT_NAME,
            endpoint_url=f"{proxy.url}/{ACCOUNT_NAME}",
            fast_lane=fast_lane,
            **given,
        ) as storage:
            receipts.append(await copy_block(storage, key=key, version=version))
    ours, theirs = proxy.exchanges
    assert (is_by_the_sdk(ours), is_by_the_sdk(theirs)) == (False, True)
    assert shown(ours) == shown(theirs)
    assert receipts[0] == receipts[1]
    assert ours.headers["x-ms-source-range"] == "bytes=10-19"
    assert ours.headers.get("x-ms-source-if-match") == (ETAG if version == ETAG else None)
    assert "sig=" in ours.headers["x-ms-copy-source"]


IDENTIFIED = {"x-ms-request-id": "0"}
ANSWERS: list[tuple[Answer, type[Exception] | None]] = [
    (Answer(201, headers=IDENTIFIED, body=""), None),
    # Successes that prove nothing
    (Answer(201, body=""), Uncertain),
    (Answer(201, headers=IDENTIFIED, body="<html>Please log in</html>"), Uncertain),
    *((Answer(status, headers=IDENTIFIED, body=""), Uncertain) for status in (200, 202, 204, 206)),
    (Answer(302, headers={"Location": "https://example.com/"}, body=""), Uncertain),
    # The source
    (Answer(404, "BlobNotFound"), VersionChanged),
    (Answer(412, "SourceConditionNotMet"), VersionChanged),
    (Answer(412, "ConditionNotMet"), VersionChanged),
    (Answer(404, "CannotVerifyCopySource"), VersionChanged),
    (Answer(412, "CannotVerifyCopySource"), VersionChanged),
    (Answer(401, "CannotVerifyCopySource"), CredentialsError),
    (Answer(403, "CannotVerifyCopySource"), AccessDenied),
    (Answer(500, "CannotVerifyCopySource"), StorageUnavailable),
    *(
        (Answer(status, "CannotVerifyCopySource", headers={"x-ms-copy-source-error-code": code}), StorageUnavailable)
        for status, code in ((409, "ServerBusy"), (404, "InternalError"), (403, "OperationTimedOut"))
    ),
    # The destination
    (Answer(403, "AuthenticationFailed"), CredentialsError),
    (Answer(403, "AuthorizationPermissionMismatch"), AccessDenied),
    (Answer(404, "ContainerNotFound"), BucketNotFound),
    (Answer(409, "BlobImmutableDueToPolicy"), AccessDenied),
    (Answer(409, "BlockCountExceedsLimit"), ConfigError),
    (Answer(412, "LeaseIdMissing"), LakeryCloudError),
    # Overload, and proxies
    (Answer(500, "InternalError"), StorageUnavailable),
    (Answer(503, "ServerBusy"), StorageUnavailable),
    (Answer(429, "TooManyRequests"), StorageUnavailable),
    (Answer(502, headers={"Content-Type": "text/html"}, body="<html>Bad Gateway</html>"), StorageUnavailable),
    (Answer(504, headers={"Content-Type": "text/html"}, body="<html>Gateway Timeout</html>"), Uncertain),
    (Answer(400, headers={"Content-Type": "application/xml"}, body="<Error><Code>Invalid"), LakeryCloudError),
    (Answer(403, headers={"Content-Type": "application/xml"}, body=""), AccessDenied),
]


@both_senders
@pytest.mark.parametrize(
    ("answer", "error"),
    ANSWERS,
    ids=[f"{answer.status}-{answer.code or number}" for number, (answer, _) in enumerate(ANSWERS)],
)
async def test_response_means_the_same_as_to_the_sdk(
    proxy: FaultProxy, azure_rig: AzureRig, answer: Answer, error: type[Exception] | None, fast_lane: bool
) -> None:
    proxy.arm(Rule(answer, "copy_part", times=None))
    async with azure_rig.storage(fast_lane=fast_lane, max_attempts=2) as storage:
        if error is None:
            assert await copy_block(storage) == Receipt(7, "id000007")
            return
        with pytest.raises(error) as raised:
            await copy_block(storage)
    is_unread = answer.status == 429 and not fast_lane  # the SDK's client takes it for no response
    assert type(raised.value) is (Uncertain if is_unread else error)
    text = f"{raised.value!s} {raised.value.__cause__!r}"
    assert proxy.exchanges[0].headers["x-ms-copy-source"].rpartition("sig=")[2] not in text


@both_senders
@pytest.mark.parametrize(
    "fault",
    [
        *(ResetBefore(), SwallowAnswer()),
        *(Answer(503, "ServerBusy"), Answer(201, body=""), Answer(500, "OperationTimedOut")),
        Answer(409, "CannotVerifyCopySource", headers={"x-ms-copy-source-error-code": "ServerBusy"}),
    ],
    ids=name_of,
)
async def test_request_is_sent_again(azure_rig: AzureRig, fault: Fault, fast_lane: bool) -> None:
    async with AzureProxy(azure_rig.server) as copying, FaultProxy(copying.url) as proxy:
        azure_rig.point_to(proxy.url)
        rule = proxy.arm(Rule(fault, "copy_part"))
        async with azure_rig.storage(fast_lane=fast_lane, **small_copies(azure_rig)) as storage:
            data = content(2 * azure_rig.part_size)
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert rule.fired == 1
        assert {is_by_the_sdk(each) for each in proxy.exchanges if is_copy_of_block(each)} == {not fast_lane}
        assert len({each.target for each in proxy.exchanges if is_copy_of_block(each)}) == 2
    await azure_rig.check_nothing_temporary()


@pytest.mark.case("57")
@both_senders
async def test_copy_slower_than_the_read_timeout_has_the_time_of_copies(azure_rig: AzureRig, fast_lane: bool) -> None:
    settings: dict[str, Any] = {"read_timeout": 1, "copy_timeout": 30 * GiB / azure_rig.part_size}
    async with AzureProxy(azure_rig.server) as copying, FaultProxy(copying.url) as proxy:
        azure_rig.point_to(proxy.url)
        slow = proxy.arm(Rule(Delay(1.5), "copy_part"))
        async with azure_rig.storage(fast_lane=fast_lane, **settings, **small_copies(azure_rig)) as storage:
            data = content(2 * azure_rig.part_size)
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert slow.fired == 1
        assert sum(map(is_copy_of_block, proxy.exchanges)) == 2


@pytest.mark.parametrize("is_in_blocks", [False, True], ids=["one copy", "copies of blocks"])
async def test_no_request_of_a_stream_is_the_sdk_s(azure_rig: AzureRig, is_in_blocks: bool) -> None:
    async with AzureProxy(azure_rig.server) as copying, FaultProxy(copying.url) as proxy:
        azure_rig.point_to(proxy.url)
        async with azure_rig.storage(fast_lane=True, **(small_copies(azure_rig) if is_in_blocks else {})) as storage:
            data = content(2 * azure_rig.part_size + 1)
            stream = stream_of([data])
            written = await storage.write_data_stream(stream, stream.get_digest, {"tag": "a b"})
            assert await storage.read_data(written) == data
            assert [info.size async for info in storage.list()] == [len(data)]
            await storage.delete(written)
        assert {each.operation for each in proxy.exchanges} >= {
            *("put_block", "put_block_list", "get_blob", "list_blobs", "delete_blob"),
            "put_block_from_url" if is_in_blocks else "copy_blob",
        }
        assert not [each for each in proxy.exchanges if is_by_the_sdk(each)]
    await azure_rig.check_nothing_left()


async def test_blocks_of_a_copy_share_one_signature(azure_rig: AzureRig) -> None:
    async with AzureProxy(azure_rig.server) as proxy:
        azure_rig.point_to(proxy.url)
        async with azure_rig.storage(**small_copies(azure_rig)) as storage:
            for seed in range(2):
                await write_stream(storage, content(3 * azure_rig.part_size, seed=seed))
    assert len(proxy.sources) == 6
    assert len(set(proxy.sources)) == 2


# Tokens


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with Service().serve(tmp_path) as service:
        yield service


@pytest.mark.case("60")
@both_senders
async def test_source_is_read_by_the_token_of_the_client(service: Service, fast_lane: bool) -> None:
    async with storage_with(Tokens(), service, fast_lane=fast_lane) as storage:
        await copy_block(storage)
    [headers] = service.seen
    assert headers["x-ms-copy-source-authorization"] == headers["authorization"] == "bearer token-1"
    assert headers["x-ms-copy-source"] == f"{service.url}/me/other/from"


@pytest.mark.case("60")
async def test_refused_token_is_renewed_for_the_source_too(service: Service) -> None:
    service.refused = {"bearer token-1"}
    async with storage_with(Tokens(), service) as storage:
        transport = await storage.transport()
        assert isinstance(transport, AzureTransport)
        await copy_block(storage)
    assert [headers["x-ms-copy-source-authorization"] for headers in service.seen] == [
        "bearer token-1",
        "bearer token-2",
    ]
    assert service.authorizations == ["bearer token-1", "bearer token-2"]
