"""A response that never ends, ends as an error: heads, interim responses and bodies that are no content have deadlines."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import google.oauth2.credentials
import pytest

from lakery_cloud import AzureBlobStorage, LakeryCloudError, StorageUnavailable
from lakery_cloud.engine.model import BodyInterrupted, Signal
from lakery_cloud.testing import content, digest_of
from tests.helpers import PATIENCE
from tests.http.raw import INTERIM, running
from tests.security.credentials import TokenCredential
from tests.security.stores import (
    ADDRESS,
    OPERATIONS,
    Client,
    Respond,
    content_response,
    each_client,
    responds,
    transport_of,
)

pytestmark = pytest.mark.usefixtures("short_pauses")

SOON = 0.3
"""Time-out of reads."""
HANGS = 20
"""Seconds after which a request hangs: dozens of time-outs."""


def trickles(*pieces: bytes, endlessly: bytes) -> Respond:
    """Begins a response, and goes on with the same few bytes, each time long before the read time-out."""

    async def respond(writer: asyncio.StreamWriter, _: bytes) -> None:
        for piece in _endless(pieces, endlessly):
            if writer.is_closing():
                return
            writer.write(piece)
            await asyncio.sleep(SOON / 15)

    return respond


def _endless(pieces: Iterable[bytes], piece: bytes) -> Iterable[bytes]:
    yield from pieces
    while True:
        yield piece


async def floods(writer: asyncio.StreamWriter, _: bytes) -> None:
    """Sends interim responses as fast as they are read."""
    while not writer.is_closing():
        writer.write(INTERIM * 100)
        await writer.drain()
        await asyncio.sleep(0)


def sends(*pieces: bytes) -> Respond:
    """Sends something, and then nothing."""

    async def respond(writer: asyncio.StreamWriter, _: bytes) -> None:
        for piece in pieces:
            writer.write(piece)

    return respond


LONG = b"Content-Type: application/xml\r\nContent-Length: 900000\r\n\r\n"
CHUNKED = b"Content-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: Mapping[str, Respond] = {
    "nothing": sends(),
    "interim": sends(INTERIM),
    "interim and half a head": sends(INTERIM, b"HTTP/1.1 200 OK\r\nContent-"),
    "trickled interim": trickles(endlessly=INTERIM),
    "trickled line": trickles(b"HTTP/1.1 200 ", endlessly=b"O"),
    "trickled head": trickles(b"HTTP/1.1 200 OK\r\n", endlessly=b"a: b\r\n"),
    "flood of interim": floods,
    "trickled error": trickles(b"HTTP/1.1 503 No\r\n" + LONG, endlessly=b" "),
    "trickled refusal": trickles(b"HTTP/1.1 403 No\r\n" + LONG, endlessly=b" "),
    "trickled error in chunks": trickles(b"HTTP/1.1 500 No\r\n" + CHUNKED, endlessly=b"1\r\n \r\n"),
    "trickled extension": trickles(b"HTTP/1.1 503 No\r\n" + CHUNKED, endlessly=b"1;"),
    "trickled error until the end": trickles(b"HTTP/1.1 500 No\r\n\r\n", endlessly=b" "),
}


async def outcomes(client: Client, respond: Respond, names: Iterable[str] = ()) -> Mapping[str, Any]:
    """What each operation raises or returns on a server that begins uploads, and otherwise responds so."""

    async def outcome(name: str) -> Any:
        try:
            async with asyncio.timeout(HANGS):
                return await operations[name](transport)
        except (LakeryCloudError, Signal) as error:
            return error
        except TimeoutError as error:
            return error

    operations = OPERATIONS[client.cloud]
    async with (
        running(responds(respond)) as server,
        transport_of(client, server.url, read_timeout=SOON) as transport,
    ):
        names = [*(names or operations)]
        found = await asyncio.gather(*map(outcome, names))
    return dict(zip(names, found, strict=True))


@each_client
async def test_endless_response_ends_as_an_error(client: Client) -> None:
    found = await asyncio.gather(*(outcomes(client, respond) for respond in ENDLESS.values()))
    for response, ended in zip(ENDLESS, found, strict=True):
        for name, outcome in ended.items():
            # The response to HEAD has no body, so that its refusal is known.
            expected = LakeryCloudError if response == "trickled refusal" else StorageUnavailable
            assert isinstance(outcome, (expected, BodyInterrupted)), f"{name}: {response}: {outcome!r}"


@each_client
async def test_trickled_success_that_is_no_content_ends_as_an_error(client: Client) -> None:
    trickled = trickles(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nx-ms-request-id: a\r\n' + LONG, endlessly=b" ")
    names = [name for name in OPERATIONS[client.cloud] if name not in ("get", "head", "delete", "abort")]
    for name, outcome in (await outcomes(client, trickled, names)).items():
        assert isinstance(outcome, StorageUnavailable), f"{name}: {outcome!r}"


# Content, which may arrive at any rate unless a setting says otherwise.

CONTENT = content(400_000)


def slow(client: Client) -> dict[str, Any]:
    """Settings with a minimal rate, over a short window.

    A busy machine may be late with a response, which is then asked for again. Azure's SDK reads the first content before it
    returns, so that it gets the time of all attempts.
    """
    if (client.cloud, client.fast_lane) == ("azure", False):
        patience = {"read_timeout": 1.0, "connect_timeout": 1.0, "max_attempts": 1}
    else:
        patience = {"read_timeout": SOON, "max_attempts": 5}
    return {**patience, "min_rate": 40 * 1024**2}


def serves_slowly(times: int, *, piece: int = 20_000) -> Respond:
    """Serves content, but in slow pieces the first times."""
    left = times

    async def respond(writer: asyncio.StreamWriter, head: bytes) -> None:
        nonlocal left
        response = content_response(CONTENT, head)
        left -= 1
        if left < 0:
            writer.write(response)
            return
        for start in range(0, len(response), piece):
            if writer.is_closing():
                return
            writer.write(response[start : start + piece])
            await asyncio.sleep(SOON / 15)

    return respond


async def read(client: Client, respond: Respond, **settings: Any) -> bytes:
    async with running(responds(respond)) as server, client.storage(server.url, **settings) as storage:
        data: bytes = await storage.read_data(storage.storage_data_of(digest_of(CONTENT)))
        return data


@each_client
async def test_content_that_is_slower_than_the_minimal_rate_is_resumed(client: Client) -> None:
    assert await read(client, serves_slowly(2), **slow(client)) == CONTENT


@each_client
async def test_content_that_stays_slower_than_the_minimal_rate_is_unavailable(client: Client) -> None:
    with pytest.raises(StorageUnavailable, match="min_rate"):
        await read(client, serves_slowly(1000, piece=1000), **slow(client))


@each_client
async def test_slow_content_is_read_without_a_minimal_rate(client: Client) -> None:
    assert await read(client, serves_slowly(1), read_timeout=PATIENCE) == CONTENT


# Issuers of access tokens.


async def test_endless_response_to_a_request_for_a_token_ends_as_an_error() -> None:
    async def outcome(respond: Respond) -> Any:
        async with running(responds(respond)) as server:
            token = google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]
                None, refresh_token="r", token_uri=server.url, client_id="c", client_secret="s"
            )
            client = Client("gcs", fast_lane=True)
            async with transport_of(
                client, server.url, token=token, read_timeout=SOON, connect_timeout=SOON
            ) as transport:
                try:
                    async with asyncio.timeout(HANGS):
                        return await transport.head(ADDRESS)
                except LakeryCloudError as error:
                    return error

    found = await asyncio.gather(*map(outcome, ENDLESS.values()))
    for response, ended in zip(ENDLESS, found, strict=True):
        assert isinstance(ended, StorageUnavailable), f"{response}: {ended!r}"


async def test_credential_that_never_gives_a_token_is_unavailable() -> None:
    class Silent(TokenCredential):
        async def get_token(self, *scopes: str, **options: Any) -> Any:
            await asyncio.Event().wait()

    for fast_lane in (True, False):
        storage = AzureBlobStorage(
            "bucket",
            account_name="me",
            endpoint_url="https://127.0.0.1:9/me",
            credential=Silent(""),  # type: ignore[arg-type]
            max_attempts=1,
            read_timeout=SOON,
            connect_timeout=SOON,
            fast_lane=fast_lane,
        )
        async with asyncio.timeout(HANGS), storage:
            with pytest.raises(StorageUnavailable, match="no access token in"):
                await storage.stat(storage.storage_data_of(digest_of(CONTENT)))
