"""Requests for tokens: with the certificates and proxies of all other requests, whatever gives the tokens."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lakery_cloud import AccessDenied, AzureBlobStorage, ConfigError, LakeryCloudError
from lakery_cloud.testing import digest_of
from tests.forward_proxy import ForwardProxy
from tests.tls import server_context

pytestmark = pytest.mark.case("59")

TOKEN = "a-token-of-the-test"
PRINCIPAL = {"TENANT_ID": "tenant", "CLIENT_ID": "client"}
SECRET = {"CLIENT_SECRET": "no-real-secret"}
# What gives the tokens -> its variables. `{url}` is the server, `{folder}` has the file `federated`.
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "service principal of adlfs": {f"AZURE_STORAGE_{name}": value for name, value in {**PRINCIPAL, **SECRET}.items()},
    "service principal": {f"AZURE_{name}": value for name, value in {**PRINCIPAL, **SECRET}.items()},
    "workload identity": {
        **{f"AZURE_{name}": value for name, value in PRINCIPAL.items()},
        "AZURE_FEDERATED_TOKEN_FILE": "{folder}/federated",
    },
    "managed identity": {"IDENTITY_ENDPOINT": "{url}/identity", "IDENTITY_HEADER": "no-real-header"},
}
each_credential = pytest.mark.parametrize("kind", CREDENTIALS)


class Cloud:
    """A server that issues tokens, and an account that denies everything.

    Attributes:
        url: Its URL.
        tokens: Number of tokens.
        authorizations: The header `Authorization` of each request to the account.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens = 0
        self.authorizations: list[str] = []

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator["Cloud"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls) as server:
            self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                path = first.split()[1]
                if path.startswith(("/tenant/", "/identity")):
                    self.tokens += 1
                    expiry = str(int(time.time()) + 3600)
                    token = {"access_token": TOKEN, "expires_in": 3600, "expires_on": expiry, "resource": "storage"}
                    body = json.dumps(token)
                    status = "200 OK"
                else:
                    self.authorizations.append(headers.get("authorization", ""))
                    body, status = "", "403 Forbidden"
                head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "federated").write_text("an assertion")
    async with Cloud().serve(server_context(tmp_path, name="127.0.0.1")) as cloud:
        yield cloud


@pytest.fixture
def _credential(kind: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", cloud.url)
    for name, value in CREDENTIALS[kind].items():
        monkeypatch.setenv(name, value.format(url=cloud.url, folder=tmp_path))


async def read(cloud: Cloud) -> None:
    """Send requests of both kinds to the account, which denies them."""
    async with AzureBlobStorage(
        "container", account_name="account", endpoint_url=f"{cloud.url}/account", max_attempts=1
    ) as storage:
        stored = storage.storage_data_of(digest_of(b"data"))
        for request in (storage.read_data, storage.delete):
            with pytest.raises(AccessDenied):
                await request(stored)


@each_credential
@pytest.mark.usefixtures("_credential")
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
async def test_tokens_come_from_servers_that_the_bundle_trusts(
    kind: str, variable: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    await read(cloud)
    assert cloud.tokens == 1
    assert cloud.authorizations == [f"Bearer {TOKEN}"] * 2


@each_credential
@pytest.mark.usefixtures("_credential")
async def test_missing_bundle_is_named_before_any_request(
    kind: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    async with AzureBlobStorage(
        "container", account_name="account", endpoint_url="http://127.0.0.1:1/account"
    ) as storage:
        with pytest.raises(ConfigError, match=r"REQUESTS_CA_BUNDLE names .*gone\.pem"):
            await storage.read_data(storage.storage_data_of(digest_of(b"data")))


@each_credential
@pytest.mark.usefixtures("_credential")
@pytest.mark.parametrize(("exempt", "is_used"), [("", True), ("127.0.0.0/8", False)])
async def test_tokens_come_through_the_proxy(
    kind: str, exempt: str, is_used: bool, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with ForwardProxy(login="user:hunter2") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exempt)
        await read(cloud)
        assert set(proxy.hosts) == ({cloud.url.removeprefix("https://")} if is_used else set())
    assert cloud.tokens == 1


@each_credential
@pytest.mark.usefixtures("_credential")
async def test_socks_proxy_is_named_without_its_password(
    kind: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@127.0.0.1:1080")
    with pytest.raises(LakeryCloudError, match="HTTPS_PROXY names socks5://127.0.0.1:1080") as raised:
        await read(cloud)
    assert "hunter2" not in str(raised.value)
    assert cloud.tokens == 0
