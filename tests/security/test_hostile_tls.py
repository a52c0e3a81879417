"""Hostile servers where TLS differs: certificates without trust, ends without notice, records that are cut or changed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lakery_cloud import IntegrityError, LakeryCloudError, StorageUnavailable
from lakery_cloud.engine import reader
from lakery_cloud.engine.model import Signal
from lakery_cloud.testing import content, digest_of
from tests.http.raw import LARGE, Serve, running
from tests.security.stores import (
    OPERATIONS,
    Client,
    content_response,
    each_client,
    requests_on,
    responds,
    transport_of,
)
from tests.security.test_desynchronised import SUCCESS
from tests.tls import server_context

pytestmark = pytest.mark.usefixtures("short_pauses")

VARIABLES = {
    "s3": ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    "gcs": ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    "azure": ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
}
"""Cloud -> variables that name a bundle of certificates."""
CONTENT = content(100_000)


def succeeding(client: Client) -> Serve:
    """Confirms puts and deletions."""

    async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(SUCCESS[client.cloud, "delete" if head.startswith(b"DELETE ") else "put"])

    return responds(respond)


@each_client
async def test_bundle_of_the_user_is_trusted(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = server_context(tmp_path, name="127.0.0.1")
    async with running(succeeding(client), tls=tls) as server:
        for variable in VARIABLES[client.cloud]:
            with monkeypatch.context() as patched:
                patched.setenv(variable, str(tmp_path / "ca.pem"))
                async with transport_of(client, server.url) as transport:
                    for name in ("put", "delete"):
                        await OPERATIONS[client.cloud][name](transport)


@each_client
@pytest.mark.parametrize("trouble", ["unknown authority", "other host", "expired"])
async def test_certificate_without_trust_is_refused(
    client: Client, trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "store.example.org" if trouble == "other host" else "127.0.0.1"
    tls = server_context(tmp_path, name=name, days=-1 if trouble == "expired" else 1)
    if trouble != "unknown authority":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    heads: list[bytes] = []

    async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
        heads.append(head)

    operations = OPERATIONS[client.cloud]
    async with running(responds(respond), tls=tls) as server, transport_of(client, server.url) as transport:
        for name in ("put", "get", "list", "delete"):
            with pytest.raises(StorageUnavailable, match=r"no TLS connection.*certificate"):
                await operations[name](transport)
    assert not heads


# Connections that end, or break, somewhere in a response.


def serving(*, has_length: bool = True, end: int | None = None) -> Serve:
    """Serves the content, or its response up to a byte, after which the connection ends without a notice."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for head in requests_on(reader):
            response = content_response(CONTENT, head, has_length=has_length)
            writer.write(response[:end])
            await writer.drain()
            if end is not None or not has_length:
                writer.transport.abort()
                return

    return serve


READS_IN_PIECES = Client("azure", fast_lane=False)
"""The SDK reads content in pieces of 4 MiB, so that no read resumes within this content; and it waits before each retry."""


@pytest.fixture(autouse=True)
def _few_resumptions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.callspec.params["client"] == READS_IN_PIECES:
        monkeypatch.setattr(reader, "MAX_RESUMPTIONS", 0)


async def read(client: Client, url: str) -> bytes:
    async with client.storage(url, read_timeout=5.0) as storage:
        data: bytes = await storage.read_data(storage.storage_data_of(digest_of(CONTENT)))
        return data


@each_client
async def test_end_without_notice_never_passes_for_the_end_of_a_response(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls = server_context(tmp_path, name="127.0.0.1")
    for end, has_length in ((10, True), (60, True), (50_000, False), (None, False)):
        async with running(serving(has_length=has_length, end=end), tls=tls) as server:
            with pytest.raises((StorageUnavailable, IntegrityError)):
                await read(client, server.url)
    async with running(serving(end=60_000), tls=tls) as server:
        if client == READS_IN_PIECES:
            with pytest.raises(StorageUnavailable):
                await read(client, server.url)
        else:  # each response has some of the content
            assert await read(client, server.url) == CONTENT


@asynccontextmanager
async def disturbed(url: str, disturb: Callable[[bytes, int], bytes | None]) -> AsyncIterator[str]:
    """A TCP proxy before a server that changes what the server sends.

    Args:
        url: The server.
        disturb: Receives some bytes, and how many the server has sent before them on the connection; None ends the
            connection.
    """
    host, port = url.removeprefix("https://").split(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_disturbed: bool) -> None:
        place = 0
        while data := await reader.read(1024):
            changed = disturb(data, place) if is_disturbed else data
            if changed is None:
                return
            place += len(data)
            writer.write(changed)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(host, int(port))
        pumps = [
            asyncio.ensure_future(pump(reader, to_server, is_disturbed=False)),
            asyncio.ensure_future(pump(from_server, writer, is_disturbed=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in pumps:
                each.cancel()
            with suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(*pumps)
            to_server.close()
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, limit=LARGE) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def cut_at(end: int) -> Callable[[bytes, int], bytes | None]:
    return lambda data, place: data[: end - place] if place < end else None


def flipped_at(position: int) -> Callable[[bytes, int], bytes | None]:
    def flip(data: bytes, place: int) -> bytes:
        if not place <= position < place + len(data):
            return data
        changed = bytearray(data)
        changed[position - place] ^= 1
        return bytes(changed)

    return flip


POSITIONS = (3, 700, 1500, 50_000)
"""Bytes of a connection: of its handshake, and of the records after it."""


@each_client
@pytest.mark.parametrize("disturb", [cut_at, flipped_at], ids=["cut", "flipped"])
async def test_records_that_are_cut_or_changed_are_an_error(
    client: Client, disturb: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls = server_context(tmp_path, name="127.0.0.1")
    async with running(serving(), tls=tls) as server:
        async with disturbed(server.url, lambda data, _: data) as url:
            assert await read(client, url) == CONTENT
        for position in POSITIONS:
            async with disturbed(server.url, disturb(position)) as url:
                try:  # a read resumes behind the records that arrived whole
                    assert await read(client, url) == CONTENT
                except (StorageUnavailable, IntegrityError):
                    continue
                assert position > 1500


@each_client
async def test_error_that_ends_without_notice_keeps_its_meaning_or_is_unavailable(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    tls = server_context(tmp_path, name="127.0.0.1")

    async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 403 No\r\nContent-Type: application/xml\r\n\r\n<Error><Code>Acc")
        await writer.drain()
        writer.transport.abort()

    operations = OPERATIONS[client.cloud]
    async with running(responds(respond), tls=tls) as server, transport_of(client, server.url) as transport:
        for name in ("put", "get", "list", "delete"):
            with pytest.raises((LakeryCloudError, Signal)):
                await operations[name](transport)
