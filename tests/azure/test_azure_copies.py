"""How content is copied inside the store on Azure: by which requests, and with how much time."""

from dataclasses import replace

import pytest

from lakery_cloud import IntegrityError, StorageUnavailable
from lakery_cloud.emulators import Azurite
from lakery_cloud.providers.azure import copies
from lakery_cloud.providers.azure.settings import GiB
from lakery_cloud.testing import AZURE_PROFILES, Rule, content, digest_of, stream_of, tap
from lakery_cloud.testing.faults import Answer, Delay, FaultProxy
from tests.azure.proxy import AzureProxy
from tests.helpers import write, write_stream
from tests.rigs.azure import AzureRig
from tests.stores.azure_store import PART, AzureStore, azure_store

pytestmark = [pytest.mark.case("57"), pytest.mark.usefixtures("short_pauses")]

SLOW_COPY = Rule(Delay(2), "copy", times=None)
DATA = content(2 * PART + 1)
TAGS = {"project": "lakery cloud", "path": "a/b:c=d+e-f_g.h"}


@pytest.mark.parametrize(("seconds", "is_enough"), [(30, True), (0.001, False)])
@pytest.mark.parametrize("operation", ["copy_blob", "put_blob_from_url"])
async def test_copies_have_the_time_of_the_setting(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch, operation: str, seconds: float, is_enough: bool
) -> None:
    if operation == "put_blob_from_url":
        monkeypatch.setattr(copies, "MAX_COPY_BLOB_SIZE", PART)
    options = {"read_timeout": 1, "max_attempts": 1, "copy_timeout": seconds * GiB / len(DATA)}
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        proxy.arm(SLOW_COPY)
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, **options) as storage:
            if is_enough:
                assert await storage.read_data(await write_stream(storage, DATA)) == DATA
            else:
                with pytest.raises(StorageUnavailable):
                    await write_stream(storage, DATA)
        assert {exchange.operation for exchange in proxy.exchanges} >= {operation}
        assert await store.all_keys() == ([digest_of(DATA)["content_hash"]] if is_enough else [])


# Put Blob From URL, which Azurite does not have


@pytest.fixture
def _is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is too large for Copy Blob From URL."""
    monkeypatch.setattr(copies, "MAX_COPY_BLOB_SIZE", PART)


too_large = pytest.mark.usefixtures("_is_too_large")


def copied_by(store: AzureStore) -> list[str]:
    return [
        operation
        for operation in store.operations()
        if operation in ("copy_blob", "put_blob_from_url", "put_block_from_url")
    ]


@too_large
@pytest.mark.parametrize("profile", ["azure", "versioned"])
async def test_large_content_is_copied_by_one_request_with_all_that_belongs_to_it(
    azurite: Azurite, profile: str
) -> None:
    async with azure_store(azurite, profile, access_tier="Cool") as store:
        stream = stream_of([DATA], content_type="text/x-test", content_encoding="gzip")
        stored = await store.storage.write_data_stream(stream, stream.get_digest, TAGS)
        assert copied_by(store) == ["put_blob_from_url"]
        assert await store.storage.read_data(stored) == DATA
        described = await store.storage.stat(stored)
        assert dict(described.tags) == TAGS
        assert (described.info.content_type, described.info.content_encoding) == ("text/x-test", "gzip")
        blob = store.container.get_blob_client(stored["blob"])
        assert (await blob.get_blob_properties()).blob_tier == "Cool"
        assert await store.all_keys() == [digest_of(DATA)["content_hash"]]
        assert store.double.kept_versions(store.container.container_name) == []


async def test_content_of_256_mib_and_less_is_copied_as_before(azurite: Azurite) -> None:
    async with azure_store(azurite, "azure") as store:
        await write_stream(store.storage, DATA)
        assert copied_by(store) == ["copy_blob"]


@too_large
async def test_existing_content_is_success(azurite: Azurite) -> None:
    async with azure_store(azurite, "azure") as store, store.another() as another:

        async def save() -> None:
            await write(another, DATA)

        tap(store.storage).before("copy", save)
        assert await store.storage.read_data(await write_stream(store.storage, DATA)) == DATA
        assert copied_by(store) == ["put_blob_from_url"]
        assert await store.all_keys() == [digest_of(DATA)["content_hash"]]


@too_large
async def test_source_that_changed_is_an_integrity_error(azurite: Azurite) -> None:
    async with azure_store(azurite, "azure") as store:

        async def change() -> None:
            [key] = await store.keys()
            await store.container.get_blob_client(key).upload_blob(DATA[::-1], overwrite=True)

        tap(store.storage).before("copy", change)
        with pytest.raises(IntegrityError, match="another client changed"):
            await write_stream(store.storage, DATA)
        assert await store.all_keys() == []


@too_large
async def test_copy_slower_than_the_read_timeout_is_made_once(azurite: Azurite) -> None:
    profile = replace(AZURE_PROFILES["slow-copy"], copy_seconds=4)
    async with azure_store(azurite, profile, read_timeout=3.0) as store:
        assert await store.storage.read_data(await write_stream(store.storage, DATA)) == DATA
        assert copied_by(store) == ["put_blob_from_url"]


@too_large
@pytest.mark.parametrize("missing", ["etag", "x-ms-request-id"])
async def test_response_without_proof_is_looked_up(azurite: Azurite, missing: str) -> None:
    headers = {"ETag": '"1"', "x-ms-request-id": "0"}
    kept = {name: value for name, value in headers.items() if name.lower() != missing}
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        rule = proxy.arm(Rule(Answer(201, headers=kept, body=""), "copy", times=None))
        async with store.another(connection_string=text) as storage:
            with pytest.raises(StorageUnavailable):
                await write_stream(storage, DATA)
        assert rule.fired
        assert await store.all_keys() == []


@too_large
async def test_store_without_this_request_copies_blocks_from_then_on(azure_rig: AzureRig) -> None:
    """On Azurite, whose answer is 501."""
    size = 2 * azure_rig.part_size
    async with AzureProxy(azure_rig.server) as proxy:  # makes blocks from URLs
        azure_rig.point_to(proxy.url)
        limits = {"copy_part_size": azure_rig.part_size}
        async with azure_rig.storage(**limits) as storage:
            wire = tap(storage)
            for seed in range(2):
                data = content(size, seed=seed)
                assert await storage.read_data(await write_stream(storage, data)) == data
        statuses = [
            exchange.status
            for exchange in proxy.exchanges
            if "x-ms-copy-source" in exchange.headers and "x-ms-blob-type" in exchange.headers
        ]
        assert statuses == [501]
        assert wire.count("copy_part") == 4
    await azure_rig.check_nothing_temporary()
