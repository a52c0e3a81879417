"""Proxies and certificates of the environment: every request of every cloud uses them alike."""

import asyncio
import ssl
import traceback
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import (
    AccessDenied,
    AzureBlobStorage,
    ConfigError,
    GCSStorage,
    LakeryCloudError,
    ObjectStorage,
    S3Storage,
    StorageUnavailable,
)
from lakery_cloud.testing import digest_of
from tests.forward_proxy import ForwardProxy
from tests.tls import server_context

pytestmark = pytest.mark.usefixtures("short_pauses")

KEY = "bm8gcmVhbCBrZXk="
CLOUDS: dict[str, Callable[..., ObjectStorage[Any]]] = {
    "s3": S3Storage,
    "gcs": lambda bucket, **options: GCSStorage(bucket, token="anon", **options),
    "azure": lambda bucket, **options: AzureBlobStorage(bucket, account_name="account", account_key=KEY, **options),
}


async def read(storage: ObjectStorage[Any]) -> object:
    return await storage.read_data(storage.storage_data_of(digest_of(b"data")))


async def delete(storage: ObjectStorage[Any]) -> object:
    return await storage.delete(storage.storage_data_of(digest_of(b"data")))


# Request -> the setting `fast_lane`, and what sends it. The SDK deletes, except on Cloud Storage.
REQUESTS: dict[str, tuple[bool, Callable[[ObjectStorage[Any]], Awaitable[object]]]] = {
    "hot": (True, read),
    "hot, by the SDK": (False, read),
    "of the SDK": (True, delete),
}

# One function sends all requests of Cloud Storage, with and without `fast_lane`.
KINDS = [(cloud, kind) for cloud in CLOUDS for kind in REQUESTS if (cloud, kind) != ("gcs", "of the SDK")]
each_request = pytest.mark.parametrize(("cloud", "request_kind"), KINDS)


class Store:
    """A store that denies everything, so that no request is repeated.

    Attributes:
        url: Its URL.
        requests: Number of requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Store"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls) as server:
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-real-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with Store().serve() as store:
        yield store


@pytest.fixture
async def tls_store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store().serve(server_context(tmp_path, name="127.0.0.1")) as store:
        yield store


async def send(cloud: str, request_kind: str, url: str, **options: Any) -> None:
    """Send one request of a kind; a store denies it."""
    fast_lane, act = REQUESTS[request_kind]
    endpoint_url = f"{url}/account" if cloud == "azure" else url
    async with CLOUDS[cloud](
        "bucket", endpoint_url=endpoint_url, fast_lane=fast_lane, **{"max_attempts": 2, **options}
    ) as storage:
        await act(storage)


def refuse_secret(error: BaseException | None) -> None:
    """Check that no error shows the proxy's credentials."""
    while error is not None:
        assert "hunter2" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.case("59")
@each_request
@pytest.mark.parametrize(
    ("scheme", "proxies", "exempt", "is_used"),
    [
        # tests/http/test_proxies.py has all ways to write these.
        ("http", "HTTP_PROXY", "", True),
        ("https", "https_proxy", "", True),
        ("https", "HTTP_PROXY", "", False),
        ("http", "HTTP_PROXY", "NO_PROXY=127.0.0.1:1,127.0.0.1:{port}", False),
        ("https", "HTTPS_PROXY", "no_proxy=127.0.0.0/8", False),
    ],
)
async def test_proxy_of_the_environment(
    cloud: str,
    request_kind: str,
    scheme: str,
    proxies: str,
    exempt: str,
    is_used: bool,
    store: Store,
    tls_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tls_store if scheme == "https" else store
    port = target.url.rpartition(":")[2]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with ForwardProxy(login="user:hunter2") as proxy:
        monkeypatch.setenv(proxies, proxy.url)
        if exempt:
            name, value = exempt.split("=")
            monkeypatch.setenv(name, value.format(port=port))
        with pytest.raises(AccessDenied):
            await send(cloud, request_kind, target.url)
        assert target.requests == 1
        assert proxy.hosts == ([f"127.0.0.1:{port}"] if is_used else [])


@pytest.mark.case("59")
@each_request
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_is_down_or_refuses_is_named(
    cloud: str,
    request_kind: str,
    scheme: str,
    store: Store,
    tls_store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, variable = (tls_store if scheme == "https" else store), f"{scheme.upper()}_PROXY"
    monkeypatch.setenv(variable, "http://user:hunter2@127.0.0.1:1")
    with pytest.raises(
        StorageUnavailable, match=f"no connection to the proxy http://127.0.0.1:1 of {variable}"
    ) as raised:
        await send(cloud, request_kind, target.url)
    refuse_secret(raised.value)
    async with ForwardProxy(login="user:other") as proxy:
        monkeypatch.setenv(variable, f"http://user:hunter2@{proxy.address}")
        with pytest.raises(
            StorageUnavailable, match=f"the proxy http://{proxy.address} of {variable} refused .* status 407"
        ) as raised:
            await send(cloud, request_kind, target.url)
    refuse_secret(raised.value)
    assert target.requests == 0


@pytest.mark.case("59")
@each_request
async def test_proxy_that_opens_no_tunnel_is_named(
    cloud: str, request_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(StorageUnavailable, match=f"no connection to the proxy {address} of HTTPS_PROXY in time"):
            await send(cloud, request_kind, "https://store.example", max_attempts=1, read_timeout=0.3)


@pytest.mark.case("71")
@each_request
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_repeats_its_credentials_does_not_show_them(
    cloud: str, request_kind: str, scheme: str, store: Store, tls_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        login = next(line.split()[-1] for line in head.split(b"\r\n") if b"roxy-" in line)
        body = b"<Error><Message>%b</Message>%b</Error>" % (b64decode(login), head)
        headers = b"X-Seen: %b\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n" % (login, len(body))
        writer.write(b"HTTP/1.1 403 No %b\r\n%b\r\n%b" % (b64decode(login), headers, body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(repeat, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:hunter2@127.0.0.1:{port}")
        with pytest.raises(LakeryCloudError) as raised:
            await send(cloud, request_kind, (tls_store if scheme == "https" else store).url)
    refuse_secret(raised.value)
    assert b64encode(b"user:hunter2").decode() not in "".join(traceback.format_exception(raised.value))


@pytest.mark.case("59")
@each_request
@pytest.mark.parametrize("url", ["socks5://user:hunter2@127.0.0.1:1080", "http://user:hunter2@proxy:port"])
async def test_proxy_that_can_t_be_used_is_a_config_error(
    cloud: str, request_kind: str, url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    with pytest.raises(ConfigError, match="HTTP_PROXY") as raised:
        await send(cloud, request_kind, store.url)
    refuse_secret(raised.value)
    assert store.requests == 0


BUNDLES = [
    *((cloud, "REQUESTS_CA_BUNDLE") for cloud in CLOUDS),
    *((cloud, "SSL_CERT_FILE") for cloud in CLOUDS),
    ("s3", "AWS_CA_BUNDLE"),
]


@pytest.mark.case("59")
@pytest.mark.parametrize("request_kind", ["hot", "of the SDK"])
@pytest.mark.parametrize(("cloud", "variable"), BUNDLES)
async def test_certificates_of_the_environment(
    cloud: str, variable: str, request_kind: str, tls_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    with pytest.raises(AccessDenied):
        await send(cloud, request_kind, tls_store.url)
    (tmp_path / "server.key").write_text("no certificate")
    for path, words in ((tmp_path / "gone.pem", "No such file"), (tmp_path / "server.key", "no certificates in PEM")):
        monkeypatch.setenv(variable, str(path))
        with pytest.raises(ConfigError, match=f"{variable} names '{path}'.*{words}"):
            await send(cloud, request_kind, tls_store.url)
    assert tls_store.requests == 1


@pytest.mark.case("59")
@each_request
@pytest.mark.parametrize("has_proxy", [False, True])
async def test_unknown_certificate_is_refused(
    cloud: str, request_kind: str, has_proxy: bool, tls_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ForwardProxy() as proxy:
        if has_proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(StorageUnavailable, match="no TLS connection"):
            await send(cloud, request_kind, tls_store.url)
        assert bool(proxy.hosts) == has_proxy
    assert tls_store.requests == 0


@pytest.mark.case("59")
@pytest.mark.parametrize("cloud", CLOUDS)
async def test_netrc_changes_no_request(
    cloud: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for request_kind in REQUESTS:
        with pytest.raises(LakeryCloudError) as raised:
            await send(cloud, request_kind, store.url)
        assert isinstance(raised.value, AccessDenied)
