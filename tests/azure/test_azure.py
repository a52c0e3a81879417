"""The conformance suite on Azurite, and what only Azure has: credentials, index tags, blocks, copies by signature."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from adlfs import AzureBlobFileSystem
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from lakery_cloud import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    IntegrityError,
    InvalidRecord,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.emulators import EmulatorError
from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.providers.azure import checksums
from lakery_cloud.providers.azure import sdk as azure
from lakery_cloud.providers.azure.checksums import CRC64, MD5
from lakery_cloud.providers.azure.storage import AzureBlobStorage
from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    content,
    digest_of,
    stream_of,
    tap,
)
from lakery_cloud.testing.faults import Answer, Fault, FlipRequestByte, ResetAfter, ResetBefore, Stall, SwallowAnswer
from tests.azure.proxy import AzureProxy, is_request
from tests.helpers import PATIENCE, name_of, proxy_before, write, write_stream
from tests.rigs.azure import AzureRig

MiB = 1024**2
TAGS = {"project": "lakery cloud", "path": "a/b:c=d+e-f_g.h"}
SECRET = "c2VjcmV0IHNlY3JldA=="  # what nobody may see
BUSY = b"<?xml version='1.0'?><Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>"


class TestLargeCopies:
    """The cases that Azurite can't show, on a proxy that makes blocks from URLs."""

    @pytest.mark.case("33")
    @pytest.mark.parametrize("prefix", ["", "a b/ä%41"])
    async def test_copy_past_the_limit_of_one_request_goes_in_parts(
        self, azure_rig: AzureRig, proxy: AzureProxy, prefix: str
    ) -> None:
        data = content(azure_rig.part_size * 3 + 5)
        storage = small_copies(azure_rig, prefix=prefix)
        wire = tap(storage)
        async with storage:
            stream = stream_of([data])
            storage_data = await storage.write_data_stream(stream, stream.get_digest, TAGS)
            assert await storage.read_data(storage_data) == data
            assert dict((await storage.stat(storage_data)).tags) == TAGS
        assert (wire.count("copy"), wire.count("copy_part")) == (0, 4)
        assert all("sp=r&" in source for source in proxy.sources), "the source is read by a signature for it alone"
        await azure_rig.check_nothing_temporary()

    @pytest.mark.case("33")
    async def test_cancelled_copy_in_parts_leaves_nothing_that_shows(
        self, azure_rig: AzureRig, proxy: AzureProxy
    ) -> None:
        storage = small_copies(azure_rig, max_concurrent_parts=2)
        hold = tap(storage).hold("copy_part", nth=2)
        async with storage:
            task = asyncio.create_task(write_stream(storage, content(azure_rig.part_size * 4)))
            await hold.reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await azure_rig.keys() == []

    async def test_source_that_changed_before_its_copy_is_an_integrity_error(
        self, azure_rig: AzureRig, proxy: AzureProxy
    ) -> None:
        for storage in (azure_rig.storage(), small_copies(azure_rig)):
            async with storage:
                wire = tap(storage)

                async def change() -> None:
                    [key] = await azure_rig.keys()
                    await azure_rig.put(key, content(azure_rig.part_size * 3 + 5)[::-1])

                for operation in ("copy", "copy_part"):
                    wire.before(operation, change)
                with pytest.raises(IntegrityError, match="another client changed"):
                    await write_stream(storage, content(azure_rig.part_size * 3 + 5))
            assert await azure_rig.keys() == []

    @pytest.mark.case("31")
    @pytest.mark.parametrize("status", ["pending", "failed", "aborted"])
    async def test_copy_that_is_not_made_at_once_leaves_nothing(
        self, azure_rig: AzureRig, proxy: AzureProxy, status: str
    ) -> None:
        proxy.copy_status = status
        async with azure_rig.storage() as storage:
            with pytest.raises(StorageUnavailable, match=status):
                await write_stream(storage, content(azure_rig.part_size * 2))
        assert proxy.copy_status == ("failed" if status == "failed" else "aborted")
        await azure_rig.check_nothing_left()


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[AzureProxy]:
    """A proxy between the rig's storages and Azurite; the rig itself goes around it."""
    async with AzureProxy(azure_rig.server) as proxy:
        azure_rig.point_to(proxy.url)
        yield proxy


def small_copies(rig: AzureRig, **options: Any) -> AzureBlobStorage:
    limits = replace(rig.storage().settings.limits, max_copy_size=rig.part_size * 2, copy_part_size=rig.part_size)
    return rig.storage(limits=limits, **options)


def endpoint_of(rig: AzureRig) -> str:
    return f"{rig.server.endpoint_url}/{ACCOUNT_NAME}"


# The server


def test_server_has_an_address_while_it_runs() -> None:
    server = Azurite()
    for _ in range(2):
        with pytest.raises(EmulatorError, match="azurite is not started"):
            server.environment()
        with server:
            assert server.endpoint_url in server.environment()["AZURE_STORAGE_CONNECTION_STRING"]


# What is sent


async def test_blob_is_one_request_whatever_its_size(azure_rig: AzureRig, proxy: AzureProxy) -> None:
    async with azure_rig.storage() as storage:
        await write(storage, content(70 * MiB), TAGS)
    [exchange] = proxy.exchanges
    assert (exchange.method, exchange.sent_bytes) == ("PUT", 70 * MiB)
    assert exchange.headers["if-none-match"] == "*"
    assert {CRC64, MD5} & exchange.headers.keys()


@pytest.mark.parametrize(("fast_lane", "gets"), [(True, 1), (False, 3)], ids=["one-request", "ranges-of-the-sdk"])
async def test_read_is_of_one_version(azure_rig: AzureRig, proxy: AzureProxy, fast_lane: bool, gets: int) -> None:
    data = content(azure.MAX_READ * 2 + 1)
    async with azure_rig.storage(fast_lane=fast_lane) as storage:
        storage_data = await write(storage, data)
        proxy.exchanges.clear()
        assert await storage.read_data(storage_data) == data
    assert [exchange.method for exchange in proxy.exchanges] == ["GET"] * gets
    assert ["if-match" in exchange.headers for exchange in proxy.exchanges] == [False, *[True] * (gets - 1)]


@pytest.mark.case("29")
async def test_blob_that_changes_between_two_ranges_is_an_integrity_error(
    azure_rig: AzureRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure, "MAX_READ", 1000)
    async with azure_rig.storage(fast_lane=False) as storage:
        storage_data = await write(storage, content(10_000))
        async with aclosing(storage.read_data_stream(storage_data)) as chunks:
            await anext(chunks)
            await azure_rig.put(storage_data["blob"], content(10_000)[::-1])
            with pytest.raises(IntegrityError, match="changed while it was read"):
                await anext(chunks)


@pytest.mark.case("27")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_body_that_breaks_off_is_resumed(azure_rig: AzureRig, proxy: AzureProxy, fast_lane: bool) -> None:
    data = content(300_000)
    async with azure_rig.storage(fast_lane=fast_lane) as storage:
        storage_data = await write(storage, data)
        proxy.cuts = 4  # the SDK itself reads three times
        assert await storage.read_data(storage_data) == data
    assert proxy.cuts == 0


@pytest.mark.case("24")
async def test_body_that_stalls_leaves_no_connection_to_the_garbage_collector(azure_rig: AzureRig) -> None:
    data = content(200_000)
    await azure_rig.put(digest_of(data)["content_hash"], data)
    async with FaultProxy(azure_rig.server_url) as proxy:
        proxy.arm(Rule(Stall(), "get"))
        azure_rig.point_to(proxy.url)
        gc.disable()
        try:
            async with azure_rig.storage(fast_lane=False, read_timeout=1) as storage, asyncio.timeout(PATIENCE):
                assert await storage.read_data(storage.storage_data_of(digest_of(data))) == data
                await proxy.wait_until_idle()
        finally:
            gc.enable()


async def test_busy_server_is_asked_again_and_then_given_up(azure_rig: AzureRig, proxy: AzureProxy) -> None:
    async with azure_rig.storage() as storage:
        busy = proxy.answer(is_request("PUT"), status=503, body=BUSY, times=2)
        await write(storage)
        assert busy.fired == 2
        proxy.answer(is_request("GET"), status=503, body=BUSY, times=3)
        with pytest.raises(StorageUnavailable, match="ServerBusy"):
            await storage.read_data(storage.storage_data_of(digest_of(b"data")))


@pytest.mark.case("26")
async def test_conflict_with_another_writer_is_tried_again(azure_rig: AzureRig, proxy: AzureProxy) -> None:
    body = b"<?xml version='1.0'?><Error><Code>PendingCopyOperation</Code><Message>under way</Message></Error>"
    script = proxy.answer(is_request("PUT"), status=409, body=body)
    async with azure_rig.storage() as storage:
        assert await storage.read_data(await write(storage, b"data")) == b"data"
    assert script.fired == 1


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("header", [CRC64, MD5])
async def test_bytes_damaged_on_the_way_are_refused(
    azure_rig: AzureRig, monkeypatch: pytest.MonkeyPatch, fast_lane: bool, header: str
) -> None:
    if header == MD5:  # as without the libraries
        monkeypatch.setattr(checksums, "crc64_function", None)
    large = content(azure_rig.part_size * 2)
    for operation, save, data in (("put", write, content(1000)), ("upload_part", write_stream, large)):
        rule = Rule(FlipRequestByte(500), operation)
        async with proxy_before(azure_rig, rule) as proxy, azure_rig.storage(fast_lane=fast_lane) as storage:
            with pytest.raises(IntegrityError, match="refused"):
                await save(storage, data)
        (damaged,) = [exchange for exchange in proxy.exchanges if exchange.fault]
        assert header in damaged.headers
    await azure_rig.check_nothing_left()


# Tags and tiers


async def test_tags_go_to_the_metadata_where_the_account_refuses_index_tags(azure_rig: AzureRig) -> None:
    data = content(azure_rig.part_size * 2)
    async with azure_rig.storage(blob_tags=False) as storage:
        for storage_data in (await write(storage, tags=TAGS), await write_stream(storage, data, TAGS)):
            found = await storage.stat(storage_data)
            assert found.tags == TAGS
            assert set(found.info.metadata) == {"content-hash", "content-hash-algorithm", "content-size"}
            raw = await azure_rig.get(storage_data["blob"])
            assert raw is not None
            assert raw.tags == {}
            assert json.loads((await azure_rig.stored_metadata(storage_data["blob"]))["content_tags"]) == TAGS
        most = {f"{n:03}{'k' * 125}": "/" * 256 for n in range(10)}
        assert (await storage.stat(await write(storage, b"most", most))).tags == most


async def test_metadata_names_are_identifiers(azure_rig: AzureRig) -> None:
    async with azure_rig.storage() as storage:
        storage_data = await write(storage)
    assert await azure_rig.stored_metadata(storage_data["blob"]) == {
        "content_hash": digest_of(b"data")["content_hash"],
        "content_hash_algorithm": "sha256",
        "content_size": "4",
    }


async def test_content_gets_the_access_tier(azure_rig: AzureRig) -> None:
    async with azure_rig.storage(access_tier="Cool") as storage:
        for storage_data in (await write(storage), await write_stream(storage, content(azure_rig.part_size * 2))):
            assert await azure_rig.tier(storage_data["blob"]) == "Cool"


# Credentials


@pytest.mark.case("34")
async def test_wrong_key_is_refused_without_showing_it(azure_rig: AzureRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (SECRET, "no base64: " + SECRET):
        options = {"account_name": ACCOUNT_NAME, "account_key": key, "endpoint_url": endpoint_of(azure_rig)}
        async with azure_rig.storage(**options) as storage:
            for attempt in (write(storage), storage.read_data(storage.storage_data_of(digest_of(b"data")))):
                with pytest.raises((CredentialsError, AccessDenied)) as raised:
                    await attempt
                assert SECRET not in f"{raised.value!r} {raised.value.__cause__!r}"


async def test_unreadable_credentials_are_not_shown() -> None:
    async with AzureBlobStorage("container", connection_string=f"AccountKey={SECRET};nonsense") as storage:
        with pytest.raises(CredentialsError) as raised:
            await write(storage)
    assert SECRET not in f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"


async def test_rights_that_are_missing_are_named(azure_rig: AzureRig) -> None:
    options = {"account_name": ACCOUNT_NAME, "endpoint_url": endpoint_of(azure_rig)}
    async with azure_rig.storage() as storage:
        storage_data = await write(storage)
    async with azure_rig.storage(sas_token=signature(azure_rig, read=True), **options) as storage:
        assert await storage.read_data(storage_data) == b"data"
        with pytest.raises(AccessDenied, match="Storage Blob Data Contributor"):
            await write(storage, b"more")
        with pytest.raises(AccessDenied, match="Reader"):
            [info async for info in storage.list()]


def signature(rig: AzureRig, **rights: bool) -> str:
    return generate_container_sas(
        ACCOUNT_NAME,
        rig.bucket,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(**rights),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


@pytest.mark.parametrize("kind", ["sas_token", "sas_credential", "key_credential", "account_key", "connection_string"])
async def test_every_credential_writes_copies_and_reads(
    azure_rig: AzureRig, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = signature(azure_rig, read=True, write=True, create=True, delete=True, list=True, tag=True)
    given: dict[str, Any] = {
        "sas_token": {"sas_token": token},
        "sas_credential": {"credential": AzureSasCredential(token)},
        "key_credential": {"credential": AzureNamedKeyCredential(ACCOUNT_NAME, ACCOUNT_KEY)},
        "account_key": {"account_key": ACCOUNT_KEY},
        "connection_string": {"connection_string": azure_rig.server.connection_string},
    }[kind]
    if kind != "connection_string":
        given |= {"account_name": ACCOUNT_NAME, "endpoint_url": endpoint_of(azure_rig)}
    # What is given goes before the environment.
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=other;AccountKey={SECRET}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SECRET)
    data = content(azure_rig.part_size * 2)
    async with AzureBlobStorage(azure_rig.bucket, part_size=azure_rig.part_size, **given) as storage:
        assert await storage.read_data(await write_stream(storage, data, TAGS)) == data
        assert len([info async for info in storage.list()]) == 1


class Token:
    """A token credential, as azure.identity.aio has them."""

    closed = False

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        return AccessToken(SECRET, 2**31)

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def test_token_goes_along_with_a_copy_and_is_not_closed() -> None:
    token = Token()
    async with AzureBlobStorage("container", account_name="me", credential=token) as storage:
        transport: Any = (await storage._session()).transport
        source = await transport._grants.source(ObjectInfo(Address("container", "a b"), 1))
    assert source == {
        "source_url": "https://me.blob.core.windows.net/container/a%20b",
        "source_authorization": f"Bearer {SECRET}",
    }
    assert not token.closed


async def test_account_of_the_environment_is_never_taken_for_another(azure_rig: AzureRig) -> None:
    async with azure_rig.storage(account_name="other") as storage:
        with pytest.raises(ConfigError, match="devstoreaccount1"):
            await write(storage)


async def test_fs_is_used_as_it_is_and_not_closed(azure_rig: AzureRig) -> None:
    fs = AzureBlobFileSystem(connection_string=azure_rig.server.connection_string, skip_instance_cache=True)
    data = content(azure_rig.part_size * 2)
    async with azure_rig.storage(fs=fs) as storage:
        assert storage.settings.limits.max_put_size == 64 * MiB, "the SDK would send more in blocks of its own"
        storage_data = await write_stream(storage, data)
    async with azure_rig.storage(fs=fs) as storage:
        assert await storage.read_data(storage_data) == data
    assert await fs.service_client.get_container_client(azure_rig.bucket).exists()
    await fs.service_client.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fs": object(), "account_name": "me"},
        {"connection_string": "x", "account_key": "y"},
        {"account_key": "x", "sas_token": "y"},
        {"access_tier": "Archive"},
        {"max_attempts": 0},
        {"endpoint_url": "nowhere"},
        {"prefix": "a./b"},
        {"prefix": "a/b."},
        {"prefix": "/".join("a" * 253)},
        {"unknown": 1},
    ],
)
def test_settings_that_are_wrong_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AzureBlobStorage("container", **wrong)


async def test_container_that_is_not_there_is_told_from_a_blob(azure_rig: AzureRig) -> None:
    async with AzureBlobStorage("c") as storage:  # Azure takes no name this short
        with pytest.raises(LakeryCloudError, match="can't be the name of a container"):
            await write(storage)


# What others wrote


@pytest.mark.parametrize(
    "storage_data", [{}, {"container": "c"}, {"container": 1, "blob": "b"}, {"bucket": "c", "key": "k"}]
)
async def test_storage_data_that_is_malformed_is_refused(storage_data: Any) -> None:
    async with AzureBlobStorage("container") as storage:
        with pytest.raises(InvalidRecord, match="needs a container and a blob"):
            await storage.read_data(storage_data)


@pytest.mark.parametrize("fault", [ResetBefore(), ResetAfter(), SwallowAnswer(), Answer(503)], ids=name_of)
async def test_the_store_tells_its_time_after_a_retry(azure_rig: AzureRig, fault: Fault, short_pauses: None) -> None:
    async with FaultProxy(azure_rig.server_url, [Rule(fault, "has_bucket", times=2)]) as proxy:
        azure_rig.point_to(proxy.url)
        async with azure_rig.storage(max_attempts=3) as storage:
            assert await (await storage.transport()).server_time(azure_rig.bucket)


async def test_a_store_that_fails_each_time_has_no_time(azure_rig: AzureRig, short_pauses: None) -> None:
    async with FaultProxy(azure_rig.server_url, [Rule(ResetBefore(), "has_bucket", times=None)]) as proxy:
        azure_rig.point_to(proxy.url)
        async with azure_rig.storage(max_attempts=2) as storage:
            with pytest.raises(StorageUnavailable):
                await (await storage.transport()).server_time(azure_rig.bucket)


async def test_folders_are_not_listed(azure_rig: AzureRig) -> None:
    await azure_rig.put(f"{'a' * 64}/below", b"")
    async with azure_rig.storage() as storage:
        key = (await write(storage))["blob"]
        assert [info.address.key async for info in storage.list()] == [key]
