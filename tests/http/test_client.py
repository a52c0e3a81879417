"""Which requests go over our own connections, and which over a session."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import ConnectFailed, ConnectionLost, Origin, Response, UnsupportedResponse, buffer
from lakery_cloud.http.pool import PooledResponse, Sockets
from lakery_cloud.http.session import SessionResponse
from tests.helpers import PATIENCE
from tests.http.raw import EMPTY, REFUSAL, Serve, request_of, responding, running
from tests.tls import server_context

UNSIZED = b"HTTP/1.1 200 OK\r\n\r\nbody"
"""A response that our own connections refuse, since its end is that of the connection."""


@asynccontextmanager
async def client_of(**options: Any) -> AsyncIterator[HTTPClient]:
    client = HTTPClient(
        sockets=Sockets(limit=10, seconds=PATIENCE),
        **{"tls": ssl.create_default_context, "connect_timeout": PATIENCE, "read_timeout": PATIENCE} | options,
    )
    async with aclosing(client):
        yield client


async def sent(client: HTTPClient, origin: Origin) -> Response:
    response = await client.send(origin, request_of())
    await buffer(response)
    return response


def proxying(lines: list[str]) -> Serve:
    """A proxy that notes the first line of each request, and refuses it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            lines.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
            writer.write(REFUSAL)

    return serve


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_requests_go_over_our_own_connections() -> None:
    async with running(responding(EMPTY, EMPTY)) as server, client_of() as client:
        for _ in range(2):
            assert isinstance(await sent(client, server.origin), PooledResponse)
    assert server.connections == 1


async def test_requests_go_over_a_session_if_told_so() -> None:
    async with running(responding(EMPTY, EMPTY)) as server, client_of(is_pooled=False) as client:
        for _ in range(2):
            assert isinstance(await sent(client, server.origin), SessionResponse)
    assert server.connections == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
async def test_proxy_of_the_environment_is_used(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    async with running(proxying(lines)) as proxy, client_of() as client:
        monkeypatch.setenv(variable, proxy.url)
        response = await sent(client, Origin.of("http://store.example.org"))
    assert isinstance(response, SessionResponse)
    assert response.status == 403
    assert lines == ["GET http://store.example.org/key HTTP/1.1"]


async def test_proxy_for_tls_connects_to_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    async with running(proxying(lines)) as proxy, client_of() as client:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ConnectFailed, match="403"):
            await sent(client, Origin.of("https://store.example.org"))
    assert lines == ["CONNECT store.example.org:443 HTTP/1.1"]


@pytest.mark.parametrize("variables", [{"NO_PROXY": "127.0.0.1"}, {"HTTPS_PROXY": "http://127.0.0.1:9"}])
async def test_proxy_for_other_origins_is_not_used(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    if "NO_PROXY" in variables:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with running(responding(EMPTY)) as server, client_of() as client:
        assert isinstance(await sent(client, server.origin), PooledResponse)


async def test_origin_goes_over_a_session_after_a_response_that_we_refuse(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lakery_cloud")
    async with running(responding(UNSIZED)) as server, running(responding(EMPTY)) as other, client_of() as client:
        for _ in range(2):
            response = await client.send(server.origin, request_of())
            assert isinstance(response, SessionResponse)
            assert (await buffer(response)).body == b"body"
        assert isinstance(await sent(client, other.origin), PooledResponse)
    assert server.connections == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"requests to {server.origin.netloc} go over aiohttp from now on, because of a body of unknown size"
    ]


async def test_change_to_the_session_is_logged_once_for_concurrent_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lakery_cloud")
    async with running(responding(UNSIZED)) as server, client_of() as client:
        responses = await asyncio.gather(*(sent(client, server.origin) for _ in range(5)))
    assert all(isinstance(response, SessionResponse) for response in responses)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("is_pooled", [True, False])
async def test_closed_client_opens_no_connection(is_pooled: bool) -> None:
    async with running(responding(EMPTY, EMPTY)) as server, client_of(is_pooled=is_pooled) as client:
        await sent(client, server.origin)
        await client.aclose()
        for origin in (server.origin, Origin.of("http://127.0.0.1:1")):
            with pytest.raises(ConnectionLost, match="the client was closed"):
                await sent(client, origin)
    assert server.connections == 1


async def test_response_that_neither_reads_is_an_error() -> None:
    async with running(responding(b"no HTTP\r\n\r\n")) as server, client_of() as client:
        for _ in range(2):
            with pytest.raises(UnsupportedResponse):
                await sent(client, server.origin)
    assert server.connections == 3


async def test_trust_settings_are_made_once(tmp_path: Path) -> None:
    server_tls = server_context(tmp_path, name="127.0.0.1")
    made = []

    def trust() -> ssl.SSLContext:
        made.append(ssl.create_default_context(cafile=tmp_path / "ca.pem"))
        return made[-1]

    async with (
        running(responding(UNSIZED), tls=server_tls) as server,
        running(responding(EMPTY), tls=server_tls) as other,
        client_of(tls=trust) as client,
    ):
        assert isinstance(await sent(client, server.origin), SessionResponse)
        assert isinstance(await sent(client, other.origin), PooledResponse)
    assert len(made) == 1


@pytest.mark.parametrize("is_pooled", [True, False])
async def test_closing_ends_all_connections(is_pooled: bool) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await responding(EMPTY)(reader, writer)
        await reader.read()
        ended.set()

    async with running(serve) as server:
        async with client_of(is_pooled=is_pooled) as client:
            await sent(client, server.origin)
        await ended.wait()


async def test_session_of_a_caller_stays_open() -> None:
    async with aiohttp.ClientSession() as session:
        async with running(responding(EMPTY)) as server, client_of(session=session, is_pooled=False) as client:
            await sent(client, server.origin)
        assert not session.closed
