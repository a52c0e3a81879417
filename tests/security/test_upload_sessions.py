"""Nothing is sent to another host because a response names it, and no error shows the session of an upload."""

import asyncio
from typing import Any

import pytest

from lakery_cloud import LakeryCloudError, StorageUnavailable
from lakery_cloud.engine.model import Signal
from lakery_cloud.streams.parts import Part
from tests.http.raw import RawServer, Serve, running
from tests.security.credentials import everything
from tests.security.stores import (
    ADDRESS,
    ATTRIBUTES,
    CLIENTS,
    OPERATIONS,
    TOKEN,
    Client,
    each_client,
    requests_on,
    responds,
    transport_of,
)

pytestmark = pytest.mark.usefixtures("short_pauses")

SESSION = "s3cr3t-session"
"""It is all that a client needs to write to the upload."""
PATH = f"/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id={SESSION}"
MALFORMED = (
    "http://{host}:port" + PATH,
    "http://{host}:99999" + PATH,
    "http://{host}:-1" + PATH,
    "http://[" + PATH,
    "http://[::1" + PATH,
    "http://[" + SESSION + "]/",
    "http://{host}:" + SESSION + "/upload",
    "http://\u2100.example.org/" + SESSION,
    "http://" + SESSION + "\u2100/",
    "ftp://{other}" + PATH,
    "file:///etc/passwd?" + SESSION,
    "javascript:alert('" + SESSION + "')",
    "//{other}" + PATH,
    PATH,
    "?" + SESSION,
    SESSION,
    "http://" + PATH,
    "http://{origin}/upload/\u00e9?" + SESSION,
    "http://{origin}/upload/a b?" + SESSION,
    "http://{other}/collect?" + SESSION,
    "http://{other}/o?upload_id=" + SESSION,
    "http://{other}/?" + SESSION,
    "http://me:" + SESSION + "@{other}/collect",
    "https://{other}/collect?" + SESSION,
)
"""What `Location` may name instead of a session of the API."""
ELSEWHERE = (
    "http://{other}" + PATH,
    "https://{other}" + PATH,
    "http://me:pw@{other}" + PATH,
    "http://{origin}@{other}" + PATH,
    "http://{other}#@{origin}" + PATH,
    "http://{other}\\@{origin}" + PATH,
)
"""A session that another host would serve; the storage's own host does, or nothing is sent."""
GCS = [client for client in CLIENTS if client.cloud == "gcs"]
each_gcs = pytest.mark.parametrize("client", GCS, ids=str)


def collecting(heads: list[bytes]) -> Serve:
    """Another host, which keeps what it is sent, and says that all went well."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for head in requests_on(reader):
            heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    return serve


def begins_at(location: str, other: RawServer, heads: list[bytes]) -> Any:
    """Begins uploads with a `Location`, refuses all other requests, and keeps their heads."""

    async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
        heads.append(head)
        if not head.startswith(b"POST "):
            writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            return
        origin = head.lower().partition(b"host: ")[2].partition(b"\r\n")[0].decode()
        named = location.format(host="127.0.0.1", origin=origin, other=other.origin.netloc)
        writer.write(b"HTTP/1.1 200 OK\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % named.encode())

    return respond


def shows(error: BaseException) -> list[str]:
    return [text for text in everything(error) if SESSION in text or TOKEN in text]


@each_gcs
async def test_malformed_location_is_an_error_that_never_shows_the_session(client: Client) -> None:
    sent: list[bytes] = []
    async with running(collecting(sent)) as other:
        for location in MALFORMED:
            heads: list[bytes] = []
            respond = begins_at(location, other, heads)
            async with (
                running(responds(respond, begins_uploads=False)) as server,
                transport_of(client, server.url) as transport,
            ):
                with pytest.raises(StorageUnavailable) as raised:
                    await transport.begin_upload(ADDRESS, ATTRIBUTES, is_temporary=True)
            assert not shows(raised.value), location
        assert not other.connections


@each_gcs
async def test_nothing_is_sent_to_the_host_that_a_location_names(client: Client) -> None:
    sent: list[bytes] = []
    async with running(collecting(sent)) as other:
        for location in ELSEWHERE:
            respond = begins_at(location, other, [])
            async with (
                running(responds(respond, begins_uploads=False)) as server,
                transport_of(client, server.url) as transport,
            ):
                with pytest.raises((LakeryCloudError, Signal)) as raised:
                    upload = await transport.begin_upload(ADDRESS, ATTRIBUTES, is_temporary=True)
                    await transport.upload_part(upload, Part(1, 0, (b"data",), is_last=True))
            assert not shows(raised.value), location
        assert not other.connections


RANGES = (
    "bytes=1-5",
    "bytes=0-",
    "bytes=-5",
    "bytes=0-5,7-9",
    "bytes=0-99",
    "0-3",
    "bytes 0-3/4",
    "",
    "\u00e9",
    "9" * 5000,
)


@each_gcs
async def test_odd_range_of_an_upload_is_an_error_that_never_shows_the_session(client: Client) -> None:
    for value in RANGES:

        async def respond(writer: asyncio.StreamWriter, head: bytes, value: str = value) -> None:
            if head.startswith(b"POST "):
                origin = head.lower().partition(b"host: ")[2].partition(b"\r\n")[0]
                location = b"http://%b%b" % (origin, PATH.encode())
                writer.write(b"HTTP/1.1 200 OK\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)
            else:
                writer.write(b"HTTP/1.1 308 More\r\nRange: %b\r\nContent-Length: 0\r\n\r\n" % value.encode())

        async with (
            running(responds(respond, begins_uploads=False)) as server,
            transport_of(client, server.url) as transport,
        ):
            upload = await transport.begin_upload(ADDRESS, ATTRIBUTES, is_temporary=True)
            with pytest.raises(StorageUnavailable) as raised:
                await transport.upload_part(upload, Part(1, 0, (b"data",), is_last=True))
        assert not shows(raised.value), value


REDIRECTS = (301, 302, 303, 307, 308)


@each_client
@pytest.mark.parametrize("status", REDIRECTS)
async def test_redirect_sends_nothing_to_another_host(client: Client, status: int) -> None:
    sent: list[bytes] = []
    operations = OPERATIONS[client.cloud]
    async with running(collecting(sent)) as other:

        async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
            location = f"{other.url}/bucket/key".encode()
            writer.write(b"HTTP/1.1 %d Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location))

        async with running(responds(respond)) as server, transport_of(client, server.url) as transport:
            for name, operation in operations.items():
                try:
                    await operation(transport)
                except (LakeryCloudError, Signal):
                    continue
                assert name == "abort", f"{name} succeeds"
        assert not sent
        assert not other.connections
