"""A response that answers no request is never taken for the response to the next one."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest

from lakery_cloud import LakeryCloudError, StorageUnavailable
from lakery_cloud.engine.model import Signal
from tests.attack.cases import SEED, TIMES, counted
from tests.http.raw import Serve, running
from tests.security.stores import DATA, OPERATIONS, Client, each_client, requests_on, transport_of

pytestmark = pytest.mark.usefixtures("short_pauses")

MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"
_INSERTED = b'{"generation": "1", "size": "%d"}' % len(DATA)
SUCCESS: Mapping[tuple[str, str], bytes] = {
    ("s3", "put"): b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n',
    ("s3", "delete"): b"HTTP/1.1 204 No Content\r\n\r\n",
    ("gcs", "put"): b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_INSERTED), _INSERTED),
    ("gcs", "delete"): b"HTTP/1.1 204 No Content\r\n\r\n",
    ("azure", "put"): b'HTTP/1.1 201 Created\r\nETag: "a"\r\nx-ms-request-id: a\r\nContent-Length: 0\r\n\r\n',
    ("azure", "delete"): b"HTTP/1.1 202 Accepted\r\nx-ms-request-id: a\r\nContent-Length: 0\r\n\r\n",
}
"""(cloud, operation) -> the response that would report it as done."""
BEFORE = {"put": "get", "delete": "tags"}
"""Operation -> a GET of the same session before it."""


class Desynchronised:
    """A store that answers the first request, then sends bytes that answer none, and is unavailable for all others.

    Args:
        late: Bytes that it sends on the same connection once the next request has arrived there, before its response.
    """

    def __init__(self, late: bytes = b"") -> None:
        self._late = late
        self._first: asyncio.StreamWriter | None = None

    @property
    def serve(self) -> Serve:
        return self._serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in requests_on(reader):
            if self._first is None:
                self._first = writer
                writer.write(MISSING)
                continue
            if self._first is writer:
                writer.write(self._late)
            writer.write(UNAVAILABLE)

    def send_unasked(self, data: bytes) -> None:
        """Send bytes at once. The event loop had no time to look whether they have arrived."""
        assert self._first is not None
        self._first.write(data)


async def check_refused(
    client: Client, operation: str, pieces: Sequence[bytes], *, late: bytes = b"", is_busy: bool
) -> None:
    """Check that an operation fails although a response to it has arrived unasked."""
    operations = OPERATIONS[client.cloud]
    store = Desynchronised(late)
    async with running(store.serve) as server, transport_of(client, server.url) as transport:
        with suppress(LakeryCloudError, Signal):
            await operations[BEFORE[operation]](transport)
        assert server.connections == 1
        for piece in pieces:
            store.send_unasked(piece)
            if not is_busy:
                await asyncio.sleep(0.002)
        with pytest.raises(StorageUnavailable):
            await operations[operation](transport)


@each_client
@pytest.mark.parametrize("operation", BEFORE)
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "free"])
async def test_unasked_response_answers_no_request(client: Client, operation: str, is_busy: bool) -> None:
    await check_refused(client, operation, [SUCCESS[client.cloud, operation]], is_busy=is_busy)


@each_client
@pytest.mark.parametrize("operation", BEFORE)
async def test_unasked_response_that_is_cut_anywhere_answers_no_request(client: Client, operation: str) -> None:
    success = SUCCESS[client.cloud, operation]
    # A header may itself look like a response: what follows a cut right before it would pass for one.
    for response in (success, b"\r\n" + success, b"HTTP/1.1 200 OK\r\na: " + success):
        cuts = {
            2,
            len(b"HTTP/1.1 200 OK\r\na: "),
            *random.Random(14 + SEED).sample(range(1, len(response)), min(3 * TIMES, len(response) - 1)),
        }
        for cut in cuts:
            early, late = response[:cut], response[cut:]
            await check_refused(client, operation, [early], late=late, is_busy=False)
            await check_refused(client, operation, [early[:1], early[1:]], late=late, is_busy=False)
            counted["responses that nobody asked for"] += 2
