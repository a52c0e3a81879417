"""The fast lane of `AzureBlobStorage`: what goes over it, and what it leaves to the SDK, as the SDK's first attempt."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME
from lakery_cloud.providers.azure.storage import AzureBlobStorage
from lakery_cloud.testing import (
    Exchange,
    FaultProxy,
    content,
    digest_of,
    stream_of,
)
from tests.rigs.azure import AzureRig
from tests.tls import tls_before

HOT = {"put_blob", "get_blob", "get_blob_properties", "put_block"}


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(azure_rig.server_url) as proxy:
        azure_rig.point_to(proxy.url)
        yield proxy


async def write(storage: AzureBlobStorage, data: bytes) -> Any:
    return await storage.write_data(data, digest_of(data), {"tag": "a b"})


async def use(storage: AzureBlobStorage, *, seed: int = 0) -> None:
    """Send each hot request, and check what becomes of them."""
    data, parts = content(1000, seed=seed), content(2 * storage.settings.part_size + 1, seed=seed)
    assert await storage.read_data(await write(storage, data)) == data
    await write(storage, data)
    assert await storage.read_data(await write(storage, b"")) == b""
    stream = stream_of([parts])
    assert await storage.read_data(await storage.write_data_stream(stream, stream.get_digest, {})) == parts


def is_fast(exchange: Exchange) -> bool:
    return "x-ms-client-request-id" not in exchange.headers


def over_the_lane(proxy: FaultProxy) -> set[str]:
    return {exchange.operation for exchange in proxy.exchanges if is_fast(exchange)}


async def test_large_blob_is_read_by_one_request(azure_rig: AzureRig, proxy: FaultProxy) -> None:
    data = content(9_000_000)
    async with azure_rig.storage() as storage:
        await use(storage)
        storage_data = await write(storage, data)
        proxy.exchanges.clear()
        assert await storage.read_data(storage_data) == data
    assert len(proxy.exchanges) == 1


@pytest.mark.parametrize("kind", ["in the URL", "a credential", "a credential that changes"])
async def test_shared_access_signature_goes_along(azure_rig: AzureRig, proxy: FaultProxy, kind: str) -> None:
    signatures = [
        generate_container_sas(
            ACCOUNT_NAME,
            azure_rig.bucket,
            account_key=ACCOUNT_KEY,
            permission=ContainerSasPermissions.from_string("racwdxltmei"),
            expiry=datetime.now(UTC) + timedelta(hours=hours),
        )
        for hours in (1, 2)
    ]
    credential = AzureSasCredential(signatures[0])
    options = {"sas_token": signatures[0]} if kind == "in the URL" else {"credential": credential}
    storage = AzureBlobStorage(
        azure_rig.bucket,
        account_name=ACCOUNT_NAME,
        endpoint_url=f"{proxy.url}/{ACCOUNT_NAME}",
        part_size=azure_rig.part_size,
        **options,  # type: ignore[arg-type]
    )
    async with storage:
        await use(storage)
        proxy.exchanges.clear()
        if kind == "a credential that changes":
            credential.update(signatures[1])
        await use(storage, seed=1)
    assert over_the_lane(proxy) == HOT


# Tokens


class Tokens:
    """A credential whose tokens are renewed when they are near their end."""

    def __init__(self) -> None:
        self.given = 0
        self.lasts = 3600.0

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.given += 1
        return AccessToken(f"token-{int(self.lasts)}", int(time.time() + self.lasts))

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_token_is_kept_until_it_must_be_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            await reader.readexactly(int(headers["content-length"]))
            seen.append(f"{headers['authorization']} {'x-ms-client-request-id' in headers}")
            writer.write(b'HTTP/1.1 201 Created\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')

    async def until_it_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    tokens = Tokens()
    async with await asyncio.start_server(until_it_ends, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with tls_before(f"http://127.0.0.1:{port}", tmp_path, name="127.0.0.1") as url:
            storage = AzureBlobStorage("container", account_name="me", endpoint_url=f"{url}/me", credential=tokens)  # type: ignore[arg-type]
            async with storage:
                for number in range(4):
                    if number == 2:
                        tokens.lasts = 7200.0
                        storage_lane = (await storage.transport())._lane  # type: ignore[attr-defined]
                        storage_lane._token = AccessToken("old", int(time.time()))
                    data = base64.b64encode(bytes([number]))
                    await storage.write_data(data, digest_of(data), {})
    assert seen == ["bearer token-3600 True", "bearer token-3600 False", *["bearer token-7200 False"] * 2]
    assert tokens.given == 3, "one for the SDK, and one for each time that the lane must have a new one"
