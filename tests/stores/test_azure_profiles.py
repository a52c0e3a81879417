"""`AzureBlobStorage` on accounts as people have them: each profile of the double, by both kinds of hot requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from lakery_cloud import (
    ConfigError,
    LakeryCloudError,
    MemoryStorage,
    StorageRegistry,
    StorageUnavailable,
)
from lakery_cloud.emulators import Azurite
from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME
from lakery_cloud.maintenance import CopyOutcome, Problem, copy, sweep, verify
from lakery_cloud.testing import AZURE_PROFILES, ScriptedProxy, content, digest_of, tap
from lakery_cloud.testing.faults import Answer, FaultProxy, Rule
from tests.helpers import write, write_stream
from tests.stores.azure_store import PART, AzureStore, azure_store, storage_on

SMALL = b"some content"
LARGE = content(2 * PART + 1)
BOTH = sorted([digest_of(SMALL)["content_hash"], digest_of(LARGE)["content_hash"]])

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(params=[True, False], ids=["hot requests", "SDK"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    """Whether lakery-cloud sends the hot requests itself."""
    return bool(request.param)


async def check_round_trip(store: AzureStore) -> None:
    """Write a blob and a stream of several parts, twice each; read, find and describe them."""
    storage = store.storage
    for _ in range(2):
        small, large = await write(storage, SMALL), await write_stream(storage, LARGE)
    assert await storage.read_data(small) == SMALL
    assert await storage.read_data(large) == LARGE
    assert [verified.problem async for verified in verify(storage)] == [None, None]


async def every_request(store: AzureStore, stored: Any) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    storage = store.storage
    return [
        ("put", lambda: write(storage, b"new")),
        ("stream", lambda: write_stream(storage, LARGE)),
        ("read", lambda: storage.read_data(stored)),
        ("stat", lambda: storage.stat(stored)),
        ("exists", lambda: storage.exists(stored)),
        ("delete", lambda: storage.delete(stored)),
        ("list", lambda: _all(storage.list())),
        ("verify", lambda: _all(verify(storage))),
        ("sweep", lambda: _all(sweep(storage, older_than=timedelta(0)))),
    ]


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]


async def cancel_stream(storage: Any) -> None:
    """Cancel the write of a stream after its second part."""
    hold = tap(storage).hold("upload_part", nth=3)  # the storage sends one part at a time
    task = asyncio.create_task(write_stream(storage, content(4 * PART)))
    await hold.reached.wait()
    task.cancel()
    hold.release()
    with pytest.raises(asyncio.CancelledError):
        await task


def one_line_without_traceback(caplog: pytest.LogCaptureFixture, text: str) -> None:
    [record] = [
        record for record in caplog.records if record.name == "lakery_cloud" and record.levelno >= logging.WARNING
    ]
    assert not record.exc_info
    assert text in record.getMessage()


# Retention, and signatures without delete


@pytest.mark.case("55")
@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("immutable", "BlobImmutableDueToPolicy"),
        ("legal-hold", "BlobImmutableDueToLegalHold"),
        ("sas-without-delete", "AuthorizationPermissionMismatch"),
    ],
)
async def test_stream_is_saved_and_what_stays_is_said_once(
    azurite: Azurite, profile: str, why: str, fast_lane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with azure_store(azurite, profile, fast_lane=fast_lane) as store:
        stored = await write_stream(store.storage, LARGE)
        one_line_without_traceback(caplog, why)
        assert await store.storage.read_data(stored) == LARGE
        caplog.clear()
        await write_stream(store.storage, LARGE)  # its parts are discarded, since the content is there
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING and profile == "immutable"]
        assert len(await store.keys()) == 2


@pytest.mark.case("55")
@pytest.mark.parametrize("profile", ["immutable", "legal-hold"])
async def test_existing_content_is_saved_again_under_retention(azurite: Azurite, profile: str, fast_lane: bool) -> None:
    async with azure_store(azurite, profile, fast_lane=fast_lane) as store:
        await check_round_trip(store)
        async with store.another(fast_lane=fast_lane) as another:  # which remembers nothing
            await write(another, SMALL)


@pytest.mark.case("55")
@pytest.mark.parametrize("profile", ["azure", "immutable", "legal-hold", "versioned", "soft-delete"])
async def test_cancelled_stream_commits_nothing_and_leaves_nothing(
    azurite: Azurite, profile: str, fast_lane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with azure_store(azurite, profile, fast_lane=fast_lane, max_concurrent_parts=1) as store:
        await cancel_stream(store.storage)
        assert store.operations().count("put_block") == 2
        assert await store.all_keys() == []
        assert "put_block_list" not in store.operations()
        assert not any(store.double.versions.values())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.case("55")
async def test_cancelled_stream_without_the_right_to_delete_commits_nothing(
    azurite: Azurite, fast_lane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with azure_store(azurite, "sas-without-delete", fast_lane=fast_lane, max_concurrent_parts=1) as store:
        await cancel_stream(store.storage)
        assert await store.keys() == []
        assert "put_block_list" not in store.operations()
        one_line_without_traceback(caplog, "AuthorizationPermissionMismatch")


@pytest.mark.case("55")
async def test_shared_access_signature_without_delete(azurite: Azurite, caplog: pytest.LogCaptureFixture) -> None:
    """On Azurite itself, which does not delete blobs that are not committed."""
    async with azure_store(azurite, "azure") as store:
        name = store.container.container_name
        signature = generate_container_sas(
            ACCOUNT_NAME,
            name,
            account_key=ACCOUNT_KEY,
            permission=ContainerSasPermissions.from_string("racwl"),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        endpoint = f"{azurite.endpoint_url}/{ACCOUNT_NAME}"
        options = {
            "sas_token": signature,
            "account_name": ACCOUNT_NAME,
            "endpoint_url": endpoint,
            "max_concurrent_parts": 1,
        }
        async with storage_on(store.double, name, **options) as storage:
            await cancel_stream(storage)
            assert await store.keys() == []
            one_line_without_traceback(caplog, "delete")


# Versions and soft delete


@pytest.mark.case("56")
@pytest.mark.parametrize("profile", ["versioned", "soft-delete"])
async def test_nothing_is_kept_of_temporary_blobs(azurite: Azurite, profile: str, fast_lane: bool) -> None:
    async with azure_store(azurite, profile, fast_lane=fast_lane) as store:
        await check_round_trip(store)
        assert await store.keys() == BOTH
        assert store.double.kept_versions(store.container.container_name) == []


@pytest.mark.case("56")
@pytest.mark.parametrize("operation", ["put_block_list", "delete_blob"])
async def test_version_is_deleted_after_a_lost_response(azurite: Azurite, operation: str, fast_lane: bool) -> None:
    async with azure_store(azurite, "versioned") as store, ScriptedProxy(store.double.url) as proxy:
        proxy.swallow(lambda exchange: exchange.operation == operation, times=1)
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            await write_stream(storage, LARGE)
        assert await store.keys() == [digest_of(LARGE)["content_hash"]]
        assert store.double.kept_versions(store.container.container_name) == []
        assert len(store.double.versions[(store.container.container_name, digest_of(LARGE)["content_hash"])]) == 1


@pytest.mark.case("56")
@pytest.mark.parametrize("right", ["version", "purge"])
async def test_missing_right_to_delete_versions_is_said_once(
    azurite: Azurite, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    profile = replace(AZURE_PROFILES["soft-delete"], purges=right != "purge")
    async with azure_store(azurite, profile) as store, FaultProxy(store.double.url) as proxy:
        if right == "version":
            proxy.arm(Rule(Answer(403, code="AuthorizationPermissionMismatch"), "delete_blob", nth=2))
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text) as storage:
            for seed in range(3):
                await write_stream(storage, content(2 * PART, seed=seed))
        assert len(await store.keys()) == 3
    lines = [record for record in caplog.records if "versions" in record.getMessage()]
    assert len(lines) == 1
    assert not lines[0].exc_info


# Accounts without tags


@pytest.mark.case("53")
@pytest.mark.parametrize(
    ("status", "code"), [(400, "BlobTagsNotSupportedForAccountType"), (409, "FeatureNotSupportedForAccount")]
)
async def test_content_without_tags_needs_none_of_the_account(
    azurite: Azurite, status: int, code: str, fast_lane: bool
) -> None:
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        proxy.arm(Rule(Answer(status, code), "get_blob_tags", times=None))
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            for data in (SMALL, LARGE):
                stored = await write_stream(storage, data, {})
                assert (await storage.stat(stored)).tags == {}
            assert [verified.problem async for verified in verify(storage)] == [None, None]
            copied = [each.outcome async for each in copy(StorageRegistry([storage]), MemoryStorage())]
            assert copied == [CopyOutcome.COPIED] * 2
            proxy.arm(Rule(Answer(status, code), "put_blob"))
            with pytest.raises(ConfigError, match="blob_tags"):
                await write(storage, b"with tags")


# Archives


@pytest.mark.case("51")
async def test_archived_content_says_to_rehydrate_it(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        stored = [await write(store.storage, SMALL), await write_stream(store.storage, LARGE)]
        store.double.profile = AZURE_PROFILES["archive"]
        for storage_data in stored:
            store.double.exchanges.clear()
            with pytest.raises(StorageUnavailable, match="archived.*Rehydrate it"):
                await store.storage.read_data(storage_data)
            assert store.operations() == ["get_blob"]  # a retry would not help
        assert [verified.problem async for verified in verify(store.storage)] == [Problem.ARCHIVED] * 2
        copied = [each async for each in copy(StorageRegistry([store.storage]), MemoryStorage(), keep_tags=False)]
        assert [each.outcome for each in copied] == [CopyOutcome.FAILED] * 2
        assert all("Rehydrate it" in str(each.error) for each in copied)
        assert await write_stream(store.storage, LARGE) == stored[1]


# Overload


@pytest.mark.case("24")
async def test_each_request_is_tried_again_while_the_account_throttles(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "throttling", fast_lane=fast_lane) as store:
        await check_round_trip(store)
        assert await store.all_keys() == BOTH
        assert {exchange.status for exchange in store.double.exchanges} >= {429, 503}
        await store.storage.delete(store.storage.storage_data_of(digest_of(SMALL)))
        assert len(await store.keys()) == 1


# Responses that prove nothing


@pytest.mark.case("49")
async def test_reads_through_a_network_without_content_range(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        stored = await write(store.storage, LARGE)
        store.double.profile = AZURE_PROFILES["cdn"]
        if fast_lane:
            assert await store.storage.read_data(stored) == LARGE
        else:  # the SDK asks for a range
            with pytest.raises(StorageUnavailable, match="(?i)can't be read|content-range"):
                await store.storage.read_data(stored)
        transport = await store.storage.transport()
        address = store.storage.keys.content(digest_of(LARGE)["content_hash"])
        with pytest.raises(StorageUnavailable, match=f"(?i)(?=.*{store.double.url}).*(can't be read|content-range)"):
            async with transport.get(address, start=10, stop=20):
                pass


@pytest.mark.case("48")
async def test_login_page_counts_as_nothing(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        stored = await write(store.storage, SMALL)
        store.double.profile = AZURE_PROFILES["portal"]
        for name, request in await every_request(store, stored):
            with pytest.raises(StorageUnavailable, match=store.double.url):
                await request()
                pytest.fail(name)
        assert await store.keys() == [digest_of(SMALL)["content_hash"]]


@pytest.mark.case("48")
@pytest.mark.parametrize("status", [200, 204, 308])
async def test_success_of_another_kind_counts_as_nothing(azurite: Azurite, status: int, fast_lane: bool) -> None:
    operations = dict.fromkeys(AZURE_PROFILES["portal"].pages, status)
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        stored = await write(store.storage, SMALL)
        store.double.profile = replace(AZURE_PROFILES["azure"], invents=operations)
        for name, request in await every_request(store, stored):
            with pytest.raises(StorageUnavailable, match=store.double.url):
                await request()
                pytest.fail(name)
        assert await store.keys() == [digest_of(SMALL)["content_hash"]]


@pytest.mark.case("47")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["blob", "stream"])
async def test_invented_success_is_not_reported(azurite: Azurite, data: bytes, fast_lane: bool) -> None:
    async with azure_store(azurite, "gateway", fast_lane=fast_lane) as store:
        with pytest.raises(StorageUnavailable, match=store.double.url):
            await write_stream(store.storage, data)
        assert await store.keys() == []


@pytest.mark.case("47")
@pytest.mark.parametrize("operation", ["put_blob", "put_block_list", "copy_blob"])
async def test_success_without_proof_is_looked_up(azurite: Azurite, operation: str, fast_lane: bool) -> None:
    """The account acts, but a proxy removes the headers of its answer."""
    data = SMALL if operation == "put_blob" else LARGE
    profile = replace(AZURE_PROFILES["azure"], empties=(operation,))
    async with azure_store(azurite, profile, fast_lane=fast_lane) as store:
        assert await store.storage.read_data(await write_stream(store.storage, data)) == data
        assert await store.all_keys() == [digest_of(data)["content_hash"]]


@pytest.mark.case("49")
@pytest.mark.parametrize("name", ["etag", "x-ms-request-id"])
async def test_missing_header_is_named(azurite: Azurite, name: str, fast_lane: bool) -> None:
    profile = replace(AZURE_PROFILES["azure"], missing=(name,), missing_from=("get_blob", "get_blob_properties"))
    async with azure_store(azurite, profile, fast_lane=fast_lane) as store:
        stored = await write(store.storage, SMALL)
        for request in (lambda: store.storage.stat(stored), lambda: store.storage.read_data(stored)):
            with pytest.raises(StorageUnavailable, match=f"(?i){name}"):
                await request()


ENTRY = "<Blobs><Blob><Name>{key}</Name><Properties>{properties}</Properties></Blob></Blobs>"
LISTINGS = {
    "no ETag": ENTRY.replace("{properties}", "<Content-Length>12</Content-Length>"),
    "no size": ENTRY.replace("{properties}", "<Etag>x</Etag>"),
    "size is no number": ENTRY.replace("{properties}", "<Etag>x</Etag><Content-Length>many</Content-Length>"),
    "negative size": ENTRY.replace("{properties}", "<Etag>x</Etag><Content-Length>-1</Content-Length>"),
    "malformed time": ENTRY.replace(
        "{properties}", "<Etag>x</Etag><Content-Length>1</Content-Length><Last-Modified>soon</Last-Modified>"
    ),
    "no properties": "<Blobs><Blob><Name>{key}</Name></Blob></Blobs>",
    "no name": "<Blobs><Blob><Properties><Etag>x</Etag></Properties></Blob></Blobs>",
    "no blobs": "",
    "broken off": "<Blobs><Blob>",
}


@pytest.mark.case("49")
@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
async def test_malformed_listing_is_an_error_of_ours(azurite: Azurite, listing: str) -> None:
    body = f"<EnumerationResults>{listing.replace('{key}', digest_of(SMALL)['content_hash'])}</EnumerationResults>"
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        proxy.arm(Rule(Answer(200, headers={"x-ms-request-id": "0"}, body=body), "list_blobs", times=None))
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text) as storage:
            with pytest.raises(LakeryCloudError, match="(?i)list"):
                await _all(storage.list())


@pytest.mark.case("49")
@pytest.mark.parametrize("body", ["<Tags/>", "<Tags><TagSet><Tag/></TagSet></Tags>", "<Tags><TagSet>"])
async def test_malformed_tags_are_an_error_of_ours(azurite: Azurite, body: str, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            stored = await write(storage, SMALL)
            proxy.arm(Rule(Answer(200, headers={"x-ms-request-id": "0"}, body=body), "get_blob_tags", times=None))
            with pytest.raises(StorageUnavailable):
                await storage.stat(stored)


@pytest.mark.case("50")
async def test_listing_that_does_not_advance_ends(azurite: Azurite) -> None:
    async with azure_store(azurite, "same-marker") as store:
        with pytest.raises(StorageUnavailable, match="does not end"):
            await _all(store.storage.list())


@pytest.mark.case("48")
async def test_redirect_is_not_followed(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            stored = await write(storage, SMALL)
            elsewhere = {"Location": f"{store.double.url}/elsewhere"}
            proxy.arm(Rule(Answer(307, headers=elsewhere, body=""), times=None))
            store.double.exchanges.clear()
            for request in (lambda: storage.read_data(stored), lambda: storage.delete(stored)):
                with pytest.raises(StorageUnavailable, match="a response 307"):
                    await request()
            assert store.double.exchanges == []


# Slow copies, weak ETags


@pytest.mark.case("57")
async def test_copy_slower_than_the_read_timeout_is_made_once(azurite: Azurite) -> None:
    profile = replace(AZURE_PROFILES["slow-copy"], copy_seconds=5)
    async with azure_store(azurite, profile, read_timeout=4.0) as store:
        assert await store.storage.read_data(await write_stream(store.storage, LARGE)) == LARGE
        assert store.operations().count("copy_blob") == 1
        assert await store.all_keys() == [digest_of(LARGE)["content_hash"]]


@pytest.mark.case("66")
async def test_weak_etags_do_not_break_resumed_reads(azurite: Azurite, fast_lane: bool) -> None:
    data = content(1_000_000)
    async with azure_store(azurite, "weak-etags") as store, ScriptedProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane, part_size=400_000) as storage:
            stored = await write_stream(storage, data)
            proxy.cut(lambda exchange: exchange.operation == "get_blob", after=300_000, times=2)
            assert await storage.read_data(stored) == data


# Settings


async def test_clean_up_after_a_wrong_setting_says_nothing(
    azurite: Azurite, fast_lane: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with azure_store(azurite, "azure") as store, storage_on(store.double, "c", fast_lane=fast_lane) as storage:
        with pytest.raises(ConfigError, match="can't be the name of a container"):
            await write_stream(storage, LARGE)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", ["account_key", "sas_token"])
async def test_endpoint_without_the_account_in_its_path_is_named(azurite: Azurite, kind: str, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure") as store:
        signature = "sv=2021-08-06&sr=c&sp=racwdl&se=2099-01-01T00%3A00%3A00Z&sig=c2VjcmV0"
        storage = storage_on(
            store.double,
            store.container.container_name,
            account_name=ACCOUNT_NAME,
            endpoint_url=azurite.endpoint_url,
            fast_lane=fast_lane,
            **{kind: ACCOUNT_KEY if kind == "account_key" else signature},
        )
        async with storage:
            for request in (
                lambda: write(storage, SMALL),
                lambda: write_stream(storage, LARGE),
                lambda: storage.exists(storage.storage_data_of(digest_of(SMALL))),
                lambda: storage.read_data(storage.storage_data_of(digest_of(SMALL))),
                lambda: _all(storage.list()),
                lambda: storage.exists({"container": store.container.container_name, "blob": "short"}),
                lambda: storage.read_data({"container": store.container.container_name, "blob": "short"}),
            ):
                with pytest.raises(ConfigError, match=f"such as {azurite.endpoint_url}/{ACCOUNT_NAME}"):
                    await request()
