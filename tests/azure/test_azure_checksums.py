"""The checksum that Azure compares with a body, as it is sent: CRC64, or MD5 where an endpoint refuses that."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem
from azure.core.exceptions import HttpResponseError

from lakery_cloud import AzureBlobStorage, IntegrityError
from lakery_cloud.emulators import Azurite
from lakery_cloud.providers.azure import checksums
from lakery_cloud.providers.azure.checksums import CRC64, MD5
from lakery_cloud.testing import Exchange, FaultProxy, Rule, content
from lakery_cloud.testing.faults import Answer, FlipRequestByte
from tests.helpers import write, write_stream
from tests.stores.azure_store import PART, azure_store

pytest.importorskip("awscrt", reason="the environment is older than the extra `test`")

pytestmark = pytest.mark.usefixtures("short_pauses")
LANES = pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])


def sent(exchanges: Sequence[Exchange]) -> list[tuple[str, str, int | None]]:
    """Operation, checksum and status of each request with content."""
    return [
        (exchange.operation, ", ".join(name for name in (CRC64, MD5) if name in exchange.headers), exchange.status)
        for exchange in exchanges
        if exchange.operation in ("put_blob", "put_block")
    ]


@LANES
async def test_bodies_are_compared_with_their_crc64(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        for data in (b"", b"data", content(700_000)):  # the last one is hashed in a thread
            await write(store.storage, data)
        stored = await write_stream(store.storage, content(2 * PART + 1))
        assert await store.storage.read_data(stored) == content(2 * PART + 1)
        assert sent(store.double.exchanges) == [*[("put_blob", CRC64, 201)] * 3, *[("put_block", CRC64, 201)] * 3]


@LANES
@pytest.mark.parametrize("operation", ["put_blob", "put_block"])
async def test_damaged_body_is_refused(azurite: Azurite, fast_lane: bool, operation: str) -> None:
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            damage = proxy.arm(Rule(FlipRequestByte(), operation))
            with pytest.raises(IntegrityError, match="Crc64Mismatch"):
                await write_stream(storage, content(100 if operation == "put_blob" else 2 * PART))
        assert damage.fired == 1
        assert await store.all_keys() == []


async def test_doctor_learns_whether_the_endpoint_compares(azurite: Azurite) -> None:
    async with azure_store(azurite, "azure") as store:
        with pytest.raises(IntegrityError, match="Crc64Mismatch"):
            async with store.storage._open_transport() as transport:
                await transport.put_damaged(store.storage.keys.content("0" * 64))


@LANES
async def test_endpoint_that_refuses_crc64_gets_md5_from_then_on(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "no-crc64", fast_lane=fast_lane) as store:
        for data in (b"one", b"two"):
            await write(store.storage, data)
        await write_stream(store.storage, content(2 * PART + 1))
        assert sent(store.double.exchanges) == [
            ("put_blob", CRC64, 500),
            *[("put_blob", MD5, 201)] * 2,
            *[("put_block", MD5, 201)] * 3,
        ]


@LANES
async def test_refused_block_is_sent_again_with_md5(azurite: Azurite, fast_lane: bool) -> None:
    async with azure_store(azurite, "no-crc64", fast_lane=fast_lane, max_concurrent_parts=1) as store:
        await write_stream(store.storage, content(2 * PART + 1))
        assert sent(store.double.exchanges) == [("put_block", CRC64, 500), *[("put_block", MD5, 201)] * 3]


async def test_client_of_a_user_does_not_retry_the_refused_header(azurite: Azurite) -> None:
    async with azure_store(azurite, "no-crc64") as store:
        fs = AzureBlobFileSystem(connection_string=store.double.connection_string, skip_instance_cache=True)
        async with AzureBlobStorage(store.container.container_name, fs=fs) as storage:
            await write(storage, b"data")
        await fs.service_client.close()
        assert sent(store.double.exchanges) == [("put_blob", CRC64, 500), ("put_blob", MD5, 201)]


# (status, code) -> whether the endpoint refuses the header
REFUSALS = {
    (400, "UnsupportedHeader"): True,
    (400, "InvalidHeaderValue"): True,
    (501, "NotImplemented"): True,
    (500, "InternalError"): False,
    (503, "ServerBusy"): False,
    (400, "Crc64Mismatch"): False,
    (400, "InvalidInput"): False,
    (403, "AuthorizationFailure"): False,
}


@LANES
@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
async def test_only_a_refusal_of_the_header_changes_later_requests(
    azurite: Azurite, fast_lane: bool, refusal: tuple[int, str]
) -> None:
    status, code = refusal
    async with azure_store(azurite, "azure") as store, FaultProxy(store.double.url) as proxy:
        text = store.double.connection_string.replace(store.double.url, proxy.url)
        async with store.another(connection_string=text, fast_lane=fast_lane) as storage:
            proxy.arm(Rule(Answer(status, code), "put_blob"))
            results = await asyncio.gather(write(storage, b"first"), return_exceptions=True)
            await write(storage, b"second")
        is_retried = status in (500, 503) or REFUSALS[refusal]
        assert isinstance(results[0], dict) == is_retried
        assert {name for _, name, _ in sent(store.double.exchanges)} == {MD5 if REFUSALS[refusal] else CRC64}


@LANES
async def test_without_a_library_bodies_have_md5(
    azurite: Azurite, fast_lane: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "crc64_function", None)
    async with azure_store(azurite, "azure", fast_lane=fast_lane) as store:
        await write(store.storage, b"data")
        await write_stream(store.storage, content(2 * PART + 1))
        assert sent(store.double.exchanges) == [("put_blob", MD5, 201), *[("put_block", MD5, 201)] * 3]


async def test_azurite_compares_crc64_itself(azurite: Azurite) -> None:
    """What the tests above rely on, by Microsoft's SDK."""
    async with azure_store(azurite, "azure") as store:
        blob: Any = store.container.get_blob_client("blob")
        # The value that Azure itself returned for these bytes, see test_azure_crc64.py.
        await blob.upload_blob(b"Hello World", headers={CRC64: "YeJLfssylmU="})
        with pytest.raises(HttpResponseError) as raised:
            await blob.upload_blob(b"Hello World!", headers={CRC64: "YeJLfssylmU="}, overwrite=True)
        assert raised.value.error_code == "Crc64Mismatch"
