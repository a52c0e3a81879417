"""The hot requests of `AzureBlobStorage`: how they are authorized, and which of them the SDK sends."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.storage.blob import (
    ContainerSasPermissions,
    UserDelegationKey,
    generate_blob_sas,
    generate_container_sas,
)
from azure.storage.blob.aio import BlobServiceClient

from lakery_cloud import ConfigError, CredentialsError, StorageUnavailable
from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME
from lakery_cloud.engine import requests
from lakery_cloud.engine.keys import Address
from lakery_cloud.providers.azure.settings import AzureSettings
from lakery_cloud.providers.azure.storage import AzureBlobStorage
from lakery_cloud.providers.azure.transport import AzureTransport
from lakery_cloud.testing import (
    FaultProxy,
    Rule,
    digest_of,
)
from lakery_cloud.testing.faults import Answer
from tests.conftest import rig_on
from tests.helpers import HOT_REQUESTS, is_by_the_sdk, ours, proxy_before, until, use_hot_requests, write
from tests.rigs.azure import AzureRig
from tests.rigs.pairs import Pair
from tests.tls import tls_before

# Also in a run whose other storages leave all requests to the SDK.
azure_rig = rig_on(Pair("azure-azurite", lambda server: AzureRig("Azurite", server, fast_lane=True), "azurite"))


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[FaultProxy]:
    async with proxy_before(azure_rig) as proxy:
        yield proxy


@pytest.mark.parametrize("kind", ["in the URL", "a credential", "a credential that changes"])
async def test_shared_access_signature_authorizes_requests(azure_rig: AzureRig, proxy: FaultProxy, kind: str) -> None:
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
        await use_hot_requests(storage)
        proxy.exchanges.clear()
        if kind == "a credential that changes":
            credential.update(signatures[1])
        await use_hot_requests(storage, seed=1)
    assert ours(proxy) >= HOT_REQUESTS
    assert not [exchange for exchange in proxy.exchanges if is_by_the_sdk(exchange)]


# Tokens


class Tokens:
    """A credential that counts its tokens.

    Attributes:
        asked: Number of requests for a token.
        given: Number of tokens.
        lasts: Seconds that the next token is valid.
        tenants: Tenants that were asked for.
        error: Raised instead of a token.
        may_give: Set while tokens are given; requests wait for it.
    """

    def __init__(self) -> None:
        self.asked = self.given = 0
        self.lasts = 3600.0
        self.tenants: list[str | None] = []
        self.error: Exception | None = None
        self.may_give = asyncio.Event()
        self.may_give.set()

    async def get_token(self, *scopes: str, tenant_id: str | None = None, **_: Any) -> AccessToken:
        self.asked += 1
        await self.may_give.wait()
        if self.error is not None:
            raise self.error
        self.given += 1
        self.tenants.append(tenant_id)
        return AccessToken(f"token-{self.given}", int(time.time() + self.lasts))

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


class Service:
    """A service that stores nothing.

    Attributes:
        url: Its URL.
        seen: Headers of its requests.
        refused: Authorizations that it refuses.
        missing: A header that its responses lack.
    """

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Mapping[str, str]] = []
        self.refused: set[str] = set()
        self.missing = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def authorizations(self) -> list[str]:
        return [headers["authorization"] for headers in self.seen]

    @asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator["Service"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with tls_before(f"http://127.0.0.1:{port}", folder, name="127.0.0.1") as self.url:
                yield self
            await until(lambda: not self._writers)  # the server has closed each connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                method = head.partition(" ")[0]
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                await reader.readexactly(int(headers.get("content-length", 0)))
                self.seen.append(headers)
                writer.write(self._answer(method, headers))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)

    def _answer(self, method: str, headers: Mapping[str, str]) -> bytes:
        body = "data" if method == "get" else ""
        sent = {"ETag": '"1"', "x-ms-request-id": "0", "Content-Length": "0", "Content-Range": "bytes 0-3/4"}
        if headers.get("authorization") in self.refused:
            uri = "https://login.microsoftonline.com/a-tenant/oauth2/authorize"
            challenge = f"Bearer authorization_uri={uri} resource_id=https://storage.azure.com"
            status, sent = 401, {"WWW-Authenticate": challenge, "Content-Length": "0"}
        elif method == "get":
            status, sent["Content-Length"] = 206, "4"
        elif method == "post":
            fields = "".join(f"<{name}>{value}</{name}>" for name, value in KEY.items())
            body = f"<UserDelegationKey>{fields}</UserDelegationKey>"
            status, sent["Content-Type"], sent["Content-Length"] = 200, "application/xml", str(len(body))
        else:
            status = {"put": 201, "delete": 202}.get(method, 200)
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if name != self.missing)
        return f"HTTP/1.1 {status} OK\r\n{lines}\r\n{body}".encode()


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setattr(requests, "FIRST_PAUSE", 0.01)
    async with Service().serve(tmp_path) as service:
        yield service


def storage_with(tokens: Tokens, service: Service, **options: Any) -> AzureBlobStorage:
    return AzureBlobStorage(
        "container",
        account_name="me",
        endpoint_url=f"{service.url}/me",
        credential=tokens,  # type: ignore[arg-type]
        **options,
    )


@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_token_that_expires_soon_is_used_while_it_is_renewed(service: Service, fast_lane: bool) -> None:
    tokens = Tokens()
    tokens.lasts = 200.0
    async with storage_with(tokens, service, fast_lane=fast_lane) as storage:
        await write(storage, b"0")
        tokens.may_give.clear()
        tokens.lasts = 3600.0
        for number in range(1, 4):
            await write(storage, b"%d" % number)
        assert tokens.asked == 2
        tokens.may_give.set()
        await asyncio.sleep(0)
        await write(storage, b"4")
        await write(storage, b"5")
    assert service.authorizations == [*["bearer token-1"] * 4, *["bearer token-2"] * 2]
    assert tokens.asked == 2


async def test_requests_at_the_same_time_ask_for_one_token(service: Service) -> None:
    tokens = Tokens()
    async with storage_with(tokens, service) as storage:
        await asyncio.gather(*(write(storage, b"%d" % number) for number in range(10)))
    assert (len(service.seen), tokens.given) == (10, 1)


@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_token_that_still_lasts_is_used_although_it_can_t_be_renewed(service: Service, fast_lane: bool) -> None:
    tokens = Tokens()
    tokens.lasts = 200.0
    async with storage_with(tokens, service, fast_lane=fast_lane) as storage:
        await write(storage, b"first")
        tokens.error = OSError("the issuer is away")
        for number in range(3):
            await write(storage, b"%d" % number)
            await storage.delete(storage.storage_data_of(digest_of(b"%d" % number)))
    assert service.authorizations == ["bearer token-1"] * 13  # a deletion also looks into quarantine, and deletes there
    assert tokens.asked == 2


@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_refused_token_is_renewed_once_in_the_tenant_of_the_account(service: Service, fast_lane: bool) -> None:
    tokens = Tokens()
    service.refused = {"bearer token-1"}
    async with storage_with(tokens, service, fast_lane=fast_lane) as storage:
        await write(storage, b"data")
        assert service.authorizations == ["bearer token-1", "bearer token-2"]
        assert tokens.tenants == [None, "a-tenant"]
        service.refused |= {"bearer token-2", "bearer token-3", "bearer token-4"}
        with pytest.raises(CredentialsError):
            await write(storage, b"more")
    assert service.authorizations[2:] == ["bearer token-2", "bearer token-3"]


@pytest.mark.case("60")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_token_that_can_t_be_loaded_is_an_error_of_ours(service: Service, fast_lane: bool) -> None:
    tokens = Tokens()
    tokens.error = OSError("the issuer is away")
    async with storage_with(tokens, service, fast_lane=fast_lane) as storage:
        with pytest.raises(CredentialsError, match="the issuer is away"):
            await write(storage, b"data")
    assert service.seen == []


async def test_token_is_not_sent_in_clear_text(service: Service) -> None:
    service.url = "http://127.0.0.1:1"
    async with storage_with(Tokens(), service) as storage:
        with pytest.raises(CredentialsError, match="can't be used"):
            await write(storage, b"data")


# Responses that don't prove success


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("missing", ["ETag", "Content-Range"])
async def test_response_without_a_header_that_each_has_is_no_success(
    service: Service, missing: str, fast_lane: bool
) -> None:
    service.missing = missing
    async with storage_with(Tokens(), service, fast_lane=fast_lane, max_attempts=1) as storage:
        with pytest.raises(StorageUnavailable, match="Check that endpoint_url"):
            await storage.read_data(storage.storage_data_of(digest_of(b"data")))


@pytest.mark.parametrize("missing", ["ETag", "x-ms-request-id"])
async def test_put_without_proof_is_sent_again(azure_rig: AzureRig, proxy: FaultProxy, missing: str) -> None:
    headers = {"ETag": '"1"'} if missing == "x-ms-request-id" else {"x-ms-request-id": "0"}
    operation = "put_block" if missing == "x-ms-request-id" else "put_blob"
    rule = proxy.arm(Rule(Answer(201, headers=headers), operation))
    async with azure_rig.storage() as storage:
        await use_hot_requests(storage)
    assert rule.fired == 1


# Signed by a login


KEY = {
    "SignedOid": "oid",
    "SignedTid": "tid",
    "SignedStart": "2026-01-01T00:00:00Z",
    "SignedExpiry": "2026-01-02T00:00:00Z",
    "SignedService": "b",
    "SignedVersion": "2024-08-04",
    "Value": "c2VjcmV0",
}


def signature_for(account: str, url: str) -> bool:
    """Whether a URL has the signature that the key of a login makes for an account."""
    query = dict(parse_qsl(urlsplit(url).query))
    key = UserDelegationKey()
    for name, value in KEY.items():
        setattr(key, re.sub("(?<!^)([A-Z])", r"_\1", name).lower(), value)
    expected = generate_blob_sas(
        account, "container", "key", permission=query["sp"], expiry=query["se"], user_delegation_key=key
    )
    return dict(parse_qsl(expected))["sig"] == query["sig"]


@pytest.mark.case("67")
async def test_url_is_signed_for_the_account_whatever_the_host(service: Service) -> None:
    async with AzureBlobStorage(
        "container",
        account_name="me",
        endpoint_url=service.url,  # a domain of the user's own, say
        credential=Tokens(),  # type: ignore[arg-type]
    ) as storage:
        signed = await storage.presign({"container": "container", "blob": "key"})
    assert signed.url.startswith(f"{service.url}/container/key?")
    assert signature_for("me", signed.url)
    assert not signature_for("other", signed.url)


@pytest.mark.case("67")
async def test_url_is_not_signed_for_an_unknown_account(service: Service) -> None:
    async with BlobServiceClient(service.url, credential=Tokens()) as client:  # type: ignore[arg-type]
        transport = AzureTransport(client, AzureSettings("container"))
        expires = timedelta(hours=1)
        with pytest.raises(ConfigError, match="Set account_name"):
            await transport.presign(Address("container", "key"), method="GET", expires=expires, content=None)
    assert service.seen == []
